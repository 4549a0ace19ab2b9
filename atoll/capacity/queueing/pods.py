"""Plain pods and pod groups of a queue: held by a scheduling gate until they are admitted, deleted when evicted.

A group (label kueue.x-k8s.io/pod-group-name) is queued once as many pods as its annotation says are there; pods that
are alike form one pod set. Pods that failed may be replaced by new ones of the same group, up to the total.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from atoll.base.errors import Conflict, NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.asked import topology_request
from atoll.capacity.queueing.made import adopted, made_workload, own, priority_of, set_workload, workload_name
from atoll.capacity.queueing.members import (
    done_of,
    is_fast,
    is_gated,
    is_over,
    missing_of,
    of_parent,
    outcome_of,
    role_of,
    surplus_of,
    total_of,
)
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.podinfo import PodInfo, injected, pod_infos
from atoll.capacity.queueing.services import PARENTS
from atoll.client.port import DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.builtin import NAMESPACES, PODS, PRIORITY_CLASSES
from atoll.objects.meta import condition, is_deleting, labels, owner_reference
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Informer

Unit = tuple[str, str, str]
"""(namespace, "pod" or "group", name)."""
QUEUED: Final = "queued"  # an index of pods


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
        waits = (of(NAMESPACES), self._pods, self._workloads, self._flavors, self._classes, self._pod_classes)
        self.loop: Controller[Unit] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._namespaces = of(NAMESPACES)
        self._pods.add_handler(self._pod_changed)
        self._namespaces.add_handler(self._namespace_changed)
        self._workloads.add_handler(self._workload_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        if _managed(pod):
            self.loop.queue.add(_unit(pod))

    def _namespace_changed(self, old: Object | None, new: Object | None) -> None:
        """Of one that is deleted the pods go first: they must not wait for others."""
        if new is not None and is_deleting(new) and not (old is not None and is_deleting(old)):
            for pod in self._pods:
                if pod["metadata"]["namespace"] == new["metadata"]["name"]:
                    self._pod_changed(None, pod)

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        """A unit without pods comes in with its first one: many Workloads are made without a job."""
        unit = unit_of(new or old or {})
        if unit is not None and self._pods.index_size(QUEUED, unit):
            self.loop.queue.add(unit)

    async def _reconcile(self, unit: Unit) -> float | None:
        pods = self._pods.by_index(QUEUED, unit)
        if not pods or not self._parts.on():
            return None
        pods.sort(key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        prebuilt = labels(pods[0]).get(kueue.PREBUILT_LABEL)
        name = prebuilt or (unit[2] if unit[1] == "group" else workload_name("Pod", "", pods[0]))
        workload = self._workloads.get(name, unit[0])
        total = total_of(pods)
        if workload is not None and is_deleting(workload) and not status.is_true(workload, "Finished"):
            await self._withdraw(pods)
            return None
        parted = of_parent(pods[0])  # its controller makes the Workload, and replaces pods under their names
        if parted and workload is not None:
            total = sum(int(item["count"]) for item in workload["spec"]["podSets"])
        if unit[1] == "group" and not parted and await self._tidy(pods, workload, total):
            return None
        if prebuilt and (workload is None or not workload["metadata"].get("ownerReferences")):
            return await self._adopt(unit, pods, total, workload)
        if workload is None:
            await self._make(unit, name, pods, total)
        elif not status.is_true(workload, "Finished"):
            await self._step(unit, pods, workload, total)
        return None

    async def _step(self, unit: Unit, pods: list[Object], workload: Object, total: int) -> None:
        done = done_of(pods, workload) if unit[1] == "group" else {}
        over = outcome_of(pods, total, sum(done.values()))
        replaced = unit[1] == "group" and not of_parent(pods[0]) and not is_fast(pods)
        missing = missing_of(pods, total, sum(done.values())) if replaced else 0
        if over is not None:
            await self._write(workload, status.finished(workload, *over, self._parts.clock.wall()))
        elif status.is_true(workload, "Evicted"):
            await self._leave(pods, workload, missing)
        elif status.is_true(workload, "Admitted"):
            await self._start(pods, workload, total, done, missing)
        else:
            await self._write(workload, self._with_missing(workload, missing))

    async def _write(self, old: Object, new: Object) -> None:
        await write_status(self._parts.client, kueue.WORKLOADS, old, new)

    def _with_missing(self, workload: Object, missing: int) -> Object:
        """The condition WaitingForReplacementPods, under which it gets no quota."""
        if not missing and not status.has(workload, kueue.WAITS_FOR_PODS):
            return workload
        if missing:
            told = True, "PodsFailed", f"The group lacks {missing} of its pods: make new ones"
        else:
            told = False, "PodsReady", "All pods of the group are there"
        was = condition(workload, kueue.WAITS_FOR_PODS) or {}
        if was.get("message") == told[2] and (was.get("status") == "True") == told[0]:
            return workload
        return status.with_condition(workload, kueue.WAITS_FOR_PODS, *told, self._parts.clock.wall())

    async def _tidy(self, pods: list[Object], workload: Object | None, total: int) -> bool:
        """Pods of a group that may go are let go, those too many are deleted; whether the Workload was written.

        New ones own the Workload first, or it would go with the others.
        """
        finished = workload is not None and status.is_true(workload, "Finished")
        if workload is not None and not finished and await self._owned(pods, workload):
            return True
        namespace = self._namespaces.get(pods[0]["metadata"]["namespace"])
        if namespace is not None and is_deleting(namespace):
            await asyncio.gather(*(self._free(pod) for pod in pods if is_deleting(pod)))
            return False
        surplus = surplus_of(pods, workload, total)
        await asyncio.gather(*map(self._free, surplus.free))
        await asyncio.gather(*(self._delete(pod, "ExcessPodDeleted", "Excess pod deleted") for pod in surplus.excess))
        return False

    async def _owned(self, pods: list[Object], workload: Object) -> bool:
        known = list(workload["metadata"].get("ownerReferences") or ())
        uids = {owner["uid"] for owner in known}
        new = [pod for pod in pods if pod["metadata"]["uid"] not in uids and not is_over(pod)]
        if not known or not new:
            return False
        owners = [owner_reference(pod, controller=False, block=False) for pod in new]
        metadata = {**workload["metadata"], "ownerReferences": known + owners}
        await self._parts.client.update(kueue.WORKLOADS, {**workload, "metadata": metadata})
        return True

    async def _free(self, pod: Object) -> None:
        """Without our finalizer."""
        left = [name for name in pod["metadata"].get("finalizers") or () if name != kueue.POD_FINALIZER]
        if left != (pod["metadata"].get("finalizers") or []):
            with suppress(NotFound):
                await self._parts.client.update(PODS, {**pod, "metadata": {**pod["metadata"], "finalizers": left}})

    async def _delete(self, pod: Object, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        with suppress(NotFound, Conflict):  # gone, or a namesake by now
            options = DeleteOptions(uid=metadata["uid"])
            await self._parts.client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
            self._parts.events.event(pod, NORMAL, reason, message)

    async def _withdraw(self, pods: list[Object]) -> None:
        """Their Workload is deleted: all go with it; of those whose parent makes new ones, those that run."""
        leaving = [pod for pod in pods if not is_deleting(pod) and not (of_parent(pod) and is_gated(pod))]
        await asyncio.gather(*(self._delete(pod, "Stopped", "Workload is deleted") for pod in leaving))
        await asyncio.gather(*(self._free(pod) for pod in pods if is_deleting(pod)))

    async def _make(self, unit: Unit, name: str, pods: list[Object], total: int) -> None:
        living = [pod for pod in pods if not is_deleting(pod) and not is_over(pod)][:total]
        group = unit[1] == "group"
        if not living or (len(living) < total and not is_fast(living)) or (group and of_parent(living[0])):
            return  # a parent's controller makes the Workload of its group
        first = living[0]
        priority = priority_of(self._parts.events, first, {"spec": first["spec"]}, self._classes, self._pod_classes)
        workload = set_workload("Pod", "", first, _pod_sets(living, group, total), priority)
        owners = [owner_reference(pod, controller=not group, block=False) for pod in (living if group else [first])]
        workload["metadata"]["ownerReferences"] = owners
        if group:
            workload["metadata"]["name"] = name
        await made_workload(self._parts, workload)
        self._parts.events.event(first, NORMAL, "CreatedWorkload", f"Created Workload: {unit[0]}/{name}")

    async def _adopt(self, unit: Unit, pods: list[Object], total: int, workload: Object | None) -> float | None:
        """The Workload that the pods name was made by somebody else: it becomes theirs once all are there."""
        if unit[1] == "pod" or workload is None:
            return await adopted(self._parts, pods[0], workload)
        if len(pods) >= total:
            await own(self._parts, workload, [owner_reference(pod, controller=False, block=False) for pod in pods])
        return None

    async def _start(
        self, pods: list[Object], workload: Object, total: int, done: dict[str, int], missing: int
    ) -> None:
        infos = pod_infos(workload, self._flavors)
        if infos is None:
            return
        taken = sum(1 for pod in pods if not is_gated(pod) and not is_over(pod)) + sum(done.values())
        waiting = [pod for pod in pods if is_gated(pod) and not is_deleting(pod)][: max(0, total - taken)]
        group = len(infos) > 1 or bool(labels(pods[0]).get(kueue.POD_GROUP_LABEL))
        await asyncio.gather(
            *(self._open(pod, infos.get(role_of(pod) if group else "main", PodInfo())) for pod in waiting)
        )
        new = self._with_missing(workload, missing)
        if done:
            listed = [{"name": name, "count": count} for name, count in sorted(done.items())]
            new = {**new, "status": {**new["status"], "reclaimablePods": listed}}
        ready = sum(1 for pod in pods if _is_ready(pod) and not is_over(pod)) + sum(done.values())
        if ready >= total and not status.is_true(workload, "PodsReady"):
            text = "All pods were ready or succeeded since the workload admission"
            new = status.with_condition(new, "PodsReady", True, "Started", text, self._parts.clock.wall())
        await self._write(workload, new)

    async def _open(self, pod: Object, info: PodInfo) -> None:
        """Without our gate, on its flavours' nodes; where these have a topology, `ungate` opens the other gate."""
        new = injected(pod, info)
        ours = {kueue.ADMISSION_GATE, kueue.TOPOLOGY_GATE} - {gate["name"] for gate in info.gates}
        gates = [gate for gate in pod["spec"].get("schedulingGates") or () if gate["name"] not in ours]
        spec = {**new["spec"], "schedulingGates": gates}
        with suppress(NotFound):
            await self._parts.client.update(PODS, {**new, "spec": spec})
            self._parts.events.event(pod, NORMAL, "Started", "Admitted by the queue")

    async def _leave(self, pods: list[Object], workload: Object, missing: int) -> None:
        """Those that run are deleted; once they are gone, the quota is free."""
        running = [pod for pod in pods if not is_gated(pod) and not is_over(pod)]
        leaving = [pod for pod in running if not is_deleting(pod)]
        message = (condition(workload, "Evicted") or {}).get("message") or "Not admitted by cluster queue"
        await asyncio.gather(*(self._delete(pod, "Stopped", message) for pod in leaving))
        if running:
            return
        new = self._with_missing(workload, missing)
        if status.is_true(workload, "QuotaReserved"):
            new = status.released(new, self._parts.clock.wall(), status.requeue_at(workload))
        await self._write(workload, new)


