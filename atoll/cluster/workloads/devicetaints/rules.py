"""What a DeviceTaintRule's status says of the evictions that it causes: pure, in upstream's words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.objects.meta import condition
from atoll.scheduling.dra.taint_rules import selects

Object = dict[str, Any]
TYPE = "EvictionInProgress"
PERIOD_SECONDS = 10.0
"""The least time between two updates of a rule that has not changed."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Pods that must go by a rule (or would have to), and in how many namespaces they are."""

    pods: int = 0
    namespaces: int = 0


@dataclass(frozen=True, slots=True)
class Selected:
    """Devices that a rule selects: published, and allocated."""

    published: int = 0
    allocated: int = 0


def too_early(rule: Object, now: float) -> float:
    """Seconds until its status may be written again; 0: it may now."""
    old = condition(rule, TYPE)
    if old is None or old.get("observedGeneration") != rule["metadata"].get("generation"):
        return 0.0
    return max(0.0, parse_rfc3339(old["lastTransitionTime"]) + PERIOD_SECONDS - now)


def effect_of(rule: Object) -> str:
    return str(rule["spec"]["taint"].get("effect") or "")


def selected(rule: Object, published: list[tuple[str, str, str]], allocated: list[tuple[str, str, str]]) -> Selected:
    """Of the devices in the newest slices and those in allocations (driver, pool, device)."""
    return Selected(sum(selects(rule, device) for device in published), sum(selects(rule, item) for item in allocated))


def in_progress(rule: Object, pending: Pending, chosen: Selected, evicted: int, now: float) -> Object | None:
    """The condition to be written; None where it stands. `evicted`: pods since the controller was started."""
    effect = effect_of(rule)
    status, reason, message = "False", "OtherEffect", "Eviction only happens for the NoExecute effect."
    if effect == "NoExecute":
        reason, message = ("Completed" if evicted else "NotStarted"), ""
        if pending.pods:
            status, reason = "True", "PodsPendingEviction"
            needs = "needs" if pending.pods == 1 else "need"
            message = f"{_pods(pending.pods)} {needs} to be evicted in {_namespaces(pending.namespaces)}."
    elif effect == "None":
        reason = "NoEffect"
        message = (
            f"{_devices(chosen.published, 'published')} {_devices(chosen.allocated, 'allocated')}"
            f" {_pods(pending.pods)} would be evicted in {_namespaces(pending.namespaces)} if the effect was NoExecute."
            " This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
        )
    if evicted:
        message = f"{message} {_pods(evicted)} evicted since starting the controller.".lstrip()
    old = condition(rule, TYPE) or {}
    made = {
        "type": TYPE,
        "status": status,
        "reason": reason,
        "message": message,
        "observedGeneration": rule["metadata"].get("generation", 0),
    }
    if all(old.get(field) == value for field, value in made.items()):
        return None
    return {**made, "lastTransitionTime": rfc3339(now)}


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _namespaces(count: int) -> str:
    return "1 namespace" if count == 1 else f"{count} different namespaces"


def _devices(count: int, kind: str) -> str:
    return f"1 {kind} device selected." if count == 1 else f"{count} {kind} devices selected."
