"""Pods that are placed by topology wait behind the gate kueue.x-k8s.io/topology; here each gets its place.

The place is node labels of the Workload's topologyAssignment. A pod with a rank (`podIndexLabel`, within the sub-groups
of a JobSet) goes where its rank stands in the order of the domains, so that ranks next to each other are near each
other; pods without one fill what is left of each domain. Level-triggered: what pods already have counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress

from atoll.base.errors import NotFound
from atoll.capacity.queueing import read, status
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts
from atoll.capacity.queueing.topology import HOSTNAME, TopologyAssignment, Values
from atoll.kinds import kueue
from atoll.kinds.builtin import PODS
from atoll.objects import meta
from atoll.objects.meta import is_deleting, labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

_OVER = ("Succeeded", "Failed")


class TopologyUngater:
    """Writes pods that have the gate."""

    def __init__(self, parts: Parts) -> None:
        self.name = "queueing-topology"
        self._parts = parts
        self._pods, self._workloads = parts.informers.of(PODS), parts.informers.of(kueue.WORKLOADS)
        self._pods.add_index("placed", lambda pod: [key] if (key := workload_of(pod)) else [])
        self.loop: Controller[Key] = Controller(
            self.name, self._reconcile, workers=2, wait_for=(self._pods, self._workloads)
        )
        self._pods.add_handler(self._pod_changed)
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        key = workload_of(new or old or {})
        if key is not None:
            self.loop.queue.add(key)

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and status.is_placed(new) and status.is_true(new, "Admitted"):
            self.loop.queue.add((new["metadata"]["namespace"], new["metadata"]["name"]))

    async def _reconcile(self, key: Key) -> float | None:
        workload = self._workloads.by_key(key)
        if workload is None or not self._parts.on() or not status.is_true(workload, "Admitted"):
            return None
        if is_deleting(workload) or status.is_true(workload, "Evicted") or status.is_true(workload, "Finished"):
            return None
        pods = [pod for pod in self._pods.by_index("placed", key) if not is_deleting(pod) and not _is_over(pod)]
        await asyncio.gather(*(self._open(pod, places) for pod, places in _opened(workload, pods)))
        return None

    async def _open(self, pod: Object, places: Mapping[str, str]) -> None:
        spec = pod["spec"]
        gates = [gate for gate in spec.get("schedulingGates") or () if gate["name"] != kueue.TOPOLOGY_GATE]
        new = {**spec, "nodeSelector": {**(spec.get("nodeSelector") or {}), **places}, "schedulingGates": gates}
        with suppress(NotFound):
            await self._parts.client.update(PODS, {**pod, "spec": new})


def workload_of(pod: Object) -> Key | None:
    if labels(pod).get(kueue.TOPOLOGY_LABEL) != "true":
        return None
    name = meta.annotations(pod).get(kueue.WORKLOAD_ANNOTATION)
    return (pod["metadata"]["namespace"], name) if name else None


def _is_over(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in _OVER


def is_gated(pod: Object, gate: str) -> bool:
    return any(item["name"] == gate for item in pod["spec"].get("schedulingGates") or ())


def _opened(workload: Object, pods: list[Object]) -> Iterator[tuple[Object, dict[str, str]]]:
    """Pods whose gate is to be taken off, each with the node labels of its place. A failed host is no place."""
    failed = {item["name"] for item in workload["status"].get("unhealthyNodes") or ()}
    requests = {item["name"]: item.get("topologyRequest") or {} for item in workload["spec"]["podSets"]}
    for item in workload["status"]["admission"]["podSetAssignments"]:
        topology = read.topology_assignment(item.get("topologyAssignment"))
        if topology is not None:
            own = [pod for pod in pods if labels(pod).get(kueue.POD_SET_LABEL) == item["name"]]
            for pod, places in places_of(own, topology, requests.get(item["name"], {})):
                if places.get(HOSTNAME) not in failed:
                    yield pod, places


def places_of(
    pods: list[Object], topology: TopologyAssignment, request: Object
) -> Iterator[tuple[Object, dict[str, str]]]:
    """Of one pod set: (gated pod, its node labels)."""
    slots = [values for values, count in topology.domains for _ in range(count)]
    ranks = [rank_of(pod, request, len(slots)) for pod in pods]
    by_rank = bool(pods) and None not in ranks and len(set(ranks)) == len(ranks)
    waiting = [
        (pod, rank)
        for pod, rank in zip(pods, ranks, strict=True)
        if is_gated(pod, kueue.TOPOLOGY_GATE) and not is_gated(pod, kueue.ADMISSION_GATE)
    ]
    free = iter(()) if by_rank else _left(pods, topology)
    for pod, rank in sorted(waiting, key=lambda item: (item[1] or 0, item[0]["metadata"]["name"])):
        values = slots[rank] if by_rank and rank is not None else next(free, None)
        if values is not None:
            yield pod, dict(zip(topology.levels, values, strict=True))


def rank_of(pod: Object, request: Object, count: int) -> int | None:
    """Its place in the order of ranks; None where its labels do not say, or say one that is not there."""
    text = labels(pod).get(request.get("podIndexLabel") or "", "")
    if not text.isdigit():
        return None
    rank, groups = int(text), int(request.get("subGroupCount") or 0)
    if groups > 1:
        group = labels(pod).get(request.get("subGroupIndexLabel") or "", "")
        if not group.isdigit():
            return None
        rank += int(group) * (count // groups)
    return rank if rank < count else None


def _left(pods: list[Object], topology: TopologyAssignment) -> Iterator[Values]:
    """The places that no pod has, domain after domain."""
    taken: dict[Values, int] = {}
    for pod in pods:
        if not is_gated(pod, kueue.TOPOLOGY_GATE):
            selector = pod["spec"].get("nodeSelector") or {}
            values = tuple(selector.get(level, "") for level in topology.levels)
            taken[values] = taken.get(values, 0) + 1
    for values, count in topology.domains:  # a leaf may come twice
        there = min(count, taken.get(values, 0))
        taken[values] = taken.get(values, 0) - there
        for _ in range(count - there):
            yield values
