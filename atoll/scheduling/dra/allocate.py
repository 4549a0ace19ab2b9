"""Which devices on one node satisfy some claims together: the first solution of an exhaustive search (KEP-4381).

Claims in order, of each its requests in order, of each as many devices as it wants, each the first that is free,
selected, tolerated, within its counters and capacity, and allowed by the constraints; what leads nowhere is taken
back. Within one request devices are only tried in their order, so no set is tried twice. Alternatives of a request
(firstAvailable) are tried in order of preference. Upstream's structured/internal/incubating is what it must agree
with; where that gives up by the clock, this one gives up after `MOST_STEPS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from atoll.scheduling.dra.capacity import Part, consumed, fits
from atoll.scheduling.dra.constraints import Constraint, constraints_of
from atoll.scheduling.dra.ledger import Ledger
from atoll.scheduling.dra.model import (
    AllocationError,
    Device,
    DeviceClass,
    Object,
    Request,
    SelectorError,
    Selectors,
    parse_requests,
)
from atoll.scheduling.dra.pools import Pool

MOST_RESULTS = 32  # of one claim
MOST_STEPS = 200_000  # devices looked at


class PoolProblem(Exception):
    """This node's slices contradict each other, and no other pool will do; other nodes may."""


class SearchTooLong(AllocationError):
    """The search was given up: the pod is tried again later."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A claim to be allocated: its name (namespace/name, for messages) and spec."""

    name: str
    spec: Object


@dataclass(slots=True, eq=False)
class Picked:
    """One device for one request; `parts`: of a shared one."""

    request: Request
    device: Device
    parts: dict[str, Part] | None = None


@dataclass(slots=True)
class Site:
    """A node, the pools that it reaches, and what of them is taken."""

    name: str
    labels: Mapping[str, str]
    pools: Sequence[Pool]
    ledger: Ledger
    classes: Mapping[str, DeviceClass]
    selectors: Selectors


@dataclass(slots=True, eq=False)
class _Claim:
    wanted: Wanted
    requests: list[list[Request]]
    constraints: list[Constraint]
    picked: list[Picked] = field(default_factory=list)
    chosen: dict[int, int] = field(default_factory=dict)  # request → which of its alternatives


Solution = list[_Claim]


def search(site: Site, wanted: Sequence[Wanted]) -> Solution | None:
    """Devices for all claims, or None. Raises AllocationError, PoolProblem."""
    claims = [_prepared(item) for item in wanted]
    run = _Search(site, claims)
    if run.solve():
        return claims
    if any(pool.problem for pool in site.pools):
        raise PoolProblem("invalid resource pools were encountered")
    return None


def _prepared(wanted: Wanted) -> _Claim:
    try:
        return _Claim(wanted, parse_requests(wanted.spec), constraints_of(wanted.spec))
    except AllocationError as error:
        raise AllocationError(f"claim {wanted.name}, {error.message}") from None


class _TooMany(Exception):
    """A claim can't have so many devices, whichever: turn back to where the number was decided."""


