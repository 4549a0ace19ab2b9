"""Plain pods and pod groups of a queue: held by a scheduling gate until they are admitted, deleted when evicted.

A group (label kueue.x-k8s.io/pod-group-name) is queued once as many pods as its annotation says are there; pods that
are alike form one pod set. Pods that failed may be replaced by new ones of the same group, up to the total.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from typing import Final

import orjson

from atoll.base.errors import NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.asked import topology_request
from atoll.capacity.queueing.made import adopted, made_workload, priority_of, set_workload, workload_name
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.podinfo import PodInfo, injected, pod_infos
from atoll.client.port import DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.builtin import PODS, PRIORITY_CLASSES
from atoll.objects import meta
from atoll.objects.meta import condition, is_deleting, labels, owner_reference
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Informer

Unit = tuple[str, str, str]
"""(namespace, "pod" or "group", name)."""
POD_INDEX_LABEL = f"{kueue.GROUP}/pod-group-pod-index"
QUEUED: Final = "queued"  # an index of pods
_OVER = ("Succeeded", "Failed")


class PodQueueing:
    """Pods with the label kueue.x-k8s.io/managed (set on admission, where a queue is named) and their groups."""

    def __init__(self, parts: Parts) -> None:
        self.name = "queueing-pods"
        self._parts = parts
        of = parts.informers.of
        self._pods = of(PODS)
        index_queued(self._pods)
        self._workloads, self._flavors = of(kueue.WORKLOADS), of(kueue.RESOURCE_FLAVORS)
        self._classes, self._pod_classes = of(kueue.WORKLOAD_PRIORITY_CLASSES), of(PRIORITY_CLASSES)
        waits = (self._pods, self._workloads, self._flavors, self._classes, self._pod_classes)
        self.loop: Controller[Unit] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._pods.add_handler(self._pod_changed)
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        if _managed(pod):
            self.loop.queue.add(_unit(pod))

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        workload = new or old or {}
        metadata = workload["metadata"]
        for owner in metadata.get("ownerReferences") or ():
            if owner["kind"] == "Pod":
                kind = "pod" if owner.get("controller") else "group"
                name = owner["name"] if kind == "pod" else metadata["name"]
                self.loop.queue.add((metadata["namespace"], kind, name))
                return

    async def _reconcile(self, unit: Unit) -> float | None:
        pods = self._pods.by_index(QUEUED, unit)
        if not pods or not self._parts.on():
            return None
        pods.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        prebuilt = labels(pods[0]).get(kueue.PREBUILT_LABEL)
        name = prebuilt or (unit[2] if unit[1] == "group" else workload_name("Pod", "", pods[0]))
        workload = self._workloads.get(name, unit[0])
        total = _total(pods)
        if prebuilt and (workload is None or not workload["metadata"].get("ownerReferences")):
            return await self._adopt(unit, pods, total, workload)
        if workload is None:
            await self._make(unit, name, pods, total)
            return None
        if status.is_true(workload, "Finished"):
            return None
        done = _done(pods, workload) if unit[1] == "group" else {}
        over = _outcome(pods, total, sum(done.values()))
        if over is not None:
            await self._write(workload, status.finished(workload, *over, self._parts.clock.wall()))
        elif status.is_true(workload, "Evicted"):
            await self._leave(pods, workload)
        elif status.is_true(workload, "Admitted"):
            await self._start(pods, workload, total, done)
        return None

    async def _write(self, old: Object, new: Object) -> None:
        await write_status(self._parts.client, kueue.WORKLOADS, old, new)

    async def _make(self, unit: Unit, name: str, pods: list[Object], total: int) -> None:
        living = [pod for pod in pods if not is_deleting(pod) and not is_over(pod)]
        if len(living) < total:
            return
        if len(living) > total:
            message = f"the group has {len(living)} pods, more than its total of {total}"
            self._parts.events.event(living[0], WARNING, "ErrWorkloadCompose", message)
            return
        first = living[0]
        priority = priority_of(first, {"spec": first["spec"]}, self._classes, self._pod_classes)
        workload = set_workload("Pod", "", first, _pod_sets(living, unit[1] == "group"), priority)
        if unit[1] == "group":
            owners = [owner_reference(pod, controller=False, block=False) for pod in living]
            workload["metadata"] |= {"name": name, "ownerReferences": owners}
        await made_workload(self._parts, workload)
        self._parts.events.event(first, NORMAL, "CreatedWorkload", f"Created Workload: {unit[0]}/{name}")

    async def _adopt(self, unit: Unit, pods: list[Object], total: int, workload: Object | None) -> float | None:
        """The Workload that the pods name was made by somebody else: it becomes theirs once all are there."""
        if unit[1] == "pod" or workload is None:
            return await adopted(self._parts, pods[0], workload)
        if len(pods) >= total:
            owners = [owner_reference(pod, controller=False, block=False) for pod in pods]
            owned = {**workload["metadata"], "ownerReferences": owners}
            await self._parts.client.update(kueue.WORKLOADS, {**workload, "metadata": owned})
        return None

    async def _start(self, pods: list[Object], workload: Object, total: int, done: dict[str, int]) -> None:
        infos = pod_infos(workload, self._flavors)
        if infos is None:
            return
        taken = sum(1 for pod in pods if not is_gated(pod) and _phase(pod) not in _OVER and not is_deleting(pod))
        taken += sum(done.values())
        waiting = [pod for pod in pods if is_gated(pod) and not is_deleting(pod)][: max(0, total - taken)]
        group = len(infos) > 1 or bool(labels(pods[0]).get(kueue.POD_GROUP_LABEL))
        await asyncio.gather(
            *(self._open(pod, infos.get(role_of(pod) if group else "main", PodInfo())) for pod in waiting)
        )
        new = workload
        if done:
            listed = [{"name": name, "count": count} for name, count in sorted(done.items())]
            new = {**new, "status": {**new["status"], "reclaimablePods": listed}}
        ready = sum(1 for pod in pods if _is_ready(pod) and not is_over(pod)) + sum(done.values())
        if ready >= total and not status.is_true(workload, "PodsReady"):
            text = "All pods were ready or succeeded since the workload admission"
            new = status.with_condition(new, "PodsReady", True, "Started", text, self._parts.clock.wall())
        await self._write(workload, new)

    async def _open(self, pod: Object, info: PodInfo) -> None:
        """Without our gate, on its flavours' nodes."""
        new = injected(pod, info)
        gates = [gate for gate in pod["spec"].get("schedulingGates") or () if gate["name"] != kueue.ADMISSION_GATE]
        spec = {**new["spec"], "schedulingGates": gates}
        with suppress(NotFound):
            await self._parts.client.update(PODS, {**new, "spec": spec})
            self._parts.events.event(pod, NORMAL, "Started", "Admitted by the queue")

    async def _leave(self, pods: list[Object], workload: Object) -> None:
        """Those that run are deleted; once they are gone, the quota is free."""
        running = [pod for pod in pods if not is_gated(pod) and not is_over(pod)]
        leaving = [pod for pod in running if not is_deleting(pod)]
        message = (condition(workload, "Evicted") or {}).get("message") or "Not admitted by cluster queue"

        async def delete(pod: Object) -> None:
            metadata = pod["metadata"]
            with suppress(NotFound):
                options = DeleteOptions(uid=metadata["uid"])
                await self._parts.client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
                self._parts.events.event(pod, NORMAL, "Stopped", message)

        await asyncio.gather(*(delete(pod) for pod in leaving))
        if not running and status.is_true(workload, "QuotaReserved"):
            at = status.requeue_at(workload)
            await self._write(workload, status.released(workload, self._parts.clock.wall(), at))


