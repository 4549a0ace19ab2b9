"""How many replicas a metric asks for (kube-controller-manager's replica_calculator). Pure; amounts are in milli-units.

Pods without a sample and pods that are not ready are taken for what makes the change smaller: nothing of the kind can
turn scaling up into scaling down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.base import quantity
from atoll.base.clock import parse_rfc3339
from atoll.objects.meta import condition, is_deleting

Object = dict[str, Any]
CPU_INITIALISATION_SECONDS = 300.0
INITIAL_READINESS_SECONDS = 30.0
_MOST = 2**31 - 1
_NO_PODS = "no pods returned by selector while calculating replica count"


class Uncomputable(Exception):
    """No proposal; the text says why, as upstream's error."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a pod uses: milli-units, wall seconds, seconds that it is the mean of."""

    value: int
    timestamp: float = 0.0
    window: float = 60.0


Samples = dict[str, Sample]


@dataclass(frozen=True, slots=True)
class Tolerances:
    down: float = 0.1
    up: float = 0.1

    def within(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(slots=True)
class _Groups:
    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Proposal:
    """`utilisation` in percent of the requests, where that was the target; `usage`: the mean of a pod."""

    replicas: int
    usage: int
    utilisation: int | None = None


def by_utilisation(
    pods: list[Object], samples: Samples, current: int, target: int, resource: str, container: str,
    tolerances: Tolerances, now: float,
) -> Proposal:  # fmt: skip
    """`target` in percent of the requests. Raises Uncomputable."""
    groups, left = _usable(pods, samples, resource, now)
    requests = {pod["metadata"]["name"]: _request(pod, container, resource) for pod in pods}
    ratio, utilisation, usage = _utilisation(left, requests, target)

    def filled(missing: Iterable[str]) -> Samples:
        if ratio < 1.0:
            return {name: Sample(requests[name] * max(100, target) // 100) for name in missing}
        return {name: Sample(0) for name in missing} if ratio > 1.0 else {}

    replicas = _propose(
        groups, left, ratio, current, tolerances, filled, lambda all_: _utilisation(all_, requests, target)[0]
    )
    return Proposal(replicas, usage, utilisation)


def by_average(
    pods: list[Object], samples: Samples, current: int, target: int, resource: str, tolerances: Tolerances, now: float
) -> Proposal:
    """`target`: milli-units a pod. `resource` "" for metrics of another kind. Raises Uncomputable."""
    groups, left = _usable(pods, samples, resource, now)

    def mean(all_: Samples) -> int:
        return sum(sample.value for sample in all_.values()) // len(all_)

    usage = mean(left)
    ratio = usage / target

    def filled(missing: Iterable[str]) -> Samples:
        value = target if ratio < 1.0 else 0
        return {name: Sample(value) for name in missing} if ratio != 1.0 else {}

    replicas = _propose(groups, left, ratio, current, tolerances, filled, lambda all_: mean(all_) / target)
    return Proposal(replicas, usage)


def by_value(pods: list[Object], usage: int, current: int, target: int, tolerances: Tolerances) -> Proposal:
    """One amount for all pods together. Raises Uncomputable."""
    ratio = usage / target
    if current == 0:
        return Proposal(math.ceil(ratio), usage)
    if tolerances.within(ratio):
        return Proposal(current, usage)
    if not pods:
        raise Uncomputable(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count"
        )
    ready = sum(1 for pod in pods if (pod.get("status") or {}).get("phase") == "Running" and _is_ready(pod))
    return Proposal(min(math.ceil(ratio * ready), _MOST), usage)


def by_value_per_pod(usage: int, current: int, target: int, tolerances: Tolerances) -> Proposal:
    """One amount, of which each pod is to have so much; `current` as the target's status says."""
    replicas = current
    if not current or not tolerances.within(usage / (target * current)):
        replicas = min(math.ceil(usage / target), _MOST)
    return Proposal(replicas, math.ceil(usage / current) if current else usage)


def _usable(pods: list[Object], samples: Samples, resource: str, now: float) -> tuple[_Groups, Samples]:
    if not pods:
        raise Uncomputable(_NO_PODS)
    groups = _group(pods, samples, resource, now)
    left = {name: item for name, item in samples.items() if name not in groups.ignored and name not in groups.unready}
    if not left:
        raise Uncomputable("did not receive metrics for targeted pods (pods might be unready)")
    return groups, left


def _propose(
    groups: _Groups,
    left: Samples,
    ratio: float,
    current: int,
    tolerances: Tolerances,
    filled: Callable[[Iterable[str]], Samples],
    again: Callable[[Samples], float],
) -> int:
    up_with_unready = bool(groups.unready) and ratio > 1.0
    if not up_with_unready and not groups.missing:
        return current if tolerances.within(ratio) else math.ceil(ratio * groups.ready)
    more = dict(left)
    more.update(filled(groups.missing))
    if up_with_unready:
        more.update({name: Sample(0) for name in groups.unready})
    new = again(more)
    if tolerances.within(new) or (ratio < 1.0 < new) or (new < 1.0 < ratio):
        return current
    replicas = math.ceil(new * len(more))
    if (new < 1.0 and replicas > current) or (new > 1.0 and replicas < current):
        return current
    return replicas


def _group(pods: list[Object], samples: Mapping[str, Sample], resource: str, now: float) -> _Groups:
    groups = _Groups()
    for pod in pods:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        sample = samples.get(name)
        if is_deleting(pod) or status.get("phase") == "Failed":
            groups.ignored.add(name)
        elif status.get("phase", "Pending") == "Pending":
            groups.unready.add(name)
        elif sample is None:
            groups.missing.add(name)
        elif resource == "cpu" and _warming_up(pod, sample, now):
            groups.unready.add(name)
        else:
            groups.ready += 1
    return groups


def _warming_up(pod: Object, sample: Sample, now: float) -> bool:
    """What a pod uses while it starts says nothing."""
    ready, started = condition(pod, "Ready"), (pod.get("status") or {}).get("startTime")
    if ready is None or not started:
        return True
    not_ready = ready.get("status") == "False"
    begun, changed = parse_rfc3339(started), parse_rfc3339(ready.get("lastTransitionTime") or started)
    if begun + CPU_INITIALISATION_SECONDS > now:
        return not_ready or sample.timestamp < changed + sample.window
    return not_ready and begun + INITIAL_READINESS_SECONDS > changed


def _is_ready(pod: Object) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True"


def _utilisation(samples: Samples, requests: Mapping[str, int], target: int) -> tuple[float, int, int]:
    known = {name: sample for name, sample in samples.items() if name in requests}
    total, requested = sum(sample.value for sample in known.values()), sum(requests[name] for name in known)
    if not requested:
        raise Uncomputable("no metrics returned matched known pods")
    percent = total * 100 // requested
    return percent / target, percent, total // len(known)


def _request(pod: Object, container: str, resource: str) -> int:
    """Milli-units. Raises Uncomputable where a container asks for none."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    own = ((spec.get("resources") or {}).get("requests") or {}) if not container else {}
    if own:
        if resource not in own:
            raise Uncomputable(f"missing pod-level request for {resource} in Pod {name}")
        return quantity.milli(own[resource])
    restarting = [item for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"]
    total = 0
    for item in (*(spec.get("containers") or ()), *restarting):
        if container and item["name"] != container:
            continue
        amount = ((item.get("resources") or {}).get("requests") or {}).get(resource)
        if amount is None:
            raise Uncomputable(f"missing request for {resource} in container {item['name']} of Pod {name}")
        total += quantity.milli(amount)
    return total
