"""MultiKueue in virtual time: a manager cluster and two workers, of which one or the other has room, fails, is lost."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from multikueue_world import clusters, condition, copies, entry, far
from queueing_world import QueueingWorld
from turns import killed_before

from atoll.base.errors import NotFound
from atoll.client.port import DeleteOptions
from atoll.kinds import kueue
from atoll.kinds.builtin import JOBS, PODS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import run_virtual

STEP = 11  # turns; the way to the end is 670 long
ORIGIN = f"{kueue.MULTIKUEUE}-origin"


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


def pod(name: str, group: str = "", total: int = 1, seconds: int = 20) -> Any:
    notes = {"scenario/exit-code": "0", "scenario/run-seconds": str(seconds)}
    marks = {kueue.QUEUE_LABEL: "q"}
    if group:
        marks[kueue.POD_GROUP_LABEL] = group
        notes[kueue.POD_GROUP_TOTAL] = str(total)
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": 1}}}
    metadata = {"name": name, "labels": marks, "annotations": notes}
    spec = {"restartPolicy": "Never", "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def phases(world: QueueingWorld) -> dict[str, str]:
    return {it["metadata"]["name"]: it["status"].get("phase", "") for it in (await world.client.list(PODS)).items}


@pytest.mark.parametrize("group", ["", "pair"])
def test_pods_run_on_the_worker_and_stay_gated_here(group: str) -> None:
    async def main() -> None:
        async with clusters({"east": 0, "west": 4}) as (manager, workers, _):
            names = ["a", "b"] if group else ["a"]
            await manager.apply(*(pod(name, group, len(names)) for name in names))
            await asyncio.sleep(15)
            (workload,) = (await manager.workloads()).values()
            assert workload["status"]["clusterName"] == "west" and entry(workload)["state"] == "Pending"
            assert await phases(manager) == await phases(workers["west"]) == dict.fromkeys(names, "Running")
            for here in (await manager.client.list(PODS)).items:
                assert here["spec"]["schedulingGates"] == [
                    {"name": it} for it in (kueue.ADMISSION_GATE, kueue.TOPOLOGY_GATE)
                ]
                assert "nodeName" not in here["spec"] and here["status"]["podIP"]
                assert condition(here, "PodScheduled")["reason"] == "SchedulingGated"
            assert await copies(workers["east"]) == 0
            await asyncio.sleep(30)
            assert await phases(manager) == dict.fromkeys(names, "Succeeded")
            assert len(await manager.holding("Finished")) == 1
            assert await copies(workers["west"]) == 0 and await phases(workers["west"]) == {}

    run_virtual(main())


def test_a_pod_that_is_deleted_here_is_deleted_there() -> None:
    async def main() -> None:
        async with clusters({"east": 0, "west": 4}) as (manager, workers, _):
            await manager.apply(pod("a", seconds=5000))
            await asyncio.sleep(15)
            assert await phases(workers["west"]) == {"a": "Running"}
            await manager.client.delete(PODS, "a", "default")
            await asyncio.sleep(40)
            assert await phases(workers["west"]) == {} and await copies(workers["west"]) == 0

    run_virtual(main())


def test_a_dispatcher_of_ones_own_says_where_to_offer() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 4}, dispatcherName="example.com/by-price") as (manager, workers, _):
            await manager.apply(far("train", cpu=2, seconds=600))
            await asyncio.sleep(60)
            assert [await copies(world) for world in workers.values()] == [0, 0]
            workload = (await manager.workloads())["train"]
            chosen = {**workload, "status": {**workload["status"], "nominatedClusterNames": ["west"]}}
            await manager.client.update(kueue.WORKLOADS, chosen, subresource="status")
            await asyncio.sleep(10)
            assert (await manager.workloads())["train"]["status"]["clusterName"] == "west"
            assert await copies(workers["east"]) == 0

    run_virtual(main())


def test_an_incremental_dispatcher_offers_to_a_few_at_once() -> None:
    async def main() -> None:
        name = f"{kueue.MULTIKUEUE}-dispatcher-incremental"
        async with clusters({"east": 0, "west": 4}, dispatcherName=name) as (manager, _, _):
            clusters_ = ["a1", "a2", "a3", "west"]  # of which only the last is there
            config = await manager.client.get(kueue.MULTIKUEUE_CONFIGS, "config")
            await manager.client.update(kueue.MULTIKUEUE_CONFIGS, {**config, "spec": {"clusters": clusters_}})
            await manager.apply(far("train", cpu=2, seconds=600))
            await asyncio.sleep(280)
            status = (await manager.workloads())["train"]["status"]
            assert status["nominatedClusterNames"] == clusters_[:3] and "clusterName" not in status
            await asyncio.sleep(60)
            status = (await manager.workloads())["train"]["status"]
            assert status["clusterName"] == "west" and "nominatedClusterNames" not in status

    run_virtual(main())


def test_a_namesake_on_the_worker_is_left_alone() -> None:
    async def main() -> None:
        async with clusters({"east": 0, "west": 4}) as (manager, workers, _):
            theirs = far("train", cpu=1, seconds=5000)
            del theirs["metadata"]["labels"]
            await workers["west"].apply(theirs)
            await manager.apply(far("train", cpu=2, seconds=5000))
            await asyncio.sleep(30)
            workload = (await manager.workloads())["train"]
            assert workload["spec"]["active"] is False
            evicted = condition(workload, "Evicted")
            assert evicted["reason"] == "DeactivatedDueToAdmissionCheck"
            assert "there is another Job default/train" in evicted["message"] and "rename one" in evicted["message"]
            there = await workers["west"].client.get(JOBS, "train", "default")
            assert there["status"]["active"] == 1 and await copies(workers["west"]) == 0

    run_virtual(main())


def test_a_job_that_another_controller_manages_is_refused() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 4}) as (manager, workers, _):
            job = far("train", cpu=2)
            job["spec"]["managedBy"] = "example.com/other"
            await manager.apply(job)
            await asyncio.sleep(10)
            workload = (await manager.workloads())["train"]
            assert workload["spec"]["active"] is False
            why = condition(workload, "Evicted")["message"]
            assert 'Expecting spec.managedBy to be "kueue.x-k8s.io/multikueue" not "example.com/other"' in why
            assert [await copies(world) for world in workers.values()] == [0, 0]

    run_virtual(main())


def test_what_nobody_wants_any_more_is_swept_from_workers() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 4}, gcInterval="30s") as (_, workers, _):
            client = workers["west"].client
            for name, marks in (
                ("lost", {ORIGIN: "multikueue", kueue.PREBUILT_LABEL: "job-lost"}),
                ("of-another", {ORIGIN: "other", kueue.PREBUILT_LABEL: "job-lost"}),
                ("theirs", {}),
            ):
                job = far(name)
                job["metadata"]["labels"] = marks
                await client.create(JOBS, {**job, "spec": {**job["spec"], "suspend": True}}, "default")
            await asyncio.sleep(40)
            left = {it["metadata"]["name"] for it in (await client.list(JOBS)).items}
            assert left == {"of-another", "theirs"}

    run_virtual(main())


def test_what_runs_elsewhere_runs_on_when_its_check_is_taken_away() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 0}) as (manager, workers, _):
            await manager.apply(far("train", cpu=2, seconds=60))
            await asyncio.sleep(12)
            queue = await manager.client.get(kueue.CLUSTER_QUEUES, "q")
            spec = {name: value for name, value in queue["spec"].items() if name != "admissionChecksStrategy"}
            await manager.client.update(kueue.CLUSTER_QUEUES, {**queue, "spec": spec})
            await manager.client.delete(kueue.ADMISSION_CHECKS, "check")
            await asyncio.sleep(30)
            assert list((await phases(workers["east"])).values()) == ["Running"]
            workload = (await manager.workloads())["train"]
            await manager.client.update(kueue.WORKLOADS, {**workload, "spec": {**workload["spec"], "active": False}})
            await asyncio.sleep(15)
            assert await phases(workers["east"]) == {} and await copies(workers["east"]) == 0

    run_virtual(main())


def test_what_a_worker_evicts_is_queued_anew() -> None:
    async def main() -> None:
        async with clusters({"east": 4, "west": 0}) as (manager, workers, _):
            await manager.apply(far("train", cpu=2, seconds=5000))
            await asyncio.sleep(12)
            east = workers["east"].client
            queue = await east.get(kueue.CLUSTER_QUEUES, "q")
            await east.update(kueue.CLUSTER_QUEUES, {**queue, "spec": {**queue["spec"], "stopPolicy": "HoldAndDrain"}})
            await asyncio.sleep(20)
            workload = (await manager.workloads())["train"]
            assert "clusterName" not in workload["status"] and await phases(workers["east"]) == {}
            queue = await east.get(kueue.CLUSTER_QUEUES, "q")
            await east.update(kueue.CLUSTER_QUEUES, {**queue, "spec": {**queue["spec"], "stopPolicy": "None"}})
            await asyncio.sleep(20)
            assert (await manager.workloads())["train"]["status"]["clusterName"] == "east"
            assert list((await phases(workers["east"])).values()) == ["Running"]

    run_virtual(main())


def pods_made(world: QueueingWorld, seen: dict[str, set[str]]) -> Informers:
    """All that ever were, by the owner's name or the pod's own."""

    def note(old: Any, new: Any) -> None:
        metadata = (new or old)["metadata"]
        owner = (metadata.get("ownerReferences") or [metadata])[0]["name"]
        seen.setdefault(owner, set()).add(metadata["uid"])

    informers = Informers(world.client)
    informers.of(PODS).add_handler(note)
    informers.start()
    return informers


@pytest.mark.parametrize("kind", ["Job", "Pod"])
def test_a_manager_that_is_killed_at_any_turn_takes_up_and_nothing_runs_twice(kind: str) -> None:
    """One workload after the other; along each the controllers are killed at a later turn of the loop."""
    seen: dict[str, set[str]] = {}

    async def main() -> None:
        async with clusters({"east": 4, "west": 4}) as (manager, workers, clients):
            watching = [pods_made(world, seen) for world in workers.values()]
            number, killed = 0, True
            while killed:
                number += 1
                name = f"train-{number}"
                start = partial(manager.start, connect=clients.__getitem__)
                with killed_before(number * STEP, manager.kill, start) as turns:
                    await manager.apply(far(name, cpu=2, seconds=6) if kind == "Job" else pod(name, seconds=6))
                    await asyncio.sleep(60)
                killed = turns.killed
                assert name in await manager.holding("Finished")
                assert len(seen[name]) == 1, "one pod, on one worker"
                assert [await copies(world) for world in workers.values()] == [0, 0]
                resource, options = JOBS if kind == "Job" else PODS, DeleteOptions(propagation="Background")
                await manager.client.delete(resource, name, "default", options=options)
            assert number > 20
            for informers in watching:
                await informers.stop()

    run_virtual(main())
