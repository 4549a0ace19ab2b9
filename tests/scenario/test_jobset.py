"""JobSet in virtual time: published manifests, policies of success, failure and start, suspension, kills anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from batch_world import BatchWorld, batch_world
from queueing_world import FLAVOR, setup

from atoll.base.errors import Invalid, NotFound
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds import builtin, kueue
from atoll.kinds.batch import JOB_SETS
from atoll.kinds.builtin import DEPLOYMENTS, JOBS, PERSISTENT_VOLUME_CLAIMS, PODS, SERVICES
from atoll.objects.meta import copy
from atoll.runtime.virtual import run_virtual

INPUTS = Path(__file__).parents[3] / "shared" / "inputs" / "jobset"
published = pytest.mark.skipif(not INPUTS.is_dir(), reason="the published manifests are not on this machine")
NODES = SimulatedGroup(4, "n", cpu="4")
PREFIX = "jobset.sigs.k8s.io"


def play(main: Any, *groups: SimulatedGroup, **flags: Any) -> None:
    async def whole() -> None:
        async with batch_world(*(groups or (NODES,)), **flags) as world:
            await main(world)

    run_virtual(whole())


def replicated(name: str, replicas: int = 1, pods: int = 1, seconds: int = 600, **more: Any) -> Any:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}
    template = {
        "metadata": {"annotations": {"atoll.dev/run-seconds": str(seconds)}},
        "spec": {"containers": [container], "restartPolicy": "Never"},
    }
    spec = {"parallelism": pods, "completions": pods, "backoffLimit": 0, "template": template}
    return {"name": name, "replicas": replicas, "template": {"spec": spec}, **more}


def jobset(*jobs: Any, name: str = "s", **spec: Any) -> Any:
    notes = spec.pop("annotations", {})
    metadata = {"name": name, "annotations": notes}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata,
        "spec": {"replicatedJobs": list(jobs), **spec},
    }  # fmt: skip


async def get(world: BatchWorld, name: str = "s") -> Any:
    return copy(await world.client.get(JOB_SETS, name, "default"))


async def status(world: BatchWorld, name: str = "s") -> Any:
    return (await get(world, name)).get("status") or {}


async def says(world: BatchWorld, kind: str, value: str = "True", name: str = "s") -> Any:
    found = (await status(world, name)).get("conditions") or ()
    return next((item for item in found if item["type"] == kind and item["status"] == value), None)


async def jobs(world: BatchWorld) -> dict[str, Any]:
    return {item["metadata"]["name"]: item for item in (await world.client.list(JOBS)).items}


async def running(world: BatchWorld, count: int, prefix: str = "s-") -> bool:
    return len(await world.running(prefix)) == count


async def fail(world: BatchWorld, prefix: str) -> None:
    """A pod of that prefix ends with an error."""
    name = (await world.running(prefix))[0]
    pod = await world.client.get(PODS, name, "default")
    ended = {"exitCode": 1, "reason": "Error", "startedAt": None, "finishedAt": None}
    containers = [
        {**item, "ready": False, "state": {"terminated": ended}} for item in pod["status"]["containerStatuses"]
    ]
    new = {**pod["status"], "phase": "Failed", "containerStatuses": containers}
    await world.client.update(PODS, {**pod, "status": new}, subresource="status")


@published
def test_the_published_parallel_jobs_run_to_their_end() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply_file(INPUTS / "paralleljobs.yaml")
        await world.until(lambda: says(world, "Completed", name="paralleljobs"))
        assert (await status(world, "paralleljobs"))["terminalState"] == "Completed"
        counts = {it["name"]: it["succeeded"] for it in (await status(world, "paralleljobs"))["replicatedJobsStatus"]}
        assert counts == {"workers": 1, "driver": 1}
        spec = (await get(world, "paralleljobs"))["spec"]
        assert spec["network"] == {"enableDNSHostnames": True, "publishNotReadyAddresses": True}
        assert spec["replicatedJobs"][0]["template"]["spec"]["completionMode"] == "Indexed"
        service = await world.client.get(SERVICES, "paralleljobs", "default")
        assert service["spec"]["clusterIP"] == "None"
        assert service["spec"]["selector"] == {f"{PREFIX}/jobset-name": "paralleljobs"}

    play(main)


@published
def test_the_published_failure_policy_restarts_three_times_and_fails() -> None:
    async def main(world: BatchWorld) -> None:
        obj = yaml.safe_load((INPUTS / "failure-policy.yaml").read_text())
        for item in obj["spec"]["replicatedJobs"]:  # simulated pods run no scripts: they last, and the test fails one
            pod = item["template"]["spec"]["template"]
            pod["metadata"] = {"annotations": {"atoll.dev/run-seconds": "1000"}}
        await world.apply(obj)
        for attempt in range(4):
            await world.until(lambda: running(world, 4, "failure-policy-"))
            labels = {pod["metadata"]["labels"][f"{PREFIX}/restart-attempt"] for pod in await world.pods()}
            assert labels == {str(attempt)}
            await fail(world, "failure-policy-leader-0-0")
            await asyncio.sleep(60)
        failed = await says(world, "Failed", name="failure-policy")
        assert failed["reason"] == "ReachedMaxRestarts"
        assert "(first failed job: failure-policy-leader-0)" in failed["message"]
        found = await status(world, "failure-policy")
        assert (found["restarts"], found["restartsCountTowardsMax"], found["terminalState"]) == (3, 3, "Failed")
        assert await world.running("failure-policy-") == []
        assert sum(item["count"] for item in await world.events("RestartJobSetFailurePolicyAction")) == 3

    play(main)


def test_labels_names_and_the_coordinator() -> None:
    async def main(world: BatchWorld) -> None:
        coordinator = {"replicatedJob": "workers", "jobIndex": 1, "podIndex": 0}
        await world.apply(jobset(replicated("driver", groupName="g"), replicated("workers", 2, 2),
                                 coordinator=coordinator, network={"subdomain": "net"}))  # fmt: skip
        await world.until(lambda: running(world, 5))
        made = await jobs(world)
        assert set(made) == {"s-driver-0", "s-workers-0", "s-workers-1"}
        labels = made["s-workers-1"]["spec"]["template"]["metadata"]["labels"]
        wanted = {
            "jobset-name": "s", "replicatedjob-name": "workers", "replicatedjob-replicas": "2", "job-index": "1",
            "global-replicas": "3", "job-global-index": "2", "restart-attempt": "0", "group-name": "default",
            "group-replicas": "2", "job-group-index": "1", "coordinator": "s-workers-1-0.net",
        }  # fmt: skip
        assert {name: labels.get(f"{PREFIX}/{name}") for name in wanted} == wanted
        assert made["s-workers-1"]["metadata"]["labels"][f"{PREFIX}/job-key"] == labels[f"{PREFIX}/job-key"]
        pod = next(it for it in await world.pods() if it["metadata"]["name"].startswith("s-workers-1-0-"))
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("s-workers-1-0", "net")
        assert (await world.client.get(SERVICES, "net", "default"))["spec"]["publishNotReadyAddresses"] is True

    play(main)


def test_success_of_any_ends_all_and_time_to_live_removes_it() -> None:
    async def main(world: BatchWorld) -> None:
        policy = {"operator": "Any", "targetReplicatedJobs": ["driver"]}
        await world.apply(jobset(replicated("driver", seconds=5), replicated("workers", 1, 3),
                                 successPolicy=policy, ttlSecondsAfterFinished=30))  # fmt: skip
        await world.until(lambda: says(world, "Completed"))
        await world.until(lambda: running(world, 0))
        assert set(await jobs(world)) == {"s-driver-0"}
        await asyncio.sleep(40)
        with pytest.raises(NotFound):
            await get(world)
        assert await jobs(world) == {}

    play(main)


def rules(*items: Any, most: int = 1) -> Any:
    return {"maxRestarts": most, "rules": list(items)}


def test_a_rule_fails_it_at_once() -> None:
    async def main(world: BatchWorld) -> None:
        rule = {
            "action": "FailJobSet",
            "targetReplicatedJobs": ["driver"],
            "onJobFailureReasons": ["BackoffLimitExceeded"],
        }
        await world.apply(jobset(replicated("driver"), replicated("workers"), failurePolicy=rules(rule)))
        await world.until(lambda: running(world, 2))
        assert (await get(world))["spec"]["failurePolicy"]["rules"][0]["name"] == "failurePolicyRule0"
        await fail(world, "s-driver")
        failed = await world.until(lambda: says(world, "Failed"))
        assert failed["reason"] == "FailJobSetFailurePolicyAction"
        await world.until(lambda: running(world, 0))

    play(main)


def test_a_rule_that_ignores_the_maximum_restarts_for_ever() -> None:
    async def main(world: BatchWorld) -> None:
        rule = {"action": "RestartJobSetAndIgnoreMaxRestarts", "onJobFailureMessagePatterns": ["backoff.?limit"]}
        await world.apply(jobset(replicated("w", 1, 2), failurePolicy=rules(rule, most=0)))
        for _ in range(3):
            await world.until(lambda: running(world, 2))
            await fail(world, "s-w")
            await asyncio.sleep(60)
        found = await status(world)
        assert (found["restarts"], found.get("restartsCountTowardsMax", 0)) == (3, 0)
        assert await says(world, "Failed") is None

    play(main)


def test_a_rule_restarts_one_job_only() -> None:
    async def main(world: BatchWorld) -> None:
        rule = {"name": "one", "action": "RestartJob", "targetReplicatedJobs": ["w"]}
        await world.apply(jobset(replicated("w", 3), failurePolicy=rules(rule)))
        await world.until(lambda: running(world, 3))
        before = {name: job["metadata"]["uid"] for name, job in (await jobs(world)).items()}
        await fail(world, "s-w-1")
        await asyncio.sleep(30)
        await world.until(lambda: running(world, 3))
        after = {name: job["metadata"]["uid"] for name, job in (await jobs(world)).items()}
        assert {name for name in after if after[name] != before[name]} == {"s-w-1"}
        counts = (await status(world))["replicatedJobsStatus"][0]
        assert (counts["jobRestarts"], counts["jobRestartsCountTowardsMax"]) == ([0, 1, 0], [0, 1, 0])
        assert (await status(world))["restarts"] == 0
        await fail(world, "s-w-1")
        assert (await world.until(lambda: says(world, "Failed")))["reason"] == "ReachedMaxRestarts"

    play(main)


def test_pods_are_restarted_in_place_by_their_agents() -> None:
    """The test is the agents: it counts in each pod, and obeys what the status says."""

    async def main(world: BatchWorld) -> None:
        made = [replicated("lead"), replicated("work", 1, 2)]
        policy = {"restartStrategy": "InPlaceRestart", "maxRestarts": 2}
        with pytest.raises(Invalid, match="must be 2147483647 with restartStrategy InPlaceRestart"):
            await world.apply(jobset(*made, failurePolicy=policy))
        for item in made:
            item["template"]["spec"] |= {"backoffLimit": 2**31 - 1, "podReplacementPolicy": "Failed"}
        await world.apply(jobset(*made, failurePolicy=policy))
        await world.until(lambda: running(world, 3))
        pods = await world.pods()

        async def counts(*attempts: int) -> None:
            for pod, attempt in zip(pods, attempts, strict=False):
                note = {"jobset.sigs.k8s.io/in-place-restart-attempt": str(attempt)}
                await world.client.patch(PODS, pod["metadata"]["name"], {"metadata": {"annotations": note}}, "default")
            await asyncio.sleep(2)

        async def told() -> tuple[Any, Any]:
            found = await status(world)
            return found.get("previousInPlaceRestartAttempt"), found.get("currentInPlaceRestartAttempt")

        await counts(0, 0)
        assert await told() == (None, None)  # one is not there yet
        await counts(0, 0, 0)
        assert await told() == (None, 0)
        await counts(1)  # its worker failed
        assert await told() == (0, 0)  # the others are to restart
        await counts(1, 1, 0)
        assert await told() == (0, 0)
        await counts(1, 1, 1)
        assert await told() == (0, 1)
        assert {pod["metadata"]["uid"] for pod in await world.pods()} == {pod["metadata"]["uid"] for pod in pods}
        await counts(2, 2, 2)
        assert (await told())[1] == 2
        assert not await says(world, "Failed")
        await counts(3)
        await world.until(lambda: says(world, "Failed"))
        assert (await says(world, "Failed"))["reason"] == "ReachedMaxRestarts"

    play(main)


def test_jobs_start_in_order() -> None:
    async def main(world: BatchWorld) -> None:
        first = replicated("first")
        first["template"]["spec"]["template"]["spec"]["nodeSelector"] = {"ready": "yes"}
        await world.apply(jobset(first, replicated("second"), startupPolicy={"startupPolicyOrder": "InOrder"}))
        await asyncio.sleep(10)
        assert set(await jobs(world)) == {"s-first-0"}
        assert await says(world, "StartupPolicyInProgress")
        await world.client.patch(builtin.NODES, "n-0", {"metadata": {"labels": {"ready": "yes"}}})
        await world.until(lambda: running(world, 2))
        await world.until(lambda: says(world, "StartupPolicyCompleted"))
        assert await says(world, "StartupPolicyInProgress", "False")

    play(main)


def test_jobs_wait_for_what_they_depend_on() -> None:
    async def main(world: BatchWorld) -> None:
        done, ready = [{"name": "a", "status": "Complete"}], [{"name": "b", "status": "Ready"}]
        await world.apply(jobset(replicated("a", seconds=20), replicated("b", dependsOn=done),
                                 replicated("c", dependsOn=ready)))  # fmt: skip
        await asyncio.sleep(10)
        assert set(await jobs(world)) == {"s-a-0"}
        await world.until(lambda: running(world, 2))
        assert {name[:3] for name in await world.running("s-")} == {"s-b", "s-c"}

    play(main)


def test_it_is_suspended_and_let_go_with_what_a_queue_put_in() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(jobset(replicated("w", 2, 2), suspend=True))
        await world.until(lambda: says(world, "Suspended"))
        assert all(job["spec"]["suspend"] for job in (await jobs(world)).values())
        obj = await get(world)
        template = obj["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]
        template["spec"]["nodeSelector"] = {"kubernetes.io/hostname": "n-2"}
        obj["spec"]["suspend"] = False
        await world.client.update(JOB_SETS, obj)
        await world.until(lambda: running(world, 4))
        assert set((await world.nodes_of("s-")).values()) == {"n-2"}
        await world.until(lambda: says(world, "Suspended", "False"))
        obj = await get(world)
        await world.client.update(JOB_SETS, {**obj, "spec": {**obj["spec"], "suspend": True}})
        await world.until(lambda: running(world, 0))
        counts = (await status(world))["replicatedJobsStatus"][0]
        assert counts["suspended"] == 2
        obj = await get(world)
        await world.client.update(JOB_SETS, {**obj, "spec": {**obj["spec"], "suspend": False}})
        await world.until(lambda: running(world, 4))

    play(main)


RACKS = [SimulatedGroup(2, f"r{rack}", cpu="4", labels={"net/rack": f"r{rack}"}) for rack in range(2)]


def test_exclusive_placement_gives_each_job_a_rack() -> None:
    async def main(world: BatchWorld) -> None:
        notes = {f"alpha.{PREFIX}/exclusive-topology": "net/rack"}
        await world.apply(jobset(replicated("w", 2, 4), annotations=notes))
        await world.until(lambda: running(world, 8))
        where = await world.nodes_of("s-")
        racks = [{node[:2] for pod, node in where.items() if pod.startswith(f"s-w-{n}-")} for n in range(2)]
        assert sorted(map(sorted, racks)) == [["r0"], ["r1"]]
        third = jobset(replicated("w", 1, 1), name="t", annotations=notes)
        await world.apply(third)
        await asyncio.sleep(5)
        assert await world.nodes_of("t-") == {}

    play(main, *RACKS)


def test_exclusive_placement_takes_a_rack_with_room_for_the_whole_job() -> None:
    """The emptiest node is in a rack that is too small: a Job that starts there would never be whole."""

    async def main(world: BatchWorld) -> None:
        notes = {f"alpha.{PREFIX}/exclusive-topology": "net/rack"}
        await world.apply(jobset(replicated("w", 2, 6), annotations=notes))
        await world.until(lambda: running(world, 12))
        where = await world.nodes_of("s-")
        racks = [{node[:2] for pod, node in where.items() if pod.startswith(f"s-w-{n}-")} for n in range(2)]
        assert sorted(map(sorted, racks)) == [["r0"], ["r1"]]

    small = SimulatedGroup(1, "r2", cpu="5", labels={"net/rack": "r2"})
    play(main, *RACKS, small)


def test_two_sets_that_need_everything_run_one_after_the_other() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(jobset(replicated("w", 4, 4, seconds=20), name="a"),
                          jobset(replicated("w", 4, 4, seconds=20), name="b"))  # fmt: skip
        for _ in range(100):
            held = [len(await world.nodes_of(f"{name}-")) for name in "ab"]
            assert min(held) == 0
            await asyncio.sleep(0.5)
        for name in "ab":
            await world.until(lambda name=name: says(world, "Completed", name=name))

    play(main)


def test_shared_claims_are_made_and_mounted() -> None:
    async def main(world: BatchWorld) -> None:
        job = replicated("w")
        container = job["template"]["spec"]["template"]["spec"]["containers"][0]
        container["volumeMounts"] = [{"name": "cache", "mountPath": "/c"}]
        claim = {
            "metadata": {"name": "cache"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        await world.apply(jobset(job, volumeClaimPolicies=[{"templates": [claim]}]))

        async def made() -> bool:
            return "s-w-0" in await jobs(world)

        await world.until(made)
        claims = (await world.client.list(PERSISTENT_VOLUME_CLAIMS)).items
        assert [item["metadata"]["name"] for item in claims] == ["cache-s"]
        assert claims[0]["metadata"]["ownerReferences"][0]["kind"] == "JobSet"
        volumes = (await jobs(world))["s-w-0"]["spec"]["template"]["spec"]["volumes"]
        assert volumes == [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache-s"}}]

    play(main)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"successPolicy": {"operator": "All", "targetReplicatedJobs": ["x"]}}, "there is no replicatedJob 'x'"),
        ({"coordinator": {"replicatedJob": "w", "jobIndex": 3}}, "coordinator.jobIndex: is not below the 1 replicas"),
        ({"failurePolicy": rules({"name": "1", "action": "FailJobSet"})}, "must start with a letter"),
        ({"failurePolicy": rules({"action": "FailJobSet", "onJobFailureReasons": ["Why"]})}, "'Why' is none of"),
        ({"network": {"subdomain": "No.Label"}}, "must be a DNS label"),
        ({"managedBy": "someone"}, "must be of the form domain/path"),
    ],
)  # fmt: skip
def test_mistakes_are_refused(spec: Any, words: str) -> None:
    async def main(world: BatchWorld) -> None:
        with pytest.raises(Invalid, match=words):
            await world.apply(jobset(replicated("w"), **spec))

    play(main)


def test_what_runs_is_fixed_and_others_are_left_alone() -> None:
    async def main(world: BatchWorld) -> None:
        await world.apply(jobset(replicated("w")))
        await world.until(lambda: running(world, 1))
        obj = await get(world)
        obj["spec"]["replicatedJobs"][0]["replicas"] = 2
        with pytest.raises(Invalid, match="field is immutable"):
            await world.client.update(JOB_SETS, obj)
        await world.apply(jobset(replicated("w"), name="other", managedBy="example.com/mine"))
        await asyncio.sleep(5)
        assert set(await jobs(world)) == {"s-w-0"}

    play(main)


def test_ours_stays_off_where_jobset_s_own_controller_runs() -> None:
    async def main(world: BatchWorld) -> None:
        selector = {"matchLabels": {"a": "b"}}
        template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        deployment = {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "jobset-controller-manager", "namespace": "jobset-system"},
            "spec": {"replicas": 1, "selector": selector, "template": template},
        }  # fmt: skip
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "jobset-system"}}
        await world.apply(space)
        await world.client.create(DEPLOYMENTS, deployment, "jobset-system")
        await asyncio.sleep(1)
        await world.apply(jobset(replicated("w")))
        await asyncio.sleep(5)
        assert await jobs(world) == {}

    play(main)


async def queued(world: BatchWorld) -> dict[str, Any]:
    """Workloads by their owner's name."""
    items = (await world.client.list(kueue.WORKLOADS)).items
    return {item["metadata"]["ownerReferences"][0]["name"]: item for item in items}


