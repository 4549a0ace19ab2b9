"""Jobs that change under quota, lose it with their owner, or give it back; pods of controllers that nobody queues.

In virtual time.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from batch_world import batch_world
from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup
from test_queueing_finalizers import API, classes, holds, never_more_than

from atoll.base.errors import Invalid
from atoll.client.port import DeleteOptions
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import CONFIGMAPS, EVENTS, JOBS, PODS
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual


def play(main: Any) -> None:
    async def whole() -> None:
        async with queueing_world() as world:
            await main(world)

    run_virtual(whole())


def running(name: str, completions: int | None, pods: int = 2, seconds: int = 60, **more: Any) -> Any:
    made = job(name, "q", 1, pods, seconds)
    made["spec"] |= {"completions": completions, **more}
    return made


async def told(world: QueueingWorld, reason: str) -> list[str]:
    return [item["message"] for item in (await world.client.list(EVENTS)).items if item["reason"] == reason]


# -- a Job's size


def test_a_running_job_that_is_made_larger_has_no_pod_more_before_it_has_quota_for_all() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 4), running("grows", 12))
        watching = asyncio.create_task(never_more_than(world, 4))
        await asyncio.sleep(5)
        (before,) = (await world.client.list(kueue.WORKLOADS)).items
        await world.client.patch(JOBS, "grows", {"spec": {"parallelism": 6}}, "default")
        await asyncio.sleep(15)
        (after,) = (await world.client.list(kueue.WORKLOADS)).items
        assert after["metadata"]["uid"] != before["metadata"]["uid"] and not holds(after, "QuotaReserved")
        name = f"default/{before['metadata']['name']}"
        assert set(await told(world, "CreatedWorkload")) == {f"Created Workload: {name}"}
        assert await told(world, "DeletedWorkload") == [f"Deleted not matching Workload: {name}"]
        found = await world.client.get(JOBS, "grows", "default")
        assert found["spec"]["suspend"] and not found["status"].get("active")
        await world.client.patch(JOBS, "grows", {"spec": {"parallelism": 4}}, "default")
        await asyncio.sleep(15)
        (after,) = (await world.client.list(kueue.WORKLOADS)).items
        assert holds(after, "Admitted") and after["status"]["admission"]["podSetAssignments"][0]["count"] == 4
        assert (await world.client.get(JOBS, "grows", "default"))["status"]["active"] == 4
        assert not watching.done()
        watching.cancel()

    play(main)


def test_a_job_that_changes_while_its_check_is_awaited_gets_quota_for_what_it_is_then() -> None:
    async def main(world: QueueingWorld) -> None:
        check = {
            "apiVersion": API,
            "kind": "AdmissionCheck",
            "metadata": {"name": "c"},
            "spec": {"controllerName": "x"},
        }
        (made,) = await world.apply(check)
        active = {
            "type": "Active",
            "status": "True",
            "reason": "A",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        await world.client.update(
            kueue.ADMISSION_CHECKS, {**made, "status": {"conditions": [active]}}, subresource="status"
        )
        checks = {"admissionChecks": [{"name": "c"}]}
        await world.apply(FLAVOR, *setup("q", 4, admissionChecksStrategy=checks), running("changes", 12))
        await asyncio.sleep(5)
        (before,) = (await world.client.list(kueue.WORKLOADS)).items
        assert holds(before, "QuotaReserved") and not holds(before, "Admitted")
        await world.client.patch(JOBS, "changes", {"spec": {"parallelism": 3}}, "default")
        await asyncio.sleep(5)
        (after,) = (await world.client.list(kueue.WORKLOADS)).items
        assert holds(after, "QuotaReserved") and after["spec"]["podSets"][0]["count"] == 3
        assert (await world.client.get(JOBS, "changes", "default"))["spec"]["parallelism"] == 3

    play(main)


def test_completions_follow_parallelism_where_the_job_says_so() -> None:
    async def main(world: QueueingWorld) -> None:
        elastic = running("elastic", 6, 6, 5, completionMode="Indexed")
        notes = {kueue.MIN_PARALLELISM: "2", kueue.COMPLETIONS_EQUAL: "true"}
        elastic["metadata"]["annotations"] = notes
        await world.apply(FLAVOR, *setup("q", 4), elastic)
        await asyncio.sleep(4)
        spec = (await world.client.get(JOBS, "elastic", "default"))["spec"]
        assert (spec["parallelism"], spec["completions"]) == (4, 4)
        with pytest.raises(Invalid, match=r"spec\.parallelism: with partial admission"):
            await world.client.patch(JOBS, "elastic", {"spec": {"parallelism": 3, "completions": 3}}, "default")
        await asyncio.sleep(30)
        assert await world.holding("Finished") == ["elastic"]
        assert (await world.client.get(JOBS, "elastic", "default"))["status"]["succeeded"] == 4

    play(main)


def test_a_job_without_completions_gives_back_the_pods_that_are_done() -> None:
    async def main(world: QueueingWorld) -> None:
        queue = running("work", None)
        del queue["spec"]["completions"]
        await world.apply(FLAVOR, *setup("q", 2), queue, running("next", 1, 1, 5))
        await asyncio.sleep(5)
        first, _ = sorted((await world.client.list(PODS)).items, key=lambda it: it["metadata"]["name"])
        assert await world.holding("Admitted") == ["work"]
        status = {**first["status"], "phase": "Succeeded"}
        await world.client.update(PODS, {**first, "status": status}, subresource="status")
        await asyncio.sleep(5)
        assert await world.holding("Admitted") == ["next", "work"]

    play(main)


@pytest.mark.parametrize(
    ("labels", "notes", "spec", "said"),
    [
        ({kueue.QUEUE_LABEL: "My_Queue"}, {}, {}, "'My_Queue' is no name"),
        ({kueue.PREBUILT_LABEL: "A_b"}, {}, {}, "'A_b' is no name"),
        ({kueue.MAX_EXEC_LABEL: "soon"}, {}, {}, "must be a number of seconds, 1 or more, not 'soon'"),
        ({kueue.MAX_EXEC_LABEL: "0"}, {}, {}, "must be a number of seconds, 1 or more, not '0'"),
        ({}, {kueue.MIN_PARALLELISM: "some"}, {}, "must be from 1 to 1, fewer than the job's pods, not 'some'"),
        ({}, {kueue.MIN_PARALLELISM: "2"}, {}, "must be from 1 to 1, fewer than the job's pods, not '2'"),
        ({}, {kueue.COMPLETIONS_EQUAL: "maybe"}, {}, "must be true or false, not 'maybe'"),
        ({}, {kueue.COMPLETIONS_EQUAL: "true"}, {}, "needs completionMode Indexed"),
        ({}, {kueue.COMPLETIONS_EQUAL: "true"}, {"completionMode": "Indexed", "completions": 5},
         "spec.completions: must be equal to parallelism, 2"),
    ],
)  # fmt: skip
def test_what_a_job_can_not_mean_is_refused(labels: Any, notes: Any, spec: Any, said: str) -> None:
    async def main(world: QueueingWorld) -> None:
        wrong = running("wrong", 2)
        wrong["spec"] |= spec
        wrong["metadata"]["labels"] |= labels
        wrong["metadata"]["annotations"] = notes
        with pytest.raises(Invalid, match=said):
            await world.apply(wrong)

    play(main)


def test_what_decides_about_a_running_jobs_quota_is_fixed() -> None:
    async def main(world: QueueingWorld) -> None:
        await classes(world)
        await world.apply(FLAVOR, *setup("q", 4), job("runs", "q", **{kueue.PRIORITY_CLASS_LABEL: "low"}))
        await asyncio.sleep(2)
        for label, value, said in (
            (kueue.PRIORITY_CLASS_LABEL, None, "can't be removed: name another WorkloadPriorityClass"),
            (kueue.PREBUILT_LABEL, "other", "is immutable"),
            (kueue.MAX_EXEC_LABEL, "5", "is immutable while the job runs"),
        ):
            with pytest.raises(Invalid, match=said):
                await world.client.patch(JOBS, "runs", {"metadata": {"labels": {label: value}}}, "default")
        await world.client.patch(
            JOBS, "runs", {"metadata": {"labels": {kueue.PRIORITY_CLASS_LABEL: "high"}}}, "default"
        )

    play(main)


# -- owners


def test_quota_is_free_once_a_job_was_deleted_without_its_workload() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 2), running("gone", 2))
        await asyncio.sleep(4)
        (own,) = (await world.client.list(kueue.WORKLOADS)).items
        await world.apply(running("next", 2, 2, 5))
        await world.client.delete(JOBS, "gone", "default", options=DeleteOptions(propagation="Orphan"))
        await asyncio.sleep(10)
        left = await world.client.get(kueue.WORKLOADS, own["metadata"]["name"], "default")
        over = condition(left, "Finished") or {}
        assert (over["status"], over["reason"]) == ("True", "OwnerNotFound") and not left["metadata"].get("finalizers")
        assert condition(await world.client.get(JOBS, "next", "default"), "Suspended")["status"] == "False"

    play(main)


@pytest.mark.parametrize("queued", [False, True])
def test_a_pod_is_queued_by_itself_unless_what_it_is_of_has_quota_for_it(queued: bool) -> None:
    """A workflow's pods are its own, and so are those of a Job that names no queue."""

    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 1))
        flow = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "flow"}}
        owner = await world.client.create(CONFIGMAPS, flow, "default")
        reference = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": "flow",
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
        for name in ("step-a", "step-b"):
            metadata = {"name": name, "labels": {kueue.QUEUE_LABEL: "q"}, "ownerReferences": [reference],
                        "annotations": {"scenario/exit-code": "0", "scenario/run-seconds": "10"}}  # fmt: skip
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": metadata,
                "spec": {"containers": [container], "restartPolicy": "Never"},
            }
            await world.client.create(PODS, pod, "default")
        await asyncio.sleep(5)
        gated = [bool(pod["spec"].get("schedulingGates")) for pod in (await world.client.list(PODS)).items]
        assert sorted(gated) == [False, True]
        await asyncio.sleep(30)
        assert await world.holding("Finished") == ["step-a", "step-b"]
        made = running("work", 1, 1, 5)
        made["spec"]["template"]["metadata"]["labels"] = {kueue.QUEUE_LABEL: "q"}
        if not queued:
            made["metadata"]["labels"] = {"app": "work"}  # without any it would get its pods' labels
        await world.apply(made)
        await asyncio.sleep(3)
        names = [
            it["metadata"]["ownerReferences"][0]["kind"] for it in (await world.client.list(kueue.WORKLOADS)).items
        ]
        assert sorted(names) == (["Job", "Pod", "Pod"] if queued else ["Pod", "Pod", "Pod"])
        own = (await world.client.get(JOBS, "work", "default"))["metadata"]
        itself = {"apiVersion": "batch/v1", "kind": "Job", "name": "work", "uid": own["uid"], "controller": True}
        if not queued:
            await world.client.patch(JOBS, "work", {"metadata": {"ownerReferences": [itself]}}, "default")
            metadata = {"name": "round", "labels": {kueue.QUEUE_LABEL: "q"}, "ownerReferences": [itself]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}
            assert (await world.client.create(PODS, pod, "default"))["spec"]["schedulingGates"]

    play(main)


