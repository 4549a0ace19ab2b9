"""More of Kueue in virtual time: topology, the visibility API, jobs that name no queue, finalizers, metrics."""

from __future__ import annotations

import asyncio
from typing import Any

from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup

from atoll.app.queue_visibility import serve_visibility
from atoll.base.errors import NotFound
from atoll.base.metrics import Metrics
from atoll.kinds import kueue
from atoll.kinds.builtin import CONFIGMAPS, EVENTS, JOBS, NAMESPACES, NODES, PODS
from atoll.kinds.resource import Resource
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

RACK, HOST = "cloud.provider.com/topology-rack", "kubernetes.io/hostname"
API = f"{kueue.GROUP}/{kueue.VERSION}"


def play(main: Any) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


async def racks(world: QueueingWorld) -> None:
    """Two racks of two hosts with 4 cpus each, a flavour and a queue that are placed by them."""
    for number in range(4):
        labels = {RACK: f"rack-{number // 2}", HOST: f"host-{number}", "pool": "gpu"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"host-{number}", "labels": labels}}
        made = await world.client.create(NODES, node)
        status = {"allocatable": {"cpu": "4", "pods": "20"}, "capacity": {"cpu": "4", "pods": "20"},
                  "conditions": [{"type": "Ready", "status": "True"}]}  # fmt: skip
        made = await world.client.update(NODES, {**made, "spec": {}})
        await world.client.update(NODES, {**made, "status": status}, subresource="status")
    levels = [{"nodeLabel": RACK}, {"nodeLabel": HOST}]
    topology = {"apiVersion": API, "kind": "Topology", "metadata": {"name": "racks"}, "spec": {"levels": levels}}
    await world.client.create(kueue.TOPOLOGIES, topology)
    flavor = {**FLAVOR, "spec": {"nodeLabels": {"pool": "gpu"}, "topologyName": "racks"}}
    await world.apply(flavor, *setup("q", 100))


def asking(name: str, pods: int, cpu: int, annotation: str, level: str, **more: Any) -> Any:
    """An Indexed Job whose pods ask for a topology."""
    made = job(name, "q", cpu, pods, **more)
    made["spec"]["completionMode"] = "Indexed"
    made["spec"]["template"]["metadata"]["annotations"][annotation] = level
    return made


async def places(world: QueueingWorld, name: str) -> dict[str, str]:
    """Of the Job's pods, by rank."""
    pods = (await world.client.list(PODS, label_selector=f"job-name={name}")).items
    index = "batch.kubernetes.io/job-completion-index"
    return {pod["metadata"]["labels"][index]: pod["spec"].get("nodeSelector", {}).get(HOST, "") for pod in pods}


def test_a_required_rack_is_kept_and_ranks_follow_the_hosts() -> None:
    async def main(world: QueueingWorld) -> None:
        await racks(world)
        await world.apply(asking("a", 6, 1, kueue.REQUIRED_TOPOLOGY, RACK, seconds=30))
        await asyncio.sleep(5)
        assert await places(world, "a") == dict(zip("012345", ["host-0"] * 4 + ["host-1"] * 2, strict=True))
        (workload,) = (await world.client.list(kueue.WORKLOADS)).items
        (assigned,) = workload["status"]["admission"]["podSetAssignments"]
        assert assigned["topologyAssignment"]["levels"] == [HOST], "a host is known by its name"
        await world.apply(asking("b", 8, 1, kueue.REQUIRED_TOPOLOGY, RACK, seconds=30))
        await asyncio.sleep(5)
        assert set((await places(world, "b")).values()) == {"host-2", "host-3"}
        await world.apply(asking("c", 3, 1, kueue.REQUIRED_TOPOLOGY, RACK))
        await asyncio.sleep(5)
        assert "c" not in await world.holding("Admitted")
        said = (await world.workloads())["c"]["status"]["conditions"][0]["message"]
        assert said == 'topology "racks" allows to fit only 2 out of 3 pod(s)'
        await asyncio.sleep(60)
        assert await world.holding("Finished") == ["a", "b", "c"]

    play(main)


def test_nodes_that_come_let_those_in_that_wait_for_them() -> None:
    async def main(world: QueueingWorld) -> None:
        await racks(world)
        node = await world.client.get(NODES, "host-3")
        await world.client.update(NODES, {**node, "spec": {"unschedulable": True}})
        await world.apply(asking("a", 16, 1, kueue.UNCONSTRAINED_TOPOLOGY, "true"))
        await asyncio.sleep(5)
        assert await world.holding("Admitted") == []
        node = await world.client.get(NODES, "host-3")
        await world.client.update(NODES, {**node, "spec": {}})
        await asyncio.sleep(3)
        assert await world.holding("Admitted") == ["a"]

    play(main)