def test_a_queue_starts_and_stops_it_as_a_whole() -> None:
    async def main(world: BatchWorld) -> None:
        flavor = {**FLAVOR, "spec": {"nodeLabels": {"kubernetes.io/hostname": "n-3"}}}
        await world.apply(flavor, *setup("q", 3))
        first = jobset(replicated("driver"), replicated("workers", 2, 1, seconds=30), name="a")
        for name in "ab":
            obj = copy(first)
            obj["metadata"] = {"name": name, "labels": {"kueue.x-k8s.io/queue-name": "q"}}
            obj["spec"]["successPolicy"] = {"operator": "All", "targetReplicatedJobs": ["workers"]}
            (made,) = await world.apply(obj)
            assert made["spec"]["suspend"] is True
            if name == "a":
                await world.until(lambda: running(world, 3, "a-"))
        assert set((await world.nodes_of("a-")).values()) == {"n-3"}
        workloads = await queued(world)
        sets = [(it["name"], it["count"]) for it in workloads["a"]["spec"]["podSets"]]
        assert sets == [("driver", 1), ("workers", 2)]
        assert await world.nodes_of("b-") == {}
        await world.client.patch(
            kueue.WORKLOADS, workloads["a"]["metadata"]["name"], {"spec": {"active": False}}, "default"
        )
        await world.until(lambda: running(world, 3, "b-"))
        stopped = await get(world, "a")
        assert stopped["spec"]["suspend"] is True
        pods = [item["template"]["spec"]["template"]["spec"] for item in stopped["spec"]["replicatedJobs"]]
        assert not any("nodeSelector" in pod for pod in pods)
        await world.until(lambda: says(world, "Completed", name="b"))

        async def over() -> bool:
            return any(it["type"] == "Finished" for it in (await queued(world))["b"]["status"]["conditions"])

        await world.until(over)

    play(main, queueing=True)


@pytest.mark.parametrize("share", range(3))
def test_controllers_may_be_killed_at_any_await(share: int) -> None:
    """While it starts, fails, restarts and ends: each Job is made once a run, and counters rise by one."""

    async def main(world: BatchWorld) -> None:
        await world.apply(jobset(replicated("a", 1, 2), replicated("b", 2, 1, seconds=40), failurePolicy=rules(most=2),
                                 successPolicy={"operator": "All", "targetReplicatedJobs": ["b"]}))  # fmt: skip
        for steps in range(share, 90, 9):
            await steps_then_restart(world, steps)
        await world.until(lambda: running(world, 4))
        await fail(world, "s-a")
        for steps in range(share, 120, 12):
            await steps_then_restart(world, steps)
        await world.until(lambda: says(world, "Completed"))
        assert (await status(world))["restarts"] == 1
        await world.until(lambda: running(world, 0))

    play(main)


async def steps_then_restart(world: BatchWorld, steps: int) -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    await world.stop()
    world.start()
