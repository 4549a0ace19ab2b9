"""No voluntary eviction beyond its budget: what the eviction API takes leaves as many healthy pods as a PDB asks for.

Preemption by the scheduler prefers to respect budgets and may go beyond them, as upstream's. Where other pods of the
budget fell ill by themselves a moment ago, the API server could not know of it yet: that eviction is excused.

In full, healthy pods are counted anew, and a budget that allows more evictions than they bear, and did so an hour ago
already, is told before anybody makes use of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atoll.cluster.store.port import Store
from atoll.scheduling.matching import LabelMatcher, everything, label_selector
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod, pod_of

Object = dict[str, Any]
_BUDGETS = "poddisruptionbudgets.policy"
_BY_API = "EvictionByEvictionAPI"
_EXCUSED_SECONDS = 10.0


@dataclass(slots=True)
class _Budget:
    matches: LabelMatcher
    spec: Object
    expected: int
    ill: float = -math.inf  # when a pod of it last fell ill by itself
    allows: int = 0  # evictions, by its status


class Budgets(Invariant):
    name = "budgets"
    resources = (_BUDGETS,)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._store = store
        self._tell = tell
        self._budgets: dict[str, dict[str, _Budget]] = {}  # by namespace and name
        self._healthy: dict[str, dict[str, Mapping[str, str]]] = {}  # by namespace and uid: labels of pods that serve
        self._too_generous: set[tuple[str, str]] = set()  # budgets, by the last full look

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        metadata = (new or old or {})["metadata"]
        space = self._budgets.setdefault(metadata["namespace"], {})
        before = space.pop(metadata["name"], None)
        if new is not None:
            space[metadata["name"]] = made = _budget_of(new)
            if before is not None:
                made.ill = before.ill

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if new is not None and _serves(new):
            self._healthy.setdefault(new.key[0], {})[new.uid] = new.labels
            return
        if old is None or not _serves(old):
            return
        self._healthy[old.key[0]].pop(old.uid, None)
        evicted = (new if new is not None else old).disruption == _BY_API
        for name, budget in self._budgets.get(old.key[0], {}).items():
            if not budget.matches(old.labels):
                continue
            if not evicted:
                budget.ill = now
            elif now - budget.ill > _EXCUSED_SECONDS:
                healthy, wanted = _count(self._healthy[old.key[0]], budget), _wanted(budget)
                if healthy < wanted:
                    self._tell(
                        f"pod {old.key[1]} was evicted: {healthy} of {wanted} pods of budget {name} are left", now
                    )

    def full(self, now: float) -> None:
        pods = (pod_of(record.object) for record in self._store.scan("pods"))
        healthy: dict[str, dict[str, Mapping[str, str]]] = {}
        for pod in pods:
            if _serves(pod):
                healthy.setdefault(pod.key[0], {})[pod.uid] = pod.labels
        for space in sorted(healthy.keys() | self._healthy.keys()):
            if healthy.get(space, {}).keys() != self._healthy.get(space, {}).keys():
                self._tell(f"namespace {space}: {len(self._healthy.get(space, {}))} healthy pods by changes", now)
        before, self._too_generous = self._too_generous, set()
        for record in self._store.scan(_BUDGETS):
            space, name = record.key.namespace, record.key.name
            budget = _budget_of(record.object)
            there, wanted = _count(healthy.get(space, {}), budget), _wanted(budget)
            if budget.allows <= max(0, there - wanted):
                continue
            self._too_generous.add((space, name))
            if (space, name) in before:
                what = f"budget {name} allows {budget.allows} evictions: {there} of {wanted} pods are healthy"
                self._tell(what, now)


def _serves(pod: Pod) -> bool:
    return pod.ready and not pod.deleting


def _count(healthy: Mapping[str, Mapping[str, str]], budget: _Budget) -> int:
    return sum(budget.matches(labels) for labels in healthy.values())


def _budget_of(obj: Object) -> _Budget:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    selector = spec.get("selector")
    matcher = label_selector(selector) if selector else everything
    return _Budget(matcher, spec, status.get("expectedPods") or 0, allows=status.get("disruptionsAllowed") or 0)


def _wanted(budget: _Budget) -> int:
    least, most = budget.spec.get("minAvailable"), budget.spec.get("maxUnavailable")
    if least is not None:
        return _share(least, budget.expected)
    return budget.expected - _share(most, budget.expected) if most is not None else 0


def _share(value: Any, of: int) -> int:
    """A number, or a percentage rounded up (as the disruption controller has it)."""
    return math.ceil(of * int(value[:-1]) / 100) if isinstance(value, str) and value.endswith("%") else int(value)
