"""No admission beyond quota and declared borrowing.

An own count of Kueue's rules (docs of ClusterQueue and Cohort), apart from the code that admits: per flavour and
resource, a queue may use its nominal quota, and above it what its borrowing limit and its cohorts' free quota allow;
what a queue keeps by its lending limit nobody else uses. Looked at when a Workload gets its quota: quota that is made
smaller later takes nothing back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from atoll.base import quantity
from atoll.cluster.store.port import Store
from atoll.kinds import kueue
from atoll.objects.meta import condition
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger

Object = dict[str, Any]
Cell = tuple[str, str]  # (flavor, resource)
_WORKLOADS = kueue.WORKLOADS.group_resource
_QUEUES = kueue.CLUSTER_QUEUES.group_resource
_COHORTS = kueue.COHORTS.group_resource
_ONE = 1_000_000_000


@dataclass(slots=True)
class _Quota:
    nominal: int = 0
    borrowing: int | None = None
    lending: int | None = None


@dataclass(slots=True)
class _Member:
    """A queue or a cohort."""

    parent: str = ""
    quotas: dict[Cell, _Quota] = field(default_factory=dict)


class Quota(Invariant):
    name = "quota"
    resources = (_WORKLOADS, _QUEUES, _COHORTS)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._store = store
        self._tell = tell
        self._queues: dict[str, _Member] = {}
        self._cohorts: dict[str, _Member] = {}
        self._holding: dict[str, tuple[str, dict[Cell, int]]] = {}  # Workload → (queue, what it holds)
        self._used: dict[str, dict[Cell, int]] = {}
        self._excused: set[Cell] = set()  # quota has changed: these may be above it until they fall below

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        if resource == _WORKLOADS:
            self._workload(old, new, now)
            return
        members = self._queues if resource == _QUEUES else self._cohorts
        name = (new or old or {})["metadata"]["name"]
        before = members.pop(name, None)
        if new is not None:
            members[name] = _member(new)
        if before is not None and (new is None or before != members[name]):
            self._excused |= {cell for used in self._used.values() for cell in used}

    def _workload(self, old: Object | None, new: Object | None, now: float) -> None:
        name = _name(new or old or {})
        before = self._holding.pop(name, None)
        if before is not None:
            _add(self._used.setdefault(before[0], {}), before[1], -1)
        held = _held(new)
        if held is None:
            return
        self._holding[name] = held
        _add(self._used.setdefault(held[0], {}), held[1], 1)
        if before is None or any(amount > before[1].get(cell, 0) for cell, amount in held[1].items()):
            for cell in held[1]:
                for problem in self._beyond(cell, self._used):
                    self._tell(f"Workload {name} was admitted: {problem}", now)

    def full(self, now: float) -> None:
        used: dict[str, dict[Cell, int]] = {}
        for record in self._store.scan(_WORKLOADS):
            held = _held(record.object)
            if held is not None:
                _add(used.setdefault(held[0], {}), held[1], 1)
        for queue, cells in used.items():
            if cells != {cell: amount for cell, amount in self._used.get(queue, {}).items() if amount}:
                self._tell(f"ClusterQueue {queue}: Workloads hold {cells}, by changes {self._used.get(queue)}", now)
        for cell in sorted({cell for cells in used.values() for cell in cells}):
            problems = list(self._beyond(cell, used))
            if not problems:
                self._excused.discard(cell)
            elif cell not in self._excused:
                for problem in problems:
                    self._tell(problem, now)

    def _beyond(self, cell: Cell, used: dict[str, dict[Cell, int]]) -> Iterator[str]:
        """What is above a limit, from the queues up to the roots."""
        subtree: dict[str, int] = {}
        taken: dict[str, int] = {}
        for name, queue in self._queues.items():
            quota = queue.quotas.get(cell) or _Quota()
            mine = used.get(name, {}).get(cell, 0)
            most = quota.nominal if not queue.parent else None
            if quota.borrowing is not None:
                most = quota.nominal + quota.borrowing
            if most is not None and mine > most:
                yield f"ClusterQueue {name} holds {mine / _ONE:g} of {most / _ONE:g} {cell[1]} in flavor {cell[0]}"
            kept = _kept(quota, quota.nominal)
            subtree[queue.parent] = subtree.get(queue.parent, 0) + quota.nominal - kept
            taken[queue.parent] = taken.get(queue.parent, 0) + max(0, mine - kept)
        for name in self._upwards():
            cohort = self._cohorts.get(name) or _Member()
            quota = cohort.quotas.get(cell) or _Quota()
            have, mine = quota.nominal + subtree.get(name, 0), taken.get(name, 0)
            most = have if not cohort.parent else None if quota.borrowing is None else have + quota.borrowing
            if most is not None and mine > most:
                yield f"cohort {name} holds {mine / _ONE:g} of {most / _ONE:g} {cell[1]} in flavor {cell[0]}"
            kept = _kept(quota, have)
            subtree[cohort.parent] = subtree.get(cohort.parent, 0) + have - kept
            taken[cohort.parent] = taken.get(cohort.parent, 0) + max(0, mine - kept)

    def _upwards(self) -> list[str]:
        """Cohorts, children before their parents. (The API server refuses circles.)"""
        names = {queue.parent for queue in self._queues.values() if queue.parent} | set(self._cohorts)
        depth: dict[str, int] = {}
        for name in names:
            path, at = 0, name
            while at and path <= len(names):
                depth[at] = max(depth.get(at, 0), path)
                cohort = self._cohorts.get(at)
                at, path = cohort.parent if cohort is not None else "", path + 1
        return sorted(depth, key=lambda name: (depth[name], name))


def _kept(quota: _Quota, have: int) -> int:
    """What nobody else may use."""
    return 0 if quota.lending is None else max(0, have - quota.lending)


def _member(obj: Object) -> _Member:
    spec = obj.get("spec") or {}
    member = _Member(spec.get("cohortName") or spec.get("cohort") or spec.get("parentName") or spec.get("parent") or "")
    for group in spec.get("resourceGroups") or ():
        for flavor in group.get("flavors") or ():
            for item in flavor.get("resources") or ():
                borrowing, lending = item.get("borrowingLimit"), item.get("lendingLimit")
                member.quotas[flavor["name"], item["name"]] = _Quota(
                    quantity.parse(item.get("nominalQuota", 0)),
                    None if borrowing is None else quantity.parse(borrowing),
                    None if lending is None else quantity.parse(lending),
                )
    return member


def _held(workload: Object | None) -> tuple[str, dict[Cell, int]] | None:
    """The queue, and what the Workload has of it; None where it has no quota."""
    if workload is None or (condition(workload, "Finished") or {}).get("status") == "True":
        return None
    if (condition(workload, "QuotaReserved") or {}).get("status") != "True":
        return None
    admission = (workload.get("status") or {}).get("admission") or {}
    pods = {item["name"]: item.get("count", 0) for item in workload["status"].get("reclaimablePods") or ()}
    total: dict[Cell, int] = {}
    for assigned in admission.get("podSetAssignments") or ():
        count = assigned.get("count") or 0
        left = max(0, count - pods.get(assigned["name"], 0))
        for resource, amount in (assigned.get("resourceUsage") or {}).items():
            flavor = (assigned.get("flavors") or {}).get(resource)
            value = quantity.parse(amount)
            if flavor and value:
                value = value * left // count if count else value
                total[flavor, resource] = total.get((flavor, resource), 0) + value
    return admission.get("clusterQueue", ""), {cell: value for cell, value in total.items() if value}


def _add(total: dict[Cell, int], amounts: dict[Cell, int], sign: int) -> None:
    for cell, amount in amounts.items():
        total[cell] = total.get(cell, 0) + sign * amount


def _name(workload: Object) -> str:
    return f"{workload['metadata']['namespace']}/{workload['metadata']['name']}"
