"""What a pod's claims demand of its node (the DynamicResources plugin's PreFilter and Filter), decided on `Devices`.

An allocated claim ties the pod to where its devices are; others are allocated with the pod, on the node that it gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atoll.objects.resource_claims import users
from atoll.scheduling.dra import binding_conditions, extended
from atoll.scheduling.dra.allocate import PoolProblem, Solution, Wanted
from atoll.scheduling.dra.model import AllocationError, Object
from atoll.scheduling.dra.results import NewId, allocations, preference
from atoll.scheduling.matching import NodeSelector
from atoll.scheduling.status import Status

if TYPE_CHECKING:
    from atoll.scheduling.dra.ledger import Ledger
    from atoll.scheduling.dra.state import Devices

NOT_ON_NODE = Status(("resourceclaim not available on the node",))
CANNOT_ALLOCATE = Status(("cannot allocate all claims",))


@dataclass(slots=True, eq=False)
class ClaimPlan:
    """One claim to be reserved for the pod; `allocation`: to be written first. `claim` None: it is to be made."""

    claim: Object | None
    allocation: Object | None = None
    spec: Object = field(default_factory=dict)
    mappings: list[Object] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class DevicePlan:
    """What to write before the pod is bound."""

    claims: list[ClaimPlan] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class DeviceNeeds:
    """A pod's claims, resolved. `error` means that it can be placed nowhere for now."""

    key: tuple[Any, ...] = ()
    error: str = ""
    claims: list[Object] = field(default_factory=list)  # the pod's own, in their order
    bound: list[tuple[Object, NodeSelector | None]] = field(default_factory=list)
    wanted: list[tuple[Object, Wanted]] = field(default_factory=list)
    shared: frozenset[str] = frozenset()  # of the wanted ones, by uid, those that other pods may name too
    decided: dict[str, Object] = field(default_factory=dict)  # claim uid → what a fellow of its gang will write
    delegated: frozenset[str] = frozenset()  # extended resources that devices may stand for
    spec: Object = field(default_factory=dict)  # the pod's
    name: str = ""
    has_preferences: bool = False
    stale: Object | None = None  # a claim that was made for its extended resources in an attempt before
    devices: Devices | None = None

    @property
    def demanding(self) -> bool:
        """Whether nodes differ to it at all."""
        if self.takes_devices:
            return True
        return any(selector is not None or binding_conditions.failure(claim) for claim, selector in self.bound)

    @property
    def takes_devices(self) -> bool:
        """Whether any are to be given to it."""
        return bool(self.wanted or self.delegated)

    @property
    def has_claims(self) -> bool:
        return bool(self.claims or self.delegated)

    def check(self, name: str, labels: dict[str, str], allocatable: Mapping[str, int]) -> Status | None:
        """Whether the claims can be had on a node. Raises AllocationError."""
        missing = self._missing(allocatable)
        away = any(
            (selector is not None and not selector(name, labels)) or binding_conditions.failure(claim)
            for claim, selector in self.bound
        )
        try:
            solution = self._solve(name, labels, missing)
        except PoolProblem as problem:
            return Status((str(problem),))
        if solution is None:
            return CANNOT_ALLOCATE
        return NOT_ON_NODE if away else None

    def in_the_way(self, nodes: Mapping[str, Any], pod_uid: str) -> Object | None:
        """An allocated claim that some node can't use and that nobody but the pod uses: it may be had elsewhere."""
        for claim, selector in self.bound:
            others = any(user.get("uid") != pod_uid for user in users(claim))
            if others:
                continue
            if binding_conditions.failure(claim):
                return claim
            if selector is not None and not all(selector(name, node.labels) for name, node in nodes.items()):
                return claim
        return None

    def score(self, name: str, labels: dict[str, str], allocatable: Mapping[str, int]) -> int:
        """How well the claims' alternatives are met on a node where they can be had."""
        try:
            solution = self._solve(name, labels, self._missing(allocatable))
        except (AllocationError, PoolProblem):
            return 0
        return preference(solution) if solution else 0

    def room(self, name: str, labels: dict[str, str], allocatable: Mapping[str, int], most: int) -> int:
        """How many pods with claims like these a node takes, up to `most`; they share those that they can."""
        try:
            if self.check(name, labels, allocatable) is not None:
                return 0
        except AllocationError:
            return 0
        return self._room(name, labels, allocatable, most, None)

    def room_later(
        self, name: str, labels: dict[str, str], allocatable: Mapping[str, int], most: int, ledger: Ledger
    ) -> int:
        """The same with other devices taken (`ledger`)."""
        away = any(selector is not None and not selector(name, labels) for _, selector in self.bound)
        return 0 if away else self._room(name, labels, allocatable, most, ledger)

    def _room(
        self, name: str, labels: dict[str, str], allocatable: Mapping[str, int], most: int, taken: Ledger | None
    ) -> int:
        if not self.wanted and not self._missing(allocatable):
            return most
        assert self.devices is not None
        wanted, ledger = self._everything(self._missing(allocatable)), taken or self.devices.ledger
        tried: list[Object] = []
        try:
            for count in range(most):
                try:
                    solution = self.devices.solve(name, labels, wanted, ledger)
                except (AllocationError, PoolProblem):
                    return count
                if solution is None:
                    return count
                for allocation in allocations(solution, name, self.devices.classes, lambda: "share"):
                    tried += allocation["devices"]["results"]
                    ledger.add(allocation["devices"]["results"])
                if self.shared and not count:  # the next ones find those as they are
                    wanted = self._everything(self._missing(allocatable), own=True)
            return most
        finally:
            ledger.add(tried, -1)

    def plan(self, name: str, labels: dict[str, str], allocatable: Mapping[str, int], new_id: NewId) -> DevicePlan:
        """What is to be written for a node where the claims can be had. Raises AllocationError: they can't."""
        made = DevicePlan(
            [ClaimPlan(claim, self.decided.get(claim["metadata"].get("uid") or "")) for claim, _ in self.bound]
        )
        missing = self._missing(allocatable)
        solution = self._solve(name, labels, missing)
        if solution is None:
            raise AllocationError(f"claim allocation not found for node {name}")
        if self.devices is None:
            return made
        found = allocations(solution, name, self.devices.classes, new_id)
        for (claim, _), allocation in zip(self.wanted, found, strict=False):
            made.claims.append(ClaimPlan(claim, allocation))
        if missing:
            requests, mappings = extended.claim_requests(self.spec, missing, self.devices.by_resource)
            made.claims.append(ClaimPlan(None, found[-1], {"devices": {"requests": requests}}, mappings))
        return made

    def _missing(self, allocatable: Mapping[str, int]) -> frozenset[str]:
        """The resources that devices must stand for here: those that the node does not have itself."""
        return frozenset(name for name in self.delegated if not allocatable.get(name))

    def _everything(self, missing: frozenset[str], *, own: bool = False) -> list[Wanted]:
        """All that is to be allocated; `own`: but what other pods may share."""
        shared = self.shared if own else frozenset()
        found = [wanted for claim, wanted in self.wanted if claim["metadata"].get("uid") not in shared]
        if missing:
            assert self.devices is not None
            requests, _ = extended.claim_requests(self.spec, missing, self.devices.by_resource)
            found.append(Wanted(self.name, {"devices": {"requests": requests}}))
        return found

    def _solve(self, name: str, labels: dict[str, str], missing: frozenset[str]) -> Solution | None:
        wanted = self._everything(missing)
        if not wanted or self.devices is None:
            return []
        return self.devices.solve(name, labels, wanted)