def index_queued(pods: Informer) -> None:
    """By unit, under QUEUED."""
    pods.add_index(QUEUED, lambda pod: [_unit(pod)] if _managed(pod) else [])


def _managed(pod: Object) -> bool:
    return labels(pod).get(kueue.MANAGED_LABEL) == "true" and bool(labels(pod).get(kueue.QUEUE_LABEL))


def _unit(pod: Object) -> Unit:
    metadata = pod["metadata"]
    group = labels(pod).get(kueue.POD_GROUP_LABEL)
    return (metadata["namespace"], "group", group) if group else (metadata["namespace"], "pod", metadata["name"])


def _total(pods: list[Object]) -> int:
    counts = [meta.annotations(pod).get(kueue.POD_GROUP_TOTAL, "") for pod in pods]
    return next((int(text) for text in counts if text.isdigit()), 1)


def is_gated(pod: Object) -> bool:
    return any(gate["name"] == kueue.ADMISSION_GATE for gate in pod["spec"].get("schedulingGates") or ())


def _phase(pod: Object) -> str:
    return str((pod.get("status") or {}).get("phase") or "")


def is_over(pod: Object) -> bool:
    return _phase(pod) in _OVER


def _is_ready(pod: Object) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True"


def _done(pods: list[Object], workload: Object) -> dict[str, int]:
    """By pod set, how many of a group have succeeded: those that are there, and those that were and are deleted since.

    The Workload's reclaimablePods remember them, and free their quota.
    """
    found: dict[str, int] = {}
    for pod in pods:
        if _phase(pod) == "Succeeded":
            found[role_of(pod)] = found.get(role_of(pod), 0) + 1
    counts = {item["name"]: item["count"] for item in workload["spec"]["podSets"]}
    for item in (workload.get("status") or {}).get("reclaimablePods") or ():
        found[item["name"]] = max(item["count"], found.get(item["name"], 0))
    return {name: min(count, counts[name]) for name, count in found.items() if name in counts}


