"""No voluntary eviction beyond its budget: what the eviction API takes leaves as many healthy pods as a PDB asks for.

Preemption by the scheduler prefers to respect budgets and may go beyond them, as upstream's. Where other pods of the
budget fell ill by themselves a moment ago, the API server could not know of it yet: that eviction is excused.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from atoll.cluster.store.port import Store
from atoll.scheduling.matching import LabelMatcher, everything, label_selector
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod

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


class Budgets(Invariant):
    name = "budgets"
    resources = (_BUDGETS,)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._tell = tell
        self._budgets: dict[str, dict[str, _Budget]] = {}  # by namespace and name

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        metadata = (new or old or {})["metadata"]
        space = self._budgets.setdefault(metadata["namespace"], {})
        before = space.pop(metadata["name"], None)
        if new is not None:
            selector = (new.get("spec") or {}).get("selector")
            matcher = label_selector(selector) if selector else everything
            made = _Budget(matcher, new.get("spec") or {}, (new.get("status") or {}).get("expectedPods") or 0)
            if before is not None:
                made.ill = before.ill
            space[metadata["name"]] = made

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if old is None or not old.ready or old.deleting or (new is not None and new.ready and not new.deleting):
            return
        evicted = (new if new is not None else old).disruption == _BY_API
        for name, budget in self._budgets.get(old.key[0], {}).items():
            if not budget.matches(old.labels):
                continue
            if not evicted:
                budget.ill = now
            elif now - budget.ill > _EXCUSED_SECONDS:
                healthy, wanted = self._healthy(old.key[0], budget), _wanted(budget)
                if healthy < wanted:
                    self._tell(
                        f"pod {old.key[1]} was evicted: {healthy} of {wanted} pods of budget {name} are left", now
                    )

    def _healthy(self, space: str, budget: _Budget) -> int:
        return sum(
            pod.ready and not pod.deleting and pod.key[0] == space and budget.matches(pod.labels)
            for pod in self._ledger.pods.values()
        )

    def full(self, now: float) -> None:
        """Evictions are moments: there is nothing to look at between them."""


def _wanted(budget: _Budget) -> int:
    least, most = budget.spec.get("minAvailable"), budget.spec.get("maxUnavailable")
    if least is not None:
        return _share(least, budget.expected)
    return budget.expected - _share(most, budget.expected) if most is not None else 0


def _share(value: Any, of: int) -> int:
    """A number, or a percentage rounded up (as the disruption controller has it)."""
    return math.ceil(of * int(value[:-1]) / 100) if isinstance(value, str) and value.endswith("%") else int(value)
