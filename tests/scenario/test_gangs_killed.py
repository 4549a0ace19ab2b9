"""Scheduler and batch controllers killed at every turn of the loop, one scenario for each kind of group.

A scenario is played again and again in one world. The n-th time all of them are killed before the n-th turn after its
objects came, whatever they were awaiting, and started anew; it is over when it comes to its end before its turn comes.
Nothing may be placed beyond what nodes have, no gang may stay half placed, nothing may be made or counted twice, and
all must come to the same end as if nobody had been killed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world, gang_job, pod_group
from test_jobset import jobset, replicated
from test_leaderworkerset import lws
from test_volcano import end, task
from test_volcano import job as volcano_job

from atoll.app.assembly import Assembly
from atoll.client.port import Client, DeleteOptions
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import batch
from atoll.kinds.builtin import JOBS
from atoll.kinds.resource import Resource
from atoll.kinds.workload import WORKLOAD_POD_GROUPS
from atoll.objects.meta import condition, is_deleting
from atoll.runtime.virtual import VirtualLoop, run_virtual
from atoll.scheduling.resources import amount

Object = dict[str, Any]
NODE_CPUS = 2
NODES = SimulatedGroup(2, "n", cpu=str(NODE_CPUS))
SETTLED_SECONDS = 2.0  # a gang's bindings are many writes: so long they may take, a restart between them included


@dataclass
class Scenario:
    """`objects` come in this order; `gangs`: how many pods there are of each gang, by the start of their names."""

    objects: list[tuple[Resource, Object]]
    gangs: dict[str, int]
    over: Callable[[BatchWorld], Awaitable[bool]]
    then: Callable[[BatchWorld], Awaitable[None]] | None = None  # what befalls it once it has run for a moment
    half: dict[str, float] = field(default_factory=dict)  # since when gangs are half placed
    was_half: set[str] = field(default_factory=set)


class Killer:
    """Kills before the n-th turn from now."""

    def __init__(self, world: BatchWorld, turn: int) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self._loop, self._world, self._left = loop, world, turn
        self.task: asyncio.Task[None] | None = None
        loop.on_turn = self._turn

    def _turn(self) -> None:
        self._left -= 1
        if not self._left:
            self._world.kill()
            self.task = self._loop.create_task(self._restart())

    async def _restart(self) -> None:
        await self._world.stop()
        self._world.start()

    def end(self) -> bool:
        """Whether it has killed."""
        self._loop.on_turn = None
        return self.task is not None


async def check(world: BatchWorld, scenario: Scenario) -> None:
    used: Counter[str] = Counter()
    now, placed = world.clock.monotonic(), Counter[str]()
    for pod in await world.pods():
        node, phase = pod["spec"].get("nodeName"), pod["status"].get("phase")
        if node and phase not in ("Succeeded", "Failed"):
            requests = pod["spec"]["containers"][0]["resources"]["requests"]
            used[node] += amount("cpu", requests["cpu"])
        if node and not is_deleting(pod):
            placed.update(name for name in scenario.gangs if pod["metadata"]["name"].startswith(name))
    assert all(value <= 1000 * NODE_CPUS for value in used.values()), used
    for name, size in scenario.gangs.items():
        if placed[name] in (0, size):
            scenario.half.pop(name, None)
        assert placed[name] <= size
        if 0 < placed[name] < size:
            since = scenario.half.setdefault(name, now)
            scenario.was_half.add(name)
            assert now - since <= SETTLED_SECONDS, f"{name} is half placed"


async def play_once(world: BatchWorld, scenario: Scenario, turn: int) -> bool:
    """Whether there was a kill in it."""
    for resource, obj in scenario.objects:
        await world.client.create(resource, obj, "default")
    killer = Killer(world, turn)

    async def over() -> bool:
        await check(world, scenario)
        return await scenario.over(world)

    if scenario.then is not None:
        await scenario.then(world)
    await world.until(over, 120)
    killed = killer.end()
    if killer.task is not None:
        await killer.task
    for resource, obj in reversed(scenario.objects):
        options = DeleteOptions(propagation="Background")
        await world.client.delete(resource, obj["metadata"]["name"], "default", options=options)

    async def empty() -> bool:
        return not await world.pods()

    await world.until(empty)
    return killed


class SlowBindings:
    """A client whose bindings take a while, each another: a kill between two of a gang's leaves it half placed."""

    def __init__(self, inner: Client) -> None:
        self._inner = inner
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def create(self, resource: Resource, *args: Any, **more: Any) -> Object:
        if more.get("subresource") == "binding":
            self._sent += 1
            await asyncio.sleep(0.3 * (1 + self._sent % 3))
        return await self._inner.create(resource, *args, **more)


