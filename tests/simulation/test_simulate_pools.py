"""Scenarios whose pools grow and shrink, or whose GPUs are partitioned or shared: invariants, work, prices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from simulate_runs import command, events

from atoll.simulate.compare import simulate
from atoll.simulate.ledger import Ledger
from atoll.simulate.scenario.read import parse
from atoll.simulate.summary import RunResult

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = """
apiVersion: simulate.atoll.dev/v1alpha1
kind: Scenario
metadata: {name: pools}
spec:
  duration: 2h
"""


def played(text: str, seed: int = 1) -> RunResult:
    found = simulate(parse(HEAD + text, "pools.yaml"), seed)
    assert found.violations == []
    return found


def gauge(result: RunResult, name: str) -> list[float]:
    return [row.value for row in result.rows if row.event == "gauge" and row.subject == name]


SCALED = """
  sample: 30s
  autoscale:
    idleSeconds: 300
    pools:
    - {name: h, max: 4, pricePerHour: 60, node: {cpu: 96, memory: 1Ti, gpu: H100, gpus: 8},
       simulated: {bootSeconds: 240, bootJitterSeconds: 0}}
"""


def test_a_pool_grows_for_work_shrinks_after_it_and_costs_what_its_machines_do() -> None:
    result = played(
        SCALED
        + """
  arrivals: [{jobs: {name: a, every: 10m, count: 1, run: 30m, pods: 2, gpus: 8, gang: true}}]
"""
    )
    (started,), (finished,) = events(result, "job-started"), events(result, "job-finished")
    assert 240 < started.value < 300, "a machine boots for four minutes"
    nodes = gauge(result, "nodes")
    assert nodes[0] == 0 and max(nodes) == 2 and nodes[-1] == 0
    busy = [row.seconds for row in events(result, "gauge") if row.subject == "price" and row.value]
    lived = (finished.value + 300, finished.value + 400)  # from the order on, and idle for five minutes
    assert lived[0] * 0.95 < busy[-1] - busy[0] < lived[1]
    assert abs(result.measures["cost"] - 2 * 60 * (busy[-1] - busy[0]) / 3600) < 3
    assert max(gauge(result, "working")) == 16 and max(gauge(result, "gpus")) == 16


def test_balloons_keep_a_node_warm_and_are_no_work() -> None:
    cold, warm = (
        played(SCALED.replace("max: 4", f"max: 4, spare: {spare}") + """
  arrivals: [{jobs: {name: a, every: 20m, count: 3, run: 15m, gpus: 8}}]
""") for spare in (0, 1)
    )  # fmt: skip
    assert warm.measures["wait"] < 0.2 and cold.measures["wait"] > 1
    assert warm.measures["cost"] > cold.measures["cost"]
    assert warm.measures["preemptions"] == 0, "a balloon is not work"
    first = next(row.seconds for row in events(warm, "job-started"))
    assert not any(row.value for row in warm.rows if row.subject == "working" and row.seconds < first)


def test_where_there_is_no_stock_the_dearer_pool_grows() -> None:
    result = played("""
  autoscale:
    pools:
    - {name: spot, max: 4, pricePerHour: 30, node: {cpu: 96, memory: 1Ti, gpu: H100, gpus: 8},
       simulated: {bootSeconds: 60, stock: 1}}
    - {name: dear, max: 4, pricePerHour: 98, node: {cpu: 96, memory: 1Ti, gpu: H100, gpus: 8}}
  arrivals: [{jobs: {name: a, every: 1m, count: 3, run: 30m, gpus: 8}}]
""")
    assert len(events(result, "job-finished")) == 3
    assert max(gauge(result, "price")) == 30 + 2 * 98


def test_faults_strike_the_machines_that_a_pool_has_then() -> None:
    result = played(
        SCALED
        + """
  health: true
  arrivals: [{jobs: {name: a, every: 10m, count: 1, run: 60m, gpus: 8, checkpointEvery: 5m}}]
  faults:
  - {at: [1m, 30m], node: any, pool: h, for: 10m}
  - {at: 60m, gpu: any, kind: xid, value: 79, pool: h, for: 10m}
