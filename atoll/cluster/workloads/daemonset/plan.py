"""A DaemonSet, the nodes and its pods → pods to create and delete, and the status. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.counts import scaled
from atoll.cluster.workloads.daemonset.placement import Fit, is_updated, node_of
from atoll.objects.meta import Object, is_deleting

BURST = 250


@dataclass(slots=True)
class Plan:
    """create: names of nodes. told: (type, reason, message) events."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    told: list[tuple[str, str, str]] = field(default_factory=list)
    failed_nodes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a decision reads. `backs_off(node)`: a pod failed there a moment ago."""

    daemon_set: Object
    fits: dict[str, Fit]
    by_node: dict[str, list[Object]]
    revision_hash: str
    now: float
    backs_off: Callable[[str], bool]

    @property
    def minimum(self) -> int:
        return int(self.daemon_set["spec"].get("minReadySeconds") or 0)

    def is_available(self, pod: Object) -> bool:
        return health.is_available(pod, self.minimum, self.now)

    def is_new(self, pod: Object) -> bool:
        return is_updated(pod, self.revision_hash, self.daemon_set)


def by_node(pods: list[Object]) -> dict[str, list[Object]]:
    found: dict[str, list[Object]] = {}
    for pod in pods:
        found.setdefault(node_of(pod), []).append(pod)
    return found


def limits(daemon_set: Object, desired: int) -> tuple[int, int]:
    """(max surge, max unavailable); (0, 0) for OnDelete."""
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if strategy.get("type", "RollingUpdate") != "RollingUpdate":
        return 0, 0
    rolling = strategy.get("rollingUpdate") or {}
    surge = scaled(rolling.get("maxSurge"), desired, round_up=True)
    unavailable = scaled(rolling.get("maxUnavailable"), desired, round_up=True, default=1)
    if desired and not surge and not unavailable:
        unavailable = 1
    return surge, unavailable


def plan_pods(snapshot: Snapshot) -> Plan:
    """What each node lacks or has too much of."""
    plan = Plan()
    allows_surge = limits(snapshot.daemon_set, 1)[0] > 0
    for node, fit in snapshot.fits.items():
        _plan_node(plan, snapshot, node, fit, allows_surge)
    for node, found in snapshot.by_node.items():
        if node not in snapshot.fits:  # the node is gone: what was never bound to it can't run
            plan.delete += [pod for pod in found if not pod["spec"].get("nodeName") and not is_deleting(pod)]
    plan.create = plan.create[:BURST]
    plan.delete = plan.delete[:BURST]
    return plan


def _plan_node(plan: Plan, snapshot: Snapshot, node: str, fit: Fit, allows_surge: bool) -> None:
    present = snapshot.by_node.get(node)
    if not present:
        if fit.run:
            plan.create.append(node)
        return
    if not fit.stay:
        plan.delete += [pod for pod in present if not is_deleting(pod)]
        return
    running = []
    for pod in present:
        if is_deleting(pod):
            continue
        phase = health.phase(pod)
        if phase not in ("Failed", "Succeeded"):
            running.append(pod)
            continue
        if phase == "Failed" and snapshot.backs_off(node):
            continue
        _replace_ended(plan, pod, phase, node)
    if not allows_surge:
        plan.delete += sorted(running, key=_age)[1:]
    elif not running:
        if fit.run and not any(not is_deleting(pod) for pod in present):
            plan.create.append(node)
    elif len(running) > 1:
        _thin_out(plan, snapshot, sorted(running, key=_age))


def _replace_ended(plan: Plan, pod: Object, phase: str, node: str) -> None:
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']} on node {node}"
    if phase == "Failed":
        plan.failed_nodes.append(node)
        plan.told.append(("Warning", "FailedDaemonPod", f"Found failed daemon pod {where}, will try to kill it"))
    else:
        message = f"Found succeeded daemon pod {where}, will try to delete it"
        plan.told.append(("Normal", "SucceededDaemonPod", message))
    plan.delete.append(pod)


def _thin_out(plan: Plan, snapshot: Snapshot, running: list[Object]) -> None:
    """With surge a node may have one old and one new pod; the old goes once the new is available."""
    new = next((pod for pod in running if snapshot.is_new(pod)), None)
    old = next((pod for pod in running if not snapshot.is_new(pod)), None)
    plan.delete += [pod for pod in running if pod is not new and pod is not old]
    if new is not None and old is not None and (not health.is_ready(old) or snapshot.is_available(new)):
        plan.delete.append(old)


def _age(pod: Object) -> tuple[bool, str, str]:
    metadata = pod["metadata"]
    return not pod["spec"].get("nodeName"), metadata.get("creationTimestamp") or "", metadata["name"]


def plan_update(snapshot: Snapshot) -> Plan:
    """The rolling update's next pods."""
    desired = [node for node, fit in snapshot.fits.items() if fit.run]
    surge, unavailable = limits(snapshot.daemon_set, len(desired))
    nodes = list(dict.fromkeys([*snapshot.by_node, *desired]))
    if surge:
        return _plan_surge(snapshot, nodes, surge, len(desired))
    return _plan_replacement(snapshot, nodes, unavailable)


