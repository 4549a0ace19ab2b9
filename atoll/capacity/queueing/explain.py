"""Why a pending workload waits, and the cheapest change that would let it run: one line each. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.capacity.queueing.finding import Entry, find, places_of
from atoll.capacity.queueing.flavors import Assignment, Mode, shown
from atoll.capacity.queueing.model import PodSet, Workload
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.topology_fit import Unplaced, placed_of
from atoll.capacity.queueing.tree import Node

_REMEDIES = {  # by the reason of a ClusterQueue that is not Active; `names`: what its message lists
    "Terminating": "use another ClusterQueue: {queue} is being deleted",
    "Stopped": "set spec.stopPolicy of ClusterQueue {queue} to None",
    "CohortCycle": "give one of the cohorts no parent, or another one: {names}",
    "FlavorNotFound": "create ResourceFlavor {names}, or take it out of ClusterQueue {queue}",
    "TopologyNotFound": "create that Topology, or take topologyName out of the flavor",
    "AdmissionCheckNotFound": "create AdmissionCheck {names}, or take it out of ClusterQueue {queue}",
    "AdmissionCheckInactive": "see why it is not Active: kubectl describe admissioncheck {names}",
}
_MOST_HOLDERS = 500  # of running workloads that are looked at one by one


@dataclass(frozen=True, slots=True)
class Row:
    """A pending workload of a queue; `position` 0 is the next one, -1 one that is in no line."""

    namespace: str
    name: str
    local_queue: str
    queue: str
    priority: int
    position: int
    why: str
    cheapest: str


def explain(state: State, workload: Workload) -> Row:
    """Of a workload without quota. The state is as it was afterwards."""
    queue = state.queue_of(workload) or ""
    reason = "the workload is deactivated" if not workload.active else state.not_queued(workload)
    if workload.active and workload.lacking_pods:
        text = "pods of its group are gone or failed"
        return _row(workload, queue, -1, text, f"make new pods of group {workload.key[1]}, under other names")
    if reason:
        cheapest = "set spec.active to true" if not workload.active else _repair(state, workload, queue)
        return _row(workload, queue, -1, reason, cheapest)
    node = state.nodes[queue]
    ahead = [item.key for item in state.pending_of(queue)]
    position = ahead.index(workload.key) if workload.key in ahead else -1
    entry = find(state, node, workload)
    unplaced = entry.assignment.unplaced
    why = entry.assignment.message() if unplaced is None else _lacks_room(workload, entry.assignment, unplaced)
    if entry.targets:
        names = ", ".join(_shown(target.workload) for target in entry.targets)
        return _row(workload, queue, position, why, f"preempting {names} would do")
    if entry.assignment.mode is Mode.FIT:
        return _row(workload, queue, position, "it fits: it is its turn next", "nothing is to be done")
    if unplaced is not None:
        return _row(workload, queue, position, why, _cheapest_room(state, entry, unplaced))
    return _row(workload, queue, position, why, _remedy(node, workload) or _cheapest(node, entry.assignment))


def _row(workload: Workload, queue: str, position: int, why: str, cheapest: str) -> Row:
    namespace, name = workload.key
    return Row(namespace, name, workload.local_queue, queue, workload.priority, position, why, cheapest)


def _repair(state: State, workload: Workload, queue: str) -> str:
    """For one that is in no line."""
    if not workload.local_queue:
        return f"label it with one of the namespace's LocalQueues: {', '.join(_locals(state, workload)) or 'none yet'}"
    if workload.queue_key not in state.setup.local_queues:
        names = _locals(state, workload)
        here = f"; there are: {', '.join(names)}" if names else ""
        return f"create LocalQueue {workload.local_queue} in namespace {workload.key[0]}, or name another one{here}"
    if queue in state.inactive:
        reason, message = state.inactive[queue]
        return _REMEDIES[reason].format(queue=queue, names=message.rpartition(": ")[2])
    if queue not in state.nodes:
        return f"create ClusterQueue {queue}"
    return f"let ClusterQueue {queue} select namespace {workload.key[0]}, or start LocalQueue {workload.local_queue}"


def _locals(state: State, workload: Workload) -> list[str]:
    return sorted(key[1] for key in state.setup.local_queues if key[0] == workload.key[0])


def _remedy(node: Node, workload: Workload) -> str:
    """For one that no quota would help."""
    if "DeviceClass" in workload.shape.problem or "ResourceClaimTemplate" in workload.shape.problem:
        return "create that template, or map the class in resources.deviceClassMappings of kueue-manager-config"
    if workload.shape.problem:
        return "ask for what the namespace's LimitRanges allow"
    asked = {name: amount for pods in workload.shape.pod_sets for name, amount in pods.charged.items()}
    assert node.queue is not None
    for resource, amount in sorted(asked.items()):
        if amount and node.queue.group_of(resource) is None:
            return f"let spec.resourceGroups of ClusterQueue {node.name} cover {resource}"
    return ""


def _cheapest(node: Node, assignment: Assignment) -> str:
    """The flavour that lacks least; who holds it, if one running workload is enough."""
    lacks, beyond = assignment.lacks, assignment.beyond
    if not lacks:
        return "a flavor whose taints are tolerated and whose labels match"
    key, amount = min(lacks.items(), key=lambda item: (item[0] in beyond, item[1], item[0]))
    flavor, resource = key
    text = f"{shown(resource, amount)} more {resource} of {flavor}"
    holders = [
        item for queue in node.root.queues() for item in queue.workloads.values() if item.usage.get(key, 0) >= amount
    ]
    if not holders or key in beyond:
        return f"{text}: raise the quota of ClusterQueue {node.name}, or its borrowing"
    least = min(holders, key=lambda item: (item.priority, item.usage[key], -item.reserved_at, item.key))
    return f"{text}: the end of {_shown(least)} would do"


def _shown(workload: Workload) -> str:
    return f"{workload.key[0]}/{workload.key[1]} (priority {workload.priority})"


# -- topology


def _lacks_room(workload: Workload, assignment: Assignment, unplaced: Unplaced) -> str:
    """What is needed in one domain, and what the roomiest have."""
    room = unplaced.why
    if not room.count:
        return room.problem
    own = [pods for pods in workload.shape.pod_sets if pods.name in unplaced.names]
    lacking = next((pods for pods in own if _count(assignment, pods) == room.count), own[0])
    devices = sorted(name for name in lacking.requests if "/" in name)
    resource = (devices or [name for name in ("cpu", "memory") if name in lacking.requests] or ["pods"])[0]
    each = lacking.requests.get(resource, 1)
    wanted, most = shown(resource, each * room.count), shown(resource, each * room.most)
    if not room.level:
        return f"needs {wanted} free {resource} on nodes of its topology; there is room for {most}"
    level = _short(room.level)
    have = f"{room.domains} {level}{'s have' if room.domains > 1 else ' has'}"
    group = f" (with {', '.join(unplaced.names)} together)" if len(own) > 1 else ""
    return f"needs {wanted} free {resource} in one {level}{group}; {have} {most}"


def _count(assignment: Assignment, pods: PodSet) -> int:
    return next((item.count for item in assignment.pod_sets if item.name == pods.name), pods.count)


def _short(level: str) -> str:
    """cloud.provider.com/topology-rack: rack."""
    name = level.rpartition("/")[2].removeprefix("topology-")
    return "host" if name == "hostname" else name


def _cheapest_room(state: State, entry: Entry, unplaced: Unplaced) -> str:
    """The least one whose end would do."""
    places = places_of(state, entry.workload, entry.assignment)
    level = _short(unplaced.why.level) if unplaced.why.level else "node"
    if not unplaced.why.count or places is None:
        return "mend the topology annotations of its pods"
    holders = [item for item in state.workloads.values() if placed_of(item)]
    holders.sort(key=lambda item: (item.priority, sum(item.usage.values()), item.key))
    for holder in holders:
        places.remove(holder)
    fits_alone = not isinstance(places.find(), Unplaced)
    for holder in holders:
        places.add(holder)
    if not fits_alone:
        return f"no {level} has as much even when it is empty: ask for a wider level, or add nodes"
    for holder in holders[:_MOST_HOLDERS]:
        places.remove(holder)
        fits = not isinstance(places.find(), Unplaced)
        places.add(holder)
        if fits:
            return f"the end of {_shown(holder)} would do"
    return f"the end of several workloads of one {level}, or a wider level"
