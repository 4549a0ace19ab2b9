"""Pods that nothing will end: on nodes that are gone, deleted before they were placed, or ended and too many.

A pass looks at what changes have shown to need it (nodes missed, pods on their way out), not at all pods.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from atoll.base.clock import Clock
from atoll.base.errors import AtollError, NotFound
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common import conditions
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import NODES, PODS
from atoll.objects.meta import disruption_target, is_deleting, node_names
from atoll.runtime.informer import Informer

PERIOD_SECONDS = 20.0
QUARANTINE_SECONDS = 40.0
_OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_NODE, _STATE = "node", "collector"  # indices of the pods
_ENDED, _DELETED = "ended", "deleted"


def plan_ended(pods: list[Object], threshold: int) -> list[Object]:
    """The oldest ended pods beyond the threshold."""
    ended = [pod for pod in pods if health.is_finished(pod)]
    excess = len(ended) - threshold
    if threshold <= 0 or excess <= 0:
        return []
    return sorted(ended, key=lambda pod: (pod["metadata"].get("creationTimestamp") or "", pod["metadata"]["name"]))[
        :excess
    ]


class PodCollector:
    """A node is believed gone only after it was missing for forty seconds, and then asked for by name."""

    def __init__(self, context: Context) -> None:
        self.name = "pod-garbage-collector"
        self._client = context.client(self.name)
        self._clock: Clock = context.clock
        self._threshold = context.options.terminated_pod_threshold
        self._pods: Informer = context.informers.of(PODS)
        self._nodes: Informer = context.informers.of(NODES)
        self._absent: set[str] = set()  # nodes that pods name and the cache did not have when that was seen
        self._missing: dict[str, float] = {}
        self._pods.add_index(_NODE, node_names)
        self._pods.add_index(_STATE, _states)
        self._pods.add_handler(self._pod_changed)
        self._nodes.add_handler(self._node_changed)
        self._wake = asyncio.Event()

    async def run(self) -> None:
        await self._pods.synced.wait()
        await self._nodes.synced.wait()
        while True:
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            await self._pass()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod that is deleted before it was placed needs no kubelet to end it."""
        if new is None:
            return
        node = new["spec"].get("nodeName")
        if not node:
            if is_deleting(new):
                self._wake.set()
        elif self._nodes.get(node) is None:
            self._absent.add(node)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._absent.add(old["metadata"]["name"])

    async def _pass(self) -> None:
        now = self._clock.monotonic()
        self._absent = {
            name for name in self._absent if self._nodes.get(name) is None and self._pods.index_size(_NODE, name)
        }
        self._missing = {name: self._missing.get(name, now) for name in sorted(self._absent)}
        gone = [name for name, since in self._missing.items() if now - since >= QUARANTINE_SECONDS]
        for pod in self._excess():
            await self._remove(pod)
        for name in gone:
            if await self._is_gone(name):
                for pod in self._pods.by_index(_NODE, name):
                    await self._remove(pod, "PodGC: node no longer exists", "DeletionByPodGC")
        for pod in self._pods.by_index(_STATE, _DELETED):
            node = pod["spec"].get("nodeName")
            if not node:
                await self._remove(pod)
            elif self._is_out_of_service(node):
                await self._remove(pod, "PodGC: node is out of service", "DeletionByPodGC")

    def _excess(self) -> list[Object]:
        if self._pods.index_size(_STATE, _ENDED) <= self._threshold:
            return []
        return plan_ended(self._pods.by_index(_STATE, _ENDED), self._threshold)

    async def _is_gone(self, name: str) -> bool:
        try:
            await self._client.get(NODES, name)
        except NotFound:
            return True
        except AtollError:
            return False
        return False

    def _is_out_of_service(self, name: str) -> bool:
        node = self._nodes.get(name)
        taints = ((node or {}).get("spec") or {}).get("taints") or ()
        return node is not None and not _is_ready(node) and any(item["key"] == _OUT_OF_SERVICE for item in taints)

    async def _remove(self, pod: Object, message: str = "", reason: str = "") -> None:
        metadata = pod["metadata"]
        try:
            if message and not health.is_finished(pod):
                await self._mark(pod, message, reason)
            options = DeleteOptions(grace_period_seconds=0, uid=metadata["uid"])
            await self._client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
        except AtollError:
            return  # the next pass looks again

    async def _mark(self, pod: Object, message: str, reason: str) -> None:
        """As Failed, with the condition that says why it was disrupted."""
        status = pod.get("status") or {}
        made = disruption_target(reason, message, self._clock.wall())
        changed = {**status, "phase": "Failed", "conditions": conditions.with_condition(status.get("conditions"), made)}
        await self._client.update(PODS, {**pod, "status": changed}, subresource="status")


def _states(pod: Object) -> Iterator[str]:
    if health.is_finished(pod):
        yield _ENDED
    if is_deleting(pod):
        yield _DELETED


def _is_ready(node: Object) -> bool:
    return conditions.is_true((node.get("status") or {}).get("conditions"), "Ready")