"""
    )
    faults = events(result, "fault")
    assert [(row.seconds, row.detail) for row in faults] == [(1800, "node"), (3600, faults[1].detail)], "none at 1m"
    assert faults[1].detail.startswith("gpu xid 79") and {row.subject[:2] for row in faults} == {"h-"}
    assert [row.subject for row in events(result, "recovered")] == [row.subject for row in faults]
    assert len(events(result, "work-lost")) == 2 and len(events(result, "job-finished")) == 1


def test_the_same_seed_gives_the_same_event_hash_with_pools_that_grow(tmp_path: Path) -> None:
    path = tmp_path / "pools.yaml"
    path.write_text(
        HEAD.replace("2h", "90m")
        + SCALED.replace("max: 4", "max: 6, min: 1, spare: 1")
        + """
  fleet: {pools: [{name: own, nodes: 2, gpu: H100, gpus: 8, pricePerHour: 40}]}
  health: true
  arrivals: [{jobs: {name: a, every: {exponential: 6m}, run: {exponential: 20m}, gpus: {choice: [1, 4, 8]}}}]
  faults: [{every: {exponential: 20m}, node: any, for: 5m}]
"""
    )
    runs = [command(str(path), "--seeds", "3", "-o", "json", hash_seed=number) for number in (1, 2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    first, second = (json.loads(run.stdout)[0] for run in runs)
    assert first["hash"] == second["hash"] and first["measures"] == second["measures"]
    assert first["violations"] == [] and first["measures"]["cost"] > 2 * 40 * 1.5


def test_example_19_what_warm_nodes_cost(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    file = EXAMPLES / "19-what-warm-nodes-cost" / "pools.yaml"
    run = command(str(file), "--compare", "lean,warm", "--seeds", "1", "-o", "json", "--report", str(page))
    assert run.returncode == 0, run.stderr
    lean, warm = (item["measures"] for item in json.loads(run.stdout))
    assert warm["wait"] < lean["wait"] and warm["cost"] != lean["cost"] > 0
    assert "Price of all nodes" in page.read_text() and "up to 16 machines more" in page.read_text()


def test_partitions_and_time_slices_count_as_the_part_of_a_gpu_that_they_are() -> None:
    """Two GPUs of seven small instances, two of two large ones, and two that are given out four times."""
    result = played("""
  fleet:
    pools:
    - {name: small, nodes: 1, gpu: A100, gpus: 2, mig: all-1g.10gb, migStrategy: mixed}
    - {name: large, nodes: 1, gpu: A100, gpus: 2, mig: all-3g.40gb, migStrategy: mixed}
    - {name: slices, nodes: 1, gpu: L4, gpus: 2, timeSlicing: 4}
  arrivals:
  - jobs: {name: small, every: 1s, count: 14, from: 10m, run: 20m, resource: nvidia.com/mig-1g.10gb}
  - jobs: {name: large, every: 1s, count: 5, from: 40m, run: 20m, resource: nvidia.com/mig-3g.40gb}
  - jobs: {name: slice, every: 1s, count: 6, from: 90m, run: 20m, gpus: 1}
""")
    assert set(gauge(result, "gpus")) == {6.0}
    at = {round(row.seconds / 60): row.value for row in result.rows if row.subject == "working"}
    assert at[20] == pytest.approx(2.0), "fourteen instances are two GPUs"
    assert at[50] == pytest.approx(4 * 3 / 7), "the fifth waits; a seventh of each GPU is in no instance"
    assert at[100] == pytest.approx(6 / 4)
    finished = {row.subject.split("-")[0]: row.gpus for row in events(result, "job-finished")}
    assert finished == pytest.approx({"small": 1 / 7, "large": 3 / 7, "slice": 1 / 4})
    idle = {round(row.seconds / 60): row.value for row in result.rows if row.subject == "idle"}
    assert idle[20] == pytest.approx(4 * 3 / 7 + 2)


def test_nodes_are_made_as_their_agents_leave_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written to a node's labels or capacity after it has joined."""
    seen: dict[str, set[tuple[Any, ...]]] = {}
    own = Ledger.see

    def see(self: Ledger, event: Any) -> None:
        if event.record.key.resource == "nodes":
            node = event.record.object
            gpus = {key: value for key, value in node["metadata"]["labels"].items() if key.startswith("nvidia.com/")}
            told = (tuple(sorted(gpus.items())), tuple(sorted(node["status"]["capacity"].items())))
            seen.setdefault(event.record.key.name, set()).add(told)
        own(self, event)

    monkeypatch.setattr(Ledger, "see", see)
    played("""
  fleet:
    pools:
    - {name: parts, nodes: 1, gpu: A100, gpus: 2, mig: all-balanced, migStrategy: mixed}
    - {name: alike, nodes: 1, gpu: H100, gpus: 2, mig: all-2g.20gb}
    - {name: slices, nodes: 1, gpu: L4, gpus: 2, timeSlicing: 4}
    - {name: whole, nodes: 1, gpu: L4, gpus: 2}
""")
    assert {name: len(told) for name, told in seen.items()} == {
        "parts-n0": 1, "alike-n0": 1, "slices-n0": 1, "whole-n0": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pool", "job", "stopped"),
    [("mig: all-1g.10gb, migStrategy: mixed", "resource: nvidia.com/mig-1g.10gb", 7), ("timeSlicing: 4", "gpus: 1", 4)],
)
def test_a_gpu_that_breaks_ends_all_that_share_it_and_nothing_else(pool: str, job: str, stopped: int) -> None:
    result = played(f"""
  fleet: {{pools: [{{name: p, nodes: 1, gpu: A100, gpus: 2, {pool}}}]}}
  arrivals: [{{jobs: {{name: a, every: 1s, count: {2 * stopped}, run: 30m, {job}, checkpointEvery: 1m}}}}]
  faults: [{{at: 10m, gpu: p-n0, kind: xid, value: 79, for: 20m}}]
""")
    assert [row.detail for row in events(result, "work-lost")] == ["Failed"] * stopped
    assert len(events(result, "job-finished")) == 2 * stopped


