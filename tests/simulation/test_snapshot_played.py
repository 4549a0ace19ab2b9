"""A live cluster with teams, queues by namespace, claims and things that only it has: copied, and played to its end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.client.port import Client
from atoll.cluster.gpus.slices import device_classes
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import (
    CONFIGMAPS,
    CRON_JOBS,
    DEPLOYMENTS,
    DEVICE_CLASSES,
    JOBS,
    NAMESPACES,
    NODES,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_SLICES,
)
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.simulate.compare import simulate
from atoll.simulate.scenario.read import parse
from atoll.simulate.snapshot import take

Object = dict[str, Any]
TEAM = {"atoll.dev/team": "a"}
QUEUED = {"kueue.x-k8s.io/queue-name": "q"}


def node(name: str, **spec: Any) -> Object:
    labels = {
        "kubernetes.io/hostname": name, "kubernetes.io/arch": "arm64", "node.kubernetes.io/instance-type": "p5",
        "atoll.dev/pool": "h100", **TEAM,
    }  # fmt: skip
    taint = {"key": "atoll.dev/team", "value": "a", "effect": "NoSchedule"}
    amounts = {"cpu": "64", "memory": "512Gi", "pods": "110", "example.com/nic": "2"}
    ready = {"type": "Ready", "status": spec.pop("ready", "True")}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [taint], **spec},
        "status": {"allocatable": amounts, "capacity": amounts, "conditions": [ready]},
    }


def template(**more: Any) -> Object:
    """As teams write them: volumes, an account, a secret in the environment."""
    container = {
        "name": "main", "image": "i", "resources": {"requests": {"cpu": "8"}},
        "env": [{"name": "TOKEN", "value": "s3cret"}], "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = {"restartPolicy": "Never", "serviceAccountName": "trainer", "containers": [container], "volumes": volumes}
    selector = {"node.kubernetes.io/instance-type": "p5", "kubernetes.io/arch": "arm64"}
    spec |= {"nodeSelector": selector, "schedulerName": "gpu-scheduler"}
    return {"metadata": {"labels": TEAM}, "spec": {**spec, **more}}


def job(name: str, labels: Object | None = None, **more: Any) -> Object:
    spec = {"parallelism": 2, "completions": 2, "template": template(), **more}
    return {"metadata": {"name": name, "labels": {**TEAM, **(labels or {})}}, "spec": spec}


def gpu_slice(name: str) -> Object:
    product = {"type": {"string": "gpu"}, "productName": {"string": "NVIDIA H100 80GB HBM3"}}
    devices = [{"name": f"gpu-{number}", "attributes": product} for number in range(8)]
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.nvidia.com", "nodeName": name, "pool": pool, "devices": devices}
    return {"metadata": {"name": f"{name}-gpus"}, "spec": spec}


async def fill(client: Client, version: str) -> None:
    for name, labels in (("ml", {"kind": "research"}), ("atoll-system", {})):
        await client.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    for made in (node("a0"), node("a1"), node("a2", unschedulable=True), node("a3", ready="Unknown")):
        await client.create(NODES, made)
    for name in ("a0", "a1"):
        await client.create(RESOURCE_SLICES, gpu_slice(name))
    for made in device_classes():
        await client.create(DEVICE_CLASSES, made)
    text = "teams: [{name: a, selector: {atoll.dev/pool: h100}, amount: 2}]"
    await client.create(CONFIGMAPS, {"metadata": {"name": "atoll-teams"}, "data": {"teams.yaml": text}}, "atoll-system")
    exactly = {"deviceClassName": "gpu.nvidia.com", "count": 4}
    claim = {"spec": {"devices": {"requests": [{"name": "gpus", "exactly": exactly}]}}}
    await client.create(RESOURCE_CLAIM_TEMPLATES, {"metadata": {"name": "four"}, "spec": claim}, "ml")
    resources = [{"name": "cpu", "nominalQuota": 100}]
    groups = [{"coveredResources": ["cpu"], "flavors": [{"name": "p5", "resources": resources}]}]
    selector = {"matchLabels": {"kind": "research"}}
    queue = {"namespaceSelector": selector, "resourceGroups": groups}
    levels = [{"nodeLabel": "kubernetes.io/hostname"}]
    for kind, name, spec, space in (
        (kueue.TOPOLOGIES, "hosts", {"levels": levels}, None),
        (kueue.RESOURCE_FLAVORS, "p5", {"nodeLabels": {"node.kubernetes.io/instance-type": "p5"},
                                        "topologyName": "hosts"}, None),
        (kueue.CLUSTER_QUEUES, "q", queue, None),
        (kueue.LOCAL_QUEUES, "q", {"clusterQueue": "q"}, "ml"),
        (kueue.LOCAL_QUEUES, "lost", {"clusterQueue": "gone"}, "ml"),
    ):  # fmt: skip
        served = Resource(kind.group, version, kind.plural, kind.kind, kind.namespaced)
        made = {"apiVersion": served.api_version, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}
        await client.create(served, made, space)
    claims = {"resourceClaims": [{"name": "gpus", "resourceClaimTemplateName": "four"}]}
    claiming = template(**claims)
    claiming["spec"]["containers"][0]["resources"]["claims"] = [{"name": "gpus"}]
    for made in (
        job("queued", QUEUED, suspend=True), job("held", suspend=True), job("claims", template=claiming),
    ):  # fmt: skip
        await client.create(JOBS, made, "ml")
    alone = {"parallelism": 1, "completions": 1, "template": template()}
    part = {"name": "w", "replicas": 2, "template": {"spec": alone}}
    made = {"apiVersion": batch.JOB_SETS.api_version, "kind": "JobSet", "metadata": {"name": "set"}}
    await client.create(batch.JOB_SETS, {**made, "spec": {"replicatedJobs": [part]}}, "ml")
    serving = template(restartPolicy="Always")
    serving["metadata"]["labels"] = {**TEAM, "app": "s"}
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "s"}}, "template": serving}
    await client.create(DEPLOYMENTS, {"metadata": {"name": "s"}, "spec": spec}, "ml")
    cron = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template()}}}
    await client.create(CRON_JOBS, {"metadata": {"name": "c"}, "spec": cron}, "ml")


async def copied(version: str) -> tuple[str, list[str]]:
    """Of a cluster that serves Kueue's kinds in that version alone."""
    clock = LoopClock(asyncio.get_running_loop())
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(queueing=True, batch=True))
    kinds = [*kueue.custom_resource_definitions(), *batch.custom_resource_definitions()]
    for kind in kinds:
        if kind["spec"]["group"] == kueue.GROUP:
            for item in kind["spec"]["versions"]:
                item["served"] = item["name"] == version
    await bootstrap(assembly, kinds)
    client = assembly.client()
    await fill(client, version)
    return await take(client, "live", duration="1h", remaining_seconds=600)


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1"])
def test_a_live_cluster_with_all_that_it_has_is_played(version: str) -> None:
    text, left_out = run_virtual(copied(version))
    assert left_out == [
        "node a2: it is cordoned",
        "node a3: it is not ready",
        "LocalQueue ml/lost: there is no ClusterQueue gone to use",
        "example.com/nic of 4 nodes: nodes of a scenario do not have it",
        "1 cronjobs.batch: they are not played",
    ]
    assert "s3cret" not in text
    scenario = parse(text, "live.yaml")
    (pool,) = scenario.pools
    assert (pool.gpu, pool.gpus, pool.names, pool.taints) == ("h100-sxm5-80gb", 8, ("a0", "a1"), ())
    result = simulate(scenario, 1)
    finished = {row.subject for row in result.rows if row.event == "job-finished"}
    assert finished == {"queued", "claims", "set-w-0", "set-w-1"} and result.violations == []
    waiting = {row.subject: row.detail for row in result.rows if row.event == "job-waiting"}
    assert waiting.keys() == {"held"}, "its user holds it back"
    assert result.measures["lost"] == 0.0