def play(make: Callable[[str], Scenario]) -> set[str]:
    """The gangs that were half placed for a moment."""
    halves: set[str] = set()

    async def main() -> None:
        async with batch_world(NODES, workload_api=True) as world:
            turn, killed = 1, True
            while killed:
                scenario = make(f"t{turn}")
                killed = await play_once(world, scenario, turn)
                halves.update(scenario.was_half)
                turn += 1
            assert turn > 30
            assert await world.events("Released") == []

    run_virtual(main())
    return halves


async def succeeded(world: BatchWorld, *names: str) -> bool:
    """Jobs of two pods: none of them was made twice or lost."""
    jobs = [await world.client.get(JOBS, name, "default") for name in names]
    assert not any((job.get("status") or {}).get("failed") for job in jobs)
    return all((job.get("status") or {}).get("succeeded") == 2 for job in jobs)


def of_coscheduling(name: str) -> Scenario:
    """Two that need everything."""
    names = [f"{name}a", f"{name}b"]

    async def over(world: BatchWorld) -> bool:
        groups = [await world.client.get(batch.POD_GROUPS, each, "default") for each in names]
        return await succeeded(world, *names) and all(group["status"]["phase"] == "Finished" for group in groups)

    objects = [(batch.POD_GROUPS, pod_group(each, 2)) for each in names]
    objects += [(JOBS, gang_job(each, 2, cpu="2", seconds=1)) for each in names]
    return Scenario(objects, {f"{each}-": 2 for each in names}, over)


