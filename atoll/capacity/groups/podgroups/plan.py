"""The status of a coscheduling PodGroup, of its pods: phase, counts, whose pods they are. Pure.

Phases as the plugin's controller gives them: Pending until enough pods exist, Scheduling until enough of them run,
Running, then Finished or Failed. Its `scheduleStartTime` is when Scheduling began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from atoll.base.clock import rfc3339
from atoll.objects.meta import controller_of

Object = dict[str, Any]


def plan_status(group: Object, pods: Sequence[Object], now: float) -> Object:
    """`now`: wall seconds. What is there and not ours to say is kept."""
    old = group.get("status") or {}
    least = int((group.get("spec") or {}).get("minMember") or 1)
    found = Counter((pod.get("status") or {}).get("phase") for pod in pods)
    counts = {name.lower(): found[name] for name in ("Running", "Succeeded", "Failed") if found[name]}
    phase = _phase(old.get("phase") or "", len(pods), least, found)
    status = {name: value for name, value in old.items() if name not in ("running", "succeeded", "failed")}
    status |= {"phase": phase, **counts}
    if phase == "Scheduling" and old.get("phase") != "Scheduling":
        status["scheduleStartTime"] = rfc3339(now)
    if pods and not status.get("occupiedBy"):
        owner = controller_of(pods[0])
        if owner is not None:
            namespace = pods[0]["metadata"]["namespace"]
            status["occupiedBy"] = f"{namespace}/{owner['name']}"
    return status


def _phase(old: str, count: int, least: int, found: Counter[Any]) -> str:
    running, succeeded, failed = found["Running"], found["Succeeded"], found["Failed"]
    if old in ("Finished", "Failed") and count < least:
        return old  # it is over, and its pods are being cleaned up
    if count < least:
        return "Pending"
    if succeeded >= least:
        return "Finished"
    if failed and failed + running + succeeded >= least:
        return "Failed"
    return "Running" if running + succeeded >= least else "Scheduling"
