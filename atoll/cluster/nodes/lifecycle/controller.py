"""kube-controller-manager's node lifecycle controller: heartbeats → conditions → taints.

A heartbeat is a renewed lease or a changed node status, as seen here (nobody's clock but ours). A lease marked
`atoll.dev/renewed-on-read` belongs to a healthy simulated node and never runs out. It acts on synced caches only,
and adds no NoExecute taint while every zone is down.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import NotFound
from atoll.client.port import MERGE_PATCH, STRATEGIC_PATCH, Client
from atoll.cluster.nodes.lifecycle import plan
from atoll.cluster.nodes.simulated.model import RENEWED_ON_READ
from atoll.kinds.builtin import LEASES, NODES, PODS
from atoll.objects.meta import condition, node_names
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING, EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]
NAME = "node-controller"
_PARALLEL_PODS = 32


@dataclass(frozen=True, slots=True)
class LifecycleOptions:
    """kube-controller-manager's --node-monitor-grace-period and --node-startup-grace-period."""

    grace_seconds: float = 50.0
    startup_grace_seconds: float = 60.0


@dataclass(slots=True)
class _Zone:
    nodes: dict[str, bool] = field(default_factory=dict)  # name -> ready
    next_eviction: float = 0.0


class NodeLifecycleController:
    """`run` works until cancelled."""

    name = NAME

    def __init__(
        self,
        client: Client,
        informers: Informers,
        clock: Clock,
        events: EventRecorder,
        options: LifecycleOptions | None = None,
    ) -> None:
        self._client = client
        self._clock = clock
        self._events = events
        self._options = options or LifecycleOptions()
        self._nodes = informers.of(NODES)
        self._leases = informers.of(LEASES, namespace="kube-node-lease")
        self._pods = informers.of(PODS)
        self._pods.add_index("node", node_names)
        self._heard: dict[str, float] = {}
        self._statuses: dict[str, Any] = {}
        self._ready: dict[str, str | None] = {}
        self._zones: dict[str, _Zone] = {}
        self._zone_of: dict[str, str] = {}
        self._controller: Controller[str] = Controller(
            "node-lifecycle", self.reconcile, workers=8, wait_for=(self._nodes, self._leases, self._pods)
        )

    async def run(self) -> None:
        for informer in (self._nodes, self._leases, self._pods):
            await informer.synced.wait()
        self._nodes.add_handler(self._on_node)
        self._leases.add_handler(self._on_lease)
        await self._controller.run()

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._forget((old or {})["metadata"]["name"])
            return
        name = new["metadata"]["name"]
        heartbeat = [
            (item.get("type"), item.get("status"), item.get("lastHeartbeatTime"))
            for item in (new.get("status") or {}).get("conditions") or ()
        ]
        if name not in self._heard or (heartbeat != self._statuses.get(name) and not _only_ours(new)):
            self._heard[name] = self._clock.monotonic()
        self._statuses[name] = heartbeat
        zone = plan.zone_of(new)
        if self._zone_of.get(name) != zone:
            self._leave_zone(name)
            self._zone_of[name] = zone
        if plan.EXCLUDE_DISRUPTION not in (new["metadata"].get("labels") or {}):
            self._zones.setdefault(zone, _Zone()).nodes[name] = plan.ready_status(new) == "True"
        self._controller.queue.add(name)

    def _on_lease(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        name = new["metadata"]["name"]
        before = ((old or {}).get("spec") or {}).get("renewTime")
        if old is None or before != (new.get("spec") or {}).get("renewTime"):
            self._heard[name] = self._clock.monotonic()
        node = self._nodes.get(name)
        if node is not None and (old is None or _renewed_on_read(old) != _renewed_on_read(new)):
            self._controller.queue.add(name)

    def _forget(self, name: str) -> None:
        self._leave_zone(name)
        for memory in (self._heard, self._statuses, self._ready, self._zone_of):
            memory.pop(name, None)

    def _leave_zone(self, name: str) -> None:
        zone = self._zones.get(self._zone_of.get(name, ""))
        if zone is not None:
            zone.nodes.pop(name, None)

    async def reconcile(self, name: str) -> float | None:
        """One look at a node; seconds until the next one."""
        node = self._nodes.get(name)
        if node is None:
            return None
        again = self._silence(node)
        if again <= 0:
            node = await self._mark_silent(node)
            again = math.inf  # the heartbeat that ends the silence is a change of the node
        ready = plan.ready_status(node)
        was = self._ready.get(name)
        self._ready[name] = ready
        zone = self._zones.get(self._zone_of.get(name, ""))
        if zone is not None and name in zone.nodes:
            zone.nodes[name] = ready == "True"
        wait = await self._taint(node, ready)
        if was == "True" and ready != "True":
            self._events.event(node, NORMAL, "NodeNotReady", f"Node {name} status is now: NodeNotReady")
        if ready not in (None, "True") and was in ("True", None):
            await self._pods_not_ready(name)
        again = again if wait is None else min(again, wait)
        return again if math.isfinite(again) else None

    def _silence(self, node: Object) -> float:
        """Seconds until the node counts as silent; 0 or less when it does."""
        name = node["metadata"]["name"]
        lease = self._leases.get(name, "kube-node-lease")
        if lease is not None and _renewed_on_read(lease):
            return float("inf") if plan.ready_status(node) is not None else self._options.startup_grace_seconds
        grace = self._options.grace_seconds
        if plan.ready_status(node) is None:
            grace = self._options.startup_grace_seconds
        return self._heard.get(name, self._clock.monotonic()) + grace - self._clock.monotonic()

    async def _mark_silent(self, node: Object) -> Object:
        changed = plan.silent_conditions(node, rfc3339(self._clock.wall()))
        if not changed:
            return node
        name = node["metadata"]["name"]
        body = {"status": {"conditions": changed}}
        return await self._client.patch(NODES, name, body, content_type=STRATEGIC_PATCH, subresource="status")

    async def _taint(self, node: Object, ready: str | None) -> float | None:
        """Bring the taints up to date; seconds until an eviction that has to wait its turn may be tried again."""
        wait: float | None = None
        evict = False
        if plan.wants_eviction(node, ready):
            wait = self._leave_to_evict(plan.zone_of(node))
            evict = wait is None
        taints = plan.wanted_taints(node, ready, evict, rfc3339(self._clock.wall()))
        if taints is not None:
            metadata = node["metadata"]
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"taints": taints or None}}
            try:
                await self._client.patch(NODES, metadata["name"], body, content_type=MERGE_PATCH)
            except NotFound:
                return None
        return wait

    def _leave_to_evict(self, name: str) -> float | None:
        """Take the zone's turn; otherwise seconds to wait."""
        zone = self._zones.setdefault(name, _Zone())
        ready = sum(zone.nodes.values())
        everywhere = not any(any(other.nodes.values()) for other in self._zones.values())
        rate = plan.eviction_rate(ready, len(zone.nodes) - ready, everywhere)
        if rate <= 0:
            return 5.0
        now = self._clock.monotonic()
        if now < zone.next_eviction:
            return zone.next_eviction - now
        zone.next_eviction = now + 1 / rate
        return None

    async def _pods_not_ready(self, name: str) -> None:
        """Pods of a node that is not ready serve nobody."""
        slots = asyncio.Semaphore(_PARALLEL_PODS)

        async def mark(pod: Object) -> None:
            ready = condition(pod, "Ready")
            if ready is None or ready.get("status") != "True":
                return
            metadata = pod["metadata"]
            new = {**ready, "status": "False", "lastTransitionTime": rfc3339(self._clock.wall())}
            async with slots:
                try:
                    await self._client.patch(
                        PODS,
                        metadata["name"],
                        {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [new]}},
                        metadata["namespace"],
                        content_type=STRATEGIC_PATCH,
                        subresource="status",
                    )
                except NotFound:
                    return
            self._events.event(pod, WARNING, "NodeNotReady", "Node is not ready")

        await asyncio.gather(*(mark(pod) for pod in self._pods.by_index("node", name)))


def _renewed_on_read(lease: Object) -> bool:
    return (lease["metadata"].get("annotations") or {}).get(RENEWED_ON_READ) == "true"


def _only_ours(node: Object) -> bool:
    """Whether the node's status is what this controller wrote: its own words are no heartbeat."""
    ready = condition(node, "Ready")
    return ready is not None and ready.get("reason") in ("NodeStatusUnknown", "NodeStatusNeverUpdated")
