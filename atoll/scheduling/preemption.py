"""Which pods would have to go so that a more important one fits: kube-scheduler's DefaultPreemption, as a plan.

On each node whose failure removing pods might cure, all less important pods are taken away in thought; if the pod
then fits, as many as possible are reprieved, the most important first, those protected by a budget before others.
The best node violates the fewest budgets, then loses the least important pods, then the fewest. Pods that only want
room are looked for on arrays (`candidates.py`); what is said here of one node holds for both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.scheduling import status
from atoll.scheduling.arrays import Rows, np
from atoll.scheduling.candidates import OFFSET, Cost, Search, search
from atoll.scheduling.evaluation import Refusals
from atoll.scheduling.matching import everything, label_selector
from atoll.scheduling.plan import Planner, with_pods
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.refused import Refused
from atoll.scheduling.state import ClusterState, NodeState
from atoll.scheduling.status import Failure, Reasons, Status, Statuses, fit_error
from atoll.scheduling.tenants import importance, started

Object = dict[str, Any]
_MIN_PERCENTAGE, _MIN_CANDIDATES = 10, 100
# What kube-scheduler's DynamicResources plugin, which comes before preemption, adds to every message.
_NO_CLAIMS = "no new claims to deallocate"
_IDLE_CLAIM = "deallocation of ResourceClaim completed"
_OTHER_CLAIMS = "still not schedulable"
_STALE_CLAIM = "deletion of ResourceClaim completed"
_NO_STATE = "not found"  # it has no state where a prefilter has refused the pod, and so ends the matter


@dataclass(slots=True)
class Victims:
    """What preempting on one node takes."""

    node: str
    pods: list[PodInfo]
    violations: int


@dataclass(slots=True)
class Preemption:
    """`victims`: do this. Otherwise `message` says why not; `clear`: a nomination made before is void."""

    victims: Victims | None = None
    message: str = ""
    clear: bool = False


def plan_preemption(planner: Planner, pod: PodInfo, failure: Failure, budgets: Sequence[Object]) -> Preemption:
    """What preemption could do for a pod that fits nowhere."""
    state = planner.state
    if failure.prefilter and failure.devices is None:
        return Preemption(message=_NO_STATE)
    claims = claims_note(state, pod, failure)
    reason = _ineligible(state, pod, failure)
    if reason:
        return Preemption(message=f"{claims}, preemption: {reason}")
    potential = _potential(planner, failure.statuses)
    evaluation = None if potential is None else planner.evaluation(pod)
    reasons: Counter[Reasons] = Counter()
    if potential is not None and evaluation is not None:
        asked = _Question(planner, pod, evaluation.refusals, budgets)
        wanted = max(len(potential) * _MIN_PERCENTAGE // 100, _MIN_CANDIDATES)
        found = search(planner, pod, evaluation, potential, budgets, wanted, asked.cost)
        best = asked.best(potential, wanted) if found is None else asked.best_of(found)
        if isinstance(best, Victims):
            return Preemption(victims=best)
        reasons = best
    total = len(state.nodes)
    reasons[status.NOT_HELPFUL.reasons] += total - reasons.total()
    return Preemption(message=f"{claims}, preemption: {fit_error(total, +reasons)}", clear=True)


def _potential(planner: Planner, statuses: Statuses) -> Rows | None:
    """The rows of nodes that might take the pod if others went; None where there are none."""
    if isinstance(statuses, Refused):
        rows = statuses.resolvable()
        return rows if len(rows) else None
    names = [name for name, why in statuses.items() if why.resolvable]
    if not names:
        return None
    planner.nodes.follow()
    return np.array([planner.nodes.rows[name] for name in names], np.intp)


class _Question:
    """What one pod would displace on a node."""

    def __init__(self, planner: Planner, pod: PodInfo, refusals: Refusals, budgets: Sequence[Object]) -> None:
        self._state = planner.state
        self._names = planner.nodes.names
        self._pod = pod
        self._refusals = refusals
        self._budgets = budgets

    def on(self, name: str) -> Victims | Status:
        return _victims(self._state, self._refusals, self._pod, self._state.nodes[name], self._budgets)

    def cost(self, name: str) -> Cost | None:
        found = self.on(name)
        return None if isinstance(found, Status) else _cost(found)

    def best_of(self, found: Search) -> Victims | Counter[Reasons]:
        """What the search has found; or how many nodes won't do for which reasons."""
        if found.best is not None:
            best = self.on(found.best)
            assert isinstance(best, Victims), found.best
            return best
        reasons: Counter[Reasons] = Counter()
        for name, count in found.alike:
            why = self.on(name)
            assert isinstance(why, Status), name
            reasons[why.reasons] += count
        return reasons

    def best(self, rows: Rows, wanted: int) -> Victims | Counter[Reasons]:
        """The same for any pod, by looking at one node after the other."""
        candidates: list[Victims] = []
        reasons: Counter[Reasons] = Counter()
        calm = 0
        for row in rows.tolist():
            found = self.on(self._names[row])
            if isinstance(found, Status):
                reasons[found.reasons] += 1
                continue
            candidates.append(found)
            calm += found.violations == 0
            if calm and len(candidates) >= wanted:
                break
        if not candidates:
            return reasons
        return min(candidates, key=lambda victims: (_cost(victims), victims.node))


