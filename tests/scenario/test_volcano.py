"""Volcano's Job, PodGroup and Queue in virtual time: states, policies, plugins, capability, shares, kills anywhere."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from batch_world import BatchWorld, batch_world, member

from atoll.base.errors import Invalid, NotFound
from atoll.client.port import DeleteOptions
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import batch, builtin
from atoll.kinds.builtin import CONFIGMAPS, PODS, SERVICES
from atoll.objects.meta import copy
from atoll.runtime.virtual import run_virtual

NODES = SimulatedGroup(4, "n", cpu="4")  # 16 CPUs


def play(main: Any) -> None:
    async def whole() -> None:
        async with batch_world(NODES) as world:
            await main(world)

    run_virtual(whole())


def task(name: str, replicas: int = 1, cpu: str = "1", **more: Any) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    template = {"metadata": {"annotations": {"atoll.dev/run-seconds": "3600"}}, "spec": {"containers": [container]}}
    return {"name": name, "replicas": replicas, "template": template, **more}


def job(*tasks: Any, name: str = "j", **spec: Any) -> Any:
    return {
        "apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": name},
        "spec": {"tasks": list(tasks), **spec},
    }  # fmt: skip


def queue(name: str, **spec: Any) -> Any:
    return {
        "apiVersion": "scheduling.volcano.sh/v1beta1", "kind": "Queue", "metadata": {"name": name}, "spec": spec,
    }  # fmt: skip


async def tell(world: BatchWorld, action: str, target: Any) -> str:
    """A Command, as vcctl makes it; its name."""
    metadata = target["metadata"]
    of = {name: target[name] for name in ("apiVersion", "kind")} | {"name": metadata["name"], "uid": metadata["uid"]}
    command = {"apiVersion": "bus.volcano.sh/v1alpha1", "kind": "Command"}
    command |= {"metadata": {"generateName": f"{metadata['name']}-"}, "action": action, "target": of}
    made = await world.client.create(batch.VOLCANO_COMMANDS, command, metadata.get("namespace") or "default")
    return str(made["metadata"]["name"])


async def get(world: BatchWorld, name: str = "j") -> Any:
    return await world.client.get(batch.VOLCANO_JOBS, name, "default")


async def group_of(world: BatchWorld, name: str = "j") -> Any:
    uid = (await get(world, name))["metadata"]["uid"]
    return await world.client.get(batch.VOLCANO_POD_GROUPS, f"{name}-{uid}", "default")


async def group_says(world: BatchWorld, wanted: str) -> bool:
    return ((await group_of(world)).get("status") or {}).get("phase") == wanted


async def phase(world: BatchWorld, wanted: str, name: str = "j") -> bool:
    return ((await get(world, name)).get("status") or {}).get("state", {}).get("phase") == wanted


async def running(world: BatchWorld, count: int, prefix: str = "j-") -> bool:
    return len(await world.running(prefix)) == count


async def end(world: BatchWorld, name: str, code: int = 0) -> None:
    """A pod ends by itself."""
    pod = await world.client.get(PODS, name, "default")
    terminated = {"exitCode": code, "reason": "Done", "startedAt": None, "finishedAt": None}
    containers = [
        {**item, "ready": False, "state": {"terminated": terminated}} for item in pod["status"]["containerStatuses"]
    ]
    new = {**pod["status"], "phase": "Failed" if code else "Succeeded", "containerStatuses": containers}
    await world.client.update(PODS, {**pod, "status": new}, subresource="status")


def test_a_job_runs_as_a_gang_and_completes() -> None:
    async def main(world: BatchWorld) -> None:
        (made,) = await world.apply(job(task("ps", 1), task("worker", 3), plugins={"svc": [], "env": []}))
        assert (made["spec"]["minAvailable"], made["spec"]["queue"], made["spec"]["maxRetry"]) == (4, "default", 3)
        await world.until(lambda: phase(world, "Running"))
        assert await world.running("j-") == ["j-ps-0", "j-worker-0", "j-worker-1", "j-worker-2"]
        group = await group_of(world)
        assert group["spec"]["minTaskMember"] == {"ps": 1, "worker": 3}
        assert group["spec"]["minResources"] == {"cpu": "4000m"}
        await world.until(lambda: group_says(world, "Running"))
        pod = await world.client.get(PODS, "j-worker-1", "default")
        assert pod["spec"]["schedulerName"] == "volcano"
        assert pod["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == group["metadata"]["name"]
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("j-worker-1", "j")
        variables = {item["name"]: item.get("value") for item in pod["spec"]["containers"][0]["env"]}
        assert variables["VC_TASK_INDEX"] == "1"
        assert "VC_WORKER_HOSTS" in variables
        hosts = (await world.client.get(CONFIGMAPS, "j-svc", "default"))["data"]
        assert hosts["VC_WORKER_HOSTS"] == "j-worker-0.j,j-worker-1.j,j-worker-2.j"
        assert (await world.client.get(SERVICES, "j", "default"))["spec"]["clusterIP"] == "None"
        for name in await world.running("j-"):
            await end(world, name)
        await world.until(lambda: phase(world, "Completed"))
        status = (await get(world))["status"]
        assert status["succeeded"] == 4
        assert status["taskStatusCount"]["worker"] == {"phase": {"Succeeded": 3}}

        await world.until(lambda: group_says(world, "Completed"))

    play(main)


def test_plugins_of_frameworks_tell_pods_who_they_are() -> None:
    async def main(world: BatchWorld) -> None:
        torch = job(task("master"), task("worker", 2), name="t", plugins={"pytorch": ["--port=3000"]})
        flow = job(task("server"), task("worker", 2), name="f", plugins={"tensorflow": ["--ps=server"]})
        mpi = job(task("master"), task("worker", 2), name="m", plugins={"mpi": [], "ssh": []})
        await world.apply(torch, flow, mpi)
        for name in "tfm":
            await world.until(lambda name=name: phase(world, "Running", name))

        async def env(name: str) -> Any:
            (container,) = (await world.client.get(PODS, name, "default"))["spec"]["containers"]
            return {item["name"]: item.get("value") for item in container["env"]}, container["ports"]

        found, ports = await env("t-worker-1")
        wanted = {"MASTER_ADDR": "t-master-0.t", "MASTER_PORT": "3000", "WORLD_SIZE": "3", "RANK": "2"}
        assert wanted.items() <= found.items()
        assert [port["containerPort"] for port in ports] == [3000]
        assert (await env("t-master-0"))[0]["RANK"] == "0"
        assert json.loads((await env("f-worker-1"))[0]["TF_CONFIG"]) == {
            "cluster": {"ps": ["f-server-0.f:2222"], "worker": ["f-worker-0.f:2222", "f-worker-1.f:2222"]},
            "task": {"type": "worker", "index": 1},
        }
        assert (await env("m-master-0"))[0]["MPI_HOST"] == "m-worker-0.m,m-worker-1.m"
        assert "MPI_HOST" not in (await env("m-worker-0"))[0]
        for name in "tfm":
            assert (await world.client.get(SERVICES, name, "default"))["spec"]["clusterIP"] == "None"
        (event,) = await world.events("PluginNotMade")
        assert event["message"].startswith("plugins ssh are not made here")

    play(main)


def test_a_failed_pod_restarts_the_job_as_often_as_it_may() -> None:
    async def main(world: BatchWorld) -> None:
        policies = [{"event": "PodFailed", "action": "RestartJob"}]
        await world.apply(job(task("w", 2), policies=policies, maxRetry=2))
        await world.until(lambda: phase(world, "Running"))
        before = {pod["metadata"]["uid"] for pod in await world.pods()}
        await end(world, "j-w-0", 1)
        await asyncio.sleep(60)
        await world.until(lambda: phase(world, "Running"))
        pods = await world.pods()
        assert not before & {pod["metadata"]["uid"] for pod in pods}
        status = (await get(world))["status"]
        assert (status["retryCount"], status["version"]) == (1, 1)
        await end(world, "j-w-1", 1)
        await world.until(lambda: phase(world, "Failed"))
        await world.until(lambda: running(world, 0))

    play(main)


@pytest.mark.parametrize(
    ("action", "phase_then", "kept"),
    [("AbortJob", "Aborted", 1), ("TerminateJob", "Terminated", 1), ("CompleteJob", "Completed", 1)],
)
def test_a_task_s_end_ends_the_job(action: str, phase_then: str, kept: int) -> None:
    async def main(world: BatchWorld) -> None:
        head = task("head", policies=[{"event": "TaskCompleted", "action": action}])
        await world.apply(job(head, task("w", 3)))
        await world.until(lambda: phase(world, "Running"))
        await end(world, "j-head-0")
        await world.until(lambda: phase(world, phase_then))
        assert [pod["metadata"]["name"] for pod in await world.pods()] == ["j-head-0"]
        await asyncio.sleep(2)
        assert (await world.client.list(batch.VOLCANO_POD_GROUPS)).items == []  # it takes nothing of its queue any more

    play(main)


def test_an_exit_code_restarts_one_task() -> None:
    async def main(world: BatchWorld) -> None:
        workers = task("w", 2, policies=[{"exitCode": 3, "action": "RestartTask"}])
        await world.apply(job(task("head"), workers))
        await world.until(lambda: phase(world, "Running"))
        before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.pods()}
        await end(world, "j-w-0", 3)
        await asyncio.sleep(50)
        await world.until(lambda: phase(world, "Running"))
        after = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in await world.pods()}
        assert {name for name in after if after[name] != before[name]} == {"j-w-0", "j-w-1"}
        assert (await get(world))["status"]["retryCount"] == 1

    play(main)


def test_an_evicted_pod_restarts_the_job_and_without_a_policy_only_itself() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(job(task("w", 2), policies=[{"event": "PodEvicted", "action": "RestartJob"}]),
                          job(task("w", 2), name="plain"))  # fmt: skip
        for name in ("j", "plain"):
            await world.until(lambda name=name: phase(world, "Running", name))
        for name in ("j-w-0", "plain-w-0"):
            await world.client.delete(PODS, name, "default")
        await asyncio.sleep(60)
        for name in ("j", "plain"):
            await world.until(lambda name=name: running(world, 2, f"{name}-"))
        assert (await get(world))["status"].get("retryCount") == 1
        assert not (await get(world, "plain"))["status"].get("retryCount")

    play(main)


def test_tasks_wait_for_what_they_depend_on_and_the_dead_are_removed() -> None:
    async def main(world: BatchWorld) -> None:
        first = task("a")
        first["template"]["spec"]["nodeSelector"] = {"ready": "yes"}
        await world.apply(job(first, task("b", dependsOn={"name": ["a"]}), minAvailable=1, ttlSecondsAfterFinished=20))
        await asyncio.sleep(5)
        assert [pod["metadata"]["name"] for pod in await world.pods()] == ["j-a-0"]
        await world.client.patch(builtin.NODES, "n-1", {"metadata": {"labels": {"ready": "yes"}}})
        await world.until(lambda: running(world, 2))
        for name in ("j-a-0", "j-b-0"):
            await end(world, name)
        await world.until(lambda: phase(world, "Completed"))
        await asyncio.sleep(40)
        with pytest.raises(NotFound):
            await get(world)
        assert await world.pods() == []

    play(main)


def test_pods_that_wait_too_long() -> None:
    async def main(world: BatchWorld) -> None:
        stuck = task("w", 1, policies=[{"event": "PodPending", "action": "TerminateJob", "timeout": "30s"}])
        stuck["template"]["spec"]["nodeSelector"] = {"no": "such"}
        await world.apply(job(stuck))
        await asyncio.sleep(20)
        assert await phase(world, "Pending")
        await world.until(lambda: phase(world, "Terminated"), 60)

    play(main)


async def no_commands(world: BatchWorld) -> bool:
    return not (await world.client.list(batch.VOLCANO_COMMANDS)).items


def test_commands_abort_a_job_resume_it_and_end_it() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("small", capability={"cpu": "2"}))
        await world.apply(job(task("w", 2), queue="small"), job(task("w", 2), name="k", queue="small"))
        await world.until(lambda: phase(world, "Running"))
        await tell(world, "ResumeJob", await get(world))  # has no meaning now
        await world.until(lambda: no_commands(world))
        assert await phase(world, "Running")
        await tell(world, "AbortJob", await get(world))
        await world.until(lambda: phase(world, "Aborted"))
        await world.until(lambda: phase(world, "Running", "k"))  # its queue has the room
        await tell(world, "ResumeJob", await get(world))
        await world.until(lambda: phase(world, "Pending"))
        assert (await get(world))["status"]["retryCount"] == 1
        await tell(world, "TerminateJob", await get(world, "k"))
        await world.until(lambda: phase(world, "Terminated", "k"))
        await world.until(lambda: phase(world, "Running"))
        await tell(world, "RestartJob", await get(world))
        await world.until(lambda: no_commands(world))
        await world.until(lambda: phase(world, "Running"))
        assert (await get(world))["status"]["retryCount"] == 2
        await tell(world, "CompleteJob", await get(world))
        await world.until(lambda: phase(world, "Completed"))
        assert await world.pods() == []
        assert await no_commands(world)

    play(main)


def test_commands_are_carried_out_once_wherever_the_controller_is_killed() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(job(task("w", 2), maxRetry=100))
        await world.until(lambda: phase(world, "Running"))
        for turns in range(1, 30):
            await tell(world, "RestartJob", await get(world))
            await steps_then_restart(world, turns)
            await world.until(lambda: no_commands(world))
            await world.until(lambda: phase(world, "Running"))
            assert (await get(world))["status"]["retryCount"] == turns

    play(main)


def test_commands_close_and_open_a_queue() -> None:
    async def main(world: BatchWorld) -> None:
        (made,) = await world.apply(queue("q"))
        await world.apply(job(task("w", 2), queue="q"))
        await world.until(lambda: phase(world, "Running"))

        async def state(wanted: str) -> bool:
            return (await world.client.get(batch.VOLCANO_QUEUES, "q"))["status"].get("state") == wanted

        await tell(world, "CloseQueue", made)
        await world.until(lambda: state("Closing"))
        await world.apply(job(task("w", 2), name="k", queue="q"))
        await asyncio.sleep(5)
        assert await world.nodes_of("k-") == {}
        for name in ("j", "k"):
            options = DeleteOptions(propagation="Background")
            await world.client.delete(batch.VOLCANO_JOBS, name, "default", options=options)
        await world.until(lambda: state("Closed"))
        await tell(world, "OpenQueue", made)
        await world.apply(job(task("w", 2), name="l", queue="q"))
        await world.until(lambda: phase(world, "Running", "l"))

    play(main)


def test_a_queue_s_capability_holds_groups_back() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("small", capability={"cpu": "4"}))
        await world.apply(job(task("w", 3), name="a", queue="small"), job(task("w", 3), name="b", queue="small"))
        await world.until(lambda: phase(world, "Running", "a"))
        await asyncio.sleep(5)
        assert await world.nodes_of("b-") == {}
        condition = (await group_of(world, "b"))["status"]["conditions"][0]
        assert condition["message"] == "queue small would exceed its capability by 2 cpu"
        found = (await world.client.get(batch.VOLCANO_QUEUES, "small"))["status"]
        assert (found["running"], found["pending"], found["allocated"]["cpu"]) == (1, 1, "3000m")
        for name in await world.running("a-"):
            await end(world, name)
        await world.until(lambda: phase(world, "Running", "b"))

    play(main)


def test_a_queue_takes_back_its_share_in_whole_groups() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("one", weight=1), queue("two", weight=1))
        await world.apply(*(job(task("w", 4), name=f"a{n}", queue="one") for n in range(4)))
        for n in range(4):
            await world.until(lambda n=n: phase(world, "Running", f"a{n}"))
        await world.apply(job(task("w", 4), name="b", queue="two"))
        await world.until(lambda: phase(world, "Running", "b"), 120)
        counts = [len(await world.nodes_of(f"a{n}-")) for n in range(4)]
        assert sorted(counts) == [0, 4, 4, 4]

    play(main)


def test_a_queue_takes_back_what_it_deserves() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("one", deserved={"cpu": "4"}), queue("two", deserved={"cpu": "12"}),
                          queue("kept", deserved={"cpu": "4"}, reclaimable=False))  # fmt: skip
        await world.apply(*(job(task("w", 4), name=f"a{n}", queue="one") for n in range(3)))
        await world.apply(job(task("w", 4), name="k", queue="kept"))
        for name in ("a0", "a1", "a2", "k"):
            await world.until(lambda name=name: phase(world, "Running", name))
        await world.apply(*(job(task("w", 4), name=f"b{n}", queue="two") for n in range(3)))
        for _ in range(60):
            await asyncio.sleep(2)
            counts = [len(await world.nodes_of(f"{name}-")) for name in ("a0", "a1", "a2", "k", "b0", "b1", "b2")]
            if sum(counts[4:]) == 8:
                break
        assert sorted(counts[:3]) == [0, 0, 4]  # what it deserves stays
        assert counts[3] == 4
        assert sum(counts[4:]) == 8

    play(main)


def test_what_a_queue_is_guaranteed_is_left_to_it() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("sure", guarantee={"resource": {"cpu": "8"}}), queue("other"))
        await world.apply(*(job(task("w", 4), name=f"a{n}", queue="other") for n in range(3)))
        await asyncio.sleep(10)
        counts = {f"a{n}": len(await world.nodes_of(f"a{n}-")) for n in range(3)}
        assert sorted(counts.values()) == [0, 4, 4]
        (waiting,) = [name for name in counts if not counts[name]]
        assert (await group_of(world, waiting))["status"]["conditions"][0]["message"] == "the cluster lacks 4 cpu"
        await world.apply(job(task("w", 8), name="b", queue="sure"))
        await world.until(lambda: phase(world, "Running", "b"))

    play(main)


def test_pods_of_volcano_s_scheduler_wait_for_their_queue_too() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("small", capability={"cpu": "2"}))
        for number in range(3):
            pod = member("p", number, schedulerName="volcano")
            pod["metadata"] |= {"labels": {}, "annotations": {"scheduling.volcano.sh/queue-name": "small"}}
            await world.apply(pod)
        await world.until(lambda: running(world, 2, "p-"))
        await asyncio.sleep(10)
        (waiting,) = {f"p-{n}" for n in range(3)} - set(await world.nodes_of("p-"))
        assert "queue small has not let it in: queue small would exceed its capability by 1 cpu" in await world.why(
            waiting
        )
        groups = (await world.client.list(batch.VOLCANO_POD_GROUPS)).items
        assert len(groups) == 3
        gone = next(iter(await world.nodes_of("p-")))
        await world.client.delete(PODS, gone, "default")
        await asyncio.sleep(40)
        await world.until(lambda: running(world, 2, "p-"))
        assert len((await world.client.list(batch.VOLCANO_POD_GROUPS)).items) == 2  # a group goes with its pod

    play(main)


def test_a_queue_is_bound_by_those_above_it() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(queue("team", parent="root", capability={"cpu": "6"}))
        await world.apply(queue("day", parent="team"), queue("night", parent="team"))
        await world.apply(job(task("w", 4), name="a", queue="day"))
        await world.until(lambda: phase(world, "Running", "a"))
        await world.apply(job(task("w", 4), name="b", queue="night"), job(task("w", 2), name="c", queue="night"))
        await world.until(lambda: phase(world, "Running", "c"))
        await asyncio.sleep(5)
        assert await world.nodes_of("b-") == {}
        why = (await group_of(world, "b"))["status"]["conditions"][0]["message"]
        assert why.startswith("queue team would exceed its capability by")

    play(main)


def test_a_job_grows_and_shrinks_and_nothing_else_of_it_changes() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(job(task("w", 2)))
        await world.until(lambda: phase(world, "Running"))
        for count in (3, 1):
            obj = copy(await get(world))
            obj["spec"]["minAvailable"] = 1
            obj["spec"]["tasks"][0] |= {"replicas": count, "minAvailable": 1}
            await world.client.update(batch.VOLCANO_JOBS, obj)
            await world.until(lambda count=count: running(world, count))
        obj = copy(await get(world))
        obj["spec"]["queue"] = "other"
        with pytest.raises(Invalid, match="may change in minAvailable"):
            await world.client.update(batch.VOLCANO_JOBS, obj)

    play(main)


def test_two_jobs_that_need_everything() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(job(task("w", 16), name="a"), job(task("w", 16), name="b"))
        for _ in range(20):
            held = [len(await world.nodes_of(f"{name}-")) for name in "ab"]
            assert min(held) == 0
            await asyncio.sleep(0.5)
        assert max(held) == 16
        first, second = ("a", "b") if held[0] else ("b", "a")
        for name in await world.running(f"{first}-"):
            await end(world, name)
        await world.until(lambda: phase(world, "Running", second))

    play(main)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"tasks": [task("a"), task("a")]}, "the name of another task too"),
        ({"minAvailable": 9}, "9 is more than the 1 pods"),
        ({"policies": [{"event": "PodFailed", "action": "Dance"}]}, "'Dance' is none of"),
        ({"policies": [{"event": "PodFailed", "exitCode": 1, "action": "AbortJob"}]}, "either events or an exitCode"),
    ],
)
def test_mistakes_are_refused(spec: Any, words: str) -> None:
    async def main(world: BatchWorld) -> None:
        wrong = job(task("w"))
        wrong["spec"] |= spec
        with pytest.raises(Invalid, match=words):
            await world.apply(wrong)

    play(main)


@pytest.mark.parametrize("share", range(3))
def test_controllers_may_be_killed_at_any_await(share: int) -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(job(task("w", 3), policies=[{"event": "PodFailed", "action": "RestartJob"}]))
        for steps in range(share, 90, 9):
            await steps_then_restart(world, steps)
        await world.until(lambda: phase(world, "Running"))
        await end(world, "j-w-1", 1)
        for steps in range(share, 120, 12):
            await steps_then_restart(world, steps)

        async def again() -> bool:
            return ((await get(world))["status"].get("retryCount") or 0) == 1 and await running(world, 3)

        await world.until(again)
        await world.until(lambda: phase(world, "Running"))
        for name in await world.running("j-"):
            await end(world, name)
        await world.until(lambda: phase(world, "Completed"))

    play(main)


async def steps_then_restart(world: BatchWorld, steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.stop()
    world.start()
