"""Carries a decision out: volumes first, then the binding; and says in the pod what was not possible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AtollError, NotFound
from atoll.client.port import MERGE_PATCH, STRATEGIC_PATCH, Client, DeleteOptions, bind_all
from atoll.cluster.scheduler.cache import SchedulerCache
from atoll.cluster.scheduler.claims import ClaimBinder
from atoll.kinds.builtin import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS
from atoll.objects.meta import condition, disruption_target
from atoll.runtime.events import NORMAL, EventRecorder
from atoll.scheduling.devices.annotations import INDEX, index_of
from atoll.scheduling.dra.needs import DevicePlan
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.volumes import SELECTED_NODE, VolumePlan

Object = dict[str, Any]
BIND_TIMEOUT_SECONDS = 600.0
_MESSAGE_LIMIT = 1024


class VolumesNotBound(AtollError):
    """The pod's claims were not bound in time."""

    retryable = True


class Binder:
    """Writes what the scheduler has decided."""

    def __init__(
        self,
        client: Client,
        events: EventRecorder,
        cache: SchedulerCache,
        claims: ClaimBinder,
        clock: Clock,
        name: str,
    ) -> None:
        self.claims = claims
        self._client = client
        self._events = events
        self._cache = cache
        self._clock = clock
        self._name = name

    async def bind(
        self, pod: PodInfo, node: str, volumes: VolumePlan | None, devices: DevicePlan | None = None
    ) -> None:
        """Raises AtollError when the pod is not bound."""
        if volumes is not None and (volumes.bindings or volumes.provisions):
            await self._bind_volumes(pod, node, volumes)
        if devices is not None:
            await self.claims.bind(pod, devices)
        await self._client.create(
            PODS, _binding(pod, node), pod.template.namespace, name=pod.name, subresource="binding"
        )
        self._tell_bound(pod, node)

    async def bind_all(self, decided: Sequence[tuple[PodInfo, str]]) -> Sequence[AtollError | None]:
        """Pods without volumes and devices to bind first: None of each, or why it is not bound."""
        results = await bind_all(self._client, [_binding(pod, node) for pod, node in decided])
        for (pod, node), failure in zip(decided, results, strict=True):
            if failure is None:
                self._tell_bound(pod, node)
        return results

    def _tell_bound(self, pod: PodInfo, node: str) -> None:
        message = f"Successfully assigned {pod.template.namespace}/{pod.name} to {node}"
        self._events.event(pod.obj, NORMAL, "Scheduled", message)

    async def _bind_volumes(self, pod: PodInfo, node: str, plan: VolumePlan) -> None:
        for volume, claim in plan.bindings:
            metadata = claim["metadata"]
            reference = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion"),
            }
            patch = {
                "metadata": {"resourceVersion": volume["metadata"].get("resourceVersion")},
                "spec": {"claimRef": reference},
            }
            await self._client.patch(PERSISTENT_VOLUMES, volume["metadata"]["name"], patch, content_type=MERGE_PATCH)
        for claim in plan.provisions:
            metadata = claim["metadata"]
            if (metadata.get("annotations") or {}).get(SELECTED_NODE) == node:
                continue
            patch = {"metadata": {"annotations": {SELECTED_NODE: node}}}
            await self._client.patch(PERSISTENT_VOLUME_CLAIMS, metadata["name"], patch, metadata["namespace"])
        claims = [claim for _, claim in plan.bindings] + plan.provisions
        await self._wait_bound([(claim["metadata"]["namespace"], claim["metadata"]["name"]) for claim in claims])

    async def _wait_bound(self, claims: list[tuple[str, str]]) -> None:
        changed = asyncio.Event()
        self._cache.claim_changed[changed] = changed.set
        try:
            async with asyncio.timeout(BIND_TIMEOUT_SECONDS):
                while not all(self._is_bound(*claim) for claim in claims):
                    changed.clear()
                    await changed.wait()
        except TimeoutError as error:
            raise VolumesNotBound("binding volumes: context deadline exceeded") from error
        finally:
            self._cache.claim_changed.pop(changed, None)

    def _is_bound(self, namespace: str, name: str) -> bool:
        claim = self._cache.claim(namespace, name)
        if claim is None:
            raise NotFound(f'persistentvolumeclaim "{name}" not found')
        annotations = claim["metadata"].get("annotations") or {}
        return bool(claim["spec"].get("volumeName")) and "pv.kubernetes.io/bind-completed" in annotations

    async def tell(self, pod: PodInfo, reason: str, message: str, nominated: str | None) -> None:
        """PodScheduled=False with a reason; `nominated` sets ("" clears) status.nominatedNodeName."""
        metadata, status = pod.obj["metadata"], pod.obj.get("status") or {}
        now = rfc3339(self._clock.wall())
        patch: Object = {}
        old = condition(pod.obj, "PodScheduled")
        if old is None or (old.get("status"), old.get("reason"), old.get("message")) != ("False", reason, message):
            same = old is not None and old.get("status") == "False"
            new = {
                "type": "PodScheduled",
                "status": "False",
                "reason": reason,
                "message": message,
                "lastProbeTime": None,
                "lastTransitionTime": (old or {}).get("lastTransitionTime") if same else now,
            }
            generation = metadata.get("generation")
            if generation:
                new["observedGeneration"] = generation
            patch["conditions"] = [new]
        if nominated is not None and nominated != (status.get("nominatedNodeName") or ""):
            patch["nominatedNodeName"] = nominated or None
        if patch:
            body = {"metadata": {"uid": metadata["uid"]}, "status": patch}
            await self._patch_status(metadata, body)

    async def preempt(self, pod: PodInfo, victim: PodInfo, node: str) -> None:
        """Mark a victim and delete it."""
        metadata = victim.obj["metadata"]
        mark = disruption_target(
            "PreemptionByScheduler",
            f"{self._name}: preempting to accommodate a higher priority pod",
            self._clock.wall(),
        )
        try:
            if not victim.terminating:
                await self._patch_status(
                    metadata, {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [mark]}}
                )
                options = DeleteOptions(uid=metadata["uid"])
                await self._client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
        except NotFound:
            return
        self._events.event(
            victim.obj, NORMAL, "Preempted", f"Preempted by pod {pod.obj['metadata']['uid']} on node {node}"
        )

    async def release(self, pod: Object, message: str) -> None:
        """Delete a pod whose gang did not become whole in time; its controller makes another."""
        metadata = pod["metadata"]
        mark = disruption_target("PreemptionByScheduler", f"{self._name}: {message}", self._clock.wall())
        await self._patch_status(metadata, {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [mark]}})
        options = DeleteOptions(uid=metadata["uid"])
        await self._client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
        self._events.event(pod, NORMAL, "Released", message)

    async def withdraw(self, pod: PodInfo) -> None:
        """Clear a less important pod's nomination."""
        if (pod.obj.get("status") or {}).get("nominatedNodeName"):
            await self._patch_status(pod.obj["metadata"], {"status": {"nominatedNodeName": None}})

    async def _patch_status(self, metadata: Object, body: Object) -> None:
        await self._client.patch(
            PODS, metadata["name"], body, metadata["namespace"], content_type=STRATEGIC_PATCH, subresource="status"
        )


def _binding(pod: PodInfo, node: str) -> Object:
    metadata = pod.obj["metadata"]
    target = {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]}
    if pod.devices:  # the API server gives the pod a binding's annotations
        target["annotations"] = {INDEX: index_of(pod.devices)}
    return {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": target,
        "target": {"kind": "Node", "name": node},
    }


def shortened(message: str) -> str:
    """Events take 1,024 characters."""
    return message if len(message) <= _MESSAGE_LIMIT else message[: _MESSAGE_LIMIT - 4] + " ..."
