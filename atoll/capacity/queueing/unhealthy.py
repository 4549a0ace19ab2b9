"""Hosts that fail under workloads that are placed by topology: status.unhealthyNodes, from which `replacement` works.

As Kueue does with TASFailedNodeReplacement, TASReplaceNodeOnPodTermination and TASReplaceNodeOnNodeTaints: a host that
is gone, or has a NoExecute taint that the pods do not tolerate, has failed at once; one that is not Ready, cordoned or
tainted NoSchedule, when none of the workload's pods runs there any more. Only if a pod needs it: one that is done needs
no other host. Pods that wait for a failed host fail (TerminatedByKueue), so that their job makes new ones. Workloads of
a single pod are not looked at: their pod can't move. Level-triggered: each pass says what holds now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.base.errors import NotFound
from atoll.capacity.queueing import read, status
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.podinfo import pod_infos
from atoll.capacity.queueing.topology import HOSTNAME
from atoll.capacity.queueing.ungate import is_gated, workload_of
from atoll.kinds import kueue
from atoll.kinds.builtin import NODES, PODS
from atoll.objects.meta import condition, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key
from atoll.scheduling.matching import tolerates

_MOST_NODES: Final = 8  # of status.unhealthyNodes; more are an eviction
_BY_READINESS: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


class FailedNodes:
    """Writes status.unhealthyNodes of Workloads, and the phase of pods that wait for a failed host."""

    def __init__(self, parts: Parts) -> None:
        self.name = "queueing-nodes"
        self._parts = parts
        of = parts.informers.of
        self._nodes, self._pods, self._workloads = of(NODES), of(PODS), of(kueue.WORKLOADS)
        self._flavors = of(kueue.RESOURCE_FLAVORS)
        self._nodes.add_index("host", lambda node: [host] if (host := labels(node).get(HOSTNAME)) else [])
        self._workloads.add_index("host", lambda obj: list(_hosts(obj)))
        self._pods.add_index("of-workload", lambda pod: [name] if (name := workload_of(pod)) else [])
        self._sick: set[str] = set()  # nodes on which pods may not run
        self._homeless: set[Key] = set()  # workloads with a place on a node that is gone
        waits = (self._nodes, self._pods, self._workloads, self._flavors)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=2, wait_for=waits)
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        node = new or old or {}
        (self._sick.add if new is not None and _is_sick(new) else self._sick.discard)(node["metadata"]["name"])
        if old is None or new is None or _health(old) != _health(new):
            for host in {labels(it).get(HOSTNAME, "") for it in (old, new) if it is not None}:
                for workload in self._workloads.by_index("host", host):
                    self.loop.queue.add(key(workload))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        name = workload_of(new or old or {})
        if name is not None and (self._sick or name in self._homeless):
            self.loop.queue.add(name)

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and _is_placed(new):
            self.loop.queue.add(key(new))

    async def _reconcile(self, name: Key) -> float | None:
        workload = self._workloads.by_key(name)
        self._homeless.discard(name)
        if workload is None or not self._parts.on() or not _is_placed(workload) or _is_of_one_pod(workload):
            return None
        infos = pod_infos(workload, self._flavors)
        if infos is None:
            return None
        templates = {item["name"]: item["template"].get("spec") or {} for item in workload["spec"]["podSets"]}
        needs = any(_needs_place(pod) for pod in self._pods.by_index("of-workload", name))
        failed: dict[str, str] = {}
        waits: list[float] = []
        for host, sets in _hosts(workload).items():
            node = next(iter(self._nodes.by_index("host", host)), None)
            if node is None:
                self._homeless.add(name)
            elif not _is_sick(node):
                continue
            tolerations = [it for pods in sets for it in templates.get(pods, {}).get("tolerations") or ()]
            tolerations += [it for pods in sets if pods in infos for it in infos[pods].tolerations]
            left = fails_in(node, self._on(name, host, node), needs, tolerations, self._parts.clock.wall())
            if left is not None and left <= 0:
                failed[host] = host if node is None else node["metadata"]["name"]
            elif left is not None:
                waits.append(left)
        await self._tell(workload, sorted(failed.values()))
        await asyncio.gather(*(self._end(pod, host) for host in failed for pod in self._waiting(name, host)))
        return min(waits, default=None)

    def _on(self, name: Key, host: str, node: Object | None) -> list[Object]:
        """The workload's pods that run, or are to run, on a host."""
        own = host if node is None else node["metadata"]["name"]
        return [
            pod
            for pod in self._pods.by_index("of-workload", name)
            if (pod["spec"].get("nodeName") == own)
            or (not pod["spec"].get("nodeName") and (pod["spec"].get("nodeSelector") or {}).get(HOSTNAME) == host)
        ]

    def _waiting(self, name: Key, host: str) -> list[Object]:
        return [pod for pod in self._on(name, host, None) if _waits(pod) and not is_deleting(pod)]

    async def _tell(self, workload: Object, names: list[str]) -> None:
        said = [item["name"] for item in workload["status"].get("unhealthyNodes") or ()]
        if sorted(said) == names:
            return
        if len(names) > _MOST_NODES:
            message = f"{len(names)} nodes of its pods failed, among them {', '.join(names[:3])}"
            new = status.evicted(workload, "NodeFailures", message, self._parts.clock.wall())
            self._parts.events.event(workload, NORMAL, "EvictedDueToNodeFailures", message)
        else:
            new = status.with_unhealthy_nodes(workload, names)
        await write_status(self._parts.client, kueue.WORKLOADS, workload, new)

    async def _end(self, pod: Object, host: str) -> None:
        """It can't be scheduled any more; its job makes another one."""
        message = f"Its node {host} failed before it was scheduled; a new pod gets another one"
        found = {"type": "TerminatedByKueue", "status": "True", "reason": "UnschedulableOnAssignedNode",
                 "message": message, "lastTransitionTime": rfc3339(self._parts.clock.wall())}  # fmt: skip
        said = pod.get("status") or {}
        new = {**said, "phase": "Failed", "conditions": [*(said.get("conditions") or ()), found]}
        with suppress(NotFound):
            await self._parts.client.update(PODS, {**pod, "status": new}, subresource="status")
            self._parts.events.event(pod, NORMAL, "PodTerminated", message)