def test_an_evicted_job_loses_its_place_and_its_gate() -> None:
    async def main(world: QueueingWorld) -> None:
        await racks(world)
        await world.apply(asking("a", 2, 1, kueue.PREFERRED_TOPOLOGY, HOST, seconds=60))
        await asyncio.sleep(5)
        template = (await world.client.get(JOBS, "a", "default"))["spec"]["template"]
        assert template["spec"]["schedulingGates"] == [{"name": kueue.TOPOLOGY_GATE}]
        workload = (await world.workloads())["a"]
        await world.client.update(kueue.WORKLOADS, {**workload, "spec": {**workload["spec"], "active": False}})
        await asyncio.sleep(10)
        template = (await world.client.get(JOBS, "a", "default"))["spec"]["template"]
        assert "schedulingGates" not in template["spec"]
        assert kueue.TOPOLOGY_LABEL not in template["metadata"].get("labels", {})

    play(main)


def test_who_waits_is_listed_in_order() -> None:
    async def main(world: QueueingWorld) -> None:
        assert world.queueing is not None
        serve_visibility(world.cluster.api, world.queueing.queues)
        await world.apply(FLAVOR, *setup("a", 2))
        await world.apply(job("runs", "a", 2, seconds=60))
        await asyncio.sleep(2)
        await world.apply(job("first", "a", 2))
        await asyncio.sleep(2)
        await world.apply(job("second", "a", 2))
        await asyncio.sleep(2)
        group = "visibility.kueue.x-k8s.io"
        queues = Resource(group, "v1beta1", "clusterqueues", "ClusterQueue", False)
        found = await world.client.get(queues, "a", subresource="pendingworkloads")
        assert found["kind"] == "PendingWorkloadsSummary"
        owners = [item["metadata"]["ownerReferences"][0]["name"] for item in found["items"]]
        assert owners == ["first", "second"]
        assert [item["positionInClusterQueue"] for item in found["items"]] == [0, 1]
        assert "2 more needed" in found["items"][0]["metadata"]["annotations"]["atoll.dev/why"]
        path = f"/apis/{group}/v1beta2/namespaces/default/localqueues/a/pendingworkloads"
        answer = await world.client.raw("GET", path, query="offset=1&limit=5")
        assert answer.status == 200 and b'"positionInLocalQueue":1' in answer.body and b"-first-" not in answer.body
        assert (await world.client.raw("GET", path, query="limit=many")).status == 400
        for missing in (queues, Resource(group, "v1beta2", "localqueues", "LocalQueue")):
            try:
                await world.client.get(missing, "none", "default", subresource="pendingworkloads")
            except NotFound:
                continue
            raise AssertionError(missing)

    play(main)


def test_those_behind_others_are_told_why_they_wait_some_a_second() -> None:
    """The first after two seconds; a hundred and fifty behind it after a minute, over three seconds."""

    def workload(number: int) -> Any:
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "2"}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        spec = {"queueName": "a", "podSets": [{"name": "main", "count": 1, "template": template}]}
        return {"apiVersion": API, "kind": "Workload", "metadata": {"name": f"w-{number}"}, "spec": spec}

    async def main(world: QueueingWorld) -> None:
        async def told() -> int:
            items = (await world.client.list(kueue.WORKLOADS)).items
            return sum((condition(item, "QuotaReserved") or {}).get("status") == "False" for item in items)

        await world.apply(FLAVOR, *setup("a", 3))
        await world.apply(*(workload(number) for number in range(152)))  # one runs
        await asyncio.sleep(3)
        assert await told() == 1
        seen = []
        for seconds in (56, 2, 1, 1, 2):
            await asyncio.sleep(seconds)
            seen.append(await told())
        assert seen[0] == 1 and 20 < seen[1] < 110 and seen[1] < seen[2] < 151 and seen[4] == 151, seen

    play(main)


def test_jobs_that_name_no_queue_wait_where_they_are_managed() -> None:
    async def main(world: QueueingWorld) -> None:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kueue-system"}}
        await world.client.create(NAMESPACES, space)
        text = "apiVersion: config.kueue.x-k8s.io/v1beta2\nkind: Configuration\nmanageJobsWithoutQueueName: true\n"
        data = {"controller_manager_config.yaml": text}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kueue-manager-config"}, "data": data}
        await world.client.create(CONFIGMAPS, config, "kueue-system")
        await world.apply(FLAVOR, *setup("a", 2))
        nameless = job("nameless", "a")
        nameless["metadata"]["labels"] = {}
        (made,) = await world.apply(nameless)
        assert made["spec"]["suspend"] is True
        await asyncio.sleep(5)
        said = (await world.workloads())["nameless"]["status"]["conditions"][0]["message"]
        assert "names no LocalQueue" in said
        found = await world.client.get(JOBS, "nameless", "default")
        labels = {kueue.QUEUE_LABEL: "a"}
        await world.client.update(JOBS, {**found, "metadata": {**found["metadata"], "labels": labels}})
        await asyncio.sleep(5)
        assert await world.holding("Admitted") == ["nameless"]

    play(main)