def _outcome(pods: list[Object], total: int, done: int) -> tuple[str, str] | None:
    """Over when all succeeded, or when none may be replaced and none is left. `done`: of a group, as `_done` has it."""
    succeeded = max(done, sum(1 for pod in pods if _phase(pod) == "Succeeded"))
    if succeeded >= total:
        return "Succeeded", f"Pods succeeded: {succeeded}/{total}."
    final = any(meta.annotations(pod).get(kueue.RETRIABLE_IN_GROUP) == "false" for pod in pods)
    alone = not labels(pods[0]).get(kueue.POD_GROUP_LABEL)
    if (alone or final) and all(is_over(pod) for pod in pods):
        return "Failed", f"Pods succeeded: {succeeded}/{total}."
    return None


def _essence(pod: Object) -> Object:
    """What makes pods alike, as they were before a flavour was put in."""
    spec = pod["spec"]
    kept = ("containers", "initContainers", "affinity", "priority", "resourceClaims", "topologySpreadConstraints")
    return {name: spec[name] for name in kept if name in spec}


def role_of(pod: Object) -> str:
    """The name of its pod set: a hash of what pods of one role have in common, unless the pod says it."""
    said = meta.annotations(pod).get(kueue.ROLE_HASH)
    if said:
        return said
    essence = _essence(pod)
    requests = [(item["name"], item.get("resources")) for item in essence.get("containers") or ()]
    text = orjson.dumps(
        [requests, {k: v for k, v in essence.items() if k != "containers"}], option=orjson.OPT_SORT_KEYS
    )
    return hashlib.sha256(text).hexdigest()[:8]


def _pod_sets(pods: list[Object], group: bool) -> list[Object]:
    found: dict[str, Object] = {}
    for pod in pods:
        name = role_of(pod) if group else "main"
        known = found.get(name)
        if known is not None:
            known["count"] += 1
            continue
        metadata = {"labels": labels(pod)} if labels(pod) else {}
        found[name] = {"name": name, "count": 1, "template": {"metadata": metadata, "spec": _plain(pod["spec"])}}
        request = topology_request(pod, POD_INDEX_LABEL if POD_INDEX_LABEL in labels(pod) else "")
        if request:
            found[name]["topologyRequest"] = request
    return list(found.values())


def _plain(spec: Object) -> Object:
    """The pod's spec without what admission added to this one pod."""
    dropped = ("schedulingGates", "nodeName", "volumes")
    return {name: value for name, value in spec.items() if name not in dropped}
