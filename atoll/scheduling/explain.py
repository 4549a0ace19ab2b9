"""Why a pod or a gang waits, in one line: what it lacks, and the cheapest change that would let it run.

Every change that is named was tried on the snapshot: "would do" is a decision, not a guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from atoll.objects.resource_claims import known_names, pod_claims
from atoll.scheduling import status
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.dra.needs import CANNOT_ALLOCATE, DeviceNeeds
from atoll.scheduling.gang import Gang, Placement, Shortage, plan_gang
from atoll.scheduling.gang_preemption import GangPreemption, plan_gang_preemption
from atoll.scheduling.matching import untolerated
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo, Template
from atoll.scheduling.preemption import plan_preemption
from atoll.scheduling.resources import PODS, shown
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Failure, Status
from atoll.scheduling.units import Work

Object = dict[str, Any]
_NAMED = 3  # pods or gangs that are named before "and … more"
_MOST_HOLDERS = 200  # pods whose devices are given back in thought


def why_pod(planner: Planner, pod: PodInfo, budgets: Sequence[Object] = ()) -> str:
    try:
        decision = planner.decide(pod)
    except AllocationError as error:
        return error.message
    if decision.failure is None:
        return f"fits on {decision.node}"
    failure = decision.failure
    if failure.prefilter or not failure.total:
        return failure.prefilter or "there are no nodes"
    lack, nearest = _lack(planner, pod, failure)
    preemption = plan_preemption(planner, pod, failure, budgets)
    if preemption.victims is not None:
        victims = preemption.victims.pods
        names = [f"{item.template.namespace}/{item.name}" for item in victims]
        change = f"preempting {_listed(names)} ({_priority(item.priority for item in victims)}) would do"
    else:
        change = nearest or "no single change of a node would do"
    return f"{lack}; {change}"


def _lack(planner: Planner, pod: PodInfo, failure: Failure) -> tuple[str, str]:
    """What is missing; and the change of one node that would mend it, or ""."""
    short = [name for name, why in failure.statuses.items() if _is_short(why)]
    if short:
        missing = {name: _missing(pod.template, planner.state.nodes[name]) for name in short}
        best = min(short, key=lambda name: (_share(pod.template, missing[name]), name))
        asked = shown(pod.template.requests) or "a pod's place"
        suited = "1 node that suits" if len(short) == 1 else f"{len(short)} nodes that suit"
        lack = f"needs {asked} free on one node; of {suited} it otherwise, {best} lacks least: {shown(missing[best])}"
        node = planner.state.nodes[best]
        if any(value > node.allocatable.get(name, 0) for name, value in pod.template.requests.items()):
            return lack, f"no node is large enough: one with {asked} would do"
        return lack, f"freeing {shown(missing[best])} on {best} would do" if _only_short(planner, pod, node) else ""
    without = [name for name, why in failure.statuses.items() if why == CANNOT_ALLOCATE]
    if without:
        return _devices_lack(planner, pod, without)
    counts = Counter(reason for why in failure.statuses.values() for reason in why.reasons)
    reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    return f"no node of {failure.total} suits it: {reasons}", _static_change(planner, pod, failure)


def _devices_lack(planner: Planner, pod: PodInfo, names: Sequence[str]) -> tuple[str, str]:
    """Which devices its claims want, that these nodes do not have free; and the least important pod that has them."""
    evaluation = planner.evaluation(pod)
    assert evaluation is not None
    needs = evaluation.shape.devices
    wishes = [*_wishes(needs), *(f"{pod.template.requests[name]} {name}" for name in sorted(needs.delegated))]
    suited = "1 node that suits" if len(names) == 1 else f"{len(names)} nodes that suit"
    lack = f"needs devices that are free on one node: {', '.join(wishes)}; of {suited} it otherwise, none has them"
    refusals, nodes = evaluation.refusals, planner.state.nodes
    rest = [part for part in refusals.filters if not part.passing]
    around = [part for part in refusals.around if part.refuses]
    holders = [(other.priority, f"{other.template.namespace}/{other.name}", name, other)
               for name in names for other in nodes[name].pods.values() if any(known_names(other.obj))]  # fmt: skip
    for priority, holder, name, other in sorted(holders, key=lambda item: item[:3])[:_MOST_HOLDERS]:
        node = nodes[name].clone()
        node.remove(other)
        ledger = planner.devices.ledger_without({other.uid})
        there = needs.room_later(name, node.labels, node.allocatable, 1, ledger)
        if there and not any(part.why(node) for part in rest) and not any(part.why(node) for part in around):
            return lack, f"the end of {holder} ({_priority([priority])}) on {name} would do"
    return lack, ""


def _wishes(needs: DeviceNeeds) -> list[str]:
    """Each request of its claims: how many of which class, by preference."""
    requests = [item for _, wanted in needs.wanted for item in (wanted.spec.get("devices") or {}).get("requests") or ()]
    found = []
    for request in requests:
        choices = [request["exactly"]] if request.get("exactly") else request.get("firstAvailable") or ()
        counts = ["all" if it.get("allocationMode") == "All" else str(it.get("count") or 1) for it in choices]
        classes = [str(it.get("deviceClassName")) for it in choices]
        found.append(" or ".join(f"{count} {kind}" for count, kind in zip(counts, classes, strict=True)))
    return found


def _is_short(why: Status) -> bool:
    return all(reason.startswith("Insufficient ") or reason == "Too many pods" for reason in why.reasons)


def _only_short(planner: Planner, pod: PodInfo, node: NodeState) -> bool:
    """Whether the node would take the pod if nothing were on it."""
    evaluation = planner.evaluation(pod)
    empty = node.clone()
    for other in list(empty.pods.values()):
        empty.remove(other)
    return evaluation is not None and evaluation.refusals.why(empty) is None


def _missing(template: Template, node: NodeState) -> dict[str, int]:
    wants = {**template.requests, PODS: 1}
    free = {name: node.allocatable.get(name, 0) - node.requested.get(name, 0) for name in wants}
    free[PODS] = node.allocatable.get(PODS, 0) - len(node.pods)
    return {name: want - free[name] for name, want in wants.items() if want > free[name]}


def _share(template: Template, missing: dict[str, int]) -> float:
    return sum(value / max(1, template.requests.get(name, 1)) for name, value in missing.items())


def _static_change(planner: Planner, pod: PodInfo, failure: Failure) -> str:
    """For a node that refuses the pod by one rule only: what to change there."""
    evaluation = planner.evaluation(pod)
    if evaluation is None:
        return ""
    for name, why in failure.statuses.items():
        node = planner.state.nodes[name]
        refusals = [found for part in evaluation.refusals.filters if (found := part.why(node)) is not None]
        if len(refusals) != 1 or refusals[0] != why:
            continue
        if refusals[0] is status.UNSCHEDULABLE:
            return f"uncordoning {name} would do"
        if refusals[0] is status.UNTOLERATED:
            taints = [item for item in node.taints if untolerated([item], pod.template.tolerations)]
            texts = [f"{item['key']}={item.get('value') or ''}:{item.get('effect')}" for item in taints]
            return f"a toleration of {_listed(texts)} would do, on {name}"
        if refusals[0] is status.NODE_AFFINITY:
            return f"labels on {name} that its node selector or affinity asks for would do"
    return ""


def why_gang(planner: Planner, gang: Gang, work: Work, budgets: Sequence[Object] = ()) -> str:
    found = plan_gang(planner, gang)
    if isinstance(found, Placement):
        return f"fits in {_level(found.level)} {found.domain}" if found.level else "fits"
    return gang_reason(planner, gang, found, plan_gang_preemption(planner, gang, work, budgets))


def gang_reason(planner: Planner, gang: Gang, found: Shortage, preemption: GangPreemption | None) -> str:
    """Of a gang that does not fit, and what preemption could do for it: what it lacks, and the cheapest change."""
    wrong = "" if found.most else _wrong_claim(planner, gang)
    return wrong or f"{_gang_lack(gang, found)}; {_gang_change(planner, gang, found, preemption)}"


def _wrong_claim(planner: Planner, gang: Gang) -> str:
    """What is wrong with a claim or class of the gang's, which no room mends."""
    for pod in {pod.template: pod for pod in gang.pods if _has_claims(pod)}.values():
        try:
            if (evaluation := planner.evaluation(pod)) is not None:
                evaluation.statuses()
        except AllocationError as error:
            return error.message
    return ""


