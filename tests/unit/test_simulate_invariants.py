"""Invariants of simulations find what is planted, at the commit that breaks them, and in full."""

from __future__ import annotations

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
        import asyncio

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


def test_the_digest_is_of_every_commit() -> None:
    async def digest(*names: str) -> str:
        import asyncio

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
