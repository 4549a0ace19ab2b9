"""Which pods leave a node now, and which may go on until their next checkpoint. Pure.

Pods leave by the eviction API, so PodDisruptionBudgets hold; nothing is deleted. What stays: daemons, ended pods, and
those that tolerate the taint atoll.dev/unhealthy by its name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.health import checkpoint
from atoll.capacity.health.model import Object
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.nodes import is_simulated, work_on


@dataclass(frozen=True, slots=True)
class DrainPlan:
    """`remaining`: pods that still hold up the remedy. `again_seconds`: when time alone changes the plan."""

    evict: tuple[Object, ...]
    remaining: int
    again_seconds: float | None = None


def plan_drain(
    node: Object, pods: Iterable[Object], since: float, now: float, settings: HealthSettings, *, urgent: bool
) -> DrainPlan:
    """`since`: when the node was taken out. `urgent`: nothing there can reach a checkpoint any more."""
    evict: list[Object] = []
    waits: list[float] = []
    remaining = 0
    simulated = is_simulated(node)
    for pod in work_on(pods):
        if _stays(pod):
            continue
        if "deletionTimestamp" in pod["metadata"]:
            left = parse_rfc3339(pod["metadata"]["deletionTimestamp"]) + settings.terminating_seconds - now
            if left > 0:
                remaining += 1
                waits.append(left)
            continue
        remaining += 1
        wait = 0.0 if urgent else _until_checkpoint(pod, since, now, settings, simulated)
        if wait <= 0:
            evict.append(pod)
        else:
            waits.append(wait)
    return DrainPlan(tuple(evict), remaining, min(waits, default=None))


def _stays(pod: Object) -> bool:
    tolerations = (pod.get("spec") or {}).get("tolerations") or ()
    return any(item.get("key") == names.UNHEALTHY_TAINT for item in tolerations)


def _until_checkpoint(pod: Object, since: float, now: float, settings: HealthSettings, simulated: bool) -> float:
    """Seconds; 0 when it may go: it has a checkpoint of after `since`, the grace is over, or it declares none."""
    due = checkpoint.next_checkpoint(pod, since, simulated=simulated)
    if due is None:
        return 0.0
    last = checkpoint.last_checkpoint(pod, now, simulated=simulated)
    if last is not None and last >= since:
        return 0.0
    if due - since > settings.checkpoint_grace_seconds:
        return 0.0  # it will not come in time: what is lost grows with each second that passes
    return since + settings.checkpoint_grace_seconds - now if not simulated else due - now
