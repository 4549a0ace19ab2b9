"""Two gangs that each need everything, in any two dialects: one runs, the other waits as a whole, then it runs."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world, gang_job, member, pod_group
from test_jobset import jobset, replicated
from test_volcano import end, task
from test_volcano import job as volcano_job

from atoll.client.port import DeleteOptions
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import batch
from atoll.kinds.builtin import JOBS, PODS
from atoll.kinds.resource import Resource
from atoll.kinds.workload import WORKLOAD_POD_GROUPS
from atoll.runtime.virtual import run_virtual

Object = dict[str, Any]
Objects = list[tuple[Resource, Object]]
SIZE = 3
NODES = SimulatedGroup(SIZE, "n", cpu="2")


def coscheduling(name: str) -> Objects:
    job = gang_job(name, SIZE, cpu="2", seconds=3600)
    return [(batch.POD_GROUPS, pod_group(name, SIZE)), (JOBS, job)]


def kubernetes(name: str) -> Objects:
    group = {"metadata": {"name": name}, "spec": {"schedulingPolicy": {"gang": {"minCount": SIZE}}}}
    job = gang_job(name, SIZE, cpu="2", seconds=3600, schedulingGroup={"podGroupName": name})
    job["spec"]["template"]["metadata"]["labels"] = {}
    return [(WORKLOAD_POD_GROUPS, group), (JOBS, job)]


def kueue_group(name: str) -> Objects:
    found: Objects = []
    for number in range(SIZE):
        pod = member(name, number, cpu="2", restartPolicy="Never")
        pod["metadata"]["labels"] = {"kueue.x-k8s.io/pod-group-name": name}
        pod["metadata"]["annotations"] = {"kueue.x-k8s.io/pod-group-total-count": str(SIZE)}
        found.append((PODS, pod))
    return found


def job_set(name: str) -> Objects:
    one, others = replicated("lead"), replicated("work", SIZE - 1)
    for item in (one, others):
        container = item["template"]["spec"]["template"]["spec"]["containers"][0]
        container["resources"] = {"requests": {"cpu": "2"}}
    return [(batch.JOB_SETS, jobset(one, others, name=name))]


def volcano(name: str) -> Objects:
    return [(batch.VOLCANO_JOBS, volcano_job(task("w", SIZE, cpu="2"), name=name))]


DIALECTS = (coscheduling, kubernetes, kueue_group, job_set, volcano)


async def compete(world: BatchWorld, first: str, second: str, objects: Objects) -> None:
    for resource, obj in objects:
        await world.client.create(resource, obj, "default")
    runs: list[str] = []

    async def one_runs() -> bool:
        held = {name: len(await world.nodes_of(f"{name}-")) for name in (first, second)}
        assert 0 in held.values(), held
        whole = [name for name in held if len(await world.running(f"{name}-")) == SIZE]
        if whole and whole != runs[-1:]:
            runs.extend(whole)
            return True
        return False

    await world.until(one_runs, 60)
    for _ in range(10):  # the other waits
        await asyncio.sleep(1)
        assert not await one_runs()
    for name in await world.running(f"{runs[0]}-"):
        await end(world, name)
    await world.until(one_runs, 60)
    assert set(runs) == {first, second}
    for resource, obj in reversed(objects):
        options = DeleteOptions(propagation="Background")
        await world.client.delete(resource, obj["metadata"]["name"], "default", options=options)

    async def empty() -> bool:
        return not await world.pods()

    await world.until(empty)


@pytest.mark.parametrize("one", DIALECTS)
def test_two_that_need_everything(one: Callable[[str], Objects]) -> None:
    async def main() -> None:
        async with batch_world(NODES, workload_api=True) as world:
            for number, other in enumerate(DIALECTS):
                first, second = f"a{number}", f"b{number}"
                await compete(world, first, second, [*one(first), *other(second)])

    run_virtual(main())


def test_objects_of_both_that_come_in_turn() -> None:
    """The pods of two gangs come one by one, one of each in turn."""

    async def main() -> None:
        async with batch_world(NODES, workload_api=True) as world:
            pairs = zip(kueue_group("a"), kueue_group("b"), strict=True)
            await compete(world, "a", "b", list(itertools.chain.from_iterable(pairs)))

    run_virtual(main())