def test_the_namespaces_default_queue_takes_jobs_that_name_none() -> None:
    async def main(world: QueueingWorld) -> None:
        local = {"apiVersion": API, "kind": "LocalQueue", "metadata": {"name": "default"}}
        await world.apply(FLAVOR, *setup("a", 2), {**local, "spec": {"clusterQueue": "a"}})
        nameless = job("nameless", "a")
        nameless["metadata"]["labels"] = {}
        (made,) = await world.apply(nameless)
        assert made["metadata"]["labels"][kueue.QUEUE_LABEL] == "default" and made["spec"]["suspend"] is True
        await asyncio.sleep(3)
        assert await world.holding("Admitted") == ["nameless"]

    play(main)


def test_what_is_in_use_is_not_deleted() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("a", 2))
        await world.apply(job("runs", "a", 2, seconds=20))
        await asyncio.sleep(3)
        await world.client.delete(kueue.CLUSTER_QUEUES, "a")
        await world.client.delete(kueue.RESOURCE_FLAVORS, "default-flavor")
        await world.apply(job("late", "a", 1))
        await asyncio.sleep(5)
        queue = await world.client.get(kueue.CLUSTER_QUEUES, "a")
        assert queue["metadata"]["finalizers"] == [kueue.FINALIZER]
        active = next(it for it in queue["status"]["conditions"] if it["type"] == "Active")
        assert (active["status"], active["reason"]) == ("False", "Terminating")
        await asyncio.sleep(60)
        assert await world.holding("Finished") == ["runs"]
        assert await world.holding("Admitted") == ["runs"], "a queue that goes admits nobody"
        for resource, name in ((kueue.CLUSTER_QUEUES, "a"), (kueue.RESOURCE_FLAVORS, "default-flavor")):
            try:
                await world.client.get(resource, name)
            except NotFound:
                continue
            raise AssertionError(name)

    play(main)


def test_what_happens_is_counted_under_kueues_names() -> None:
    async def main(world: QueueingWorld) -> None:
        metrics = Metrics()
        await world.stop()
        world.start(metrics)
        await world.apply(FLAVOR, *setup("a", 2), *setup("b", 2))
        await world.apply(job("one", "a", 2, seconds=20), job("two", "a", 1))
        await asyncio.sleep(3)
        text = metrics.text()
        for line in (
            'kueue_admitted_workloads_total{cluster_queue="a"} 1',
            'kueue_pending_workloads{cluster_queue="a",status="inadmissible"} 1',
            'kueue_pending_workloads{cluster_queue="a",status="active"} 0',
            'kueue_admission_wait_time_seconds_count{cluster_queue="a"} 1',
            'kueue_cluster_queue_status{cluster_queue="b",status="active"} 1',
            'kueue_local_queue_pending_workloads{name="a",namespace="default",status="inadmissible"} 1',
            'kueue_local_queue_admitted_active_workloads{name="a",namespace="default"} 1',
            'kueue_local_queue_quota_reserved_workloads_total{name="a",namespace="default"} 1',
            'kueue_local_queue_admission_wait_time_seconds_count{name="a",namespace="default"} 1',
            'kueue_local_queue_status{active="True",name="b",namespace="default"} 1',
            'kueue_local_queue_resource_usage{flavor="default-flavor",name="a",namespace="default",resource="cpu"} 2',
            'kueue_cluster_queue_resource_usage{cluster_queue="a",cohort="",flavor="default-flavor",resource="cpu"} 2',
            'kueue_cluster_queue_nominal_quota{cluster_queue="b",cohort="",flavor="default-flavor",resource="cpu"} 2',
        ):
            assert line in text, line

    play(main)


def test_a_job_waits_for_the_priority_class_that_it_names_and_keeps_what_it_had_of_one_that_goes() -> None:
    async def main(world: QueueingWorld) -> None:
        named = job("named", "q", 4, **{kueue.PRIORITY_CLASS_LABEL: "high"})
        await world.apply(FLAVOR, *setup("q", 4), job("first", "q", 4, seconds=200), named)
        await asyncio.sleep(30)
        assert list(await world.workloads()) == ["first"], "it would have had priority 0"
        said = [event["message"] for event in (await world.client.list(EVENTS, "default")).items]
        assert "there is no WorkloadPriorityClass 'high': create it, or name another" in said
        high = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": "high"}, "value": 9}
        await world.apply(high)
        await asyncio.sleep(70)
        assert (await world.workloads())["named"]["spec"]["priority"] == 9
        await world.client.delete(kueue.WORKLOAD_PRIORITY_CLASSES, "high")
        await asyncio.sleep(130)
        assert (await world.workloads())["named"]["spec"]["priority"] == 9
        assert "named" in await world.holding("Finished")

    play(main)
