"""The admission checks that Kueue brings itself, in virtual time: capacity that is provisioned, clusters that work."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup

from atoll.base.errors import NotFound, Unreachable
from atoll.capacity.queueing.provisioning import PROVISIONING_REQUESTS
from atoll.kinds import kueue
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, JOBS, NAMESPACES, POD_TEMPLATES, PODS, SECRETS
from atoll.runtime.virtual import run_virtual

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


# -- provisioning


async def provisioning(world: QueueingWorld, **spec: Any) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
               "subresources": {"status": {}}}  # fmt: skip
    names = {"plural": "provisioningrequests", "kind": "ProvisioningRequest"}
    spec_ = {"group": "autoscaling.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
           "metadata": {"name": "provisioningrequests.autoscaling.x-k8s.io"},
           "spec": spec_}  # fmt: skip
    await world.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    config = {"provisioningClassName": "queued", "managedResources": ["cpu"], **spec}
    controller = "kueue.x-k8s.io/provisioning-request"
    await check(world, controller, "ProvisioningRequestConfig", kueue.PROVISIONING_CONFIGS, config)
    await asyncio.sleep(2)


async def asked(world: QueueingWorld) -> list[Any]:
    return (await world.client.list(PROVISIONING_REQUESTS)).items


async def answer(world: QueueingWorld, request: Any, kind: str, **status: Any) -> None:
    said = [{"type": kind, "status": "True", "reason": kind, "message": f"it is {kind}"}]
    name = request["metadata"]["name"]
    new = {**await world.client.get(PROVISIONING_REQUESTS, name, "default"), "status": {"conditions": said, **status}}
    await world.client.update(PROVISIONING_REQUESTS, new, subresource="status")
    await asyncio.sleep(8)


def play(main: Callable[[QueueingWorld], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


def test_capacity_that_is_there_lets_the_job_start_on_it() -> None:
    async def main(world: QueueingWorld) -> None:
        selector = [{"key": "pool", "valueFromProvisioningClassDetail": "poolName"}]
        await provisioning(world, parameters={"zone": "a"}, podSetUpdates={"nodeSelector": selector})
        await world.apply(job("train", "q", 1, 3, 60))
        await asyncio.sleep(8)
        assert await world.holding("QuotaReserved") == ["train"] and await world.holding("Admitted") == []
        (request,) = await asked(world)
        assert request["spec"]["parameters"] == {"zone": "a"} and request["spec"]["podSets"][0]["count"] == 3
        name = request["spec"]["podSets"][0]["podTemplateRef"]["name"]
        template = await world.client.get(POD_TEMPLATES, name, "default")
        assert template["template"]["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1"}
        await answer(world, request, "Provisioned", provisioningClassDetails={"poolName": "fresh"})
        assert await world.holding("Admitted") == ["train"]
        started = (await world.client.get(JOBS, "train", "default"))["spec"]["template"]
        assert started["spec"]["nodeSelector"]["pool"] == "fresh"
        notes = started["metadata"]["annotations"]
        assert notes["autoscaling.x-k8s.io/consume-provisioning-request"] == request["metadata"]["name"]
        await answer(world, request, "CapacityRevoked")
        await asyncio.sleep(10)
        assert (await world.workloads())["train"]["spec"]["active"] is False
        assert (await world.client.get(JOBS, "train", "default"))["spec"]["suspend"] is True

    play(main)


def test_a_failed_request_is_tried_again_later_and_given_up_in_the_end() -> None:
    async def main(world: QueueingWorld) -> None:
        await provisioning(world, retryStrategy={"backoffLimitCount": 1, "backoffBaseSeconds": 30})
        await world.apply(job("train", "q"))
        await asyncio.sleep(8)
        (first,) = await asked(world)
        await answer(world, first, "Failed")
        assert await world.holding("QuotaReserved") == [], "its quota is free while it waits"
        assert condition((await world.workloads())["train"], "Evicted")["reason"] == "AdmissionCheck"
        assert len(await asked(world)) == 1
        await asyncio.sleep(40)
        second = next(it for it in await asked(world) if it["metadata"]["name"] != first["metadata"]["name"])
        assert second["metadata"]["name"].endswith("-check-2")
        await answer(world, second, "Failed")
        await asyncio.sleep(5)
        assert (await world.workloads())["train"]["spec"]["active"] is False

    play(main)


def test_what_is_not_managed_needs_no_request() -> None:
    async def main(world: QueueingWorld) -> None:
        await provisioning(world, managedResources=["nvidia.com/gpu"])
        await world.apply(job("train", "q"))
        await asyncio.sleep(8)
        assert await world.holding("Admitted") == ["train"] and await asked(world) == []

    play(main)


# -- MultiKueue


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
    quotas: dict[str, int],
) -> AsyncIterator[tuple[QueueingWorld, dict[str, QueueingWorld], dict[str, Broken]]]:
    """A manager, and workers each with that many cpus for LocalQueue q."""
    async with queueing_world(1) as one, queueing_world(2) as two, queueing_world(3) as manager:
        workers = dict(zip(quotas, (one, two), strict=True))
        clients = {name: Broken(world.client) for name, world in workers.items()}
        for name, world in workers.items():
            await world.apply(FLAVOR, *setup("q", quotas[name]))
        await manager.stop()
        manager.start(connect=lambda text: clients[text])
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        await manager.client.create(NAMESPACES, space)
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
    made = job(name, "q", **more)
    made["spec"]["managedBy"] = kueue.MULTIKUEUE
    return made


async def copies(world: QueueingWorld) -> int:
    return len((await world.client.list(kueue.WORKLOADS)).items)


@pytest.mark.parametrize("room", ["east", "west"])
def test_the_worker_with_quota_runs_the_job_and_its_status_comes_back(room: str) -> None:
    async def main() -> None:
        async with clusters({"east": 4 * (room == "east"), "west": 4 * (room == "west")}) as (manager, workers, _):
            active = condition(await manager.client.get(kueue.ADMISSION_CHECKS, "check"), "Active")
            assert active["status"] == "True"
            await manager.apply(far("train", cpu=2, seconds=20))
            await asyncio.sleep(12)
            (workload,) = (await manager.workloads()).values()
            assert workload["status"]["clusterName"] == room
            assert await manager.holding("Admitted") == ["train"]
            other = next(world for name, world in workers.items() if name != room)
            assert (await copies(workers[room]), await copies(other)) == (1, 0)
            there = await workers[room].client.get(JOBS, "train", "default")
            assert "managedBy" not in there["spec"] and there["spec"]["suspend"] is False
            assert (await manager.client.list(PODS)).items == []
            here = await manager.client.get(JOBS, "train", "default")
            assert here["status"]["active"] == 1
            await asyncio.sleep(40)
            assert await manager.holding("Finished") == ["train"]
            here = await manager.client.get(JOBS, "train", "default")
            assert condition(here, "Complete")["status"] == "True"
            assert await copies(workers[room]) == 0
            with pytest.raises(NotFound):
                await workers[room].client.get(JOBS, "train", "default")

    run_virtual(main())


def test_a_job_that_is_taken_back_leaves_nothing_on_the_workers() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 4}) as (manager, workers, _):
            await manager.apply(far("train", cpu=2, seconds=600))
            await asyncio.sleep(12)
            workload = (await manager.workloads())["train"]
            await manager.client.update(kueue.WORKLOADS, {**workload, "spec": {**workload["spec"], "active": False}})
            await asyncio.sleep(15)
            assert [await copies(world) for world in workers.values()] == [0, 0]
            assert await manager.holding("QuotaReserved") == []
            assert (await workers["east"].client.list(PODS)).items == []

    run_virtual(main())


def test_a_worker_that_does_not_answer_keeps_its_job_until_it_is_given_up() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 4}) as (manager, workers, clients):
            await manager.apply(far("train", cpu=2, seconds=5000))
            await asyncio.sleep(12)
            assert (await manager.workloads())["train"]["status"]["clusterName"] == "east"
            clients["east"].down = True
            await asyncio.sleep(300)
            cluster = await manager.client.get(kueue.MULTIKUEUE_CLUSTERS, "east")
            assert condition(cluster, "Active")["reason"] == "ClientConnectionFailed"
            assert (await manager.workloads())["train"]["status"]["clusterName"] == "east"
            await asyncio.sleep(700)
            assert (await manager.workloads())["train"]["status"]["clusterName"] == "west"
            clients["east"].down = False
            await asyncio.sleep(30)
            assert [await copies(workers["east"]), await copies(workers["west"])] == [0, 1]

    run_virtual(main())


async def pods_made(world: QueueingWorld, seen: set[str]) -> None:
    async for event in world.client.watch(PODS, resource_version="0"):
        seen.add(event.object["metadata"]["uid"])


@pytest.mark.parametrize("part", range(12))
def test_a_manager_that_is_killed_takes_up_and_nothing_runs_twice(part: int) -> None:
    """Its controllers are killed after a part of the way, at one turn of the loop, and started again."""
    seen: set[str] = set()

    async def main() -> None:
        async with clusters({"east": 4, "west": 4}) as (manager, workers, clients):
            watching = [asyncio.ensure_future(pods_made(world, seen)) for world in workers.values()]
            loop: Any = asyncio.get_running_loop()
            turns = 0

            def turn() -> None:
                nonlocal turns
                turns += 1
                if turns == 3 + 29 * part:
                    manager.kill()
                    loop.call_later(0.05, lambda: manager.start(connect=lambda text: clients[text]))

            loop.on_turn = turn
            await manager.apply(far("train", cpu=2, seconds=20))
            await asyncio.sleep(90)
            loop.on_turn = None
            assert turns > 3 + 29 * part, "it was killed"
            assert await manager.holding("Finished") == ["train"]
            assert len(seen) == 1, "one pod, on one worker"
            assert [await copies(world) for world in workers.values()] == [0, 0]
            for task in watching:
                task.cancel()

    run_virtual(main())
