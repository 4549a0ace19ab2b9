"""All that the queues know: quota trees with what is used, and the lines of those that wait. No I/O.

Kept up to date object by object, so that a decision looks only at the trees in which something has changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

from atoll.capacity.queueing.line import Line
from atoll.capacity.queueing.model import (
    ClusterQueue,
    Cohort,
    FairSharing,
    Flavor,
    Key,
    LocalQueue,
    PastUsage,
    Workload,
)  # fmt: skip
from atoll.capacity.queueing.past import Consumption
from atoll.capacity.queueing.topology import NodeRoom
from atoll.capacity.queueing.topology_fit import Given, placed_of
from atoll.capacity.queueing.tree import Node, plant
from atoll.objects.selectors import from_object


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration objects, and the cluster's: everything but workloads."""

    queues: Mapping[str, ClusterQueue] = field(default_factory=dict)
    cohorts: Mapping[str, Cohort] = field(default_factory=dict)
    flavors: Mapping[str, Flavor] = field(default_factory=dict)
    local_queues: Mapping[Key, LocalQueue] = field(default_factory=dict)
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # labels by name
    checks: Mapping[str, bool] = field(default_factory=dict)  # AdmissionChecks, and whether each is active
    fair: FairSharing = field(default_factory=FairSharing)
    past: PastUsage = field(default_factory=PastUsage)
    topologies: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # levels by name
    one_at_a_time: bool = False  # waitForPodsReady.blockAdmission


