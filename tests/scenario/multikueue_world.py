"""A manager cluster and worker clusters of MultiKueue in virtual time, and what tests ask of them."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup

from atoll.base.errors import Unreachable
from atoll.kinds import kueue
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES, SECRETS

API = f"{kueue.GROUP}/{kueue.VERSION}"
CHECKED = {"admissionChecksStrategy": {"admissionChecks": [{"name": "check"}]}}


def condition(obj: Any, kind: str) -> Any:
    return next((it for it in (obj.get("status") or {}).get("conditions") or () if it["type"] == kind), {})


async def check(world: QueueingWorld, controller: str, kind: str, resource: Any, spec: Any) -> None:
    """An AdmissionCheck `check` with its configuration, for queue q of 4 cpus."""
    parameters = {"apiGroup": kueue.GROUP, "kind": kind, "name": "config"}
    body = {"controllerName": controller, "parameters": parameters}
    await world.client.create(resource, {"apiVersion": API, "kind": kind, "metadata": {"name": "config"}, "spec": spec})
    await world.apply(
        {"apiVersion": API, "kind": "AdmissionCheck", "metadata": {"name": "check"}, "spec": body},
        FLAVOR,
        *setup("q", 4, **CHECKED),
    )


class Broken:
    """A worker's client that does not answer while `down`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.down = False

    def __getattr__(self, name: str) -> Any:
        if self.down:
            raise Unreachable("the worker is down")
        return getattr(self._client, name)


@asynccontextmanager
async def clusters(
    quotas: dict[str, int], **options: str
) -> AsyncIterator[tuple[QueueingWorld, dict[str, QueueingWorld], dict[str, Broken]]]:
    """A manager, and two workers each with that many cpus for LocalQueue q. `options`: multiKueue of Kueue's own."""
    async with queueing_world(1) as one, queueing_world(2) as two, queueing_world(3) as manager:
        workers = dict(zip(quotas, (one, two), strict=True))
        clients = {name: Broken(world.client) for name, world in workers.items()}
        for name, world in workers.items():
            await world.apply(FLAVOR, *setup("q", quotas[name]))
        await manager.stop()
        manager.start(connect=lambda text: clients[text])
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        await manager.client.create(NAMESPACES, space)
        if options:
            lines = "".join(f"  {name}: {value}\n" for name, value in options.items())
            text = f"apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\nmultiKueue:\n{lines}"
            data = {"controller_manager_config.yaml": text}
            metadata = {"name": "kueue-manager-config"}
            settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
            await manager.client.create(CONFIGMAPS, settings, "kueue-system")
        for name in workers:
            data = {"kubeconfig": base64.b64encode(name.encode()).decode()}
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"{name}-secret"}, "data": data}
            await manager.client.create(SECRETS, secret, "kueue-system")
            source = {"kubeConfig": {"location": f"{name}-secret", "locationType": "Secret"}}
            cluster = {"apiVersion": API, "kind": "MultiKueueCluster", "metadata": {"name": name}}
            await manager.client.create(kueue.MULTIKUEUE_CLUSTERS, {**cluster, "spec": {"clusterSource": source}})
        config = {"clusters": list(workers)}
        await check(manager, kueue.MULTIKUEUE, "MultiKueueConfig", kueue.MULTIKUEUE_CONFIGS, config)
        await asyncio.sleep(5)
        yield manager, workers, clients


def far(name: str, **more: Any) -> Any:
    """A Job as its user writes it: admission says that MultiKueue manages it."""
    return job(name, "q", **more)


async def copies(world: QueueingWorld) -> int:
    return len((await world.client.list(kueue.WORKLOADS)).items)


def entry(workload: Any) -> Any:
    (found,) = workload["status"]["admissionChecks"]
    return found