def test_quota_counts_partitions_by_their_name() -> None:
    result = played("""
  fleet: {pools: [{name: p, nodes: 1, gpu: A100, gpus: 2, mig: all-1g.10gb, migStrategy: mixed}]}
  queues:
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: ResourceFlavor, metadata: {name: f}}
  - apiVersion: kueue.x-k8s.io/v1beta2
    kind: ClusterQueue
    metadata: {name: q}
    spec:
      namespaceSelector: {}
      resourceGroups:
      - coveredResources: [nvidia.com/mig-1g.10gb, cpu, memory]
        flavors:
        - name: f
          resources:
          - {name: nvidia.com/mig-1g.10gb, nominalQuota: 5}
          - {name: cpu, nominalQuota: 1k}
          - {name: memory, nominalQuota: 1Pi}
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: LocalQueue, metadata: {name: q}, spec: {clusterQueue: q}}
  arrivals:
  - {jobs: {name: a, every: 1s, count: 10, run: 20m, resource: nvidia.com/mig-1g.10gb, cpu: 1, memory: 1Gi, queue: q}}
""")
    assert max(gauge(result, "working")) == pytest.approx(5 / 7)
    assert len(events(result, "job-finished")) == 10


def test_jobs_ask_for_devices_by_claims_and_a_gpu_that_breaks_ends_who_has_it() -> None:
    result = played("""
  fleet:
    pools:
    - {name: h, nodes: 1, gpu: H100, gpus: 4}
    - {name: parts, nodes: 1, gpu: A100, gpus: 1, mig: all-1g.10gb, migStrategy: mixed}
  arrivals:
  - jobs: {name: whole, every: 10m, count: 2, run: 20m, gpus: 4, deviceClass: gpu.nvidia.com,
           selector: "device.attributes['gpu.nvidia.com'].productName.contains('H100')"}
  - jobs: {name: part, every: 1m, count: 8, from: 70m, run: 20m, deviceClass: mig.nvidia.com}
  faults: [{at: 25m, gpu: h-n0, kind: xid, value: 79, for: 5m}]
""")
    at = {round(row.seconds / 60): row.value for row in result.rows if row.subject == "working"}
    assert (at[20], at[28]) == (4.0, 0.0), "it broke after 25 minutes"
    assert at[80] == pytest.approx(1.0), "seven instances are the GPU; the eighth job waits"
    (lost,) = events(result, "work-lost")
    assert lost.subject.startswith("whole-0") and lost.value == pytest.approx(4 * 15 * 60, abs=20)
    assert [row.detail[:11] for row in events(result, "recovered")] == ["gpu xid 79 "]
    assert len(events(result, "job-finished")) == 10


def test_example_20_whole_partitioned_or_shared() -> None:
    run = command(str(EXAMPLES / "20-whole-partitioned-or-shared" / "gpus.yaml"), "-o", "json")
    assert run.returncode == 0, run.stderr
    whole, slices, partitions = (item["measures"] for item in json.loads(run.stdout))
    assert whole["wait"] > slices["wait"] > partitions["wait"]
    assert whole["utilisation"] > slices["utilisation"] > partitions["utilisation"] > 50
