"""Nodes' health in virtual time: a bad GPU from its first error to its return, budgets, checkpoints, kills anywhere."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from health_world import GPUS, HealthWorld, gpu_healthy, health_world
from kills import killed_at_every_turn

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.nodes import has_taint
from atoll.capacity.preflight.manifests import PERIODIC_NAME
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds.builtin import CRON_JOBS, JOBS, NODES, POD_DISRUPTION_BUDGETS, PODS
from atoll.objects.meta import annotations, condition, labels
from atoll.runtime.virtual import run_virtual

XID79 = '[{"gpu": 3, "kind": "xid", "value": 79}]'
XID48 = '[{"gpu": 3, "kind": "xid", "value": 48}]'
SHARES = 2


def play(main: Any, *groups: SimulatedGroup, **more: Any) -> None:
    async def whole() -> None:
        async with health_world(*groups, **more) as world:
            await main(world)

    run_virtual(whole())


def test_a_bad_gpu_is_found_drained_mended_tested_and_returned() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(4)
        await world.pod("work", "gpu-1")
        await world.running("work")
        await world.fault("gpu-1", XID79)
        await asyncio.sleep(2)
        node = await world.node("gpu-1")
        assert gpu_healthy(node) == ("False", "XID79")
        assert node["spec"]["unschedulable"] and has_taint(node, names.UNHEALTHY_TAINT)
        assert not (await world.client.list(PODS, "default")).items, "it has lost its GPU: evicted at once"
        await world.pod("late", "gpu-1")
        node = await world.returned("gpu-1")
        assert gpu_healthy(node) == ("True", "NoFault") and "unschedulable" not in node["spec"]
        assert parse_rfc3339(annotations(node)[names.TESTED]) >= parse_rfc3339(annotations(node)[names.PREFLIGHT_SINCE])
        await world.running("late")
        assert await world.events("TakenOut") and await world.events("Returned")
        text = world.assembly.metrics.text()
        assert 'atoll_health_returned_total{remedy="reboot"} 1' in text
        assert 'atoll_health_nodes{state="healthy"} 4' in text
        assert "atoll_gpu_test_coverage_ratio 1" in text

    play(main)


def test_a_job_reaches_its_checkpoint_before_its_node_is_drained() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(4)
        await world.pod("train", "gpu-0", annotations={names.CHECKPOINT_EVERY: "300"})
        began = parse_rfc3339((await world.running("train"))["status"]["startTime"])
        await asyncio.sleep(100)
        await world.fault("gpu-0", XID48)
        await asyncio.sleep(150)
        assert await world.running("train")
        assert has_taint(await world.node("gpu-0"), names.UNHEALTHY_TAINT)
        await asyncio.sleep(70)
        assert not (await world.client.list(PODS, "default")).items
        lost = world.assembly.metrics.counter("atoll_lost_work_seconds_total", "").of().value
        assert 0 <= lost < 5, "it left right after its checkpoint"
        assert world.clock.wall() - began < 330
        await world.returned("gpu-0")

    play(main)


def test_a_disruption_budget_is_honoured_for_as_long_as_it_takes() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(4)
        await world.pod("precious", "gpu-2", labels={"app": "precious"})
        await world.running("precious")
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "precious"}}}
        await world.client.create(POD_DISRUPTION_BUDGETS, {"metadata": {"name": "b"}, "spec": spec}, "default")
        await asyncio.sleep(5)
        await world.fault("gpu-2", XID48)
        await asyncio.sleep(3600)
        assert (await world.running("precious"))["spec"]["nodeName"] == "gpu-2"
        await world.client.delete(POD_DISRUPTION_BUDGETS, "b", "default")
        await world.returned("gpu-2")
        assert not (await world.client.list(PODS, "default")).items

    play(main)


def test_never_more_out_than_the_budget_and_all_come_back() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(health="budget: 3\npoolBudget: 2")
        await world.open(20)
        for number in range(10):
            await world.fault(f"a-{number}", XID48)
            await world.fault(f"b-{number}", XID79)
        await asyncio.sleep(5)
        assert len(world.out()) == 3
        assert await world.events("OverBudget")
        for name in [f"{pool}-{number}" for pool in "ab" for number in range(10)]:
            await world.returned(name, 36_000)
        assert world.most_out == 3

    groups = [
        SimulatedGroup(10, pool, resources=GPUS.resources, labels={**GPUS.labels, names.POOL_LABEL: pool})
        for pool in "ab"
    ]
    play(main, *groups)


def test_a_fault_that_comes_again_climbs_to_a_new_machine() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(4)
        for remedy in ("reset", "reboot", "replace"):
            await world.fault("gpu-0", XID48)
            await asyncio.sleep(5)
            node = await world.returned("gpu-0")
            assert f'"remedy":"{remedy}"' in annotations(node)[names.REPAIRS].rpartition("{")[2]

    play(main)


def test_without_a_reading_nothing_is_done() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(4)
        await world.fault("gpu-0", "unreadable")
        await asyncio.sleep(3600)
        node = await world.node("gpu-0")
        assert gpu_healthy(node) == ("Unknown", "NoReading") and not node["spec"].get("taints")
        await world.fault("gpu-0", None)
        await asyncio.sleep(40)
        assert gpu_healthy(await world.node("gpu-0")) == ("True", "NoFault")

    play(main)


def test_a_new_node_with_a_fault_never_opens_and_is_mended_first() -> None:
    bad = SimulatedGroup(
        1, "bad", resources=GPUS.resources, labels=GPUS.labels, annotations={"atoll.dev/gpu-faults": XID48}
    )

    async def main(world: HealthWorld) -> None:
        await world.pod("eager")
        await world.running("eager")
        node = await world.node("bad-0")
        assert names.REPAIRS in annotations(node), "it was mended before anything landed there"
        assert labels(node)[names.PREFLIGHT] == "passed"

    play(main, bad)


def test_nodes_without_gpus_are_not_tested_but_watched() -> None:
    async def main(world: HealthWorld) -> None:
        node = await world.node("cpu-0")
        assert names.PREFLIGHT not in labels(node)
        line = "EXT4-fs (sda1): Remounting filesystem read-only"
        await world.client.patch(NODES, "cpu-0", {"metadata": {"annotations": {names.KERNEL_LOG: line}}})
        await asyncio.sleep(2)
        assert has_taint(await world.node("cpu-0"), names.UNHEALTHY_TAINT)
        node = await world.returned("cpu-0")
        assert names.KERNEL_LOG not in annotations(node)

    play(main, SimulatedGroup(2, "cpu"))


def test_periodic_tests_reach_every_node_in_their_time() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(preflight="periodic: {everySeconds: 7200, parallelism: 2, gpus: 8, runSeconds: 120}")
        await world.open(4)
        await asyncio.sleep(4 * 3600)
        now = world.clock.wall()
        for number in range(4):
            node = await world.node(f"gpu-{number}")
            assert now - parse_rfc3339(annotations(node)[names.TESTED]) < 7200 + 2400
        jobs = (await world.client.list(JOBS, names.SYSTEM_NAMESPACE)).items
        assert not [job for job in jobs if condition(job, "Failed")], "none is begun where no node is due"
        async with asyncio.timeout(7200):
            while not (await world.client.get(CRON_JOBS, PERIODIC_NAME, names.SYSTEM_NAMESPACE))["spec"]["suspend"]:
                await asyncio.sleep(60)
        assert 'atoll_preflight_tests_total{kind="periodic",result="passed"}' in world.assembly.metrics.text()

    play(main)


TWO = SimulatedGroup(2, "gpu", cpu="64", resources=GPUS.resources, labels=GPUS.labels)
QUICK = "simulatedSeconds: {reset: 1, reboot: 2, replace: 2}"


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_turn_a_bad_gpu_is_drained_mended_tested_and_returned(share: int) -> None:
    async def scenario(world: HealthWorld) -> None:
        await world.configure(health=QUICK)
        await world.open(2)
        await world.pod("work", "gpu-0")
        await world.running("work")
        await world.fault("gpu-0", XID48)
        node = await world.returned("gpu-0")
        assert gpu_healthy(node)[0] == "True" and "unschedulable" not in node["spec"]
        assert world.most_out == 1 and not (await world.client.list(PODS, "default")).items

    assert killed_at_every_turn(scenario, TWO, share=share, shares=SHARES) > 60


@pytest.mark.parametrize("share", range(SHARES))
def test_killed_at_every_turn_the_budget_holds_and_all_come_back(share: int) -> None:
    async def scenario(world: HealthWorld) -> None:
        await world.configure(health=f"{{budget: 1, poolBudget: 1, {QUICK}}}")
        await world.open(2)
        await world.fault("gpu-0", XID79)
        await world.fault("gpu-1", XID48)
        for name in ("gpu-0", "gpu-1"):
            await world.returned(name)
        assert world.most_out == 1

    assert killed_at_every_turn(scenario, TWO, share=share, shares=SHARES) > 60


def test_killed_at_every_turn_a_remedy_that_does_not_help_is_followed_by_the_next() -> None:
    async def scenario(world: HealthWorld) -> None:
        await world.configure(health=QUICK)
        await world.open(2)
        line = "Buffer I/O error on dev sda"
        await world.client.patch(NODES, "gpu-0", {"metadata": {"annotations": {names.KERNEL_LOG: line}}})
        node = await world.returned("gpu-0")
        assert '"remedy":"replace"' in annotations(node)[names.REPAIRS]

    assert killed_at_every_turn(scenario, TWO) > 20