def of_kubernetes(name: str) -> Scenario:
    job = gang_job(name, 2, cpu="2", seconds=1, schedulingGroup={"podGroupName": name})
    job["spec"]["template"]["metadata"]["labels"] = {}

    async def over(world: BatchWorld) -> bool:
        group = await world.client.get(WORKLOAD_POD_GROUPS, name, "default")
        found = condition(group, "PodGroupScheduled") or {}
        return await succeeded(world, name) and found.get("status") == "True"

    group = {"metadata": {"name": name}, "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}}
    return Scenario([(WORKLOAD_POD_GROUPS, group), (JOBS, job)], {f"{name}-": 2}, over)


def of_job_sets(name: str) -> Scenario:
    async def over(world: BatchWorld) -> bool:
        found = await world.client.get(batch.JOB_SETS, name, "default")
        ended = condition(found, "Completed") or {}
        assert not condition(found, "Failed")
        assert not (found.get("status") or {}).get("restarts")
        return ended.get("status") == "True"

    jobs = [replicated("lead", seconds=1), replicated("work", 2, seconds=1)]
    return Scenario([(batch.JOB_SETS, jobset(*jobs, name=name))], {f"{name}-": 3}, over)


def of_a_job_set_that_fails_once(name: str) -> Scenario:
    async def over(world: BatchWorld) -> bool:
        found = await world.client.get(batch.JOB_SETS, name, "default")
        restarts = (found.get("status") or {}).get("restarts") or 0
        assert restarts <= 1
        runs = [pod for pod in await world.pods() if pod["status"].get("phase") == "Running" and not is_deleting(pod)]
        return restarts == 1 and len(runs) == 3 and all(attempt_of(pod) == 1 for pod in runs)

    def attempt_of(pod: Object) -> int:
        return int(pod["metadata"]["labels"]["jobset.sigs.k8s.io/restart-attempt"])

    jobs = [replicated("lead"), replicated("work", 2)]
    policy = {"maxRestarts": 5}
    return Scenario([(batch.JOB_SETS, jobset(*jobs, name=name, failurePolicy=policy))], {}, over, fails(name, 3))


def fails(name: str, size: int) -> Callable[[BatchWorld], Awaitable[None]]:
    """One of its pods ends badly, once all run."""

    async def then(world: BatchWorld) -> None:
        async def run() -> bool:
            return len(await world.running(f"{name}-")) == size

        await world.until(run)
        await end(world, (await world.running(f"{name}-"))[0], 1)

    return then


def of_volcano(name: str) -> Scenario:
    """A Job that needs everything, and ends."""

    async def over(world: BatchWorld) -> bool:
        found = await world.client.get(batch.VOLCANO_JOBS, name, "default")
        status = found.get("status") or {}
        assert not status.get("retryCount")
        assert not status.get("failed")
        if (status.get("state") or {}).get("phase") != "Completed":
            return False
        if (await group_of(world, found))["status"]["phase"] != "Completed":
            return False
        queue = (await world.client.get(batch.VOLCANO_QUEUES, "default"))["status"]
        assert status["succeeded"] == 2
        return queue.get("completed") == 1 and not queue.get("running")

    workers = task("w", 2, cpu="2")
    workers["template"]["metadata"]["annotations"]["atoll.dev/run-seconds"] = "1"
    made = volcano_job(workers, name=name)
    return Scenario([(batch.VOLCANO_JOBS, made)], {f"{name}-": 2}, over)


def of_a_volcano_job_that_fails_once(name: str) -> Scenario:
    async def over(world: BatchWorld) -> bool:
        found = await world.client.get(batch.VOLCANO_JOBS, name, "default")
        status = found["status"]
        assert (status.get("retryCount") or 0) <= 1
        running = await world.running(f"{name}-")
        return status["state"]["phase"] == "Running" and status.get("retryCount") == 1 and len(running) == 2

    policies = [{"event": "PodFailed", "action": "RestartJob"}]
    made = volcano_job(task("w", 2, cpu="2"), name=name, policies=policies)
    return Scenario([(batch.VOLCANO_JOBS, made)], {}, over, fails(name, 2))


async def group_of(world: BatchWorld, job: Object) -> Object:
    name = f"{job['metadata']['name']}-{job['metadata']['uid']}"
    found: Object = await world.client.get(batch.VOLCANO_POD_GROUPS, name, "default")
    return found


def of_leader_worker_sets(name: str) -> Scenario:
    """Its group is made anew as one when a pod fails."""
    first: set[str] = set()

    async def over(world: BatchWorld) -> bool:
        pods = [pod for pod in await world.pods() if not is_deleting(pod)]
        found = await world.client.get(batch.LEADER_WORKER_SETS, name, "default")
        ready = (found.get("status") or {}).get("readyReplicas") == 1
        return ready and len(pods) == 3 and not first & {pod["metadata"]["uid"] for pod in pods}

    async def then(world: BatchWorld) -> None:
        await fails(name, 3)(world)
        first.update(pod["metadata"]["uid"] for pod in await world.pods())

    return Scenario([(batch.LEADER_WORKER_SETS, lws(1, 3, name=name))], {}, over, then)


@pytest.mark.parametrize(
    "make",
    [
        of_coscheduling, of_kubernetes, of_job_sets, of_a_job_set_that_fails_once, of_volcano,
        of_a_volcano_job_that_fails_once, of_leader_worker_sets,
    ],
)  # fmt: skip
def test_killed_at_every_turn(make: Callable[[str], Scenario]) -> None:
    play(make)


@pytest.mark.parametrize("make", [of_coscheduling, of_kubernetes])
def test_killed_between_the_bindings_of_a_gang(
    make: Callable[[str], Scenario], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Assembly.client

    def slow(assembly: Assembly, *args: Any) -> Any:
        found = client(assembly, *args)
        return SlowBindings(found) if "kube-scheduler" in args else found

    monkeypatch.setattr(Assembly, "client", slow)
    assert len(play(make)) > 5
