"""Invariants of simulations find what is planted, at the commit that breaks them, and in full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Key
from atoll.kinds import kueue
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.simulate.invariants.registry import MAKERS
from atoll.simulate.ledger import Ledger, ObservedStore

Object = dict[str, Any]


class Bench:
    """A store without an API server: anything can be written into it."""

    def __init__(self, name: str) -> None:
        clock = LoopClock(asyncio.get_running_loop())
        self.store = ObservedStore(clock)
        self.ledger = Ledger(clock)
        self.store.see = self.ledger.see
        self.told: list[str] = []
        self.invariant = MAKERS[name](self.ledger, self.store, lambda what, now: self.told.append(what))
        self.ledger.add(self.invariant)

    def put(self, resource: str, obj: Object) -> None:
        metadata = obj["metadata"]
        key = Key(resource, metadata.get("namespace") or "", metadata["name"])
        old = self.store.get(key)
        self.store.write(key, 0 if old is None else old.version, orjson.loads(orjson.dumps(obj)))

    def remove(self, resource: str, name: str, namespace: str = "default") -> None:
        key = Key(resource, namespace, name)
        record = self.store.get(key)
        assert record is not None
        self.store.write(key, record.version, None)


def on_bench(name: str, main: Callable[[Bench], None]) -> None:
    async def whole() -> None:
        main(Bench(name))

    run_virtual(whole())


def node(name: str = "n", gpus: int = 8) -> Object:
    amounts = {"cpu": "8", "memory": "64Gi", "pods": "110", "nvidia.com/gpu": str(gpus)}
    return {"metadata": {"name": name}, "spec": {}, "status": {"capacity": amounts, "allocatable": amounts}}


def pod(name: str, gpus: int, node: str = "n", phase: str = "Running") -> Object:
    container = {"name": "c", "resources": {"requests": {"nvidia.com/gpu": str(gpus)}}}
    metadata = {"name": name, "namespace": "default", "uid": f"u-{name}"}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [container]}, "status": {"phase": phase}}


def test_a_gpu_that_is_given_twice_is_found_at_that_commit() -> None:
    def main(bench: Bench) -> None:
        bench.put("nodes", node())
        bench.put("pods", pod("a", 6))
        bench.put("pods", pod("b", 2))
        bench.put("pods", pod("waits", 8, node=""))
        assert bench.told == []
        bench.put("pods", pod("c", 1))
        assert bench.told == ["node n: 9 of 8 nvidia.com/gpu are given away"]
        bench.invariant.full(0.0)
        assert len(bench.told) == 2

    on_bench("devices", main)


def test_a_part_of_a_gpu_that_is_given_twice_is_found() -> None:
    def part(name: str, milli: int, device: int) -> Object:
        made = pod(name, 0)
        notes = {"gpu-milli": str(milli), "gpu-count": "1", "gpu-index": str(device)}
        made["metadata"]["annotations"] = {f"alibabacloud.com/{key}": value for key, value in notes.items()}
        return made

    def main(bench: Bench) -> None:
        shared = node(gpus=0)
        shared["status"]["capacity"]["alibabacloud.com/gpu-count"] = "2"
        bench.put("nodes", shared)
        bench.put("pods", part("a", 600, 0))
        bench.put("pods", part("b", 400, 0))
        bench.put("pods", part("c", 600, 1))
        assert bench.told == []
        bench.put("pods", part("d", 300, 0))
        assert bench.told == ["node n: 1300 of 1000 thousandths of GPU 0 are given away"]
        bench.remove("pods", "d")
        bench.store.see = None
        bench.put("pods", part("e", 500, 1))
        bench.invariant.full(0.0)
        assert "node n: 1100 of 1000 thousandths of GPU 1 are given away" in bench.told

    on_bench("devices", main)


def test_what_ended_pods_had_may_be_given_again() -> None:
    def main(bench: Bench) -> None:
        bench.put("nodes", node())
        bench.put("pods", pod("a", 8))
        bench.put("pods", pod("a", 8, phase="Succeeded"))
        bench.put("pods", pod("b", 8))
        bench.remove("pods", "b")
        bench.put("pods", pod("c", 8))
        bench.put("nodes", node(gpus=4))  # lost later: nothing was given twice
        bench.put("pods", pod("c", 8) | {"status": {"phase": "Running", "podIP": "10.0.0.1"}})
        assert bench.told == []

    on_bench("devices", main)


def test_a_pod_that_moves_is_found() -> None:
    def main(bench: Bench) -> None:
        for name in ("n", "m"):
            bench.put("nodes", node(name))
        bench.put("pods", pod("a", 8))
        bench.put("pods", pod("a", 8, node="m"))
        assert bench.told == ["pod a moved from n to m"]

    on_bench("devices", main)


def test_a_device_of_two_claims_is_found_but_for_admins() -> None:
    def claim(name: str, **more: Any) -> Object:
        result = {"driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-0", "request": "r", **more}
        return {
            "metadata": {"name": name, "namespace": "default"},
            "status": {"allocation": {"devices": {"results": [result]}}},
        }

    def main(bench: Bench) -> None:
        resource = "resourceclaims.resource.k8s.io"
        bench.put(resource, claim("a"))
        bench.put(resource, claim("admin", adminAccess=True))
        bench.put(resource, claim("a"))
        assert bench.told == []
        bench.put(resource, claim("b"))
        assert bench.told == ["device gpu.nvidia.com/n/gpu-0 is given to claims default/a and default/b"]
        bench.remove(resource, "a")

    on_bench("devices", main)


def queue(name: str, nominal: int, cohort: str = "", **limits: int) -> Object:
    resources = [{"name": "gpu", "nominalQuota": nominal, **limits}]
    spec = {"resourceGroups": [{"coveredResources": ["gpu"], "flavors": [{"name": "f", "resources": resources}]}]}
    return {"metadata": {"name": name}, "spec": spec | ({"cohortName": cohort} if cohort else {})}


def workload(name: str, queue: str, gpus: int, reserved: bool = True) -> Object:
    assigned = {"name": "main", "flavors": {"gpu": "f"}, "resourceUsage": {"gpu": str(gpus)}, "count": 1}
    status = {
        "conditions": [{"type": "QuotaReserved", "status": "True" if reserved else "False"}],
        "admission": {"clusterQueue": queue, "podSetAssignments": [assigned]},
    }
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {}, "status": status}


QUEUES, WORKLOADS = kueue.CLUSTER_QUEUES.group_resource, kueue.WORKLOADS.group_resource
COHORTS = kueue.COHORTS.group_resource


def test_a_queue_alone_has_its_nominal_quota() -> None:
    def main(bench: Bench) -> None:
        bench.put(QUEUES, queue("a", 8))
        bench.put(WORKLOADS, workload("one", "a", 8))
        bench.put(WORKLOADS, workload("two", "a", 8, reserved=False))
        bench.invariant.full(0.0)
        assert bench.told == []
        bench.put(WORKLOADS, workload("two", "a", 1))
        assert bench.told == ["Workload default/two was admitted: ClusterQueue a holds 9 of 8 gpu in flavor f"]

    on_bench("quota", main)


@pytest.mark.parametrize(
    ("limits", "most"),
    [({}, 16), ({"borrowingLimit": 2}, 10)],
)
def test_borrowing_goes_as_far_as_the_cohort_and_the_limit_allow(limits: dict[str, int], most: int) -> None:
    def main(bench: Bench) -> None:
        bench.put(QUEUES, queue("a", 8, "all", **limits))
        bench.put(QUEUES, queue("b", 8, "all"))
        bench.put(WORKLOADS, workload("one", "a", most))
        assert bench.told == []
        bench.put(WORKLOADS, workload("two", "a", 1))
        assert bench.told

    on_bench("quota", main)


def test_what_a_queue_keeps_nobody_else_gets_and_cohorts_have_quota_and_limits_of_their_own() -> None:
    def main(bench: Bench) -> None:
        parent = {"metadata": {"name": "org"}, "spec": {}}
        child = {"metadata": {"name": "unit"}, "spec": {"parentName": "org", **queue("", 4)["spec"]}}
        for obj in (parent, child):
            bench.put(COHORTS, obj)
        bench.put(QUEUES, queue("a", 8, "unit"))
        bench.put(QUEUES, queue("b", 8, "org", lendingLimit=3))
        bench.put(WORKLOADS, workload("one", "a", 15))  # 8 + the cohort's 4 + 3 of b's
        bench.put(WORKLOADS, workload("two", "b", 5))
        assert bench.told == []
        bench.put(WORKLOADS, workload("three", "a", 1))
        assert "cohort org holds 16 of 15" in bench.told[0]

    on_bench("quota", main)


def test_quota_that_is_made_smaller_takes_nothing_back() -> None:
    def main(bench: Bench) -> None:
        bench.put(QUEUES, queue("a", 8))
        bench.put(WORKLOADS, workload("one", "a", 8))
        bench.put(QUEUES, queue("a", 4))
        bench.invariant.full(0.0)
        assert bench.told == []
        bench.put(WORKLOADS, workload("two", "a", 1))
        assert bench.told

    on_bench("quota", main)


def test_a_change_that_was_not_seen_is_found_in_full() -> None:
    def main(bench: Bench) -> None:
        bench.put("nodes", node())
        bench.put("pods", pod("a", 4))
        bench.store.see = None
        bench.put("pods", pod("b", 4))
        bench.invariant.full(0.0)
        assert "counted by changes" in bench.told[0]

    on_bench("devices", main)


def member(name: str, node: str, job: str = "j", phase: str = "Running") -> Object:
    made = pod(name, 1, node, phase)
    made["metadata"]["ownerReferences"] = [{"kind": "Job", "name": job, "controller": True, "uid": "u"}]
    return made


def gang_job(pods: int, **notes: str) -> Object:
    metadata = {"name": "j", "namespace": "default", "annotations": notes}
    return {"metadata": metadata, "spec": {"parallelism": pods, "completions": pods}}


def test_a_gang_that_stays_half_placed_is_found_after_its_time_out() -> None:
    async def main() -> None:
        bench = Bench("gangs")
        bench.put("jobs.batch", gang_job(3, **{"atoll.dev/gang": "true"}))
        bench.put("pods", member("a", "n"))
        bench.put("pods", member("b", ""))
        await asyncio.sleep(80)
        bench.put("pods", member("c", ""))
        assert bench.told == []  # it may still give its places back
        await asyncio.sleep(20)
        bench.put("pods", member("c", "") | {"status": {"phase": "Pending", "x": "y"}})
        bench.invariant.full(100.0)
        assert bench.told == ["job default/j: 1 of 3 pods have had places for 100 s"]

    run_virtual(main())


def test_a_gang_that_was_whole_may_lose_members_and_a_plain_job_is_none() -> None:
    async def main() -> None:
        for notes in ({"atoll.dev/gang": "true"}, {}):
            bench = Bench("gangs")
            bench.put("jobs.batch", gang_job(2, **notes))
            bench.put("pods", member("a", "n"))
            if notes:
                bench.put("pods", member("b", "n"))
                bench.remove("pods", "b")
            await asyncio.sleep(200)
            bench.invariant.full(200.0)
            assert bench.told == []

    run_virtual(main())


def test_a_gang_that_becomes_whole_too_late_is_found_by_the_commit_that_completes_it() -> None:
    async def main() -> None:
        bench = Bench("gangs")
        bench.put("jobs.batch", gang_job(2, **{"atoll.dev/gang": "true"}))
        bench.put("pods", member("a", "n"))
        await asyncio.sleep(100)
        bench.put("pods", member("b", "n"))
        assert bench.told == ["job default/j: 1 of 2 pods have had places for 100 s"]

    run_virtual(main())


def test_nobody_can_act_while_the_api_server_is_away() -> None:
    async def main() -> None:
        bench = Bench("gangs")
        bench.put("jobs.batch", gang_job(2, **{"atoll.dev/gang": "true"}))
        bench.put("pods", member("a", "n"))
        bench.ledger.away(1, 0.0)
        await asyncio.sleep(200)
        bench.put("pods", member("c", ""))
        bench.ledger.away(-1, 200.0)
        await asyncio.sleep(80)
        bench.put("pods", member("c", "") | {"status": {"phase": "Pending", "x": "y"}})
        bench.invariant.full(280.0)
        assert bench.told == []
        await asyncio.sleep(20)
        bench.put("pods", member("b", "n"))
        assert bench.told == ["job default/j: 1 of 2 pods have had places for 300 s"]

    run_virtual(main())


def test_a_gang_that_gives_its_places_back_in_time_is_well() -> None:
    async def main() -> None:
        bench = Bench("gangs")
        bench.put("jobs.batch", gang_job(2, **{"atoll.dev/gang": "true"}))
        bench.put("pods", member("a", "n"))
        await asyncio.sleep(60)
        bench.remove("pods", "a")
        await asyncio.sleep(60)
        bench.put("pods", member("a", "n"))
        await asyncio.sleep(60)
        bench.invariant.full(180.0)
        assert bench.told == []

    run_virtual(main())


def serving(name: str, ready: bool = True, disrupted: str = "", deleting: bool = False) -> Object:
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    if disrupted:
        conditions.append({"type": "DisruptionTarget", "status": "True", "reason": disrupted})
    made = pod(name, 1)
    made["metadata"] |= {"labels": {"app": "s"}} | ({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleting else {})
    return made | {"status": {"phase": "Running", "conditions": conditions}}


@pytest.mark.parametrize(("reason", "told"), [("EvictionByEvictionAPI", 1), ("PreemptionByScheduler", 0)])
def test_an_eviction_beyond_its_budget_is_found(reason: str, told: int) -> None:
    async def main() -> None:
        bench = Bench("budgets")
        spec = {"selector": {"matchLabels": {"app": "s"}}, "minAvailable": "60%"}
        metadata = {"name": "b", "namespace": "default"}
        for name in "abc":
            bench.put("pods", serving(name))
        bench.put("poddisruptionbudgets.policy", {"metadata": metadata, "spec": spec, "status": {"expectedPods": 3}})
        await asyncio.sleep(60)
        bench.put("pods", serving("a", disrupted=reason))
        bench.put("pods", serving("a", disrupted=reason, deleting=True))
        assert bench.told == []  # two of three are left, as the budget asks for
        bench.remove("pods", "a")
        await asyncio.sleep(60)
        bench.put("pods", serving("b", disrupted=reason))
        bench.put("pods", serving("b", disrupted=reason, deleting=True))
        assert bench.told == ["pod b was evicted: 1 of 2 pods of budget b are left"][:told]

    run_virtual(main())


def test_a_pod_on_a_node_before_its_preflight_is_found_unless_it_tolerates_that() -> None:
    def main(bench: Bench) -> None:
        fresh = node()
        fresh["spec"] = {"taints": [{"key": "atoll.dev/preflight", "value": "pending", "effect": "NoSchedule"}]}
        bench.put("nodes", fresh)
        tolerant = pod("t", 1)
        tolerant["spec"]["tolerations"] = [{"operator": "Exists"}]
        bench.put("pods", tolerant)
        assert bench.told == []
        bench.put("pods", pod("a", 1))
        assert bench.told == ["pod a was bound to n, whose preflight is pending"]
        bench.put("nodes", node())
        bench.put("pods", pod("b", 1))
        assert len(bench.told) == 1

    on_bench("preflight", main)


def allotted(name: str, team: str = "", label: str = "") -> Object:
    made = node(name)
    made["metadata"]["labels"] = {"pool": "p"} | ({"atoll.dev/team": label or team} if team else {})
    taint = {"key": "atoll.dev/team", "value": team, "effect": "NoSchedule"}
    made["spec"] = {"taints": [taint]} if team else {}
    return made


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ({"n": "a", "m": "a", "o": ""}, ""),
        ({"n": "a", "m": "", "o": ""}, "team a has 1 of 2 nodes, and m belongs to nobody"),
        ({"n": "a", "m": "a", "o": "a"}, "team a has 3 of 2 nodes"),
        ({"n": "a", "m": "a", "o": "b"}, "node o belongs to b, which is no team"),
        ({"n": "a"}, ""),  # there is no other
    ],
)
def test_team_taints_are_equal_to_the_allotment_in_half_a_minute(nodes: dict[str, str], told: str) -> None:
    async def main() -> None:
        bench = Bench("teams")
        text = "teams: [{name: a, selector: {pool: p}, amount: 2}]"
        metadata = {"name": "atoll-teams", "namespace": "atoll-system"}
        bench.put("configmaps", {"metadata": metadata, "data": {"teams.yaml": text}})
        for name, team in nodes.items():
            bench.put("nodes", allotted(name, team))
        await asyncio.sleep(29)
        bench.invariant.full(29.0)
        assert bench.told == []
        await asyncio.sleep(1)
        bench.invariant.full(30.0)
        assert bench.told == ([told] if told else [])

    run_virtual(main())


def test_a_team_taint_that_comes_too_late_is_found_by_the_commit_that_brings_it() -> None:
    """No other commit lies between the change and what should have followed within 30 seconds."""

    async def main() -> None:
        bench = Bench("teams")
        bench.put("nodes", allotted("n"))
        bench.put("nodes", allotted("m"))
        text = "teams: [{name: a, selector: {pool: p}, amount: 1}]"
        metadata = {"name": "atoll-teams", "namespace": "atoll-system"}
        bench.put("configmaps", {"metadata": metadata, "data": {"teams.yaml": text}})
        await asyncio.sleep(29)
        bench.put("nodes", allotted("n", "a"))
        await asyncio.sleep(40)
        bench.put("pods", pod("p", 0, ""))
        assert bench.told == []
        bench.put("configmaps", {"metadata": metadata, "data": {"teams.yaml": text.replace("amount: 1", "amount: 2")}})
        await asyncio.sleep(40)
        bench.put("nodes", allotted("m", "a"))
        assert bench.told == ["team a has 1 of 2 nodes, and m belongs to nobody"]

    run_virtual(main())


def test_a_label_that_is_not_the_taints_is_found() -> None:
    async def main() -> None:
        bench = Bench("teams")
        text = "teams: [{name: a, selector: {pool: p}, amount: 0}, {name: b, selector: {pool: p}, amount: 1}]"
        metadata = {"name": "atoll-teams", "namespace": "atoll-system"}
        bench.put("configmaps", {"metadata": metadata, "data": {"teams.yaml": text}})
        bench.put("nodes", allotted("n", "b", label="a"))
        await asyncio.sleep(31)
        bench.invariant.full(31.0)
        assert bench.told[0] == "node n is tainted for b and labelled 'a'"

    run_virtual(main())


def test_the_digest_is_of_every_commit() -> None:
    async def digest(*names: str) -> str:
        clock = LoopClock(asyncio.get_running_loop())
        store, ledger = ObservedStore(clock), Ledger(clock)
        store.see = ledger.see
        assert isinstance(store, MemoryStore)
        for name in names:
            store.write(Key("nodes", "", name), 0, node(name))
        return ledger.digest()

    first = run_virtual(digest("a", "b"))
    assert run_virtual(digest("a", "b")) == first
    assert run_virtual(digest("b", "a")) != first and run_virtual(digest("a")) != first


def test_healthy_pods_that_came_unseen_and_a_budget_that_allows_too_much_are_found_in_full() -> None:
    def main(bench: Bench) -> None:
        spec = {"selector": {"matchLabels": {"app": "s"}}, "minAvailable": 2}
        budget = {"metadata": {"name": "b", "namespace": "default"}, "spec": spec}
        status = {"expectedPods": 3, "disruptionsAllowed": 1}
        for name in "abc":
            bench.put("pods", serving(name))
        bench.put("poddisruptionbudgets.policy", budget | {"status": status})
        bench.invariant.full(0.0)
        bench.put("pods", serving("c", ready=False))
        bench.invariant.full(3600.0)
        assert bench.told == [], "it may be a moment old"
        bench.invariant.full(7200.0)
        assert bench.told == ["budget b allows 1 evictions: 2 of 2 pods are healthy"]
        bench.store.see = None
        bench.put("pods", serving("d"))
        bench.invariant.full(10800.0)
        assert bench.told[1:] == ["namespace default: 2 healthy pods by changes"]

    on_bench("budgets", main)


def bound_at(name: str, when: str) -> Object:
    made = pod(name, 1)
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": when}
    return made | {"status": {"phase": "Running", "conditions": [condition]}}


def test_a_pod_that_came_unseen_onto_a_node_before_its_preflight_is_found_in_full() -> None:
    def main(bench: Bench) -> None:
        taint = {"key": "atoll.dev/preflight", "value": "pending", "effect": "NoSchedule"}
        again = node()
        again["spec"] = {"taints": [taint | {"timeAdded": "2026-01-01T12:00:00Z"}]}
        bench.put("nodes", node())
        bench.put("pods", bound_at("before", "2026-01-01T11:59:59Z"))
        bench.put("nodes", again)  # it is tested anew, and its pods are drained
        bench.invariant.full(0.0)
        assert bench.told == []
        bench.store.see = None
        bench.put("pods", bound_at("after", "2026-01-01T12:00:05Z"))
        tolerant = bound_at("t", "2026-01-01T12:00:05Z")
        tolerant["spec"]["tolerations"] = [{"operator": "Exists"}]
        bench.put("pods", tolerant)
        bench.invariant.full(0.0)
        (told,) = bench.told
        assert told.startswith("pod after is on n since 2026-01-01T12:00:05Z, whose preflight is pending")

    on_bench("preflight", main)


def test_a_team_taint_that_came_unseen_is_found_in_full() -> None:
    async def main() -> None:
        bench = Bench("teams")
        text = "teams: [{name: a, selector: {pool: p}, amount: 1}]"
        config = {"metadata": {"name": "atoll-teams", "namespace": "atoll-system"}, "data": {"teams.yaml": text}}
        bench.put("configmaps", config)
        bench.put("nodes", allotted("n", "a"))
        await asyncio.sleep(60)
        bench.invariant.full(60.0)
        assert bench.told == []
        bench.store.see = None
        bench.put("nodes", allotted("m", "a"))
        bench.invariant.full(60.0)
        assert bench.told == ["team a has 2 of 1 nodes"]

    run_virtual(main())


def of_gang(
    name: str, node: str, *, labels: Object | None = None, notes: Object | None = None, group: str = ""
) -> Object:
    made = pod(name, 1, node)
    made["metadata"] |= {"labels": labels or {}, "annotations": notes or {}}
    if group:
        made["spec"]["schedulingGroup"] = {"podGroupName": group}
    return made


def declared(name: str, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


def jobset(**more: Any) -> Object:
    template = {"spec": {"parallelism": 2, "completions": 2}}
    return declared("s", replicatedJobs=[{"name": "w", "replicas": 1, "template": template}], **more)


IN_SET = {"jobset.sigs.k8s.io/jobset-name": "s", "jobset.sigs.k8s.io/replicatedjob-name": "w"}
IN_GROUP = {"leaderworkerset.sigs.k8s.io/name": "l", "leaderworkerset.sigs.k8s.io/group-index": "0"}
DIALECTS = {
    "volcano": (
        "podgroups.scheduling.volcano.sh", declared("v", minMember=2),
        [of_gang(name, "n", notes={"scheduling.k8s.io/group-name": "v"}) for name in "ab"],
    ),
    "workload": (
        "podgroups.scheduling.k8s.io", declared("w", schedulingPolicy={"gang": {"minCount": 2}}),
        [of_gang(name, "n", group="w") for name in "ab"],
    ),
    "jobset": ("jobsets.jobset.x-k8s.io", jobset(), [of_gang(name, "n", labels=IN_SET) for name in "ab"]),
    "leaderworkerset": (
        "leaderworkersets.leaderworkerset.x-k8s.io", declared("l", leaderWorkerTemplate={"size": 2}),
        [
            of_gang(name, "n", labels={**IN_GROUP, "leaderworkerset.sigs.k8s.io/worker-index": str(index)})
            for index, name in enumerate("ab")
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIALECTS)
def test_half_placed_gangs_of_every_dialect_are_found_when_seen_and_in_full(kind: str) -> None:
    resource, owner, (first, second) = DIALECTS[kind]

    async def main() -> None:
        half, whole, unseen = Bench("gangs"), Bench("gangs"), Bench("gangs")
        for bench in (half, whole, unseen):
            bench.put(resource, owner)
            bench.put("pods", first)
        whole.put("pods", second)
        await asyncio.sleep(100)
        half.put("pods", pod("other", 1))
        whole.put("pods", pod("other", 1))
        assert len(half.told) == 1 and half.told[0].startswith(f"{kind} default/")
        assert "1 of 2 pods have had places for 100 s" in half.told[0]
        unseen.store.see = None
        unseen.put("pods", second)
        for bench in (whole, unseen):
            bench.invariant.full(101.0)
        assert whole.told == []
        assert any("placed pods by changes" in told for told in unseen.told)

    run_virtual(main())


def test_what_is_made_in_stages_is_a_gang_stage_by_stage() -> None:
    async def main() -> None:
        bench = Bench("gangs")
        size = {"spec": {"parallelism": 1, "completions": 1}}
        jobs = [{"name": name, "replicas": count, "template": size} for name, count in (("first", 1), ("w", 2))]
        spec = {"replicatedJobs": jobs, "startupPolicy": {"startupPolicyOrder": "InOrder"}}
        bench.put("jobsets.jobset.x-k8s.io", declared("s", **spec))
        bench.put("pods", of_gang("f", "n", labels=IN_SET | {"jobset.sigs.k8s.io/replicatedjob-name": "first"}))
        await asyncio.sleep(100)
        bench.put("pods", of_gang("a", "n", labels=IN_SET))
        assert bench.told == [], "the first stage is whole by itself"
        await asyncio.sleep(100)
        bench.invariant.full(200.0)
        assert bench.told == ["jobset default/s (w): 1 of 2 pods have had places for 100 s"]

    run_virtual(main())


def test_a_partition_that_is_given_twice_is_found_at_that_commit() -> None:
    def given(name: str, *devices: str) -> Object:
        made = pod(name, 1)
        resources = [{"resourceID": item, "health": "Healthy"} for item in devices]
        told = [{"name": "c", "allocatedResourcesStatus": [{"name": "nvidia.com/gpu", "resources": resources}]}]
        return {**made, "status": {**made["status"], "containerStatuses": told}}

    def main(bench: Bench) -> None:
        bench.put("nodes", node())
        bench.put("pods", given("a", "MIG-1", "GPU-2::0"))
        bench.put("pods", given("b", "GPU-2::1"))
        assert bench.told == []
        bench.put("pods", given("c", "MIG-1"))
        assert bench.told == ["node n: MIG-1 is given to pods u-a and u-c"]
        bench.invariant.full(0.0)
        assert len(bench.told) == 2
        bench.remove("pods", "a")
        bench.put("pods", given("d", "GPU-2::0"))
        assert len(bench.told) == 2, "it had been given back"

    on_bench("devices", main)