def _gang_lack(gang: Gang, found: Shortage) -> str:
    each = {shown(pod.template.requests) or "nothing" for pod in gang.pods}
    what = f" of {each.pop()}" if len(each) == 1 else ""
    what += " with devices for their claims" if any(map(_has_claims, gang.pods)) else ""
    where = f" in one {_level(found.level)}" if found.level else ""
    lack = f"needs room for {found.wanted} pods{what}{where}"
    if found.most >= found.wanted:
        return f"{lack}; there is as much, but not as their affinity, topology spread or shared claims ask"
    if not found.level:
        return f"{lack}; there is room for {found.most}"
    if not found.most:
        return f"{lack}; no {_level(found.level)} has any"
    if len(found.best) == 1:
        return f"{lack}; {_level(found.level)} {found.best[0]} has most: {found.most}"
    return f"{lack}; {len(found.best)} {_level(found.level)}s have {found.most}"


def _gang_change(planner: Planner, gang: Gang, found: Shortage, preemption: GangPreemption | None) -> str:
    if preemption is not None:
        names = [unit.name for unit in preemption.units]
        return f"preempting {_listed(names)} ({_priority(unit.priority for unit in preemption.units)}) would do"
    if gang.required:
        freer = Gang(gang.name, gang.pods, gang.levels, least=gang.least)
        if isinstance(plan_gang(planner, freer), Placement):
            return f"leave to span {_level(gang.required)}s would do"
    if not gang.parts and 0 < found.most < found.wanted:
        fewer = Gang(gang.name, gang.pods, gang.levels, gang.required, least=1, within=gang.within)
        placed = plan_gang(planner, fewer)
        if isinstance(placed, Placement):
            return f"a minimum of {len(placed.nodes)} members would do"
    more = _more_nodes(planner, gang) if found.most < found.wanted else ""
    return f"no removal of less important work would do{more}"


def _more_nodes(planner: Planner, gang: Gang) -> str:
    """Of a gang of one shape that may go anywhere: how many more nodes, like the largest one when empty, hold it."""
    pod = gang.pods[0]
    if _has_claims(pod):
        return ""  # what devices another node would have is not known
    if gang.required or gang.parts or any(item.template is not pod.template for item in gang.pods):
        return ""
    takes = max((_takes(pod.template, node) for node in planner.state.nodes.values()), default=0)
    if not takes:
        return f"; no node is large enough for one pod of {shown(pod.template.requests) or 'it'}"
    count = -(-len(gang.pods) // takes)
    return f"; {count} more empty {'node' if count == 1 else 'nodes'} for {takes} each would"


def _takes(template: Template, node: NodeState) -> int:
    wants = {**template.requests, PODS: 1}
    if not template.matches_node(node.name, node.labels):
        return 0
    return min(node.allocatable.get(name, 0) // value for name, value in wants.items() if value)


def _has_claims(pod: PodInfo) -> bool:
    return bool(pod_claims(pod.obj))


# words


def _level(key: str) -> str:
    return key.rsplit("/", 1)[-1]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _priority(priorities: Any) -> str:
    return f"priority {max(priorities)}"
