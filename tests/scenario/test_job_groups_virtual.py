"""Jobs that stop as one in virtual time: a bad node, all members begin anew where the last checkpoint was; kills."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from health_world import GPUS, HealthWorld, health_world
from kills import killed_at_every_turn

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.health.groups import Group
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds.builtin import JOBS, PODS
from atoll.objects.meta import annotations
from atoll.runtime.virtual import run_virtual

XID79 = '[{"gpu": 0, "kind": "xid", "value": 79}]'
XID48 = '[{"gpu": 0, "kind": "xid", "value": 48}]'
SHARES = 2
THREE = SimulatedGroup(3, "gpu", cpu="64", resources=GPUS.resources, labels=GPUS.labels)


def mpi(size: int = 3, run: int = 3600, every: int = 600) -> Any:
    told = {
        "atoll.dev/run-seconds": str(run), names.CHECKPOINT_EVERY: str(every), names.STOP_AS_ONE: "true",
    }  # fmt: skip
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    ignored = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    return {
        "metadata": {"name": "mpi"},
        "spec": {
            "completionMode": "Indexed", "parallelism": size, "completions": size, "backoffLimit": 1000,
            "podFailurePolicy": {"rules": [ignored]},
            "template": {
                "metadata": {"annotations": told},
                "spec": {"subdomain": "mpi", "restartPolicy": "Never", "containers": [container]},
            },
        },
    }  # fmt: skip


async def all_running(world: HealthWorld, size: int = 3) -> list[Any]:
    async def holds() -> Any:
        pods = (await world.client.list(PODS, "default")).items
        found = [pod for pod in pods if pod["status"].get("phase") == "Running"]
        return found if len(found) == size == len(pods) else None

    found: list[Any] = await world.until(holds)
    return found


async def state(world: HealthWorld) -> Group:
    job = await world.client.get(JOBS, "mpi", "default")
    return msgspec.json.decode(annotations(job)[names.GROUP], type=Group)


async def completed(world: HealthWorld) -> float:
    async def holds() -> Any:
        return ((await world.client.get(JOBS, "mpi", "default")).get("status") or {}).get("completionTime")

    return parse_rfc3339(await world.until(holds, 20_000))


def play(main: Any, **more: Any) -> None:
    async def whole() -> None:
        async with health_world(GPUS, **more) as world:
            await world.open(4)
            await main(world)

    run_virtual(whole())


def test_all_stop_as_one_and_resume_from_the_last_checkpoint() -> None:
    async def main(world: HealthWorld) -> None:
        began = world.clock.wall()
        await world.client.create(JOBS, mpi(), "default")
        first = await all_running(world)
        assert sorted(pod["spec"]["hostname"] for pod in first) == ["mpi-0", "mpi-1", "mpi-2"], "names that stay"
        await asyncio.sleep(1500)
        await world.fault(first[0]["spec"]["nodeName"], XID79)
        await asyncio.sleep(10)
        second = await all_running(world)
        assert not {pod["metadata"]["uid"] for pod in first} & {pod["metadata"]["uid"] for pod in second}
        group = await state(world)
        assert (group.restarts, group.saved_seconds) == (1, 1200.0)
        assert 295 < group.lost_seconds < 310, "less than one interval"
        took = await completed(world) - began
        assert 3600 + 295 < took < 3600 + 380, "only what was left, and the Job controller's back-off"
        text = world.assembly.metrics.text()
        assert "atoll_group_restarts_total 1" in text
        lost = world.assembly.metrics.counter("atoll_lost_work_seconds_total", "").of().value
        assert lost == pytest.approx(3 * group.lost_seconds)

    play(main)


def test_a_drain_waits_for_the_checkpoint_so_that_nearly_nothing_is_lost() -> None:
    async def main(world: HealthWorld) -> None:
        began = world.clock.wall()
        await world.client.create(JOBS, mpi(), "default")
        first = await all_running(world)
        await asyncio.sleep(1500)
        await world.fault(first[0]["spec"]["nodeName"], XID48)
        took = await completed(world) - began
        group = await state(world)
        assert (group.restarts, group.saved_seconds) == (1, 1800.0) and group.lost_seconds < 5
        assert took < 3600 + 80

    play(main)


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_turn_no_more_than_an_interval_is_lost(share: int) -> None:
    async def scenario(world: HealthWorld) -> None:
        await world.open(3)
        await world.client.create(JOBS, mpi(size=2, run=12, every=4), "default")
        first = await all_running(world, 2)
        await asyncio.sleep(6)
        await world.fault(first[0]["spec"]["nodeName"], XID79)
        await completed(world)
        group = await state(world)
        assert group.restarts >= 1 and group.lost_seconds <= 4 * group.restarts
        assert group.saved_seconds >= 4.0

    assert killed_at_every_turn(scenario, THREE, share=share, shares=SHARES) > 60
