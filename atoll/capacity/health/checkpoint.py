"""A job's checkpoints: how it declares them, when the last one was, and what is lost with what came after. Pure.

The contract, both on the pod:

    atoll.dev/checkpoint-every: "600"                  seconds; says that the work resumes from its last checkpoint
    atoll.dev/last-checkpoint: 2026-11-28T10:00:00Z    written by the job itself each time that one is complete

A simulated pod has no program that could write: its checkpoints are complete at each multiple of the interval since
it began.
"""

from __future__ import annotations

import math

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.health.model import Object
from atoll.capacity.nodes import annotation


def interval(pod: Object) -> float | None:
    """Seconds between checkpoints; None for a pod that declares none (or nonsense)."""
    try:
        seconds = float(annotation(pod, names.CHECKPOINT_EVERY))
    except ValueError:
        return None
    return seconds if seconds > 0 and math.isfinite(seconds) else None


def started(pod: Object) -> float | None:
    """When its work began; None while it has not."""
    status = pod.get("status") or {}
    text = status.get("startTime")
    return parse_rfc3339(text) if text and status.get("phase") in ("Running", "Succeeded", "Failed") else None


def last_checkpoint(pod: Object, now: float, *, simulated: bool) -> float | None:
    """When the last one was complete; None where there is none."""
    text = annotation(pod, names.LAST_CHECKPOINT)
    if text:
        try:
            return parse_rfc3339(text)
        except ValueError:
            return None
    every, began = interval(pod), started(pod)
    if not simulated or every is None or began is None:
        return None
    count = math.floor((now - began) / every)
    return began + count * every if count > 0 else None


def next_checkpoint(pod: Object, after: float, *, simulated: bool) -> float | None:
    """When one is due that is complete no earlier than `after`; None where that can't be told."""
    every, began = interval(pod), started(pod)
    if every is None or began is None:
        return None
    known = None if simulated else last_checkpoint(pod, after, simulated=False)
    origin = began if known is None else known
    return origin + max(0, math.ceil((after - origin) / every)) * every


def lost_seconds(pod: Object, now: float, *, simulated: bool) -> float:
    """What must be done again if it stops now; 0 for a pod that has not begun or declares no checkpoints."""
    began = started(pod)
    if began is None or interval(pod) is None:
        return 0.0
    last = last_checkpoint(pod, now, simulated=simulated)
    return max(0.0, now - max(began, last or began))