def test_pods_say_in_which_queues_they_have_quota() -> None:
    async def main(world: QueueingWorld) -> None:
        await classes(world)
        policy = {"withinClusterQueue": "LowerPriority"}
        low = {kueue.PRIORITY_CLASS_LABEL: "low"}
        await world.apply(FLAVOR, *setup("q", 1, preemption=policy), job("runs", "q", 1, 1, 30, **low))
        await asyncio.sleep(3)
        (pod,) = (await world.client.list(PODS, label_selector=f"{kueue.CLUSTER_QUEUE_LABEL}=q")).items
        assert pod["metadata"]["labels"][kueue.LOCAL_QUEUE_LABEL] == "q"
        assert pod["metadata"]["labels"][kueue.POD_SET_LABEL] == "main"
        await world.apply(job("urgent", "q", 1, 1, 5, **{kueue.PRIORITY_CLASS_LABEL: "high"}))
        await asyncio.sleep(6)
        template = (await world.client.get(JOBS, "runs", "default"))["spec"]["template"]
        assert kueue.CLUSTER_QUEUE_LABEL not in template["metadata"]["labels"]
        await asyncio.sleep(60)
        assert await world.holding("Finished") == ["runs", "urgent"]

    play(main)


def test_why_one_waits_whose_queue_is_not_there_has_its_own_reason() -> None:
    async def main(world: QueueingWorld) -> None:
        await world.apply(FLAVOR, *setup("q", 1), job("lost", "nowhere"), job("large", "q", 2))
        await asyncio.sleep(4)
        found = await world.workloads()
        assert condition(found["lost"], "QuotaReserved")["reason"] == "Inadmissible"
        assert condition(found["large"], "QuotaReserved")["reason"] == "Pending"

    play(main)