def unit_of(workload: Object) -> Unit | None:
    """Of the pods that it is made for; None: it is a job's."""
    metadata = workload["metadata"]
    owners = metadata.get("ownerReferences") or ()
    if not owners:
        return metadata["namespace"], "group", metadata["name"]
    for owner in owners:
        if owner["kind"] == "Pod" and owner.get("controller"):
            return metadata["namespace"], "pod", owner["name"]
        if owner["kind"] == "Pod" or owner["kind"] in PARENTS:
            return metadata["namespace"], "group", metadata["name"]
    return None


def index_queued(pods: Informer) -> None:
    """By unit, under QUEUED."""
    pods.add_index(QUEUED, lambda pod: [_unit(pod)] if _managed(pod) else [])


def _managed(pod: Object) -> bool:
    return labels(pod).get(kueue.MANAGED_LABEL) == "true" and bool(labels(pod).get(kueue.QUEUE_LABEL))


def _unit(pod: Object) -> Unit:
    metadata = pod["metadata"]
    group = labels(pod).get(kueue.POD_GROUP_LABEL)
    return (metadata["namespace"], "group", group) if group else (metadata["namespace"], "pod", metadata["name"])


def _is_ready(pod: Object) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True"


def _pod_sets(pods: list[Object], group: bool, total: int) -> list[Object]:
    """Of a group that is queued by its first pods: all of it is like the first."""
    found: dict[str, Object] = {}
    fast = group and len(pods) < total
    for pod in pods[:1] if fast else pods:
        name = role_of(pod) if group else "main"
        known = found.get(name)
        if known is not None:
            known["count"] += 1
            continue
        metadata = {"labels": labels(pod)} if labels(pod) else {}
        found[name] = {
            "name": name,
            "count": total if fast else 1,
            "template": {"metadata": metadata, "spec": _plain(pod["spec"])},
        }
        request = topology_request(pod, kueue.POD_INDEX_LABEL if kueue.POD_INDEX_LABEL in labels(pod) else "")
        if request:
            found[name]["topologyRequest"] = request
    return list(found.values())


def _plain(spec: Object) -> Object:
    """The pod's spec without what admission added to this one pod."""
    dropped = ("schedulingGates", "nodeName", "volumes")
    return {name: value for name, value in spec.items() if name not in dropped}
