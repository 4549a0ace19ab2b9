"""Heartbeats of simulated nodes: one write when a node's health changes, none while it stays as it is.

A healthy node's lease carries the annotation `atoll.dev/renewed-on-read`: whoever reads it through an API server
with the `LeaseOverlay` sees a fresh renewTime, and the node lifecycle controller takes it for renewed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from atoll.base.backoff import Backoff
from atoll.base.clock import Clock, rfc3339_micro
from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.client.port import Client
from atoll.cluster.nodes.simulated.model import RENEWED_ON_READ
from atoll.kinds.builtin import LEASES
from atoll.runtime.queue import WorkQueue

Object = dict[str, Any]
NAMESPACE = "kube-node-lease"
DURATION_SECONDS = 40
_WORKERS = 8


class LeaseKeeper:
    """Brings each simulated node's lease to the state that its health asks for."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._wanted: dict[str, tuple[Object, bool]] = {}  # node name -> (node, healthy)
        self._written: dict[str, bool] = {}
        self._queue: WorkQueue[str] = WorkQueue(Backoff(first_seconds=0.5, most_seconds=30.0))

    def keep(self, node: Object) -> None:
        self._want(node, True)

    def stop(self, node: Object) -> None:
        self._want(node, False)

    def drop(self, name: str, *, gone: bool) -> None:
        """The node is no longer ours; where it is gone, so is its lease, by its owner reference."""
        self._wanted.pop(name, None)
        self._written.pop(name, None)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(_WORKERS):
                group.create_task(self._work(), name=f"simulated-leases-{number}")

    def _want(self, node: Object, healthy: bool) -> None:
        name = node["metadata"]["name"]
        self._wanted[name] = (node, healthy)
        if self._written.get(name) is not healthy:
            self._queue.add(name)

    async def _work(self) -> None:
        while True:
            name = await self._queue.get()
            try:
                await self._bring(name)
                self._queue.forget(name)
            except AtollError:
                self._queue.add_rate_limited(name)
            finally:
                self._queue.done(name)

    async def _bring(self, name: str) -> None:
        wanted = self._wanted.get(name)
        if wanted is None or self._written.get(name) is wanted[1]:
            return
        node, healthy = wanted
        now = rfc3339_micro(self._clock.wall())
        spec = {"holderIdentity": name, "leaseDurationSeconds": DURATION_SECONDS, "renewTime": now}
        mark = "true" if healthy else None
        patch = {"metadata": {"annotations": {RENEWED_ON_READ: mark}}, "spec": spec}
        try:
            await self._client.patch(LEASES, name, patch, NAMESPACE)
        except NotFound:
            lease = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "annotations": {RENEWED_ON_READ: mark} if mark else {},
                    "ownerReferences": [
                        {"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"].get("uid")}
                    ],
                },
                "spec": spec,
            }
            try:
                await self._client.create(LEASES, lease, NAMESPACE)
            except AlreadyExists:
                await self._client.patch(LEASES, name, patch, NAMESPACE)
        self._written[name] = healthy


def refreshed(lease: Object, now: Callable[[], float]) -> Object | None:
    """The lease as a reader is to see it; None when it is to be seen as it is."""
    annotations = lease["metadata"].get("annotations") or {}
    if annotations.get(RENEWED_ON_READ) != "true":
        return None
    return {**lease, "spec": {**lease["spec"], "renewTime": rfc3339_micro(now())}}