class State:
    """`configure` first; `put` and `drop` workloads; `plan.plan_cycle` decides on it."""

    def __init__(self) -> None:
        self.setup = Setup()
        self.workloads: dict[Key, Workload] = {}
        self.nodes: dict[str, Node] = {}
        self.cohorts: dict[str, Node] = {}
        self.lines: dict[str, Line] = {}
        self.aside: dict[
            str, set[Key]
        ] = {}  # by queue, those that wait for it in no line: it is inactive, or they rest
        self.inactive: dict[str, tuple[str, str]] = {}  # queue → (reason, message)
        self.consumption = Consumption(PastUsage())
        self.changed: set[str] = set()  # roots of trees (by a queue's or cohort's name) to look at
        self.trees: dict[str, list[Node]] = {}  # the queues below each root
        self.by_local: dict[Key, dict[Key, Workload]] = {}  # those that are not over, by local queue
        self.given = Given()  # of nodes, where pods are placed by topology
        self.broken: set[Key] = set()  # workloads with pods on hosts that failed
        self._matchers: dict[tuple[str, str], bool] = {}
        self._later: list[tuple[float, Key]] = []

    def configure(self, setup: Setup) -> None:
        """Take a new configuration; workloads stay."""
        self.setup = setup
        self._matchers.clear()
        self.nodes, self.cohorts, cycles = plant(setup.queues.values(), setup.cohorts.values())
        self.consumption.configure(setup.past)
        self.inactive = {
            name: why for name, queue in setup.queues.items() if (why := _why_inactive(queue, setup, cycles))
        }
        self.lines = {name: Line() for name in setup.queues}
        self.aside = {name: set() for name in setup.queues}
        self._later.clear()
        self.by_local.clear()
        self.given.clear()
        for workload in self.workloads.values():
            self._enter(workload)
        self.trees.clear()
        for node in self.nodes.values():
            self.trees.setdefault(self.root_of(node), []).append(node)
        self.changed |= self.trees.keys()

    # -- workloads

    def put(self, workload: Workload) -> None:
        """A workload as it is now."""
        broken = workload.unhealthy and workload.admission and not (workload.evicted or workload.finished)
        (self.broken.add if broken else self.broken.discard)(workload.key)
        old = self.workloads.get(workload.key)
        if old is not None:
            if _same_for_quota(old, workload):
                self.workloads[workload.key] = workload
                if not workload.finished:
                    self.by_local[workload.queue_key][workload.key] = workload
                node = self.node_of(workload) if workload.admission else None
                if node is not None and workload.key in node.workloads:
                    node.workloads[workload.key] = workload
                return
            self._leave(old)
        self.workloads[workload.key] = workload
        self._enter(workload)

    def drop(self, key: Key) -> None:
        """It is gone."""
        self.broken.discard(key)
        old = self.workloads.pop(key, None)
        if old is not None:
            self._leave(old)

    def queue_of(self, workload: Workload) -> str | None:
        """The ClusterQueue it has quota in, or would get it from."""
        if workload.admission is not None:
            return workload.admission.queue
        local = self.setup.local_queues.get(workload.queue_key)
        return None if local is None else local.queue

    def node_of(self, workload: Workload) -> Node | None:
        name = self.queue_of(workload)
        return None if name is None else self.nodes.get(name)

    def root_of(self, node: Node) -> str:
        root = node.root
        return f"queue/{root.name}" if root.queue is not None else f"cohort/{root.name}"

    def _enter(self, workload: Workload) -> None:
        if workload.finished:
            return
        self.by_local.setdefault(workload.queue_key, {})[workload.key] = workload
        if workload.admission is not None:
            node = self.nodes.get(workload.admission.queue)
            if node is not None:
                node.workloads[workload.key] = workload
                node.add_all(workload.usage)
                self.given.add(placed_of(workload))
            return
        local = self.setup.local_queues.get(workload.queue_key)
        if not workload.pending or local is None or local.stop != "None" or local.queue not in self.lines:
            return
        if workload.requeue_at or self.not_queued(workload):
            self.aside[local.queue].add(workload.key)
            if workload.requeue_at:
                heapq.heappush(self._later, (workload.requeue_at, workload.key))
            return
        self.lines[local.queue].add(workload)
        self.changed.add(self.root_of(self.nodes[local.queue]))

    def _leave(self, workload: Workload) -> None:
        self.by_local.get(workload.queue_key, {}).pop(workload.key, None)
        node = self.node_of(workload)
        if workload.admission is not None:
            if node is not None and node.workloads.pop(workload.key, None) is not None:
                node.remove_all(workload.usage)
                places = placed_of(workload)
                self.given.remove(places)
                if places:
                    self._look_again()
                self.release(node)
            return
        name = self.queue_of(workload)
        if name in self.lines:
            self.lines[name].discard(workload.key)
            self.aside[name].discard(workload.key)

    def look_at(self, queue: str) -> None:
        """Decide about a queue's tree again, though nothing in it has changed."""
        if queue in self.nodes:
            self.changed.add(self.root_of(self.nodes[queue]))

    def release(self, node: Node) -> None:
        """Quota became free in its tree: all who wait there may have a chance."""
        self.changed.add(self.root_of(node))
        for queue in node.root.queues():
            self.lines[queue.name].parked.clear()

    def set_rooms(self, rooms: tuple[NodeRoom, ...]) -> None:
        """The nodes have changed: who waits for one may have a chance."""
        if rooms != self.given.nodes.rooms:
            self.given.set_nodes(rooms)
            self._look_again()

    def _look_again(self) -> None:
        """Trees may share nodes: whoever waits for room has a chance."""
        for root, nodes in self.trees.items():
            self.changed.add(root)
            for node in nodes:
                self.lines[node.name].parked.clear()

    def wake(self, now: float) -> None:
        """Line up those whose back-off is over."""
        while self._later and self._later[0][0] <= now:
            _, key = heapq.heappop(self._later)
            workload = self.workloads.get(key)
            if workload is None or workload.requeue_at > now or not workload.pending or self.not_queued(workload):
                continue
            name = self.queue_of(workload)
            if name is not None and key not in self.lines[name]:
                self.aside[name].discard(key)
                self.lines[name].add(workload)
                self.changed.add(self.root_of(self.nodes[name]))

    def next_wake(self) -> float | None:
        """When the next back-off ends."""
        return self._later[0][0] if self._later else None

    def not_queued(self, workload: Workload) -> str:
        """Why a pending workload is in no line at all; "" if it may be."""
        why = self.no_queue(workload)
        if why:
            return why
        queue = self.setup.queues[self.setup.local_queues[workload.queue_key].queue]
        return "" if self._selects(queue, workload.key[0]) else "Workload namespace doesn't match ClusterQueue selector"

    def no_queue(self, workload: Workload) -> str:
        """Why its queue can't take it in (not there, stopped), or ""; upstream's reason is Inadmissible then."""
        if not workload.local_queue:
            return "it names no LocalQueue (label kueue.x-k8s.io/queue-name)"
        local = self.setup.local_queues.get(workload.queue_key)
        if local is None:
            return f"LocalQueue {workload.local_queue} doesn't exist"
        if local.stop != "None":
            return f"LocalQueue {workload.local_queue} is inactive"
        if local.queue not in self.setup.queues:
            return f"ClusterQueue {local.queue} doesn't exist"
        return f"ClusterQueue {local.queue} is inactive" if local.queue in self.inactive else ""

    def _selects(self, queue: ClusterQueue, namespace: str) -> bool:
        key = (queue.name, namespace)
        known = self._matchers.get(key)
        if known is None:
            labels = self.setup.namespaces.get(namespace)
            selects = labels is not None and queue.selector is not None
            known = selects and from_object(queue.selector).matches(labels or {})
            self._matchers[key] = known
        return known

    # -- what a queue shows

    def pending_count(self, queue: str) -> int:
        """Those in its line, and those that would be if it were active and theirs, and their rest over."""
        return len(self.lines[queue]) + len(self.aside[queue])

    def past_usage(self, queue: ClusterQueue, local: Key) -> float:
        """What decides first between local queues, where past use counts."""
        if not queue.by_past_usage or not self.setup.past.half_life_seconds:
            return 0.0
        found = self.setup.local_queues.get(local)
        return self.consumption.of(local, found.weight if found is not None else 1.0)

    def pending_of(self, queue: str) -> list[Workload]:
        """In the order in which they are looked at."""
        spec = self.setup.queues[queue]
        return self.lines[queue].ordered(lambda local: self.past_usage(spec, local))


