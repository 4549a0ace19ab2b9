"""The Node object and its Lease, kept as kubelet keeps them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from atoll.base.clock import rfc3339, rfc3339_micro
from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.base.names import PROCESS_LABEL
from atoll.client.port import STRATEGIC_PATCH
from atoll.cluster.nodes.process import machine
from atoll.cluster.nodes.process.model import NodeContext
from atoll.kinds.builtin import LEASES, NODES

Object = dict[str, Any]
log = logging.getLogger(__name__)
_LEASE_NAMESPACE = "kube-node-lease"
_RUNTIME = "process://0.11.0"
_STATUS_SECONDS = 300.0  # kubelet's nodeStatusReportFrequency
_CONDITIONS = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
)


class Registration:
    """`register` once, then `run` until cancelled."""

    def __init__(self, context: NodeContext, capacity: Mapping[str, str], port: int) -> None:
        self._context = context
        self._capacity = dict(capacity)
        self._port = port
        self._since: str | None = None
        self.node: Object = {}

    async def register(self) -> Object:
        """Create the Node, or take over the one that is there. Retried until the API answers."""
        failures = 0
        while True:
            try:
                self.node = await self._ensure()
                await self._write_status()
                return self.node
            except AtollError as error:
                log.info("node %s can't be registered yet: %s", self._context.name, error)
                await asyncio.sleep(min(0.2 * 2**failures, 7.0))
                failures += 1

    async def run(self) -> None:
        """Renew the lease at a quarter of its time, the status now and then."""
        lease_every = self._context.config.lease_seconds / 4
        next_status = self._context.clock.monotonic() + _STATUS_SECONDS
        while True:
            with suppress(AtollError):
                await self._renew()
            if self._context.clock.monotonic() >= next_status:
                with suppress(AtollError):
                    await self._write_status()
                next_status = self._context.clock.monotonic() + _STATUS_SECONDS
            await asyncio.sleep(lease_every)

    async def _ensure(self) -> Object:
        context, config = self._context, self._context.config
        labels = {
            "kubernetes.io/hostname": context.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": machine.architecture(),
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": machine.architecture(),
            PROCESS_LABEL: "true",
            **config.labels,
        }
        metadata: Object = {"name": context.name, "labels": labels}
        if config.annotations:
            metadata["annotations"] = dict(config.annotations)
        spec: Object = {"taints": [dict(item) for item in config.taints]} if config.taints else {}
        if config.pod_cidr:
            spec |= {"podCIDR": config.pod_cidr, "podCIDRs": [config.pod_cidr]}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": self._status()}
        try:
            return await context.client.create(NODES, node)
        except AlreadyExists:
            return await context.client.patch(NODES, context.name, {"metadata": metadata})

    def _status(self) -> Object:
        context = self._context
        now = rfc3339(context.clock.wall())
        self._since = self._since or now
        conditions = [
            {
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": now, "lastTransitionTime": self._since,
            }
            for kind, status, reason, message in _CONDITIONS
        ]  # fmt: skip
        return {
            "capacity": self._capacity,
            "allocatable": dict(context.allocatable),
            "conditions": conditions,
            "addresses": [
                {"type": "InternalIP", "address": context.config.address},
                {"type": "Hostname", "address": context.name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._port}},
            "nodeInfo": machine.node_info(_RUNTIME),
        }

    async def _write_status(self) -> None:
        await self._context.client.patch(
            NODES, self._context.name, {"status": self._status()}, content_type=STRATEGIC_PATCH, subresource="status"
        )

    async def _renew(self) -> None:
        context = self._context
        now = rfc3339_micro(context.clock.wall())
        spec = {
            "holderIdentity": context.name,
            "leaseDurationSeconds": context.config.lease_seconds,
            "renewTime": now,
        }
        try:
            await context.client.patch(LEASES, context.name, {"spec": spec}, _LEASE_NAMESPACE)
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": context.name, "uid": self.node["metadata"]["uid"]}
            metadata = {"name": context.name, "namespace": _LEASE_NAMESPACE, "ownerReferences": [owner]}
            lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
            await context.client.create(LEASES, lease, _LEASE_NAMESPACE)
