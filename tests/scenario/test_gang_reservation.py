"""Small work that keeps coming does not starve a gang: room is kept for the first of those that wait, for a while."""

from __future__ import annotations

import asyncio
from typing import Any

from batch_world import BatchWorld, batch_world, gang_job, member, pod_group

from atoll.app.batch import every_gang
from atoll.base.chance import Chance
from atoll.client.port import DeleteOptions
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.scheduler.gangs.observe import observed
from atoll.cluster.scheduler.gangs.reserve import HOLD_SECONDS, RESERVE_AFTER_SECONDS
from atoll.kinds.builtin import JOBS, NODES, PODS
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

CPUS = 16
SMALL_SECONDS = 40


def play(main: Any, *groups: SimulatedGroup) -> None:
    async def whole() -> None:
        async with batch_world(*(groups or (SimulatedGroup(4, "n", cpu="4"),))) as world:
            await main(world)

    run_virtual(whole())


def small(number: int, seconds: int = SMALL_SECONDS, **spec: Any) -> Any:
    """A Job of one pod."""
    job = gang_job(f"small-{number}", 1, seconds=seconds, **spec)
    del job["spec"]["template"]["metadata"]["labels"]
    return job


async def name_of(world: BatchWorld, job: str) -> str:
    (pod,) = await world.pods(job_name=job)
    return str(pod["metadata"]["name"])


def stream(seconds: int = SMALL_SECONDS) -> list[Any]:
    """Small pods without end, more of them than there is room for, which end at different times."""
    jobs = [small(number, seconds + 3 * number) for number in range(4)]
    for job in jobs:
        job["spec"] |= {"parallelism": CPUS // 4 + 1, "completions": 5_000}
    return jobs


async def running(world: BatchWorld, prefix: str, count: int) -> bool:
    return len(await world.running(prefix)) == count


def test_a_full_size_gang_runs_although_small_work_keeps_coming() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(*stream())
        await asyncio.sleep(100)
        started = world.clock.monotonic()
        await world.apply(pod_group("big", 16), gang_job("big", 16, seconds=60))
        await asyncio.sleep(RESERVE_AFTER_SECONDS - 20)
        assert await world.nodes_of("big-") == {}
        assert len(await world.nodes_of("small-")) == CPUS  # nothing is kept yet
        await world.until(lambda: running(world, "big-", 16))
        assert world.clock.monotonic() - started < RESERVE_AFTER_SECONDS + SMALL_SECONDS + 30
        await world.until(lambda: running(world, "small-", CPUS), 200)  # and small work goes on

    play(main)


def test_it_is_told_and_others_that_do_not_delay_it_go_ahead() -> None:
    async def main(world: BatchWorld) -> None:
        for node in ("n-0", "n-1"):
            await world.client.patch(NODES, node, {"metadata": {"labels": {"fast": "yes"}}})
        fast = {"nodeSelector": {"fast": "yes"}}
        await world.apply(*(small(number, 500, **fast) for number in range(8)))
        await world.until(lambda: running(world, "small-", 8))
        await world.apply(pod_group("big", 8), gang_job("big", 8, seconds=60, **fast))
        await asyncio.sleep(RESERVE_AFTER_SECONDS + 5)
        tail = "room on 2 nodes is kept for it until "
        assert tail in await world.why((await world.pods(job_name="big"))[0]["metadata"]["name"])
        await world.client.delete(JOBS, "small-0", "default", options=DeleteOptions(propagation="Background"))
        await world.apply(small(100), small(101, **fast))
        await world.until(lambda: running(world, "small-100-", 1))
        assert not {"n-0", "n-1"} & set((await world.nodes_of("small-100-")).values())
        held_back = await name_of(world, "small-101")
        assert "2 node(s) were kept for gang default/big" in await world.why(held_back)
        async with observed(world.client, world.clock, Chance(1), every_gang, CelSelectors()) as seen:
            (row,) = [row for row in seen.gangs() if row.name == "big"]
            (pod,) = [row for row in seen.pods() if row.name == held_back]
        assert tail in row.why
        assert row.why.endswith("7 pods there must end")
        assert "2 node(s) were kept for gang default/big" in pod.why

    play(main)


def test_a_more_important_pod_is_not_held_back() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"},
                           "value": 10})  # fmt: skip
        await world.apply(*(small(number, 900) for number in range(CPUS)))
        await world.until(lambda: running(world, "small-", CPUS))
        await world.apply(pod_group("big", 16), gang_job("big", 16, seconds=60))
        await asyncio.sleep(RESERVE_AFTER_SECONDS + 5)
        await world.client.delete(JOBS, "small-0", "default", options=DeleteOptions(propagation="Background"))
        await world.apply(small(100, priorityClassName="high"))
        await world.until(lambda: running(world, "small-100-", 1))

    play(main)


