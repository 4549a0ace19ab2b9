"""Which pods would have to go so that a more important one fits: kube-scheduler's DefaultPreemption, as a plan.

On each node whose failure removing pods might cure, all less important pods are taken away in thought; if the pod
then fits, as many as possible are reprieved, the most important first, those protected by a budget before others.
The best node violates the fewest budgets, then loses the least important pods, then the fewest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.scheduling import status
from atoll.scheduling.evaluation import Refusals
from atoll.scheduling.matching import everything, label_selector
from atoll.scheduling.plan import Planner, with_pods
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.state import ClusterState, NodeState
from atoll.scheduling.status import Failure, Status, fit_error

Object = dict[str, Any]
_MIN_PERCENTAGE, _MIN_CANDIDATES = 10, 100
# What kube-scheduler's DynamicResources plugin, which comes before preemption, adds to every message.
_NO_CLAIMS = "no new claims to deallocate"
_NO_STATE = "not found"  # it has no state where a prefilter has refused the pod, and so ends the matter
_OFFSET = 1 << 31  # keeps negative priorities from making many victims look cheap


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
    if failure.prefilter:
        return Preemption(message=_NO_STATE)
    reason = _ineligible(state, pod, failure)
    if reason:
        return Preemption(message=f"{_NO_CLAIMS}, preemption: {reason}")
    potential = [name for name, why in failure.statuses.items() if why.resolvable]
    evaluation = planner.evaluation(pod) if potential else None
    candidates: list[Victims] = []
    statuses: dict[str, Status] = {}
    if evaluation is not None:
        wanted = max(len(potential) * _MIN_PERCENTAGE // 100, _MIN_CANDIDATES)
        calm = 0
        for name in potential:
            found = _victims(state, evaluation.refusals, pod, state.nodes[name], budgets)
            if isinstance(found, Status):
                statuses[name] = found
                continue
            candidates.append(found)
            calm += found.violations == 0
            if calm and len(candidates) >= wanted:
                break
    if candidates:
        return Preemption(victims=_pick(candidates))
    everyone = [statuses.get(name, status.NOT_HELPFUL) for name in state.nodes]
    return Preemption(message=f"{_NO_CLAIMS}, preemption: {fit_error(len(state.nodes), everyone)}", clear=True)


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
    potential.sort(key=_importance)
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
    victims.sort(key=_importance)
    return Victims(node.name, victims, violations)


def _fits(state: ClusterState, refusals: Refusals, pod: PodInfo, variant: NodeState) -> Status | None:
    rivals = state.rivals(variant.name, pod)
    if rivals:
        why = refusals.why(with_pods(variant, rivals))
        if why is not None:
            return why
    return refusals.why(variant)


def started(pod: PodInfo) -> float:
    text = (pod.obj.get("status") or {}).get("startTime")
    return parse_rfc3339(text) if text else float("inf")


def _importance(pod: PodInfo) -> tuple[int, float]:
    """More important first: higher priority, then started earlier."""
    return -pod.priority, started(pod)


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


def _pick(candidates: list[Victims]) -> Victims:
    def rank(victims: Victims) -> tuple[int, int, int, int, float, str]:
        highest = victims.pods[0].priority
        earliest = min(started(pod) for pod in victims.pods if pod.priority == highest)
        total = sum(pod.priority + _OFFSET for pod in victims.pods)
        return victims.violations, highest, total, len(victims.pods), -earliest, victims.node

    return min(candidates, key=rank)
