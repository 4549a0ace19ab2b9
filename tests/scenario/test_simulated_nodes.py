"""Simulated nodes: what their pods go through, what happens when they fall silent, Stage objects of the user's own."""

from __future__ import annotations

import asyncio

from scheduling_world import world

from atoll.base.clock import parse_rfc3339
from atoll.cluster.nodes.simulated.definition import stage_definition
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.nodes.simulated.sources import STAGES
from atoll.kinds.builtin import CONFIGMAPS, CUSTOM_RESOURCE_DEFINITIONS, LEASES, NODES, PODS
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

ONE = SimulatedGroup(1, "sim", resources={"nvidia.com/gpu": "8"}, region="r")
TWO = SimulatedGroup(2, "sim")

STAGE_CRD = stage_definition()

COPY = """
apiVersion: v1
kind: ConfigMap
metadata: {name: "{{ .metadata.name }}-copy"}
data: {state: copy}
"""


def stage(name, kind, selector, **spec):
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": selector, **spec},
    }


def taints(node):
    return {(taint["key"].rpartition("/")[2], taint["effect"]) for taint in node["spec"].get("taints") or ()}


def test_nodes_are_shown_as_simulated_and_carry_what_was_asked_for():
    async def main():
        async with world(ONE) as cluster:
            node = await cluster.node("sim-0")
            assert node["metadata"]["labels"]["atoll.dev/simulated"] == "true"
            assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
            assert node["status"]["nodeInfo"]["kubeletVersion"].endswith("-simulated")
            assert condition(node, "Ready")["status"] == "True"
            lease = await cluster.client.get(LEASES, "sim-0", "kube-node-lease")
            assert lease["metadata"]["annotations"]["atoll.dev/renewed-on-read"] == "true"

    run_virtual(main())


def test_a_healthy_node_needs_no_writes():
    async def main():
        async with world(TWO) as cluster:
            await asyncio.sleep(60)
            before = cluster.assembly.store.version
            await asyncio.sleep(3600)
            assert cluster.assembly.store.version == before
            lease = await cluster.client.get(LEASES, "sim-0", "kube-node-lease")
            assert cluster.clock.wall() - parse_rfc3339(lease["spec"]["renewTime"]) < 1
            assert condition(await cluster.node("sim-0"), "Ready")["status"] == "True"

    run_virtual(main())


