"""One pass over one autoscaler: from its scale, pods and samples to the replicas and the status. Pure.

Metrics are asked for through `Measured`, which holds what was read for each, or why it could not be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from atoll.base import quantity
from atoll.base.clock import rfc3339
from atoll.cluster.workloads.autoscaling.behaviour import History, normalise
from atoll.cluster.workloads.autoscaling.replicas import (
    Proposal,
    Samples,
    Tolerances,
    Uncomputable,
    by_average,
    by_utilisation,
    by_value,
    by_value_per_pod,
)

Object = dict[str, Any]
DEFAULT_TOLERANCE = 0.1
_SOURCES = {
    "Object": "object", "Pods": "pods", "Resource": "resource", "ContainerResource": "containerResource",
    "External": "external",
}  # fmt: skip
_REASONS = {
    "Object": "FailedGetObjectMetric", "Pods": "FailedGetPodsMetric", "Resource": "FailedGetResourceMetric",
    "ContainerResource": "FailedGetContainerResourceMetric", "External": "FailedGetExternalMetric",
}  # fmt: skip
_DEFAULT_METRICS: list[Object] = [
    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was read for one metric: samples of pods, or one amount; or why not."""

    samples: Samples = field(default_factory=dict)
    amount: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """`pods`: those that the scale selects. `measured`: in the order of the metrics."""

    current: int  # the scale's spec
    running: int  # the scale's status
    pods: list[Object]
    measured: Sequence[Measured]


@dataclass(slots=True)
class Plan:
    """`replicas` None: leave it. `events`: (reason, message, warning?)."""

    status: Object
    replicas: int | None = None
    reason: str = ""
    events: list[tuple[str, str]] = field(default_factory=list)


def metrics_of(autoscaler: Object) -> list[Object]:
    return autoscaler["spec"].get("metrics") or _DEFAULT_METRICS


def plan_autoscaler(autoscaler: Object, seen: Observed, history: History, now: float) -> Plan:
    """Adds to the history what it recommends; `History.scaled` is for who carries it out."""
    spec = autoscaler["spec"]
    status = begin_status(autoscaler)
    plan = Plan(status)
    history.begin(seen.current, now)
    set_condition(
        status, "AbleToScale", True, "SucceededGetScale",
        "the HPA controller was able to get the target's current scale", now,
    )  # fmt: skip
    least, most = spec.get("minReplicas", 1), spec["maxReplicas"]
    wanted = seen.current
    if seen.current == 0:
        why = "scaling is disabled since the replica count of the target is zero"
        set_condition(status, "ScalingActive", False, "ScalingDisabled", why, now)
    elif seen.current > most:
        wanted, plan.reason = most, "Current number of replicas above Spec.MaxReplicas"
    elif seen.current < least:
        wanted, plan.reason = least, "Current number of replicas below Spec.MinReplicas"
    else:
        found = _by_metrics(autoscaler, seen, plan, now)
        if found is None:
            set_replicas(status, seen.current)
            return plan
        proposed, metric = found
        if proposed > seen.current:
            plan.reason = f"{metric} above target"
        elif proposed < seen.current:
            plan.reason = "All metrics below target"
        normal = normalise(history, spec.get("behavior"), seen.current, proposed, least, most, now)
        set_condition(status, "AbleToScale", True, *normal.able, now)
        set_condition(status, "ScalingLimited", normal.limited, *normal.limit, now)
        wanted = normal.replicas
    set_replicas(status, seen.current, wanted)
    if wanted != seen.current:
        plan.replicas = wanted
    return plan


def _by_metrics(autoscaler: Object, seen: Observed, plan: Plan, now: float) -> tuple[int, str] | None:
    """The most that any metric asks for; None where nothing can be said, which the status tells."""
    metrics = metrics_of(autoscaler)
    tolerances = _tolerances(autoscaler["spec"].get("behavior"))
    replicas, metric = 0, ""
    invalid: list[tuple[str, str]] = []
    statuses: list[Object] = []
    for item, measured in zip(metrics, seen.measured, strict=True):
        kind = item.get("type") or ""
        try:
            proposal, name, shown = _propose(item, measured, seen, tolerances, now)
        except Uncomputable as error:
            reason = _REASONS.get(kind, "InvalidMetricSourceType")
            plan.events.append((reason, str(error)))
            invalid.append((reason, f"{_prefix(item)}: {error}"))
            continue
        statuses.append(shown)
        if not replicas or proposal.replicas > replicas:
            replicas, metric = proposal.replicas, name
    plan.status["currentMetrics"] = statuses
    if invalid and (len(invalid) == len(metrics) or replicas < seen.current):
        reason, text = invalid[0]
        why = text.partition(": ")[2]
        message = f"the HPA was unable to compute the replica count: {why}"
        set_condition(plan.status, "ScalingActive", False, reason, message, now)
        told = f"invalid metrics ({len(invalid)} invalid out of {len(metrics)}), first error is: {text}"
        plan.events.append(("FailedComputeMetricsReplicas", told))
        return None
    message = f"the HPA was able to successfully calculate a replica count from {metric}"
    set_condition(plan.status, "ScalingActive", True, "ValidMetricFound", message, now)
    return replicas, metric


def _prefix(item: Object) -> str:
    kind = item.get("type") or ""
    source = item.get(_SOURCES.get(kind, "")) or {}
    if kind == "Resource":
        return f"failed to get {source.get('name')} resource metric value"
    if kind == "ContainerResource":
        return f"failed to get {source.get('container')} container metric value"
    if kind == "External":
        return f"failed to get {source.get('metric', {}).get('name')} external metric value"
    return f"failed to get {'pods' if kind == 'Pods' else 'object'} metric value"


