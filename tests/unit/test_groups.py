"""Which pods are a gang, in each dialect; who comes first; how many at least."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.base.chance import Chance
from atoll.kinds import batch, kueue
from atoll.scheduling.groups.model import Group, Missing, Topology
from atoll.scheduling.groups.owned import JobSets, KueuePodGroups, LeaderWorkers, QueuedJobs
from atoll.scheduling.groups.placing import Members, is_whole, short, to_place
from atoll.scheduling.groups.podgroups import Coscheduling, Volcano, WorkloadPodGroups
from atoll.scheduling.groups.rank import rank
from atoll.scheduling.plan import Planner


def pod(name: str = "p", labels: Any = None, annotations: Any = None, **spec: Any) -> Any:
    metadata = {"name": name, "namespace": "d", "uid": name, "labels": labels or {}, "annotations": annotations or {}}
    return {"metadata": metadata, "spec": {"containers": [], **spec}}


def owner(spec: Any, name: str = "g", **metadata: Any) -> Any:
    return {"metadata": {"name": name, "namespace": "d", **metadata}, "spec": spec}


def test_coscheduling() -> None:
    dialect = Coscheduling()
    assert dialect.group_name(pod(labels={batch.POD_GROUP_LABEL: "g"})) == "g"
    assert dialect.group_name(pod()) is None
    spec = {"minMember": 4, "minResources": {"cpu": "2", "memory": "1Gi"}, "scheduleTimeoutSeconds": 10}
    assert dialect.group("g", owner(spec), []) == Group(4, {}, {"cpu": 2000, "memory": 1 << 30}, timeout_seconds=10)
    assert isinstance(dialect.group("g", None, []), Missing)


def let_in(spec: Any) -> Any:
    return {**owner(spec), "status": {"phase": "Inqueue"}}


def test_volcano_counts_tasks_and_takes_a_tier_s_name_as_a_label() -> None:
    dialect = Volcano()
    found = pod(annotations={batch.VOLCANO_GROUP: "g", batch.VOLCANO_TASK: "ps"})
    assert (dialect.group_name(found), dialect.task(found)) == ("g", "ps")
    spec = {"minMember": 3, "minTaskMember": {"ps": 1, "worker": 2}}
    assert dialect.group("g", let_in(spec), []) == Group(3, {"ps": 1, "worker": 2})
    assert dialect.group("g", let_in({**spec, "minMember": 2}), []) == Group(2)
    full = {"phase": "Pending", "conditions": [{"message": "the cluster lacks 2 cpu"}]}
    waits = dialect.group("g", {**owner(spec), "status": full}, [])
    assert waits == Missing("queue default has not let it in: the cluster lacks 2 cpu", "room in queue default")
    hard = {"minMember": 1, "networkTopology": {"mode": "hard", "highestTierName": "net/rack"}}
    soft = {"minMember": 1, "networkTopology": {"mode": "soft", "highestTierName": "net/rack"}}
    assert dialect.group("g", let_in(hard), []) == Group(1, topology=Topology("net/rack"))
    assert dialect.group("g", let_in(soft), []) == Group(1, topology=Topology(preferred="net/rack"))


def test_workloads_pod_groups() -> None:
    dialect = WorkloadPodGroups()
    assert dialect.group_name(pod(schedulingGroup={"podGroupName": "g"})) == "g"
    gang = {"schedulingPolicy": {"gang": {"minCount": 4}}, "schedulingConstraints": {"topology": [{"key": "rack"}]}}
    assert dialect.group("g", owner(gang), []) == Group(4, topology=Topology("rack"), goes_whole=False)
    assert dialect.group("g", owner({"schedulingPolicy": {"basic": {}}}), []) is None


def job_set(**more: Any) -> Any:
    def job(name: str, replicas: int, parallelism: int, completions: int | None = None, **extra: Any) -> Any:
        spec = {"parallelism": parallelism, **({} if completions is None else {"completions": completions})}
        return {"name": name, "replicas": replicas, "template": {"spec": spec}, **extra}

    return owner({"replicatedJobs": [job("driver", 1, 1), job("workers", 2, 4, 3)], **more})


def of_job(name: str) -> Any:
    return pod(labels={batch.JOB_SET_NAME: "g", batch.REPLICATED_JOB: name})


def test_a_job_set_is_one_gang_and_one_in_order_is_a_gang_by_stages() -> None:
    dialect = JobSets()
    assert dialect.group("g", job_set(), [of_job("driver")]) == Group(7, {"driver": 1, "workers": 6})
    staged = job_set(startupPolicy={"startupPolicyOrder": "InOrder"})
    assert dialect.group("g", staged, [of_job("driver")]) == Group(1, {"driver": 1})
    assert dialect.group("g", staged, [of_job("driver"), of_job("workers")]) == Group(7, {"driver": 1, "workers": 6})
    off = job_set()
    off["metadata"]["annotations"] = {batch.GANG: "false"}
    assert dialect.group("g", off, []) is None
    assert dialect.group("g", None, []) is None


def test_a_leader_and_its_workers() -> None:
    dialect = LeaderWorkers()
    leader = pod(labels={batch.LWS_NAME: "l-w", batch.LWS_GROUP: "2", batch.LWS_WORKER: "0"})
    leader["metadata"]["annotations"] = {batch.LWS_SIZE: "4"}
    assert dialect.group_name(leader) == "l-w-2"
    assert dialect.owner_name("l-w-2") == "l-w"
    spec = {"leaderWorkerTemplate": {"size": 4}}
    assert dialect.group("l-w-2", owner(spec), [leader]) == Group(4, {"leader": 1, "worker": 3})
    waits = {**spec, "startupPolicy": "LeaderReady"}
    assert dialect.group("l-w-2", owner(waits), [leader]) == Group(1, {"leader": 1})


def test_kueue_s_pod_groups_and_jobs() -> None:
    groups, jobs = KueuePodGroups(), QueuedJobs()
    found = pod(labels={kueue.POD_GROUP_LABEL: "g"}, annotations={kueue.POD_GROUP_TOTAL: "3"})
    assert groups.group("g", None, [found]) == Group(3)
    assert isinstance(groups.group("g", None, [pod()]), Missing)
    made = pod()
    reference = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "1", "controller": True}
    made["metadata"]["ownerReferences"] = [reference]
    assert jobs.group_name(made) == "j"
    assert jobs.group("j", owner({"parallelism": 4}), [made]) is None
    queued = owner({"parallelism": 4, "completions": 3}, labels={kueue.QUEUE_LABEL: "q"})
    assert jobs.group("j", queued, [made]) == Group(3)
    queued["metadata"]["annotations"] = {kueue.MIN_PARALLELISM: "2"}
    assert jobs.group("j", queued, [made]) == Group(2)
    asked = owner({"parallelism": 4}, annotations={batch.GANG: "true"})
    assert jobs.group("j", asked, [made]) == Group(4)
    lost = owner({"parallelism": 6, "completions": 6}, annotations={batch.GANG: "true"})
    assert jobs.group("j", {**lost, "status": {"failedIndexes": "0,2-3"}}, [made]) == Group(3)


def test_ranks_are_numbers() -> None:
    indexed = [pod(f"x-{n}", {"batch.kubernetes.io/job-completion-index": str(n)}) for n in (10, 9, 0)]
    assert [it["metadata"]["name"] for it in sorted(indexed, key=rank)] == ["x-0", "x-9", "x-10"]
    named = [pod(name) for name in ("w-10", "w-9", "a-2")]
    assert [it["metadata"]["name"] for it in sorted(named, key=rank)] == ["a-2", "w-9", "w-10"]


def members(planner: Planner, there: int = 0, waiting: int = 0, **more: Any) -> Members:
    found = Members([pod(f"t{n}", **more) for n in range(there)])
    found.waiting = [planner.pod(pod(f"w{n}", **more)) for n in range(waiting)]
    return found


def no_task(_: Any) -> str:
    return ""


@pytest.mark.parametrize(("there", "waiting", "lacks"), [(0, 3, {"": 1}), (1, 3, {}), (2, 0, {"": 2})])
def test_who_is_missing(there: int, waiting: int, lacks: dict[str, int]) -> None:
    assert short(Group(4), members(Planner(Chance(1)), there, waiting), no_task) == lacks


def test_tasks_have_minima_of_their_own() -> None:
    planner = Planner(Chance(1))
    group = Group(3, {"ps": 1, "worker": 2})
    found = members(planner, 0, 3, annotations={batch.VOLCANO_TASK: "worker"})
    assert short(group, found, Volcano().task) == {"ps": 1}
    assert not is_whole(group, [it.obj for it in found.waiting], Volcano().task)
    found.waiting += [planner.pod(pod("ps", annotations={batch.VOLCANO_TASK: "ps"}))]
    gang = to_place("d/g", group, found, Volcano().task, [], planner)
    assert [it.name for it in gang.pods] == ["ps", "w0", "w1", "w2"]
    assert gang.least == 3


def test_what_is_on_nodes_counts_and_binds_the_rest_to_its_rack() -> None:
    planner = Planner(Chance(1))
    planner.state.set_node({"metadata": {"name": "n", "labels": {"rack": "r7"}}, "status": {}})
    found = members(planner, 2, 3)
    for item in found.there:
        planner.state.place(planner.pod(item), "n")
    gang = to_place("d/g", Group(4, topology=Topology("rack")), found, no_task, [["block", "rack"]], planner)
    assert (gang.least, gang.within, tuple(gang.levels)) == (2, ("rack", "r7"), ("block", "rack"))


def test_pods_that_ask_for_different_levels_are_parts() -> None:
    planner = Planner(Chance(1))
    found = members(planner, 0, 2)
    asked = {"kueue.x-k8s.io/podset-required-topology": "rack"}
    found.waiting += [planner.pod(pod(f"r{n}", annotations=asked)) for n in range(3)]
    gang = to_place("d/g", Group(5), found, no_task, [], planner)
    assert [(part.required, len(part.pods)) for part in gang.parts] == [("rack", 3), ("", 2)]


def test_pod_sets_that_ask_for_the_same_level_are_parts_but_for_those_of_one_group() -> None:
    """As Kueue has it: each replicated job of a JobSet has a rack of its own, those of one group share one."""
    planner = Planner(Chance(1))

    def gang(**more: str) -> Any:
        asked = {kueue.REQUIRED_TOPOLOGY: "rack", **more}
        found = Members()
        for role in ("actors", "learners"):
            labels = {batch.JOB_SET_NAME: "g", batch.REPLICATED_JOB: role}
            found.waiting += [planner.pod(pod(f"{role}-{n}", labels=labels, annotations=asked)) for n in range(2)]
        return to_place("d/g", Group(4), found, JobSets().task, [], planner)

    assert [[it.name for it in part.pods] for part in gang().parts] == [
        ["actors-0", "actors-1"],
        ["learners-0", "learners-1"],
    ]
    together = gang(**{kueue.POD_SET_GROUP: "pipeline"})
    assert (together.parts, together.required, len(together.pods)) == ([], "rack", 4)


def test_those_of_one_pod_set_that_are_there_bind_no_other() -> None:
    planner = Planner(Chance(1))
    asked = {kueue.REQUIRED_TOPOLOGY: "rack"}
    found = Members()
    for number, role in enumerate(("actors", "learners")):
        node = {"name": f"n{number}", "labels": {"rack": f"r{number}"}}
        planner.state.set_node({"metadata": node, "status": {}})
        obj = pod(f"{role}-0", labels={batch.JOB_SET_NAME: "g", batch.REPLICATED_JOB: role}, annotations=asked)
        found.there.append(obj)
        planner.state.place(planner.pod(obj), f"n{number}")
        late = pod(f"{role}-1", labels={batch.JOB_SET_NAME: "g", batch.REPLICATED_JOB: role}, annotations=asked)
        found.waiting.append(planner.pod(late))
    gang = to_place("d/g", Group(4), found, JobSets().task, [], planner)
    assert [(part.pods[0].name, part.within) for part in gang.parts] == [
        ("actors-1", ("rack", "r0")),
        ("learners-1", ("rack", "r1")),
    ]


@pytest.mark.parametrize("indexed", [False, True])
def test_a_late_member_of_a_slice_goes_to_its_neighbours(indexed: bool) -> None:
    """Ranks 1 and 2 of six come anew, of slices 0-1, 2-3 and 4-5. With indices it matters not that 4 is missing."""
    planner = Planner(Chance(1))
    asked = {kueue.SLICE_TOPOLOGY: "rack", kueue.SLICE_SIZE: "2"}

    def ranked(number: int) -> Any:
        labels = {"batch.kubernetes.io/job-completion-index": str(number)} if indexed else {}
        return pod(f"w{number}", labels=labels, annotations=asked)

    found = Members(waiting=[planner.pod(ranked(1)), planner.pod(ranked(2))])
    for number in (0, 3, 5) if indexed else (0, 3, 4, 5):
        name = f"n{number // 2}"
        planner.state.set_node({"metadata": {"name": name, "labels": {"rack": f"r{number // 2}"}}, "status": {}})
        obj = ranked(number)
        found.there.append(obj)
        planner.state.place(planner.pod(obj), name)
    gang = to_place("d/g", Group(6), found, no_task, [], planner)
    assert [(part.pods[0].name, part.within) for part in gang.parts] == [
        ("w1", ("rack", "r0")),
        ("w2", ("rack", "r1")),
    ]


def test_slices_are_parts_in_rank_order() -> None:
    planner = Planner(Chance(1))
    prefix = "kueue.x-k8s.io/podset"
    asked = {
        f"{prefix}-required-topology": "block",
        f"{prefix}-slice-required-topology": "rack",
        f"{prefix}-slice-size": "2",
    }
    gang = to_place("d/g", Group(5), members(planner, 0, 5, annotations=asked), no_task, [["block", "rack"]], planner)
    assert (gang.required, tuple(gang.levels)) == ("block", ("block", "rack"))
    assert [[it.name for it in part.pods] for part in gang.parts] == [["w0", "w1"], ["w2", "w3"], ["w4"]]
    assert {part.required for part in gang.parts} == {"rack"}
