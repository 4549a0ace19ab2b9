"""HorizontalPodAutoscalers in virtual time: a whole cluster with simulated nodes whose pods declare what they use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.controllers import running_cluster
from atoll.app.fleetspec import ClusterSpec, NodeGroup
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.client.port import Client, Object
from atoll.cluster.metrics.serving import NODE_METRICS, POD_METRICS
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import DEPLOYMENTS, HORIZONTAL_POD_AUTOSCALERS, PODS
from atoll.objects.meta import condition
from atoll.runtime.virtual import LoopClock, run_virtual


@asynccontextmanager
async def cluster() -> AsyncIterator[tuple[Assembly, Client]]:
    clock = LoopClock(asyncio.get_running_loop())
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
    handler_of(assembly)
    await bootstrap(assembly)
    async with running_cluster(assembly, ClusterSpec("sim", simulated=(NodeGroup(3),))) as running:
        await running.nodes_ready(3)
        yield assembly, assembly.client()


def deployment(replicas: int, usage: str, request: str = "100m") -> Object:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": request}}}
    metadata = {"labels": {"app": "web"}, "annotations": {"kwok.x-k8s.io/usage-cpu": usage}}
    spec = {"containers": [container]}
    return {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": metadata, "spec": spec},
        },
    }


def autoscaler(most: int, **more: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": most, **more}
    return {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}


def cpu(percent: int) -> list[Object]:
    return [
        {
            "type": "Resource",
            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}},
        }
    ]


async def declare(client: Client, usage: str) -> None:
    """What every pod uses from now on."""
    for pod in (await client.list(PODS, "default")).items:
        body = {"metadata": {"annotations": {"kwok.x-k8s.io/usage-cpu": usage}}}
        await client.patch(PODS, pod["metadata"]["name"], body, "default")


async def replicas(client: Client) -> int:
    return int((await client.get(DEPLOYMENTS, "web", "default"))["spec"]["replicas"])


async def told(client: Client, kind: str) -> tuple[str, str]:
    found = condition(await client.get(HORIZONTAL_POD_AUTOSCALERS, "web", "default"), kind) or {}
    return found.get("status", ""), found.get("reason", "")


def test_up_with_the_load_and_down_after_the_window() -> None:
    async def main() -> None:
        async with cluster() as (_, client):
            await client.create(DEPLOYMENTS, deployment(2, "150m"))
            await asyncio.sleep(400)  # what starts is not measured by its CPU
            await client.create(HORIZONTAL_POD_AUTOSCALERS, autoscaler(5, metrics=cpu(50)))
            await asyncio.sleep(5)
            assert await replicas(client) == 4  # 150 % of 50 %: three times, at most the double
            assert await told(client, "ScalingLimited") == ("True", "ScaleUpLimit")
            await asyncio.sleep(400)
            assert await replicas(client) == 5
            assert await told(client, "ScalingLimited") == ("True", "TooManyReplicas")
            await declare(client, "10m")
            await asyncio.sleep(200)
            assert await replicas(client) == 5
            assert await told(client, "AbleToScale") == ("True", "ScaleDownStabilized")
            await asyncio.sleep(200)
            assert await replicas(client) == 1
            found = await client.get(HORIZONTAL_POD_AUTOSCALERS, "web", "default")
            assert found["status"]["currentMetrics"][0]["resource"]["current"] == {
                "averageUtilization": 10,
                "averageValue": "10m",
            }
            assert found["status"]["lastScaleTime"]
            assert await told(client, "ScalingActive") == ("True", "ValidMetricFound")

    run_virtual(main())


def test_policies_bound_the_speed() -> None:
    slowly = {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}], "stabilizationWindowSeconds": 0}

    async def main() -> None:
        async with cluster() as (_, client):
            await client.create(DEPLOYMENTS, deployment(2, "190m"))
            await asyncio.sleep(400)
            behaviour = {"scaleUp": slowly, "scaleDown": slowly}
            await client.create(HORIZONTAL_POD_AUTOSCALERS, autoscaler(9, metrics=cpu(50), behavior=behaviour))
            await asyncio.sleep(50)
            assert await replicas(client) == 3
            await asyncio.sleep(60)
            assert await replicas(client) == 4
            await declare(client, "1m")
            before = await replicas(client)
            await asyncio.sleep(400)
            assert await replicas(client) < before

    run_virtual(main())


def test_what_can_not_be_measured_or_scaled_is_told() -> None:
    async def main() -> None:
        async with cluster() as (_, client):
            bare = deployment(2, "50m")
            del bare["spec"]["template"]["spec"]["containers"][0]["resources"]
            await client.create(DEPLOYMENTS, bare)
            await client.create(HORIZONTAL_POD_AUTOSCALERS, autoscaler(5, metrics=cpu(50)))
            await asyncio.sleep(400)
            found = await client.get(HORIZONTAL_POD_AUTOSCALERS, "web", "default")
            active = condition(found, "ScalingActive") or {}
            assert (active["status"], active["reason"]) == ("False", "FailedGetResourceMetric")
            assert "missing request for cpu in container c of Pod web-" in active["message"]
            await client.delete(DEPLOYMENTS, "web", "default")
            await asyncio.sleep(40)
            assert await told(client, "AbleToScale") == ("False", "FailedGetScale")
            external = {
                "type": "External",
                "external": {"metric": {"name": "queue"}, "target": {"type": "Value", "value": "1"}},
            }
            await client.create(DEPLOYMENTS, deployment(2, "50m"))
            changed = {"spec": {"metrics": [external]}}
            await client.patch(HORIZONTAL_POD_AUTOSCALERS, "web", changed, "default")
            await asyncio.sleep(40)
            assert await told(client, "ScalingActive") == ("False", "FailedGetExternalMetric")

    run_virtual(main())


def test_usage_of_simulated_nodes_and_pods() -> None:
    async def main() -> None:
        async with cluster() as (_, client):
            await client.create(DEPLOYMENTS, deployment(3, "250m"))
            await asyncio.sleep(20)
            pods = (await client.list(POD_METRICS, "default", label_selector="app=web")).items
            used = {"name": "c", "usage": {"cpu": "250m", "memory": "1024Ki"}}
            assert [pod["containers"] for pod in pods] == [[used]] * 3
            assert all(pod["metadata"]["annotations"] == {"atoll.dev/simulated": "true"} for pod in pods)
            assert (await client.list(POD_METRICS, "default", label_selector="app=none")).items == []
            nodes = (await client.list(NODE_METRICS)).items
            assert sorted(node["usage"]["cpu"] for node in nodes) == ["250m", "250m", "250m"]
            answer = await client.raw("GET", "/apis/metrics.k8s.io/v1beta1")
            assert b"NodeMetrics" in answer.body
            assert b"metrics.k8s.io" in (await client.raw("GET", "/apis")).body

    run_virtual(main())