def test_what_ends_far_off_does_not_block_for_ever() -> None:
    """Room is kept for HOLD_SECONDS, and then not for as long."""

    async def main(world: BatchWorld) -> None:
        await world.apply(*(small(number, 100_000, cpu="3") for number in range(2)))
        await world.until(lambda: running(world, "small-", 2))
        started = world.clock.monotonic()
        await world.apply(pod_group("big", 16), gang_job("big", 16, seconds=60))

        async def tried(number: int, minutes: float) -> bool:
            """Whether a small pod that comes so long after the gang runs at once."""
            await asyncio.sleep(started + 60 * minutes - world.clock.monotonic())
            await world.apply(small(number, 20))
            await asyncio.sleep(30)
            job = await world.client.get(JOBS, f"small-{number}", "default")
            return bool(job["status"].get("succeeded"))

        begins, ends = RESERVE_AFTER_SECONDS / 60, (RESERVE_AFTER_SECONDS + HOLD_SECONDS) / 60
        assert await tried(2, begins - 1)
        assert not await tried(3, begins + 1)
        assert not await tried(4, ends - 1)
        assert await tried(5, ends + 1)
        assert await tried(6, ends + HOLD_SECONDS / 60 - 1)
        assert not await tried(7, ends + HOLD_SECONDS / 60 + 1)
        assert await world.nodes_of("big-") == {}

    play(main)


def test_servers_are_not_waited_for() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(*(member(f"server{number}", 0, cpu="1") for number in range(4)))
        await world.apply(*(pod_group(f"server{number}", 1) for number in range(4)))
        await world.until(lambda: running(world, "server", 4))
        await world.apply(pod_group("big", 16), gang_job("big", 16, seconds=60))
        await asyncio.sleep(RESERVE_AFTER_SECONDS + 60)
        await world.apply(*(small(number) for number in range(12)))
        await world.until(lambda: running(world, "small-", 12), 20)

    play(main)


def test_of_two_that_wait_the_oldest_has_its_turn_and_then_the_other() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(*stream())
        await asyncio.sleep(60)
        await world.apply(pod_group("a", 16), gang_job("a", 16, seconds=100))
        await asyncio.sleep(30)
        await world.apply(pod_group("b", 16), gang_job("b", 16, seconds=100))
        seen = []
        for _ in range(400):
            await asyncio.sleep(2)
            counts = {name: len(await world.nodes_of(f"{name}-")) for name in "ab"}
            assert set(counts.values()) <= {0, 16}
            now = [name for name in "ab" if counts[name]]
            if now and seen[-1:] != now:
                seen += now
            if seen == ["a", "b"]:
                break
        assert seen == ["a", "b"]

    play(main)


def test_the_scheduler_goes_on_with_it_after_a_restart() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(*stream(100))
        await asyncio.sleep(120)
        await world.apply(pod_group("big", 16), gang_job("big", 16, seconds=60))
        await asyncio.sleep(RESERVE_AFTER_SECONDS + 20)
        name = (await world.pods(job_name="big"))[0]["metadata"]["name"]
        before = (await world.why(name)).rpartition("until ")[2]
        assert before
        started = world.clock.monotonic()
        for _ in range(3):
            await world.stop()
            world.start()
            await asyncio.sleep(3)
        found = condition(await world.client.get(PODS, name, "default"), "PodScheduled") or {}
        assert found["message"].endswith(before)
        await world.until(lambda: running(world, "big-", 16), 150)
        assert world.clock.monotonic() - started < 130

    play(main)
