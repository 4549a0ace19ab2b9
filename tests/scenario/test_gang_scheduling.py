"""Gangs in the pod scheduler: all or none, no deadlock, time-outs, whole gangs preempted, words that say why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world, gang_job, member, pod_group
from queueing_world import FLAVOR, setup
from scheduling_world import world

from atoll.app.batch import every_gang
from atoll.base.chance import Chance
from atoll.base.errors import Forbidden, Invalid, NotFound
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.scheduler.gangs.observe import observed
from atoll.kinds import batch
from atoll.kinds.builtin import JOBS, NODES, PODS
from atoll.kinds.workload import WORKLOAD_POD_GROUPS, WORKLOADS
from atoll.runtime.virtual import run_virtual

FOUR = SimulatedGroup(4, "n", cpu="4")  # 16 CPUs
SHARES = 4
KUEUE = Path(__file__).parents[3] / "shared" / "inputs" / "kueue"


def play(main: Any, *groups: SimulatedGroup, **flags: Any) -> None:
    async def whole() -> None:
        async with batch_world(*(groups or (FOUR,)), **flags) as world:
            await main(world)

    run_virtual(whole())


async def phase(world: BatchWorld, name: str) -> str:
    found = await world.client.get(batch.POD_GROUPS, name, "default")
    return str((found.get("status") or {}).get("phase"))


def test_two_full_size_jobs_do_not_deadlock() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("a", 16), pod_group("b", 16))
        await world.apply(gang_job("a", 16), gang_job("b", 16))
        await world.until(lambda: both_seen(world))
        seen = set()
        for _ in range(200):
            counts = (len(await world.nodes_of("a-")), len(await world.nodes_of("b-")))
            seen.add(counts)
            assert not (0 < counts[0] < 16 and 0 < counts[1] < 16)
            await asyncio.sleep(0.5)
            if [await phase(world, name) for name in "ab"] == ["Finished", "Finished"]:
                break
        assert (16, 0) in seen or (0, 16) in seen
        assert [await phase(world, name) for name in "ab"] == ["Finished", "Finished"]
        for name in "ab":
            job = await world.client.get(JOBS, name, "default")
            assert job["status"]["succeeded"] == 16

    async def both_seen(world: BatchWorld) -> bool:
        return len(await world.pods()) == 32

    play(main)


def test_the_one_that_waits_says_what_it_lacks() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("a", 16), pod_group("b", 16), gang_job("a", 16, seconds=600))
        await world.until(lambda: running(world, "a-", 16))
        await world.apply(gang_job("b", 16))
        await asyncio.sleep(5)
        for pod in await world.pods(job_name="b"):
            assert await world.why(pod["metadata"]["name"]) == (
                "gang default/b: needs room for 16 pods of 1 cpu; there is room for 0; "
                "no removal of less important work would do; 4 more empty nodes for 4 each would"
            )
        assert any("gang default/b: needs room" in event["message"] for event in await world.events("FailedScheduling"))
        assert await phase(world, "b") == "Scheduling"
        shown = world.assembly.metrics.text()
        assert "atoll_gangs_waiting 1\n" in shown
        assert "atoll_gang_wait_seconds 5\n" in shown

    play(main)


async def running(world: BatchWorld, prefix: str, count: int) -> bool:
    return len(await world.running(prefix)) == count


def test_members_wait_for_their_fellows_and_for_their_group() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(member("g", 0))
        await asyncio.sleep(3)
        assert "its PodGroup g (scheduling.x-k8s.io) does not exist; creating PodGroup g" in await world.why("g-0")
        await world.apply(pod_group("g", 3), member("g", 1))
        await asyncio.sleep(3)
        text = "2 of at least 3 members are there; 1 more would let it be tried"
        assert text in await world.why("g-0")
        assert text in await world.why("g-1")
        assert await phase(world, "g") == "Pending"
        assert await world.nodes_of("g-") == {}
        await world.apply(member("other", 0, cpu="4"), pod_group("other", 1))
        await world.until(lambda: running(world, "other-", 1))
        await world.apply(member("g", 2))
        await world.until(lambda: running(world, "g-", 3))
        assert await phase(world, "g") == "Running"
        assert set(await world.nodes_of("g-")) == {"g-0", "g-1", "g-2"}

    play(main)


def test_what_the_group_needs_must_be_free() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("g", 1, minResources={"cpu": "20"}), member("g", 0))
        await asyncio.sleep(3)
        assert "its minResources are not free: 4 cpu more would do" in await world.why("g-0")
        await world.client.patch(batch.POD_GROUPS, "g", {"spec": {"minResources": {"cpu": "16"}}}, "default")
        await world.until(lambda: running(world, "g-", 1))

    play(main)


def test_an_elastic_gang_starts_with_its_minimum_and_grows() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("full", 1), *(member("full", n, cpu="4") for n in range(3)))
        await world.until(lambda: running(world, "full-", 3))
        await world.apply(pod_group("g", 3), *(member("g", n) for n in range(6)))
        await world.until(lambda: running(world, "g-", 4))
        await asyncio.sleep(2)
        assert len(await world.nodes_of("g-")) == 4
        await world.client.delete(PODS, "full-1", "default")
        await world.until(lambda: running(world, "g-", 6))

    play(main)


RACKS = [
    SimulatedGroup(2, f"{block}{rack}", cpu="4", labels={"net/block": block, "net/rack": f"{block}{rack}"})
    for block in "xy"
    for rack in range(2)
]
ASKED = {"kueue.x-k8s.io/podset-required-topology": "net/rack"}


def test_a_required_level_and_ranks_in_order_of_the_network() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("g", 8), *(member("g", n, annotations=ASKED) for n in range(8)))
        await world.until(lambda: running(world, "g-", 8))
        where = await world.nodes_of("g-")
        racks = {(await world.client.get(NODES, node))["metadata"]["labels"]["net/rack"] for node in where.values()}
        assert len(racks) == 1
        order = [where[f"g-{n}"] for n in range(8)]
        assert order == sorted(order)
        await world.apply(pod_group("big", 9), *(member("big", n, annotations=ASKED) for n in range(9)))
        await asyncio.sleep(3)
        assert await world.why("big-0") == (
            "gang default/big: needs room for 9 pods of 1 cpu in one rack; 3 racks have 8; leave to span racks would do"
        )

    play(main, *RACKS)


def test_a_late_member_goes_to_the_rack_of_the_others() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("g", 2), *(member("g", n, cpu="3", annotations=ASKED) for n in range(2)))
        await world.until(lambda: running(world, "g-", 2))
        await world.client.delete(PODS, "g-1", "default")
        await asyncio.sleep(40)
        await world.apply({**member("g", 1, cpu="3", annotations=ASKED), "metadata": {
            **member("g", 1)["metadata"], "name": "g-late", "annotations": ASKED}})  # fmt: skip
        await world.until(lambda: running(world, "g-", 2))
        where = set((await world.nodes_of("g-")).values())
        assert len({node[:2] for node in where}) == 1

    play(main, *RACKS)


def test_a_late_member_of_a_slice_goes_to_its_neighbours() -> None:
    """Slices of two, a rack each: whoever comes anew goes to the rack of its neighbour, not to the first with room."""

    async def main(world: BatchWorld) -> None:
        asked = {"kueue.x-k8s.io/podset-slice-required-topology": "net/rack", "kueue.x-k8s.io/podset-slice-size": "2"}
        await world.apply(pod_group("g", 6), *(member("g", n, cpu="3", annotations=asked) for n in range(6)))
        await world.until(lambda: running(world, "g-", 6))
        before = await world.nodes_of("g-")
        assert [before[f"g-{n}"][:2] for n in (0, 2, 4)] == [before[f"g-{n}"][:2] for n in (1, 3, 5)]
        for name in ("g-1", "g-4"):
            await world.client.delete(PODS, name, "default")
        await asyncio.sleep(40)
        await world.apply(*(member("g", n, cpu="3", annotations=asked) for n in (1, 4)))
        await world.until(lambda: running(world, "g-", 6))
        assert await world.nodes_of("g-") == before

    play(main, *RACKS)


def priority(name: str, value: int) -> Any:
    return {
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
    }  # fmt: skip


def test_a_more_important_gang_takes_whole_gangs_and_the_cheapest() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(priority("high", 100), priority("middle", 10))
        await world.apply(pod_group("small", 4), gang_job("small", 4, seconds=900))
        await world.apply(pod_group("dear", 4), gang_job("dear", 4, seconds=900, priorityClassName="middle"))
        await world.apply(pod_group("large", 8), gang_job("large", 8, seconds=900))
        for name, count in (("small-", 4), ("dear-", 4), ("large-", 8)):
            await world.until(lambda name=name, count=count: running(world, name, count))
        await world.apply(pod_group("vip", 2), gang_job("vip", 2, cpu="2", seconds=50, priorityClassName="high"))
        await world.until(lambda: running(world, "vip-", 2))
        assert len(await world.running("large-")) == 8
        assert len(await world.running("dear-")) == 4
        assert await world.nodes_of("small-") == {}
        await world.until(lambda: running(world, "small-", 4))  # once the important one is done

    play(main)


def test_a_single_pod_does_not_break_a_gang_either() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(priority("high", 100))
        await world.apply(pod_group("g", 16), gang_job("g", 16, seconds=900))
        await world.until(lambda: running(world, "g-", 16))
        pod = member("vip", 0, cpu="1", priorityClassName="high")
        del pod["metadata"]["labels"]
        await world.apply(pod)
        await world.until(lambda: running(world, "vip-", 1))
        assert await world.nodes_of("g-") == {}

    play(main)


def test_pods_that_come_together_share_the_room_of_a_gang_that_goes() -> None:
    """Each of eight finds no room before the first victim is gone: one gang goes all the same, each victim once."""

    async def main(world: BatchWorld) -> None:
        await world.apply(priority("high", 100))
        for name in ("a", "b"):
            await world.apply(pod_group(name, 8), gang_job(name, 8, seconds=900))
            await world.until(lambda name=name: running(world, f"{name}-", 8))
        vips = [member("vip", number, cpu="1", priorityClassName="high") for number in range(8)]
        for pod in vips:
            del pod["metadata"]["labels"]
        await world.apply(*vips)
        await world.until(lambda: running(world, "vip-", 8))
        assert sorted([len(await world.nodes_of("a-")), len(await world.nodes_of("b-"))]) == [0, 8]
        assert "scheduler_preemption_victims_sum 8\n" in world.assembly.metrics.text()
        assert len(await world.events("Preempted")) == 8

    play(main)


def test_preemption_that_leads_nowhere_gives_its_nodes_back() -> None:
    """The victim never goes (its node has no kubelet): the promise ends, and others get the room."""

    async def main(world: BatchWorld) -> None:
        have = {"cpu": "4", "memory": "8Gi", "pods": "10"}
        ghost = {"metadata": {"name": "ghost", "labels": {"ghost": "yes"}}, "status": {"allocatable": have}}
        made = await world.client.create(NODES, ghost)
        made = await world.client.update(NODES, {**made, "spec": {}})  # without the taint of a node that is not ready
        await world.client.update(NODES, {**made, "status": ghost["status"]}, subresource="status")
        await world.apply(priority("high", 100))
        await world.apply(pod_group("stuck", 1), member("stuck", 0, cpu="4", nodeSelector={"ghost": "yes"}))
        await world.until(lambda: placed(world, "stuck-", 1))
        await world.apply(pod_group("vip", 5, scheduleTimeoutSeconds=30))
        await world.apply(*(member("vip", n, cpu="4", priorityClassName="high") for n in range(5)))
        await asyncio.sleep(5)
        under_way = "there is room for 4; preempting default/stuck-0 (priority 0) would do, and is under way"
        assert under_way in await world.why("vip-0")
        await world.apply(pod_group("low", 4), *(member("low", n, cpu="4") for n in range(4)))
        await asyncio.sleep(5)
        assert await world.nodes_of("low-") == {}
        await world.until(lambda: running(world, "low-", 4))

    play(main)


async def placed(world: BatchWorld, prefix: str, count: int) -> bool:
    return len(await world.nodes_of(prefix)) == count


def test_a_half_gang_that_can_t_become_whole_is_released() -> None:
    """Killed between two bindings, and then a node went: its Job makes the pods again, and others may run."""

    async def main(world: BatchWorld) -> None:
        await world.stop()
        await world.apply(pod_group("g", 4, scheduleTimeoutSeconds=20), gang_job("g", 4, cpu="4", seconds=600))
        await asyncio.sleep(2)
        first, second, *_ = await world.pods()
        for pod, node in ((first, "n-0"), (second, "n-1")):
            name = pod["metadata"]["name"]
            target = {"apiVersion": "v1", "kind": "Node", "name": node}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
            await world.client.create(PODS, binding, "default", name=name, subresource="binding")
        await world.client.patch(NODES, "n-3", {"spec": {"unschedulable": True}})
        await world.apply(pod_group("other", 3), gang_job("other", 3, cpu="4", seconds=30))
        world.start()
        await asyncio.sleep(10)
        assert len(await world.nodes_of("g-")) == 2
        await world.until(lambda: running(world, "other-", 3), 120)
        assert any("did not become whole in time" in event["message"] for event in await world.events("Released"))
        await world.client.patch(NODES, "n-3", {"spec": {"unschedulable": None}})
        await world.until(lambda: running(world, "g-", 4), 120)

    play(main)


async def full_then_one_goes(world: BatchWorld) -> None:
    """A gang on all nodes; one of its pods goes, and its replacement finds no room."""
    await world.client.patch(NODES, "n-3", {"spec": {"unschedulable": True}})
    lost = next(name for name, node in (await world.nodes_of("g-")).items() if node == "n-3")
    await world.client.delete(PODS, lost, "default")


@pytest.mark.parametrize("down", [False, True])
def test_a_gang_that_was_whole_is_not_broken_up_by_a_new_scheduler(down: bool) -> None:
    """Whether the pod goes while no scheduler runs, or just after one was started."""

    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("g", 4, scheduleTimeoutSeconds=20), gang_job("g", 4, cpu="4", seconds=600))
        await world.until(lambda: running(world, "g-", 4))
        await asyncio.sleep(2)
        await world.stop()
        if down:
            await full_then_one_goes(world)
            await asyncio.sleep(3)
        world.start()
        if not down:
            await asyncio.sleep(3)
            await full_then_one_goes(world)
        await asyncio.sleep(80)
        assert len(await world.nodes_of("g-")) == 3
        assert await world.events("Released") == []
        await world.client.patch(NODES, "n-3", {"spec": {"unschedulable": None}})
        await world.until(lambda: running(world, "g-", 4), 120)

    play(main)


@pytest.mark.parametrize("share", range(SHARES))
def test_the_scheduler_may_be_killed_at_any_await(share: int) -> None:
    """Two full-size gangs; killed after every few steps of the loop, they still run one after the other, each whole."""

    async def main(world: BatchWorld) -> None:
        loop = asyncio.get_running_loop()
        await world.apply(pod_group("a", 4), pod_group("b", 4))
        await world.apply(gang_job("a", 4, cpu="4", seconds=5), gang_job("b", 4, cpu="4", seconds=5))
        for steps in range(share, 160, 4 * SHARES):
            for _ in range(steps):
                await asyncio.sleep(0)
            await world.stop()
            world.start()
            held = [len(await world.nodes_of(f"{name}-")) for name in "ab"]
            assert min(held) == 0
        assert loop.time() < 600

        async def done() -> bool:
            jobs = [await world.client.get(JOBS, name, "default") for name in "ab"]
            return all((job.get("status") or {}).get("succeeded") == 4 for job in jobs)

        await world.until(done, 300)

    play(main)


def test_kubernetes_own_pod_groups() -> None:
    async def main(world: BatchWorld) -> None:
        spec = {"schedulingPolicy": {"gang": {"minCount": 3}}}
        group = {"metadata": {"name": "own"}, "spec": spec}
        await world.client.create(WORKLOAD_POD_GROUPS, group, "default")
        for number in range(3):
            pod = member("own", number, schedulingGroup={"podGroupName": "own"})
            pod["metadata"]["labels"] = {}
            await world.apply(pod)
            await asyncio.sleep(3)
            held = len(await world.nodes_of("own-"))
            assert held == (3 if number == 2 else 0)
        found = await world.client.get(WORKLOAD_POD_GROUPS, "own", "default")
        assert found["status"]["conditions"][0]["message"] == "3 of at least 3 pods have nodes"
        for wrong in ({}, {"gang": {"minCount": 0}}, {"gang": {"minCount": 1}, "basic": {}}):
            bad = {"metadata": {"name": "bad"}, "spec": {"schedulingPolicy": wrong}}
            with pytest.raises(Invalid):
                await world.client.create(WORKLOAD_POD_GROUPS, bad, "default")
        templates = [{"name": "workers", "schedulingPolicy": {"gang": {"minCount": 3}}}]
        workload = {"metadata": {"name": "w"}, "spec": {"podGroupTemplates": templates}}
        await world.client.create(WORKLOADS, workload, "default")

    play(main, workload_api=True)


@pytest.mark.parametrize(("mode", "left"), [("Pod", 1), ("PodGroup", 0), (None, 1)])
@pytest.mark.parametrize("policy", [{"gang": {"minCount": 2}}, {"basic": {}}])
def test_kubernetes_own_pod_groups_go_as_a_whole_or_pod_by_pod(mode: str | None, left: int, policy: Any) -> None:
    async def main(world: BatchWorld) -> None:
        spec = {"schedulingPolicy": policy, **({"disruptionMode": mode} if mode else {})}
        await world.client.create(WORKLOAD_POD_GROUPS, {"metadata": {"name": "own"}, "spec": spec}, "default")
        for number in range(2):
            pod = member("own", number, cpu="4", schedulingGroup={"podGroupName": "own"})
            pod["metadata"]["labels"] = {}
            await world.apply(pod)
        await world.until(lambda: running(world, "own-", 2))
        await world.apply(priority("high", 100), pod_group("vip", 1))
        await world.apply(*(member("vip", number, cpu="4", priorityClassName="high") for number in range(3)))
        await world.until(lambda: running(world, "vip-", 3))
        await asyncio.sleep(10)
        assert len(await world.nodes_of("own-")) == left
        wrong = {"metadata": {"name": "bad"}, "spec": {**spec, "disruptionMode": "Half"}}
        with pytest.raises(Invalid, match="disruptionMode"):
            await world.client.create(WORKLOAD_POD_GROUPS, wrong, "default")

    play(main, workload_api=True)


def test_kubernetes_own_pod_groups_have_a_priority_whatever_their_pods_have() -> None:
    """A PodGroup's class is what preemption goes by: its gang takes what is less, and is not taken by what is less."""

    async def main(world: BatchWorld) -> None:
        await world.apply(priority("low", 10), priority("middle", 50), priority("high", 100))

        async def own(name: str, group_class: str, count: int, pods_class: str = "") -> None:
            spec = {"schedulingPolicy": {"gang": {"minCount": count}}, "priorityClassName": group_class}
            made = await world.client.create(WORKLOAD_POD_GROUPS, {"metadata": {"name": name}, "spec": spec}, "default")
            assert made["spec"]["priority"] == {"low": 10, "high": 100}[group_class]
            more = {"priorityClassName": pods_class} if pods_class else {}
            for number in range(count):
                pod = member(name, number, cpu="4", schedulingGroup={"podGroupName": name}, **more)
                pod["metadata"]["labels"] = {}
                await world.apply(pod)

        await own("old", "low", 4, pods_class="middle")
        await world.until(lambda: running(world, "old-", 4))
        await own("new", "high", 4)
        await world.until(lambda: running(world, "new-", 4))
        await world.apply(pod_group("vip", 2))
        await world.apply(*(member("vip", number, cpu="4", priorityClassName="middle") for number in range(2)))
        await world.until(lambda: world.why("vip-0"))
        await asyncio.sleep(30)
        assert len(await world.running("new-")) == 4

    play(main, workload_api=True)