def fails_in(
    node: Object | None, pods: list[Object], needs: bool, tolerations: list[Object], now: float
) -> float | None:
    """Seconds until a host has failed (0: it has); None while it has not. `pods`: those of the workload there;
    `needs`: a pod has no place yet, and may come there."""
    ready = None if node is None else condition(node, "Ready")
    if not needs and all(_phase(pod) == "Succeeded" for pod in pods):
        return None
    if node is None or ready is None:
        return 0.0
    left: float | None = None
    stays = ready["status"] == "True" and not (node.get("spec") or {}).get("unschedulable")
    for taint in (node.get("spec") or {}).get("taints") or ():
        if taint["effect"] == "NoSchedule" and not any(tolerates(it, taint) for it in tolerations):
            stays = False
        elif taint["effect"] == "NoExecute" and taint["key"] not in _BY_READINESS:
            seconds = _tolerated(taint, tolerations, now)
            left = seconds if left is None or (seconds is not None and seconds < left) else left
    runs = any(not (is_deleting(pod) or _phase(pod) in ("Failed", "Succeeded") or _waits(pod)) for pod in pods)
    return left if stays or runs else 0.0


def _tolerated(taint: Object, tolerations: list[Object], now: float) -> float | None:
    """For how many seconds more; None: for ever."""
    own = [it for it in tolerations if tolerates(it, taint)]
    if any(it.get("tolerationSeconds") is None for it in own):
        return None
    since = parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else now
    return max((since + float(it["tolerationSeconds"]) - now for it in own), default=0.0)


def _hosts(workload: Object) -> Mapping[str, list[str]]:
    """Pod sets by host; none where the narrowest level is wider than a host."""
    found: dict[str, list[str]] = {}
    if not _is_placed(workload):
        return found
    for item in workload["status"]["admission"]["podSetAssignments"]:
        topology = read.topology_assignment(item.get("topologyAssignment"))
        for values, _ in topology.domains if topology is not None and topology.levels == (HOSTNAME,) else ():
            found.setdefault(values[-1], []).append(item["name"])
    return found


def _is_placed(workload: Object) -> bool:
    if not status.is_placed(workload) or not status.is_true(workload, "Admitted"):
        return False
    return not (status.is_true(workload, "Evicted") or status.is_true(workload, "Finished"))


def _is_of_one_pod(workload: Object) -> bool:
    owners: list[dict[str, Any]] = workload["metadata"].get("ownerReferences") or []
    return len(owners) == 1 and owners[0]["kind"] == "Pod"


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def _waits(pod: Object) -> bool:
    """It has its place, and no node yet."""
    return not pod["spec"].get("nodeName") and _phase(pod) == "Pending" and not is_gated(pod, kueue.TOPOLOGY_GATE)


def _needs_place(pod: Object) -> bool:
    """It is admitted and waits for its place."""
    gates = (kueue.TOPOLOGY_GATE, kueue.ADMISSION_GATE)
    return not is_deleting(pod) and [is_gated(pod, gate) for gate in gates] == [True, False]


def _health(node: Object) -> object:
    spec = node.get("spec") or {}
    return (condition(node, "Ready") or {}).get("status"), spec.get("unschedulable"), spec.get("taints")


def _is_sick(node: Object) -> bool:
    return _health(node) not in (("True", None, None), ("True", False, None))