class _Search:
    def __init__(self, site: Site, claims: list[_Claim]) -> None:
        self._site = site
        self._claims = claims
        self._steps = 0
        self._taken: dict[Device, list[int]] = {}  # device → the claims that have picked it
        self._parts: dict[Device, dict[str, int]] = {}  # of shared devices
        self._counters: dict[tuple[str, ...], int] = {}  # (driver, pool, set, counter) → drawn by picked devices
        self._left: dict[tuple[str, str], dict[tuple[str, ...], int]] = {}
        self._selected: dict[tuple[Request, Device], bool] = {}
        self._all: dict[Request, list[Device]] = {}
        self._candidates = [(pool, device) for pool in site.pools if pool.usable for device in pool.devices]
        self._pool_of = {device: pool for pool, device in self._candidates}

    def solve(self) -> bool:
        for claim in self._claims:
            self._check(claim)
        return self._claim(0)

    # what is wanted

    def _check(self, claim: _Claim) -> None:
        least = 0
        for alternatives in claim.requests:
            numbers = []
            for request in alternatives:
                if request.class_name not in self._site.classes:
                    raise AllocationError(
                        f"claim {claim.wanted.name}, request {request.name}: could not retrieve device class"
                        f" {request.class_name}"
                    )
                if request.everything:
                    self._all[request] = self._all_devices(claim, request)
                numbers.append(self._number(request))
            least += min(numbers)
        if least > MOST_RESULTS:
            raise AllocationError(
                f"claim {claim.wanted.name}: number of requested devices {least} exceeds the claim limit of"
                f" {MOST_RESULTS}"
            )

    def _all_devices(self, claim: _Claim, request: Request) -> list[Device]:
        """All that fit a request for all; it can't be known while a pool is being changed."""
        for pool in self._site.pools:
            if not pool.usable:
                state = "currently being updated" if pool.incomplete else "currently invalid"
                raise AllocationError(
                    f"claim {claim.wanted.name}, request {request.name}: asks for all devices, but resource pool"
                    f" {'/'.join(pool.id)} is {state}"
                )
        return [
            device
            for _, device in self._candidates
            if self._selects(claim, request, device) and self._has_room(request, device)
        ]

    def _number(self, request: Request) -> int:
        return len(self._all[request]) if request.everything else request.count

    # the search

    def _claim(self, index: int) -> bool:
        if index >= len(self._claims):
            return True
        return self._request(index, 0)

    def _request(self, index: int, place: int) -> bool:
        """The claim's requests from a place on, and all claims after it."""
        claim = self._claims[index]
        if place >= len(claim.requests):
            try:
                return self._claim(index + 1)
            except _TooMany:
                return False  # the next claim's own limit: another choice in this one may still help it
        alternatives = claim.requests[place]
        too_many = True
        for choice, request in enumerate(alternatives):
            claim.chosen[place] = choice
            try:
                if self._devices(index, place, request, 0, 0):
                    return True
                too_many = False
            except _TooMany:
                continue
        if too_many:
            raise _TooMany
        return False

    def _devices(self, index: int, place: int, request: Request, number: int, start: int) -> bool:
        """The request's devices from a number on; candidates before `start` have been looked at."""
        claim, wanted = self._claims[index], self._number(request)
        if request.everything and not wanted:
            return False
        if number >= wanted:
            return self._request(index, place + 1)
        if len(claim.picked) + wanted - number > MOST_RESULTS:
            raise _TooMany
        for at, device in self._offers(request, number, start):
            self._steps += 1
            if self._steps > MOST_STEPS:
                raise SearchTooLong(f"node {self._site.name}: gave up trying to allocate devices")
            undo = self._pick(index, claim, request, device)
            if undo is None:
                continue
            try:
                if self._devices(index, place, request, number + 1, at + 1):
                    return True
            except _TooMany:
                undo()
                raise
            undo()
        return False

    def _offers(self, request: Request, number: int, start: int) -> Iterator[tuple[int, Device]]:
        if request.everything:  # which ones is known; in which order does not matter
            yield number, self._all[request][number]
            return
        for at in range(start, len(self._candidates)):
            yield at, self._candidates[at][1]

    # one device

    def _pick(self, index: int, claim: _Claim, request: Request, device: Device) -> Callable[[], None] | None:
        """Takes a device for a request; how to take that back, or None where it may not have it."""
        if self._in_use(index, request, device) or not self._selects(claim, request, device):
            return None
        parts = consumed(request.capacity, device)
        if parts is None or not fits(parts, device, self._drawn(device)):
            return None
        if not _tolerated(device, request):
            return None
        counted = bool(device.consumes) and not (device.shared and self._is_shared_already(device))
        if counted and not self._draw(device):
            return None
        added: list[Constraint] = []
        for constraint in claim.constraints:
            if constraint.add(request, device):
                added.append(constraint)
                continue
            self._take_back(request, device, added, counted)
            if request.everything:
                raise AllocationError(
                    f"claim {claim.wanted.name}, request {request.name}: cannot add device {'/'.join(device.id)}"
                    " because a claim constraint would not be satisfied"
                )
            return None
        self._take(index, device, parts)
        claim.picked.append(Picked(request, device, parts if device.shared else None))

        def undo() -> None:
            claim.picked.pop()
            self._give(index, device, parts)
            self._take_back(request, device, added, counted)

        return undo

    def _take_back(self, request: Request, device: Device, added: list[Constraint], counted: bool) -> None:
        for constraint in reversed(added):
            constraint.remove(request)
        if counted:
            self._count(device, -1)

    def _take(self, index: int, device: Device, parts: Mapping[str, Part]) -> None:
        self._taken.setdefault(device, []).append(index)
        if device.shared:
            drawn = self._parts.setdefault(device, {})
            for name, part in parts.items():
                drawn[name] = drawn.get(name, 0) + part.amount

    def _give(self, index: int, device: Device, parts: Mapping[str, Part]) -> None:
        self._taken[device].remove(index)
        if not self._taken[device]:
            del self._taken[device]
        if device.shared:
            for name, part in parts.items():
                self._parts[device][name] -= part.amount

    def _in_use(self, index: int, request: Request, device: Device) -> bool:
        if device.shared:
            return not request.admin and self._site.ledger.is_taken(device.id)
        takers = self._taken.get(device)
        if request.admin:
            return takers is not None and index in takers
        return takers is not None or self._site.ledger.is_taken(device.id)

    def _is_shared_already(self, device: Device) -> bool:
        return device in self._taken or self._site.ledger.is_used(device.id)

    def _drawn(self, device: Device) -> Mapping[str, int]:
        """Of a shared device's capacity: by claims, and by what is picked."""
        if not device.shared:
            return {}
        drawn = dict(self._site.ledger.parts(device.id))
        for name, amount in self._parts.get(device, {}).items():
            drawn[name] = drawn.get(name, 0) + amount
        return drawn

    def _has_room(self, request: Request, device: Device) -> bool:
        parts = consumed(request.capacity, device)
        return parts is not None and fits(parts, device, self._drawn(device))

    def _selects(self, claim: _Claim, request: Request, device: Device) -> bool:
        key = (request, device)
        found = self._selected.get(key)
        if found is None:
            kind = self._site.classes[request.class_name]
            found = (
                self._matches(device, kind.selectors, f"class {kind.name}")
                and self._matches(device, request.selectors, f"claim {claim.wanted.name}")
                and (not device.slice.by_device or device.places.includes(self._site.name, self._site.labels))
            )
            self._selected[key] = found
        return found

    def _matches(self, device: Device, selectors: Sequence[str], whose: str) -> bool:
        for index, expression in enumerate(selectors):
            found = device.matched.get(expression)
            if found is None:
                try:
                    found = device.matched[expression] = self._site.selectors.matches(expression, device)
                except SelectorError as error:
                    when = "compile" if error.compiling else "runtime"
                    told = f"{whose}: selector #{index}: CEL {when} error: {error.message}"
                    raise AllocationError(told) from None
            if not found:
                return False
        return True

    # counters

    def _draw(self, device: Device) -> bool:
        """Takes what a device consumes of its pool's counters, if there is enough."""
        left = self._available(self._pool_of[device])
        self._count(device, 1)
        for set_name, counters in device.consumes:
            for counter in counters:
                key = (*device.id[:2], set_name, counter)
                if self._counters[key] > left[key]:
                    self._count(device, -1)
                    return False
        return True

    def _count(self, device: Device, sign: int) -> None:
        for set_name, counters in device.consumes:
            for counter, amount in counters.items():
                key = (*device.id[:2], set_name, counter)
                self._counters[key] = self._counters.get(key, 0) + sign * amount

    def _available(self, pool: Pool) -> Mapping[tuple[str, ...], int]:
        """What the devices that claims have leave of a pool's counters; below zero: nothing."""
        found = self._left.get(pool.id)
        if found is None:
            found = self._left[pool.id] = {
                (*pool.id, name, counter): amount
                for name, counters in pool.counter_sets.items()
                for counter, amount in counters.items()
            }
            for device in (*pool.devices, *pool.others):
                if device.consumes and self._site.ledger.is_used(device.id):
                    for name, counters in device.consumes:
                        for counter, amount in counters.items():
                            found[(*pool.id, name, counter)] -= amount
        return found


def _tolerated(device: Device, request: Request) -> bool:
    return all(any(tolerates(each, taint) for each in request.tolerations) for taint in device.taints)


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether a request's toleration covers a device's taint."""
    effect, key = toleration.get("effect"), toleration.get("key")
    if effect and effect != taint.get("effect"):
        return False
    if key and key != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")