def test_what_admission_says_of_the_priority_of_kubernetes_own_groups() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(priority("high", 100))
        policy = {"schedulingPolicy": {"gang": {"minCount": 2}}}

        async def group(name: str, **spec: Any) -> Any:
            obj = {"metadata": {"name": name}, "spec": {**policy, **spec}}
            return await world.client.create(WORKLOAD_POD_GROUPS, obj, "default")

        with pytest.raises(Forbidden, match="no PriorityClass with name none was found"):
            await group("a", priorityClassName="none")
        with pytest.raises(Forbidden, match="must not be provided"):
            await group("a", priority=7)
        made = await group("a")
        assert made["spec"]["priority"] == 0 and "priorityClassName" not in made["spec"]
        templates = [{"name": "w", **policy, "priorityClassName": "high"}]
        workload = {"metadata": {"name": "w"}, "spec": {"podGroupTemplates": templates}}
        made = await world.client.create(WORKLOADS, workload, "default")
        assert made["spec"]["podGroupTemplates"][0]["priority"] == 100 and "priority" not in made["spec"]
        again = {"metadata": made["metadata"], "spec": {"podGroupTemplates": templates}}
        found = await world.client.update(WORKLOADS, again)
        assert found["spec"] == made["spec"]

    play(main, workload_api=True)