def test_jobs_pods_succeed_after_their_time_and_deleted_pods_go():
    async def main():
        async with world(ONE) as cluster:
            job = {"ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "x"}]}
            container = {"name": "c", "image": "i"}
            pod = {"metadata": {"name": "p", "annotations": {"atoll.dev/run-seconds": "30"}, **job}}
            await cluster.client.create(PODS, {**pod, "spec": {"containers": [container]}}, "default")
            running = await cluster.phase("p", "Running")
            since = cluster.clock.monotonic()
            done = await cluster.phase("p", "Succeeded")
            assert 29 <= cluster.clock.monotonic() - since <= 31
            assert done["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
            assert done["status"]["podIP"] == running["status"]["podIP"]
            await cluster.pod("q")
            await cluster.phase("q", "Running")
            await cluster.client.delete(PODS, "q", "default")

            async def gone():
                return len((await cluster.client.list(PODS, "default")).items) == 1

            await cluster.until(gone)

    run_virtual(main())


def test_a_silent_node_becomes_unknown_is_tainted_and_loses_its_pods():
    async def main():
        async with world(TWO) as cluster:
            await cluster.pod("p", spec={"nodeSelector": {"kubernetes.io/hostname": "sim-0"}})
            await cluster.phase("p", "Running")
            since = cluster.clock.monotonic()
            await cluster.simulated.stop_heartbeats("sim-0")

            async def unknown():
                node = await cluster.node("sim-0")
                return condition(node, "Ready")["status"] == "Unknown" and taints(node) and node

            node = await cluster.until(unknown)
            assert 49 <= cluster.clock.monotonic() - since <= 56
            assert condition(node, "Ready")["reason"] == "NodeStatusUnknown"
            assert taints(node) == {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}

            async def not_ready():
                return condition(await cluster.get("p"), "Ready")["status"] == "False"

            await cluster.until(not_ready)

            async def evicted():
                return "deletionTimestamp" in (await cluster.get("p"))["metadata"]

            await cluster.until(evicted, 400)
            assert 345 <= cluster.clock.monotonic() - since <= 360  # the 300 s that admission tolerates
            await cluster.simulated.resume_heartbeats("sim-0")

            async def back():
                node = await cluster.node("sim-0")
                return condition(node, "Ready")["status"] == "True" and not taints(node)

            await cluster.until(back)

    run_virtual(main())


def test_a_failed_node_says_so_and_recovers():
    async def main():
        async with world(TWO) as cluster:
            await cluster.simulated.fail("sim-0", "no disk")

            async def failed():
                ready = condition(await cluster.node("sim-0"), "Ready")
                return ready["status"] == "False" and ready["message"] == "no disk"

            await cluster.until(failed)

            async def tainted():
                return ("not-ready", "NoExecute") in taints(await cluster.node("sim-0"))

            await cluster.until(tainted)
            await cluster.simulated.recover("sim-0")

            async def clean():
                node = await cluster.node("sim-0")
                return condition(node, "Ready")["status"] == "True" and not taints(node)

            await cluster.until(clean)

    run_virtual(main())


def test_nothing_is_evicted_while_every_node_is_silent():
    async def main():
        async with world(TWO) as cluster:
            await cluster.pod("p")
            await cluster.phase("p", "Running")
            for name in ("sim-0", "sim-1"):
                await cluster.simulated.stop_heartbeats(name)
            await asyncio.sleep(1200)
            for name in ("sim-0", "sim-1"):
                assert ("unreachable", "NoSchedule") in taints(await cluster.node(name))
            both = taints(await cluster.node("sim-0")) & taints(await cluster.node("sim-1"))
            assert ("unreachable", "NoExecute") not in both

    run_virtual(main())


def test_stage_objects_of_the_users_own():
    async def main():
        async with world(ONE) as cluster:
            await cluster.client.create(CUSTOM_RESOURCE_DEFINITIONS, STAGE_CRD)

            async def served():
                return cluster.assembly.api.registry.of(STAGES)

            await cluster.until(served)
            crash = stage(
                "crash",
                "Pod",
                {
                    "matchLabels": {"fate": "crash"},
                    "matchExpressions": [{"key": ".status.phase", "operator": "In", "values": ["Running"]}],
                },
                weight=1,
                delay={"durationMilliseconds": 5000},
                next={"statusTemplate": "phase: Failed\nreason: {{ .metadata.name | upper }}"},
            )
            note = stage(
                "note",
                "ConfigMap",
                {"matchExpressions": [{"cel": {"expression": "self.data.state == 'new'"}}]},
                steps=[
                    {"patch": {"template": "data: {state: seen}"}},
                    {"apply": {"template": COPY}},
                ],
            )
            bad = stage("bad", "Pod", {"matchExpressions": [{"key": "][", "operator": "Exists"}]})
            for document in (crash, note, bad):
                await cluster.client.create(STAGES, document)
            await cluster.pod("fine")
            await cluster.pod("doomed", labels={"fate": "crash"})
            await cluster.client.create(CONFIGMAPS, {"metadata": {"name": "c"}, "data": {"state": "new"}}, "default")
            failed = await cluster.phase("doomed", "Failed")
            assert failed["status"]["reason"] == "DOOMED"
            assert (await cluster.get("fine"))["status"]["phase"] == "Running"

            async def copied():
                items = (await cluster.client.list(CONFIGMAPS, "default")).items
                states = {item["metadata"]["name"]: item["data"]["state"] for item in items if "data" in item}
                return states.get("c") == "seen" and states.get("c-copy") == "copy"

            await cluster.until(copied)

    run_virtual(main())


def test_a_node_that_the_user_made_is_taken_over():
    async def main():
        async with world(ONE) as cluster:
            mine = {"metadata": {"name": "mine", "annotations": {"kwok.x-k8s.io/node": "fake"}}}
            await cluster.client.create(NODES, mine)

            async def ready():
                node = await cluster.node("mine")
                return (condition(node, "Ready") or {}).get("status") == "True" and node

            node = await cluster.until(ready)
            assert node["status"]["allocatable"] == {"cpu": "1k", "memory": "1Ti", "pods": "1M"}

    run_virtual(main())


def test_a_running_pod_with_a_finalizer_fails_before_it_goes():
    """So that a Job with a failure policy, which waits for that, replaces it."""

    async def main():
        async with world(ONE) as cluster:
            metadata = {"name": "p", "finalizers": ["example.com/look"]}
            await cluster.client.create(
                PODS, {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}, "default"
            )
            await cluster.phase("p", "Running")
            await cluster.client.delete(PODS, "p", "default")
            failed = await cluster.phase("p", "Failed")
            assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 143
            await cluster.client.patch(PODS, "p", {"metadata": {"finalizers": None}}, "default")
            await asyncio.sleep(1)
            assert not (await cluster.client.list(PODS, "default")).items

    run_virtual(main())
