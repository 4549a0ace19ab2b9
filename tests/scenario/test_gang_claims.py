"""Gangs whose pods have ResourceClaims: all of them get devices, or none does and nothing stays allocated."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world, gang_job, member, pod_group
from test_device_claims import exactly, given, gpu, slice_of, spec_of

from atoll.app.batch import every_gang
from atoll.base.chance import Chance
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.scheduler.gangs.observe import observed
from atoll.cluster.scheduler.gangs.reserve import RESERVE_AFTER_SECONDS
from atoll.kinds.builtin import DEVICE_CLASSES, PODS, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.objects.resource_claims import allocation, users
from atoll.runtime.virtual import run_virtual

TWO = SimulatedGroup(2, "n", cpu="8")
OURS = [{"cel": {"expression": "device.driver == 'gpu.nvidia.com' && device.allowMultipleAllocations != true"}}]
CLAIM = {"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "one"}]}


def play(main: Any) -> None:
    """Two nodes of two GPUs each."""

    async def whole() -> None:
        async with batch_world(TWO) as world:
            await world.client.create(DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": {"selectors": OURS}})
            for node in ("n-0", "n-1"):
                await world.client.create(RESOURCE_SLICES, slice_of(node, [gpu("gpu-0"), gpu("gpu-1")]))
            template = {"metadata": {"name": "one"}, "spec": {"spec": spec_of(exactly())}}
            await world.client.create(RESOURCE_CLAIM_TEMPLATES, template, "default")
            await main(world)

    run_virtual(whole())


async def allocated(world: BatchWorld) -> dict[str, tuple[str, str]]:
    """Claim → its device."""
    page = await world.client.list(RESOURCE_CLAIMS, "default")
    return {item["metadata"]["name"]: given(item)[0] for item in page.items if allocation(item) is not None}


async def trainers(world: BatchWorld, count: int) -> None:
    await world.apply(pod_group("train", count), *(member("train", number, **CLAIM) for number in range(count)))


def test_a_gang_gets_all_its_devices_or_none() -> None:
    async def main(world: BatchWorld) -> None:
        holder = member("x", 0, **CLAIM)
        holder["metadata"] = {"name": "holder"}
        await world.apply(holder)
        await world.until(lambda: world.running("holder"))
        await trainers(world, 4)
        await world.until(lambda: world.why("train-0"))
        for _ in range(100):
            assert len(await allocated(world)) == 1
            assert await world.nodes_of("train-") == {}
            await asyncio.sleep(0.5)
        assert await world.why("train-0") == (
            "gang default/train: needs room for 4 pods of 1 cpu with devices for their claims; there is room for 3;"
            " a minimum of 3 members would do"
        )
        await world.client.delete(PODS, "holder", "default")

        async def all_of_them() -> bool:
            return len(await world.running("train-")) == 4

        await world.until(all_of_them)
        devices = await allocated(world)
        assert sorted(devices.values()) == [(node, f"gpu-{n}") for node in ("n-0", "n-1") for n in (0, 1)]
        page = await world.client.list(RESOURCE_CLAIMS, "default")
        assert sorted(user["name"] for item in page.items for user in users(item)) == [f"train-{n}" for n in range(4)]

    play(main)


def test_members_of_several_shapes_get_devices_of_their_own() -> None:
    """A leader and its workers: what the one has been given is not there for the others."""

    async def main(world: BatchWorld) -> None:
        leader = member("train", 0, cpu="2", **CLAIM)
        await world.apply(pod_group("train", 4), leader, *(member("train", number, **CLAIM) for number in (1, 2, 3)))

        async def all_of_them() -> bool:
            return len(await world.running("train-")) == 4

        await world.until(all_of_them)
        assert len(set((await allocated(world)).values())) == 4

    play(main)


SHARED = {"resourceClaims": [{"name": "g", "resourceClaimName": "shared"}]}


async def sharers(world: BatchWorld, count: int) -> None:
    await world.client.create(RESOURCE_CLAIMS, {"metadata": {"name": "shared"}, "spec": spec_of(exactly())}, "default")
    pods = [member("train", number, cpu="2" if number else "3", **SHARED) for number in range(count)]
    await world.apply(pod_group("train", count), *pods)


def test_members_share_a_claim_where_there_is_room_for_all_of_them() -> None:
    """A claim has its devices on one node: all who name it go there, not one to each device that is free."""

    async def main(world: BatchWorld) -> None:
        in_the_way = member("x", 0, cpu="4", nodeSelector={"kubernetes.io/hostname": "n-0"})
        in_the_way["metadata"] = {"name": "in-the-way"}
        await world.apply(in_the_way)
        await world.until(lambda: world.running("in-the-way"))
        await sharers(world, 3)

        async def all_of_them() -> bool:
            return len(await world.running("train-")) == 3

        await world.until(all_of_them)
        assert set((await world.nodes_of("train-")).values()) == {"n-1"}
        claim = await world.client.get(RESOURCE_CLAIMS, "shared", "default")
        assert sorted(user["name"] for user in users(claim)) == ["train-0", "train-1", "train-2"]
        assert given(claim) == [("n-1", "gpu-0")]

    play(main)


def test_members_that_share_a_claim_wait_together_where_no_node_holds_them() -> None:
    async def main(world: BatchWorld) -> None:
        await sharers(world, 4)  # 9 CPUs on one node
        await world.until(lambda: world.why("train-0"))
        for _ in range(20):
            assert await world.nodes_of("train-") == {} and await allocated(world) == {}
            await asyncio.sleep(0.5)

    play(main)


@pytest.mark.parametrize("turns", [1, 3, 7, 15, 40])
def test_a_scheduler_that_is_killed_leaves_no_shared_claim_half_reserved(turns: int) -> None:
    async def main(world: BatchWorld) -> None:
        await sharers(world, 3)
        for _ in range(8):
            for _ in range(turns):
                await asyncio.sleep(0)
            await world.stop()
            world.start()

        async def all_of_them() -> bool:
            return len(await world.running("train-")) == 3

        await world.until(all_of_them)
        assert len(set((await world.nodes_of("train-")).values())) == 1

    play(main)


@pytest.mark.parametrize("turns", [1, 3, 7, 15, 40, 90])
def test_a_scheduler_that_is_killed_leaves_no_gang_with_half_its_devices(turns: int) -> None:
    """Killed at turns of the event loop while the gang is bound; the next one completes it, each device given once."""

    async def main(world: BatchWorld) -> None:
        await trainers(world, 4)
        for _ in range(8):
            for _ in range(turns):
                await asyncio.sleep(0)
            await world.stop()
            devices = list((await allocated(world)).values())
            assert len(devices) == len(set(devices))
            world.start()

        async def all_of_them() -> bool:
            return len(await world.running("train-")) == 4

        await world.until(all_of_them)
        assert len(set((await allocated(world)).values())) == 4

    play(main)


def test_the_words_for_a_gang_whose_selector_is_wrong() -> None:
    async def main(world: BatchWorld) -> None:
        wrong = exactly(selectors=[{"cel": {"expression": "device.attributes['x'].y == 'z'"}}])
        template = {"metadata": {"name": "wrong"}, "spec": {"spec": spec_of(wrong)}}
        await world.client.create(RESOURCE_CLAIM_TEMPLATES, template, "default")
        claim = {"resourceClaims": [{"name": "g", "resourceClaimTemplateName": "wrong"}]}
        await world.apply(pod_group("bad", 2), *(member("bad", number, **claim) for number in range(2)))
        await world.until(lambda: world.why("bad-0"))
        assert "CEL runtime error: no such key: y" in await world.why("bad-0")
        assert await allocated(world) == {}

    play(main)


def test_why_a_pod_waits_for_devices_and_whose_end_would_do() -> None:
    """The least important of those that have what it wants, where nothing else is in its way."""

    async def main(world: BatchWorld) -> None:
        await world.apply(*(high(name, value) for name, value in (("low", 10), ("mid", 50))))
        for number, (name, node) in enumerate([("mid", "n-0"), ("mid", "n-0"), ("low", "n-1"), ("mid", "n-1")]):
            on = {"nodeSelector": {"kubernetes.io/hostname": node}, "priorityClassName": name}
            holder = member("x", number, cpu="3" if node == "n-1" else "2", **CLAIM, **on)
            holder["metadata"] = {"name": f"holder-{number}"}
            await world.apply(holder)
        await world.until(lambda: all_running(world, "holder-", 4))
        wants = [exactly(), {"name": "h", "firstAvailable": [
            {"name": "a", "deviceClassName": "gpu", "count": 4}, {"name": "b", "deviceClassName": "gpu"}]}]  # fmt: skip
        template = {"metadata": {"name": "two"}, "spec": {"spec": spec_of(*wants)}}
        await world.client.create(RESOURCE_CLAIM_TEMPLATES, template, "default")
        for name, claim, cpu in (("one", "one", "1"), ("large", "one", "6"), ("two", "two", "1")):
            pod = member(name, 0, cpu=cpu, resourceClaims=[{"name": "g", "resourceClaimTemplateName": claim}])
            pod["metadata"] = {"name": name}
            await world.apply(pod)
            await world.until(lambda name=name: world.why(name))
        async with observed(world.client, world.clock, Chance(1), every_gang, CelSelectors()) as seen:
            rows = {row.name: row.why for row in seen.pods()}
        none = "of 2 nodes that suit it otherwise, none has them"
        assert rows["one"] == (
            f"needs devices that are free on one node: 1 gpu; {none}; the end of default/holder-2 (priority 10) on n-1"
            " would do"
        )
        assert rows["two"] == (
            f"needs devices that are free on one node: 1 gpu, 4 gpu or 1 gpu; {none};"
            " no single change of a node would do"
        )
        assert rows["large"].startswith("needs 6 cpu free on one node"), rows["large"]

    play(main)


def high(name: str, value: int) -> Any:
    return {
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
    }  # fmt: skip


async def all_running(world: BatchWorld, prefix: str, count: int) -> bool:
    return len(await world.running(prefix)) == count


def test_small_work_with_claims_does_not_starve_a_gang_that_lacks_devices() -> None:
    """CPU is there for all: devices alone are short, and those of pods that end are kept for the gang."""

    async def main(world: BatchWorld) -> None:
        for number in range(4):
            job = gang_job(f"small-{number}", 1, seconds=40 + 3 * number, **CLAIM)
            del job["spec"]["template"]["metadata"]["labels"]
            job["spec"] |= {"parallelism": 2, "completions": 5_000}
            await world.apply(job)
        await asyncio.sleep(100)
        started = world.clock.monotonic()
        await world.apply(pod_group("big", 4), gang_job("big", 4, seconds=60, **CLAIM))
        await asyncio.sleep(RESERVE_AFTER_SECONDS - 20)
        assert await world.nodes_of("big-") == {} and len(await world.running("small-")) == 4

        async def all_of_them() -> bool:
            assert len(await allocated(world)) <= 4
            return len(await world.running("big-")) == 4

        await world.until(all_of_them)
        assert world.clock.monotonic() - started < RESERVE_AFTER_SECONDS + 90

        async def others() -> bool:
            return len(await world.running("small-")) == 4

        await world.until(others, 200)

    play(main)


def test_work_without_claims_goes_beside_the_devices_that_are_kept() -> None:
    async def main(world: BatchWorld) -> None:
        for number in range(4):
            holder = member("x", number, **CLAIM, restartPolicy="Never")
            holder["metadata"] = {"name": f"holder-{number}", "annotations": {"atoll.dev/run-seconds": "700"}}
            await world.apply(holder)
        await world.until(lambda: world.running("holder-3"))
        await trainers(world, 4)
        await asyncio.sleep(RESERVE_AFTER_SECONDS + 60)
        assert "is kept for it until" in await world.why("train-0"), await world.why("train-0")
        plain = member("x", 9)
        plain["metadata"] = {"name": "plain"}
        await world.apply(plain)
        await world.until(lambda: world.running("plain"), 10)

    play(main)