def _new_and_old(snapshot: Snapshot, node: str) -> tuple[Object | None, Object | None] | None:
    """None where there is more than one of a kind."""
    new: Object | None = None
    old: Object | None = None
    for pod in snapshot.by_node.get(node, ()):
        if is_deleting(pod):
            continue
        if snapshot.is_new(pod):
            if new is not None:
                return None
            new = pod
        elif old is not None:
            return None
        else:
            old = pod
    return new, old


def _plan_replacement(snapshot: Snapshot, nodes: list[str], most: int) -> Plan:
    down = 0
    broken: list[Object] = []
    candidates: list[Object] = []
    for node in nodes:
        pair = _new_and_old(snapshot, node)
        if pair is None:
            down += 1
            continue
        new, old = pair
        if (new is None) == (old is None):
            down += 1
        elif new is not None:
            down += not snapshot.is_available(new)
        elif old is not None and not snapshot.is_available(old):
            broken.append(old)
            down += 1
        elif old is not None:
            candidates.append(old)
    return Plan(delete=[*broken, *candidates[: max(0, most - down)]][:BURST])


def _plan_surge(snapshot: Snapshot, nodes: list[str], most: int, desired: int) -> Plan:
    plan = Plan()
    surging = available = 0
    candidates: list[str] = []
    misplaced: list[Object] = []
    for node in nodes:
        pair = _new_and_old(snapshot, node)
        if pair is None:
            surging += 1
            continue
        new, old = pair
        shown = old if old is not None else new
        available += shown is not None and snapshot.is_available(shown)
        if old is None:
            continue
        if new is not None:
            if snapshot.is_available(new):
                plan.delete.append(old)
            else:
                surging += 1
            continue
        fit = snapshot.fits.get(node, Fit(False, False))
        if not snapshot.is_available(old):
            if fit.run:
                plan.create.append(node)
            else:
                plan.delete.append(old)
        elif fit.run:
            candidates.append(node)
        else:
            misplaced.append(old)
    plan.delete += misplaced[: max(0, available - desired)]
    plan.create += candidates[: max(0, most - surging)]
    return plan


def calculate_status(snapshot: Snapshot, *, observed: bool) -> tuple[Object, float | None]:
    """The status, and in how many seconds a ready pod may become available."""
    desired = current = misscheduled = ready = updated = available = 0
    again: float | None = None
    for node, fit in snapshot.fits.items():
        found = snapshot.by_node.get(node)
        if not fit.run:
            misscheduled += bool(found)
            continue
        desired += 1
        if not found:
            continue
        current += 1
        pod = min(found, key=_age)
        if health.is_ready(pod):
            ready += 1
            wait = health.available_in(pod, snapshot.minimum, snapshot.now)
            if wait == 0.0:
                available += 1
            elif wait is not None:
                again = wait if again is None else min(again, wait)
        updated += snapshot.is_new(pod)
    old = snapshot.daemon_set.get("status") or {}
    status: Object = {
        "currentNumberScheduled": current,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": desired,
        "numberReady": ready,
    }
    generation = snapshot.daemon_set["metadata"].get("generation", 0) if observed else old.get("observedGeneration", 0)
    optional = {
        "observedGeneration": generation,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
    }
    status |= {name: count for name, count in optional.items() if count}
    for name in ("collisionCount", "conditions"):
        if old.get(name) is not None:
            status[name] = old[name]
    return status, again