def test_the_alpha_kinds_are_off_unless_asked_for() -> None:
    async def main(world: BatchWorld) -> None:
        with pytest.raises(NotFound):
            await world.client.list(WORKLOADS, "default")

    play(main)


@pytest.mark.skipif(not KUEUE.is_dir(), reason="the published manifests are not on this machine")
def test_a_pod_group_that_a_queue_lets_go_is_a_gang() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply_file(KUEUE / "single-clusterqueue-setup.yaml")
        await world.apply(pod_group("full", 1), *(member("full", n, cpu="4") for n in range(4)))
        await world.until(lambda: running(world, "full-", 4))
        await world.apply_file(KUEUE / "kueue-pod-group.yaml")
        await asyncio.sleep(5)
        pods = [pod for pod in await world.pods() if "full" not in pod["metadata"]["name"]]
        assert len(pods) == 2
        assert not any(pod["spec"].get("schedulingGates") for pod in pods)
        why = await world.why(pods[0]["metadata"]["name"])
        assert why.startswith("gang default/sample-group: needs room for 2 pods of 3 cpu; there is room for 0")
        await world.client.delete(PODS, "full-0", "default")
        await asyncio.sleep(40)
        assert await world.nodes_of(pods[0]["metadata"]["name"]) == {}
        await world.client.delete(PODS, "full-1", "default")
        for pod in pods:
            await world.until(lambda pod=pod: running(world, pod["metadata"]["name"], 1))

    play(main, queueing=True)


