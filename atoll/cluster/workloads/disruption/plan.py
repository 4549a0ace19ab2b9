"""The status of a PodDisruptionBudget (pkg/controller/disruption). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.cluster.workloads.common import conditions
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.counts import scaled
from atoll.objects.meta import Object, is_deleting

DELETION_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Expected:
    """How many pods there should be, and how many must be healthy."""

    pods: int
    healthy: int


def needs_scale(budget: Object) -> bool:
    """Whether the owners' scales matter, or the number of pods that are there is enough."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def expected(budget: Object, present: int, wanted: int) -> Expected:
    """`wanted`: the sum of the owners' scales, where they matter."""
    spec = budget["spec"]
    unavailable, available = spec.get("maxUnavailable"), spec.get("minAvailable")
    if unavailable is not None:
        return Expected(wanted, max(0, wanted - scaled(unavailable, wanted, round_up=True)))
    if isinstance(available, int):
        return Expected(present, available)
    if available is not None:
        return Expected(wanted, scaled(available, wanted, round_up=True))
    return Expected(0, 0)


def calculate_status(
    budget: Object, pods: Iterable[Object], wanted: Expected, now: float
) -> tuple[Object, float | None]:
    """The status, and when a promised eviction that did not happen stops counting."""
    found = [pod for pod in pods if not is_deleting(pod)]
    told: Mapping[str, str] = (budget.get("status") or {}).get("disruptedPods") or {}
    disrupted: dict[str, str] = {}
    again: float | None = None
    for pod in found:
        at = told.get(pod["metadata"]["name"])
        if at and pod["metadata"].get("creationTimestamp", "") >= at:
            continue  # a stateful set's new pod with the name of the one that was evicted
        left = parse_rfc3339(at) + DELETION_TIMEOUT_SECONDS - now if at else 0.0
        if at and left > 0:
            disrupted[pod["metadata"]["name"]] = at
            again = left if again is None else min(again, left)
    healthy = sum(1 for pod in found if pod["metadata"]["name"] not in disrupted and health.is_ready(pod))
    allowed = max(0, healthy - wanted.healthy) if wanted.pods > 0 else 0
    status: Object = {
        "currentHealthy": healthy,
        "desiredHealthy": wanted.healthy,
        "disruptionsAllowed": allowed,
        "expectedPods": wanted.pods,
        "observedGeneration": budget["metadata"].get("generation", 0),
    }
    if disrupted:
        status["disruptedPods"] = disrupted
    reason = ("True", "SufficientPods") if allowed > 0 else ("False", "InsufficientPods")
    status["conditions"] = _conditions(budget, *reason, "", now)
    return status, again


def failed_status(budget: Object, message: str, now: float) -> Object:
    """On doubt nothing may be disrupted."""
    status = {"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, **(budget.get("status") or {})}
    status["disruptionsAllowed"] = 0
    return {**status, "conditions": _conditions(budget, "False", "SyncFailed", message, now)}


def _conditions(budget: Object, status: str, reason: str, message: str, now: float) -> list[Object]:
    present = (budget.get("status") or {}).get("conditions") or []
    old = conditions.find(present, "DisruptionAllowed")
    at = old["lastTransitionTime"] if old is not None and old["status"] == status else rfc3339(now)
    made = {
        "type": "DisruptionAllowed",
        "status": status,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "lastTransitionTime": at,
        "reason": reason,
        "message": message,
    }
    if old is None:
        return [*present, made]
    return [made if item is old else item for item in present]
