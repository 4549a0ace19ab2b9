"""Why a pending workload waits, and the cheapest change that would let it run: one line each. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.capacity.queueing.flavors import Mode, shown
from atoll.capacity.queueing.model import Workload
from atoll.capacity.queueing.plan import find
from atoll.capacity.queueing.state import State
from atoll.capacity.queueing.tree import Node


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
    if reason:
        cheapest = "set spec.active to true" if not workload.active else _repair(state, workload, queue)
        return _row(workload, queue, -1, reason, cheapest)
    node = state.nodes[queue]
    ahead = [item.key for item in state.pending_of(queue)]
    position = ahead.index(workload.key) if workload.key in ahead else -1
    entry = find(state, node, workload)
    if entry.targets:
        names = ", ".join(f"{t.workload.key[0]}/{t.workload.key[1]}" for t in entry.targets)
        return _row(workload, queue, position, entry.assignment.message(), f"preempting {names} would do")
    if entry.assignment.mode is Mode.FIT:
        return _row(workload, queue, position, "it fits: it is its turn next", "nothing is to be done")
    return _row(workload, queue, position, entry.assignment.message(), _cheapest(node, entry.assignment.lacks))


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
        return state.inactive[queue][1]
    if queue not in state.nodes:
        return f"create ClusterQueue {queue}"
    return f"let ClusterQueue {queue} select namespace {workload.key[0]}, or start LocalQueue {workload.local_queue}"


def _locals(state: State, workload: Workload) -> list[str]:
    return sorted(key[1] for key in state.setup.local_queues if key[0] == workload.key[0])


def _cheapest(node: Node, lacks: dict[tuple[str, str], int]) -> str:
    """The flavour that lacks least; who holds it, if one running workload is enough."""
    if not lacks:
        return "a flavor whose taints are tolerated and whose labels match"
    (flavor, resource), amount = min(lacks.items(), key=lambda item: (item[1], item[0]))
    key = (flavor, resource)
    text = f"{shown(resource, amount)} more {resource} of {flavor}"
    holders = [
        item for queue in node.root.queues() for item in queue.workloads.values() if item.usage.get(key, 0) >= amount
    ]
    if not holders or node.potential(key) < amount:
        return f"{text}: raise the quota of ClusterQueue {node.name}, or its borrowing"
    least = min(holders, key=lambda item: (item.priority, item.usage[key], -item.reserved_at, item.key))
    return f"{text}: the end of {least.key[0]}/{least.key[1]} (priority {least.priority}) would do"
