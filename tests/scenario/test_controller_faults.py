"""A controller that ends by a fault: the health check tells it, all of its manager is made anew after a while, and what
was left undone is done."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.controllers import running_cluster
from atoll.app.fleetspec import ClusterSpec, NodeGroup
from atoll.base.chance import Chance
from atoll.client.port import Client, Object
from atoll.cluster.scheduler.scheduler import Scheduler
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.workloads.deployment.controller import DeploymentController
from atoll.kinds.builtin import DEPLOYMENTS, PODS
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.wire.messages import HttpRequest


class Faulty:
    """Patches `run` of a part: its first lives end by a fault, after `seconds`, before it has done anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, part: type, lives: int, seconds: float) -> None:
        self.lives: list[weakref.ref[object]] = []
        original = part.run

        async def run(instance: object) -> None:
            self.lives.append(weakref.ref(instance))
            if len(self.lives) <= lives:
                await asyncio.sleep(seconds)
                raise RuntimeError("planted")
            await original(instance)

        monkeypatch.setattr(part, "run", run)


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Assembly, Client]]:
    clock = LoopClock(asyncio.get_running_loop())
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
    await bootstrap(assembly)
    async with running_cluster(assembly, ClusterSpec("sim", simulated=(NodeGroup(2),))) as running:
        await running.nodes_ready(2)
        yield assembly, assembly.client()


def deployment() -> Object:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": template},
    }


def livez(assembly: Assembly) -> tuple[int, bytes]:
    answer = assembly.health.answer(HttpRequest("GET", "/livez/controllers", "", {}, b""))
    assert answer is not None
    return answer.status, answer.body


async def running(client: Client) -> int:
    pods = (await client.list(PODS, "default")).items
    return sum((pod.get("status") or {}).get("phase") == "Running" for pod in pods)


@pytest.mark.parametrize(("part", "name"), [(DeploymentController, b"controller-manager"), (Scheduler, b"scheduler")])
def test_what_fell_is_made_anew(monkeypatch: pytest.MonkeyPatch, part: type, name: bytes) -> None:
    monkeypatch.setattr(logging.getLogger("atoll"), "disabled", True)  # pytest keeps records, and what they hold
    faulty = Faulty(monkeypatch, part, lives=2, seconds=5.0)

    async def main() -> None:
        async with cluster() as (assembly, client):
            await client.create(DEPLOYMENTS, deployment(), "default")
            assert livez(assembly)[0] == 200
            await asyncio.sleep(5.5)  # it fell half a second ago, and waits one
            status, text = livez(assembly)
            assert status == 500 and b"down: " + name in text
            await asyncio.sleep(1.0)
            assert livez(assembly)[0] == 200
            await asyncio.sleep(5.5)  # once more: it waits two now
            assert livez(assembly)[0] == 500
            await asyncio.sleep(0.5)
            assert livez(assembly)[0] == 500
            assert await running(client) == 0
            await asyncio.sleep(30.0)
            assert livez(assembly)[0] == 200
            assert await running(client) == 3
            assert len(faulty.lives) == 3
            gc.collect()
            assert [life() is None for life in faulty.lives] == [True, True, False]  # nothing calls the dead ones

    run_virtual(main())