# -- JobSets


def job_set(name: str, queue: str, *jobs: tuple[str, int, int], **spec: Any) -> Any:
    """`jobs`: (name, pods, seconds)."""
    made = []
    for own, pods, seconds in jobs:
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]},
                    "metadata": {"annotations": {"atoll.dev/run-seconds": str(seconds)}}}  # fmt: skip
        inner = {"parallelism": pods, "completions": pods, "template": template}
        made.append({"name": own, "replicas": 1, "template": {"spec": inner}})
    metadata = {"name": name, "labels": {kueue.QUEUE_LABEL: queue} if queue else {}}
    return {
        "apiVersion": JOB_SETS.api_version,
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {"replicatedJobs": made, **spec},
    }


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_job_set_gives_back_what_its_jobs_need_no_more_unless_they_may_run_again(restarts: int) -> None:
    async def main() -> None:
        async with batch_world(SimulatedGroup(2, "n", cpu="8"), queueing=True) as world:
            policy = {"failurePolicy": {"maxRestarts": restarts}} if restarts else {}
            await world.apply(FLAVOR, *setup("q", 3))
            await world.apply(job_set("one", "q", ("short", 2, 5), ("long", 1, 100), **policy))
            await asyncio.sleep(3)
            await world.apply(job_set("two", "q", ("work", 2, 5)))
            await asyncio.sleep(25)
            running = await world.running("two-")
            done = {
                it["metadata"]["name"]
                for it in (await world.client.list(kueue.WORKLOADS)).items
                if holds(it, "Finished")
            }
            assert (bool(running or done)) is not bool(restarts)

    run_virtual(main())


def test_the_namespaces_default_queue_takes_job_sets_that_name_none() -> None:
    async def main() -> None:
        async with batch_world(SimulatedGroup(2, "n", cpu="8"), queueing=True) as world:
            (queue, local) = setup("q", 1)
            await world.apply(FLAVOR, queue, {**local, "metadata": {"name": "default"}})
            (made,) = await world.apply(job_set("large", "", ("work", 2, 5)))
            assert made["metadata"]["labels"][kueue.QUEUE_LABEL] == "default" and made["spec"]["suspend"]
            await asyncio.sleep(5)
            (workload,) = (await world.client.list(kueue.WORKLOADS)).items
            assert workload["spec"]["queueName"] == "default" and not await world.running("large-")
            found = await world.client.get(JOB_SETS, "large", "default")
            pod = found["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
            pod["nodeSelector"] = {"pool": "b"}
            await world.client.update(JOB_SETS, found)
            await asyncio.sleep(3)
            (workload,) = (await world.client.list(kueue.WORKLOADS)).items
            assert workload["spec"]["podSets"][0]["template"]["spec"]["nodeSelector"] == {"pool": "b"}

    run_virtual(main())
