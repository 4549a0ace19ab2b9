"""Claims, classes and slices as last seen, and what of the devices is taken: kept by its owner through small changes.

A decision that has not been written yet counts as taken (`assume`), until the claim is seen with it, or it is given
up (`release`). Who remembers answers about nodes is told which node has changed (`touch`); where several may have,
`version` moves.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from atoll.objects import meta, resource_claims
from atoll.objects.resource_claims import ClaimProblem, claim_name, pod_claims
from atoll.scheduling.dra import extended
from atoll.scheduling.dra.allocate import Site, Solution, Wanted, search
from atoll.scheduling.dra.ledger import Ledger
from atoll.scheduling.dra.model import AllocationError, Device, DeviceClass, SelectorError, Selectors
from atoll.scheduling.dra.needs import DeviceNeeds, DevicePlan
from atoll.scheduling.dra.pools import Inventory
from atoll.scheduling.matching import node_selector

Object = dict[str, Any]
_NONE = DeviceNeeds()


class NoSelectors:
    """Where no CEL is plugged in, every expression is an error."""

    def matches(self, expression: str, device: Device) -> bool:
        raise SelectorError("there is no CEL here", compiling=True)


@dataclass(slots=True)
class _Pending:
    """A claim that will have these devices; `users`: the pods (by uid) for which that will be written."""

    allocation: Object
    users: set[str]
    deciding: bool  # more of their gang may still be decided: those that name it count on it
    written: int = 0  # the version it was written as


class Devices:
    """See the module. `touch` is told the name of a node for which answers have become void."""

    def __init__(self, touch: Callable[[str], None], selectors: Selectors | None = None) -> None:
        self.claims: dict[tuple[str, str], Object] = {}
        self.classes: dict[str, DeviceClass] = {}
        self.by_resource: dict[str, DeviceClass] = {}
        self.inventory = Inventory()
        self.ledger = Ledger()
        self._extended: dict[str, Object] = {}  # pod uid → the claim that was made for its extended resources
        self._pending: dict[str, _Pending] = {}  # by the claim's uid
        self._selectors = selectors or NoSelectors()
        self._touch = touch
        self._classes_version = 0
        self._claims_version = 0

    @property
    def version(self) -> tuple[int, int, int]:
        return self.inventory.changed, self._classes_version, self._claims_version

    # what is seen

    def set_slice(self, obj: Object | None, name: str) -> None:
        """A ResourceSlice; None: it is gone."""
        node = self.inventory.remove(name) if obj is None else self.inventory.put(obj)
        if node:
            self._touch(node)

    def set_rule(self, obj: Object | None, name: str) -> None:
        """A DeviceTaintRule; None: it is gone."""
        for node in filter(None, self.inventory.set_rule(obj, name)):
            self._touch(node)

    def set_class(self, obj: Object | None, name: str) -> None:
        if obj is None:
            self.classes.pop(name, None)
        else:
            self.classes[name] = DeviceClass.of(obj)
        self.by_resource = extended.by_resource(self.classes.values())
        self._classes_version += 1

    def set_claim(self, obj: Object | None, old: Object | None) -> None:
        """A ResourceClaim and what was seen of it before; None: there is none (any more)."""
        current = obj or old or {}
        metadata = current["metadata"]
        key = (metadata.get("namespace") or "", metadata["name"])
        before = self.claims.pop(key, None)
        if obj is not None:
            self.claims[key] = obj
        if meta.annotations(current).get(resource_claims.EXTENDED_RESOURCE_CLAIM) == "true":
            owner = resource_claims.controller_uid(current)
            if obj is None:
                self._extended.pop(owner, None)
            else:
                self._extended[owner] = obj
        if before is not None:
            self._book(before, -1)
        if obj is not None:
            self._book(obj, 1)
            self._settle(obj)
        elif before is not None:
            self.release(before["metadata"].get("uid") or "")

    def _book(self, claim: Object, sign: int) -> None:
        if claim["metadata"].get("uid") in self._pending:
            return  # booked as pending
        self._change(resource_claims.results(claim), sign)

    def _settle(self, claim: Object) -> None:
        """What was decided is seen as written, or the write came to nothing."""
        uid = claim["metadata"].get("uid") or ""
        found = self._pending.get(uid)
        if found is None:
            return
        seen = resource_claims.allocation(claim) is not None
        if seen or (found.written and int(claim["metadata"].get("resourceVersion") or 0) >= found.written):
            self._change(found.allocation["devices"]["results"], -1)
            del self._pending[uid]
            self._change(resource_claims.results(claim), 1)

    def _change(self, results: list[Object], sign: int) -> None:
        if not results:
            return
        self.ledger.add(results, sign)
        for pool in {(result["driver"], result["pool"]) for result in results}:
            node = self.inventory.device_home(pool)
            if node:
                self._touch(node)
            else:
                self._claims_version += 1

    # what is decided

    def assume(self, uid: str, allocation: Object, user: str, *, deciding: bool = False) -> None:
        """A claim will have these devices, by a pod's `user` uid; they are taken from now on.

        Members of a gang are decided before any of that is carried out (`deciding`), and may share the claim.
        """
        found = self._pending.get(uid)
        if found is not None:
            found.users.add(user)
            found.deciding = deciding
            return
        self._pending[uid] = _Pending(allocation, {user}, deciding)
        self._change(allocation["devices"]["results"], 1)

    def renamed(self, before: str, uid: str) -> None:
        """A claim that was assumed before it was made has its uid."""
        found = self._pending.pop(before, None)
        if found is not None:
            self._pending[uid] = found

    def written(self, uid: str, version: int) -> None:
        """The claim was written with what was assumed; a view of it from that version on tells the truth."""
        found = self._pending.get(uid)
        if found is not None:
            found.written = version

    def release(self, uid: str, user: str = "") -> None:
        """What was assumed will not be, or not by this pod: then it stays while another may write it."""
        found = self._pending.get(uid)
        if found is None:
            return
        found.users.discard(user)
        if user and found.users:
            return
        del self._pending[uid]
        self._change(found.allocation["devices"]["results"], -1)

    def ledger_without(self, gone: Collection[str]) -> Ledger:
        """What is taken once pods (by uid) have ended: claims that none but they use are given back."""
        found = self.ledger.copy()
        for claim in self.claims.values():
            uids = {user.get("uid") for user in resource_claims.users(claim)}
            if uids and uids.issubset(gone) and claim["metadata"].get("uid") not in self._pending:
                found.add(resource_claims.results(claim), -1)
        return found

    # what pods need

    def of_pod(self, pod: Object) -> list[Object]:
        """A pod's claims. Raises ClaimProblem: one is not there, not its own, or going."""
        namespace = pod["metadata"].get("namespace") or ""
        found = []
        for entry in pod_claims(pod):
            name, owned = claim_name(pod, entry)
            if name is None:
                continue
            claim = self.claims.get((namespace, name))
            if claim is None:
                raise ClaimProblem(f'resourceclaim.resource.k8s.io "{name}" not found')
            if "deletionTimestamp" in claim["metadata"]:
                raise ClaimProblem(f'resourceclaim "{name}" is being deleted')
            if owned:
                resource_claims.check_owner(pod, claim)
            found.append(claim)
        return found

    def needs(self, pod: Object, requests: Mapping[str, int]) -> DeviceNeeds:
        """Resolve a pod's claims; `requests`: its resources (`Template.requests`)."""
        delegated = extended.delegated(requests, self.by_resource) if self.by_resource else frozenset()
        if not delegated and not pod_claims(pod):
            return _NONE
        needs = DeviceNeeds(devices=self, delegated=delegated, spec=pod.get("spec") or {})
        needs.name = f"{pod['metadata'].get('namespace')}/<extended-resources>"
        try:
            needs.claims = self.of_pod(pod)
        except ClaimProblem as problem:
            needs.error = str(problem)
            return needs
        if delegated:
            needs.stale = self._extended.get(pod["metadata"].get("uid") or "")
            needs.error = "" if needs.stale is None else "cannot schedule extended resource claim"
        key: list[Any] = []
        for claim in needs.claims:
            needs.error = needs.error or self._resolve(needs, pod, claim, key)
        if needs.wanted or delegated:
            shape = orjson.dumps(_containers(needs.spec)) if delegated else b""
            key.append((self.version, delegated, shape))
        needs.key = tuple(key)
        return needs

    def _resolve(self, needs: DeviceNeeds, pod: Object, claim: Object, key: list[Any]) -> str:
        metadata = claim["metadata"]
        uid = metadata.get("uid") or ""
        allocation, pending = resource_claims.allocation(claim), self._pending.get(uid)
        if allocation is None and pending is not None and pending.deciding:
            allocation = needs.decided[uid] = pending.allocation
        if allocation is not None:
            if not resource_claims.can_be_reserved(claim) and not resource_claims.is_reserved_for(claim, pod):
                return "resourceclaim in use"
            selector = node_selector(allocation.get("nodeSelector"))
            needs.bound.append((claim, selector))
            if selector is not None:
                key.append(orjson.dumps(allocation["nodeSelector"], option=orjson.OPT_SORT_KEYS))
            return ""
        name = f"{metadata.get('namespace')}/{metadata['name']}"
        if pending is not None:
            return f"resource claim {name} is in the process of being allocated"
        spec = claim.get("spec") or {}
        for request in (spec.get("devices") or {}).get("requests") or ():
            problem = self._class_problem(request)
            if problem:
                return problem
            needs.has_preferences = needs.has_preferences or bool(request.get("firstAvailable"))
        needs.wanted.append((claim, Wanted(name, spec)))
        key.append(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS))
        if resource_claims.controller_uid(claim) != pod["metadata"].get("uid"):
            needs.shared |= {uid}
            key.append(uid)
        return ""

    def _class_problem(self, request: Object) -> str:
        if request.get("exactly") is not None:
            asked = [(request["name"], request["exactly"])]
        else:
            asked = [(f"{request['name']}/{each['name']}", each) for each in request.get("firstAvailable") or ()]
        for name, item in asked:
            if item.get("deviceClassName") not in self.classes:
                return f"request {name}: device class {item.get('deviceClassName')} does not exist"
        return ""

    def solve(
        self, node: str, labels: Mapping[str, str], wanted: list[Wanted], ledger: Ledger | None = None
    ) -> Solution | None:
        """Devices on a node for some claims, or None. Raises AllocationError, PoolProblem."""
        pools = self.inventory.of_node(node, labels)
        site = Site(node, labels, pools, ledger or self.ledger, self.classes, self._selectors)
        return search(site, wanted)


def assume_plan(devices: Devices, plan: DevicePlan, pod_uid: str, *, deciding: bool = False) -> None:
    """Take what a plan gives; a claim that is yet to be made goes by the pod's uid. `deciding`: see `assume`."""
    for item in plan.claims:
        if item.allocation is not None:
            devices.assume(plan_uid(item.claim, pod_uid), item.allocation, pod_uid, deciding=deciding)


def release_plan(devices: Devices, plan: DevicePlan, pod_uid: str) -> None:
    """Give back what `assume_plan` took."""
    for item in plan.claims:
        if item.allocation is not None:
            devices.release(plan_uid(item.claim, pod_uid), pod_uid)


def plan_uid(claim: Object | None, pod_uid: str) -> str:
    return str(claim["metadata"]["uid"]) if claim is not None else f"{pod_uid}/extended"


def _containers(spec: Object) -> list[Any]:
    return [
        [
            [item["name"], item.get("restartPolicy"), (item.get("resources") or {}).get("requests")]
            for item in spec.get(field) or ()
        ]
        for field in ("initContainers", "containers")
    ]


__all__ = ["AllocationError", "Devices", "NoSelectors", "assume_plan", "plan_uid", "release_plan"]