def _same_for_quota(old: Workload, new: Workload) -> bool:
    """Whether a change matters to nobody else."""
    return (
        old.finished == new.finished
        and old.pending == new.pending
        and old.admission == new.admission
        and old.usage == new.usage
        and old.shape is new.shape
        and old.uid == new.uid
        and old.local_queue == new.local_queue
        and (old.priority, old.order_at, old.requeue_at) == (new.priority, new.order_at, new.requeue_at)
    )


def _why_inactive(queue: ClusterQueue, setup: Setup, cycles: Mapping[str, list[str]]) -> tuple[str, str] | None:
    """(reason, message) where a queue can't admit; `explain` says of each reason what helps."""
    if queue.leaving:
        return "Terminating", "Can't admit new workloads: is terminating"
    if queue.stop != "None":
        return "Stopped", "Can't admit new workloads: is stopped"
    cycle = cycles.get(queue.cohort)
    if cycle:
        return "CohortCycle", f"Can't admit new workloads: the cohorts form a cycle: {' → '.join(cycle)}"
    missing = [name for name in queue.flavors if name not in setup.flavors]
    if missing:
        text = f"references missing ResourceFlavor(s): {', '.join(missing)}"
        return "FlavorNotFound", f"Can't admit new workloads: {text}"
    topologies = [flavor.topology for name in queue.flavors if (flavor := setup.flavors[name]).topology]
    missing = [name for name in topologies if name not in setup.topologies]
    if missing:
        text = f"there is no Topology {', '.join(missing)} for TAS flavor"
        return "TopologyNotFound", f"Can't admit new workloads: {text}"
    missing = [name for name, _ in queue.checks if name not in setup.checks]
    if missing:
        text = f"references missing AdmissionCheck(s): {', '.join(missing)}"
        return "AdmissionCheckNotFound", f"Can't admit new workloads: {text}"
    idle = [name for name, _ in queue.checks if not setup.checks[name]]
    if idle:
        text = f"references inactive AdmissionCheck(s): {', '.join(idle)}"
        return "AdmissionCheckInactive", f"Can't admit new workloads: {text}"
    return None