def _tolerances(behaviour: Object | None) -> Tolerances:
    def of(rules: str) -> float:
        given = ((behaviour or {}).get(rules) or {}).get("tolerance")
        return DEFAULT_TOLERANCE if given is None else quantity.parse(given) / quantity.NANO

    return Tolerances(of("scaleDown"), of("scaleUp"))


def _propose(
    item: Object, measured: Measured, seen: Observed, tolerances: Tolerances, now: float
) -> tuple[Proposal, str, Object]:
    """(proposal, what it came from, the metric's status). Raises Uncomputable."""
    kind = item.get("type") or ""
    if kind not in _SOURCES:
        raise Uncomputable(f'unknown metric source type "{kind}"')
    source = item[_SOURCES[kind]]
    if measured.failure:
        raise Uncomputable(measured.failure)
    propose: dict[str, Callable[[], tuple[Proposal, str, Object]]] = {
        "Resource": lambda: _resource(source, measured, seen, tolerances, now),
        "ContainerResource": lambda: _resource(source, measured, seen, tolerances, now),
        "Pods": lambda: _pods(source, measured, seen, tolerances, now),
        "Object": lambda: _object(source, measured, seen, tolerances),
        "External": lambda: _external(source, measured, seen, tolerances),
    }
    proposal, name, current = propose[kind]()
    shown = {key: value for key, value in source.items() if key != "target"}
    return proposal, name, {"type": kind, _SOURCES[kind]: {**shown, "current": current}}


def _resource(
    source: Object, measured: Measured, seen: Observed, tolerances: Tolerances, now: float
) -> tuple[Proposal, str, Object]:
    resource, container, target = source["name"], source.get("container") or "", source["target"]
    if target.get("averageValue") is not None:
        wanted = quantity.milli(target["averageValue"])
        try:
            found = by_average(seen.pods, measured.samples, seen.current, wanted, resource, tolerances, now)
        except Uncomputable as error:
            raise Uncomputable(f"failed to get {resource} usage: {error}") from None
        return found, f"{resource} resource", {"averageValue": _amount(resource, found.usage)}
    if target.get("averageUtilization") is None:
        raise Uncomputable(
            "invalid resource metric source: neither an average utilization target nor an average value (usage) "
            "target was set"
        )
    try:
        found = by_utilisation(
            seen.pods,
            measured.samples,
            seen.current,
            target["averageUtilization"],
            resource,
            container,
            tolerances,
            now,
        )
    except Uncomputable as error:
        raise Uncomputable(f"failed to get {resource} utilization: {error}") from None
    what = "container resource utilization" if container else "resource utilization"
    current = {"averageUtilization": found.utilisation, "averageValue": _amount(resource, found.usage)}
    return found, f"{resource} {what} (percentage of request)", current


def _pods(
    source: Object, measured: Measured, seen: Observed, tolerances: Tolerances, now: float
) -> tuple[Proposal, str, Object]:
    target = quantity.milli(source["target"]["averageValue"])
    found = by_average(seen.pods, measured.samples, seen.current, target, "", tolerances, now)
    return found, f"pods metric {source['metric']['name']}", {"averageValue": quantity.from_milli(found.usage)}


def _object(source: Object, measured: Measured, seen: Observed, tolerances: Tolerances) -> tuple[Proposal, str, Object]:
    found, current = _of_amount(source["target"], measured, seen, tolerances)
    if current is None:
        raise Uncomputable("invalid object metric source: neither a value target nor an average value target was set")
    return found, f"{source['describedObject']['kind']} metric {source['metric']['name']}", current


def _external(
    source: Object, measured: Measured, seen: Observed, tolerances: Tolerances
) -> tuple[Proposal, str, Object]:
    found, current = _of_amount(source["target"], measured, seen, tolerances)
    if current is None:
        raise Uncomputable("invalid external metric source: neither a value target nor an average value target was set")
    selector = source["metric"].get("selector")
    return found, f"external metric {source['metric']['name']}({selector or 'nil'})", current


def _of_amount(
    target: Object, measured: Measured, seen: Observed, tolerances: Tolerances
) -> tuple[Proposal, Object | None]:
    if target.get("averageValue") is not None:
        wanted = quantity.milli(target["averageValue"])
        found = by_value_per_pod(measured.amount, seen.running, wanted, tolerances)
        return found, {"averageValue": quantity.from_milli(found.usage)}
    if target.get("value") is not None:
        wanted = quantity.milli(target["value"])
        found = by_value(seen.pods, measured.amount, seen.current, wanted, tolerances)
        return found, {"value": quantity.from_milli(found.usage)}
    return Proposal(0, 0), None


def _amount(resource: str, milli: int) -> str:
    if resource == "memory" and milli % 1000 == 0:
        return quantity.from_units_binary(milli // 1000)
    return quantity.from_milli(milli)


# -- the status


def begin_status(autoscaler: Object) -> Object:
    """A copy to write into."""
    status = dict(autoscaler.get("status") or {})
    status["conditions"] = [dict(item) for item in status.get("conditions") or ()]
    status["observedGeneration"] = autoscaler["metadata"].get("generation", 1)
    return status


def set_condition(status: Object, kind: str, holds: bool, reason: str, message: str, now: float) -> None:
    wanted = "True" if holds else "False"
    for item in status["conditions"]:
        if item["type"] == kind:
            if item.get("status") != wanted:
                item["lastTransitionTime"] = rfc3339(now)
            item.update(status=wanted, reason=reason, message=message)
            return
    status["conditions"].append(
        {"type": kind, "status": wanted, "lastTransitionTime": rfc3339(now), "reason": reason, "message": message}
    )


def set_replicas(status: Object, current: int, desired: int | None = None) -> None:
    status["currentReplicas"] = current
    status["desiredReplicas"] = status.get("desiredReplicas", 0) if desired is None else desired