def test_a_job_that_a_queue_starts_is_a_gang() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 100))
        await world.apply(pod_group("full", 1), member("full", 0, cpu="4"))
        await world.until(lambda: running(world, "full-", 1))
        job = gang_job("j", 4, cpu="4", seconds=60)
        del job["spec"]["template"]["metadata"]["labels"]
        job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "q"}
        await world.apply(job)
        await asyncio.sleep(10)
        assert len(await world.pods(job_name="j")) == 4
        assert await world.nodes_of("j-") == {}
        await world.client.delete(PODS, "full-0", "default")
        await world.until(lambda: running(world, "j-", 4))

    play(main, queueing=True)


def test_what_atoll_gang_shows_of_any_cluster() -> None:
    async def main() -> None:
        async with world(SimulatedGroup(1, "n", cpu="2")) as plain:  # serves none of these kinds
            await plain.pod("big", cpu="4")
            await plain.why_not("big")
            async with observed(plain.client, plain.clock, Chance(1), every_gang, CelSelectors()) as seen:
                assert seen.gangs() == []
                (row,) = seen.pods()
            assert (row.name, row.dialect) == ("big", "")
            assert row.why.endswith("no node is large enough: one with 4 cpu would do")

    run_virtual(main())


def test_what_atoll_gang_shows_of_gangs() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(pod_group("a", 16), gang_job("a", 16, seconds=600))
        await world.until(lambda: running(world, "a-", 16))
        await world.apply(pod_group("b", 2), member("b", 0), pod_group("c", 1), member("nowhere", 0))
        await asyncio.sleep(3)
        async with observed(world.client, world.clock, Chance(1), every_gang, CelSelectors()) as seen:
            rows = {row.name: row for row in seen.gangs()}
        assert (rows["a"].least, rows["a"].members, rows["a"].placed, rows["a"].why) == (16, 16, 16, "")
        assert rows["b"].why == "1 of at least 2 members are there; 1 more would let it be tried"
        assert "its PodGroup nowhere" in rows["nowhere"].why

    play(main)
