"""Controllers that are killed at any moment, on a network that loses requests and answers, still come to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from scenario_cluster import ScenarioCluster, cluster

from atoll.base.chance import Chance
from atoll.base.errors import OutcomeUnknown, Unreachable
from atoll.client.port import Object, WatchEvent
from atoll.cluster.workloads.all import full_controllers
from atoll.kinds.builtin import (
    CONFIGMAPS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    JOBS,
    NAMESPACES,
    PODS,
    REPLICA_SETS,
    STATEFUL_SETS,
)
from atoll.objects.meta import controller_of
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import run_virtual

LOST = 0.05  # of all calls: half before they are carried out, half after


class Shaky:
    """A client that loses some requests and some answers, and breaks watches."""

    def __init__(self, inner: Any, chance: Chance) -> None:
        self._inner = inner
        self._chance = chance
        self.steady = False

    def __getattr__(self, verb: str) -> Any:
        call = getattr(self._inner, verb)

        async def shaky(*args: Any, **kwargs: Any) -> Any:
            draw = 1.0 if self.steady else self._chance.random()
            await asyncio.sleep(self._chance.uniform(0, 0.01))
            if draw < LOST / 2:
                raise Unreachable("lost on the way")
            answer = await call(*args, **kwargs)
            if draw < LOST:
                raise OutcomeUnknown("lost on the way back")
            return answer

        return shaky

    async def watch(self, *args: Any, **kwargs: Any) -> AsyncIterator[WatchEvent]:
        async for event in self._inner.watch(*args, **kwargs):
            await asyncio.sleep(self._chance.uniform(0, 0.02))
            if not self.steady and self._chance.random() < LOST:
                raise Unreachable("the watch broke")
            yield event


class Mortal:
    """All controllers, killed and started again every now and then."""

    def __init__(self, made: ScenarioCluster, chance: Chance) -> None:
        self._cluster = made
        self._chance = chance
        self._clients: list[Shaky] = []

    def _client(self, name: str) -> Any:
        client = Shaky(self._cluster.assembly.controller_client(name), self._chance.stream(name))
        self._clients.append(client)
        return client

    async def run(self, lives: int) -> None:
        for life in range(lives + 1):
            await self._live(life, self._chance.uniform(0.2, 6.0) if life < lives else None)

    async def _live(self, life: int, seconds: float | None) -> None:
        informers = Informers(self._client(f"informers-{life}"))
        chance = self._chance.stream(f"life-{life}")
        controllers = full_controllers(self._client, informers, self._cluster.clock, chance)
        tasks = [asyncio.get_running_loop().create_task(item.run()) for item in controllers]
        informers.start()
        try:
            if seconds is None:
                for client in self._clients:
                    client.steady = True
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await informers.stop()


def template(app: str, **notes: str) -> Object:
    spec: Object = {"containers": [{"name": "main", "image": "web:1"}]}
    if notes:
        spec["restartPolicy"] = "Never"
    annotations = {f"scenario/{name.replace('_', '-')}": text for name, text in notes.items()}
    return {"metadata": {"labels": {"app": app}, "annotations": annotations}, "spec": spec}


def workload(kind: str, name: str, **spec: Any) -> Object:
    version = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    if version == "apps/v1":
        spec["selector"] = {"matchLabels": {"app": name}}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


async def settled(made: ScenarioCluster) -> bool:
    client = made.client
    web = await client.get(DEPLOYMENTS, "web", "default")
    db = await client.get(STATEFUL_SETS, "db", "default")
    agent = await client.get(DAEMON_SETS, "agent", "default")
    work = await client.get(JOBS, "work", "default")
    status = web.get("status") or {}
    spaces = [item["metadata"]["name"] for item in (await client.list(NAMESPACES)).items]
    return (
        status.get("observedGeneration") == web["metadata"]["generation"]
        and [status.get(part) for part in ("replicas", "updatedReplicas", "availableReplicas")] == [7, 7, 7]
        and (db.get("status") or {}).get("updatedReplicas") == 3 == (db.get("status") or {}).get("availableReplicas")
        and (agent.get("status") or {}).get("updatedNumberScheduled") == 3
        and (work.get("status") or {}).get("succeeded") == 5
        and any(item["type"] == "Complete" for item in (work.get("status") or {}).get("conditions") or ())
        and "doomed" not in spaces
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_everything_settles(seed: int) -> None:
    async def main() -> None:
        async with cluster(seed, controllers=False) as made:
            client = made.client
            chance = Chance(seed, "faults")
            mortal = asyncio.get_running_loop().create_task(Mortal(made, chance).run(12))
            await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "doomed"}})
            await client.create(
                DEPLOYMENTS, workload("Deployment", "web", replicas=7, template=template("web")), "default"
            )
            await client.create(
                DEPLOYMENTS, workload("Deployment", "gone", replicas=3, template=template("gone")), "default"
            )
            held = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "in-it"}}
            await client.create(CONFIGMAPS, held, "doomed")
            db = workload("StatefulSet", "db", replicas=3, serviceName="db", template=template("db"))
            await client.create(STATEFUL_SETS, db, "default")
            await client.create(DAEMON_SETS, workload("DaemonSet", "agent", template=template("agent")), "default")
            job = workload("Job", "work", completions=5, parallelism=2, template=template("w", exit_code="0"))
            await client.create(JOBS, job, "default")
            await asyncio.sleep(15)
            for resource, name in ((DEPLOYMENTS, "web"), (STATEFUL_SETS, "db"), (DAEMON_SETS, "agent")):
                image = {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "web:2"}]}}}}
                await client.patch(resource, name, image, "default")
            await client.delete(DEPLOYMENTS, "gone", "default")
            await client.delete(NAMESPACES, "doomed")
            await made.until(lambda: settled(made), 400)
            await asyncio.sleep(30)
            assert await settled(made)
            await no_strays(made)
            mortal.cancel()
            await asyncio.gather(mortal, return_exceptions=True)

    run_virtual(main())


async def no_strays(made: ScenarioCluster) -> None:
    """Nothing is left over, and each set has exactly its pods."""
    pods = (await made.client.list(PODS)).items
    sets = {item["metadata"]["uid"] for item in (await made.client.list(REPLICA_SETS)).items}
    by_app: dict[str, int] = {}
    for pod in pods:
        owner = controller_of(pod)
        assert owner is not None
        assert owner["kind"] != "ReplicaSet" or owner["uid"] in sets
        app = pod["metadata"]["labels"]["app"]
        by_app[app] = by_app.get(app, 0) + 1
        assert "batch.kubernetes.io/job-tracking" not in (pod["metadata"].get("finalizers") or ())
    assert by_app.pop("w") >= 5
    assert by_app == {"web": 7, "db": 3, "agent": 3}
    assert (await made.client.list(CRON_JOBS)).items == []