def claims_note(state: ClusterState, pod: PodInfo, failure: Failure) -> str:
    """What the DynamicResources plugin can do for a pod that fits nowhere (its PostFilter)."""
    needs = failure.devices
    if needs is None or not needs.has_claims:
        return _NO_CLAIMS
    if needs.stale is not None:
        return _STALE_CLAIM
    if needs.error:
        return _NO_CLAIMS
    return _OTHER_CLAIMS if needs.in_the_way(state.nodes, pod.uid) is None else _IDLE_CLAIM


def _ineligible(state: ClusterState, pod: PodInfo, failure: Failure) -> str:
    if not pod.template.may_preempt:
        return "not eligible due to preemptionPolicy=Never."
    name = (pod.obj.get("status") or {}).get("nominatedNodeName") or state.nomination(pod.uid)
    node = state.nodes.get(name) if name else None
    if node is None or name is None:
        return ""
    why = failure.statuses.get(name)
    if why is not None and not why.resolvable:
        return ""
    for other in node.pods.values():
        if other.priority < pod.priority and _preempted(other):
            return "not eligible due to a terminating pod on the nominated node."
    return ""


def _preempted(pod: PodInfo) -> bool:
    if not pod.terminating:
        return False
    for condition in (pod.obj.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "DisruptionTarget":
            return bool(condition.get("status") == "True" and condition.get("reason") == "PreemptionByScheduler")
    return False


def _victims(
    state: ClusterState, refusals: Refusals, pod: PodInfo, node: NodeState, budgets: Sequence[Object]
) -> Victims | Status:
    potential = [other for other in node.pods.values() if other.priority < pod.priority]
    if not potential:
        return status.NO_VICTIMS
    variant = node.clone()
    for other in potential:
        variant.remove(other)
    why = _fits(state, refusals, pod, variant)
    if why is not None:
        return why
    potential.sort(key=importance)
    protected, others = split_by_budget(potential, budgets)
    victims: list[PodInfo] = []
    violations = 0
    for group, counted in ((protected, 1), (others, 0)):
        for other in group:
            variant.add(other)
            if _fits(state, refusals, pod, variant) is not None:
                variant.remove(other)
                victims.append(other)
                violations += counted
    if not victims:
        return status.NO_VICTIMS
    victims.sort(key=importance)
    return Victims(node.name, victims, violations)


def _fits(state: ClusterState, refusals: Refusals, pod: PodInfo, variant: NodeState) -> Status | None:
    rivals = state.rivals(variant.name, pod)
    if rivals:
        why = refusals.why(with_pods(variant, rivals))
        if why is not None:
            return why
    return refusals.why(variant)


def split_by_budget(pods: Iterable[PodInfo], budgets: Sequence[Object]) -> tuple[list[PodInfo], list[PodInfo]]:
    """Pods whose eviction would break a PodDisruptionBudget, and the others."""
    allowed = [(budget.get("status") or {}).get("disruptionsAllowed") or 0 for budget in budgets]
    matchers = [label_selector((budget.get("spec") or {}).get("selector")) for budget in budgets]
    protected: list[PodInfo] = []
    others: list[PodInfo] = []
    for pod in pods:
        violated = False
        labels = pod.pods.labels
        for place, budget in enumerate(budgets):
            matcher = matchers[place]
            if not labels or budget["metadata"].get("namespace") != pod.template.namespace:
                continue
            if matcher is everything or not matcher(labels):
                continue
            if pod.name in ((budget.get("status") or {}).get("disruptedPods") or {}):
                continue
            allowed[place] -= 1
            violated = violated or allowed[place] < 0
        (protected if violated else others).append(pod)
    return protected, others


def _cost(victims: Victims) -> Cost:
    highest = victims.pods[0].priority
    earliest = min(started(pod) for pod in victims.pods if pod.priority == highest)
    total = sum(pod.priority + OFFSET for pod in victims.pods)
    return victims.violations, highest, total, len(victims.pods), -earliest
