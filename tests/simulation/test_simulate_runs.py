"""Whole scenarios: a seed replays a run in another interpreter, faults are lived through, violations are told."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from simulate_runs import SMALL, command, events, small

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import NODES
from atoll.runtime.informer import Informer
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.simulate.compare import simulate
from atoll.simulate.gate import Gate, gated
from atoll.simulate.scenario.read import load

NIGHT = Path(__file__).parent / "scenarios" / "night.yaml"


def test_the_same_seed_gives_the_same_event_hash_in_two_fresh_interpreters() -> None:
    runs = [command(str(NIGHT), "--seeds", "3", "--compare", "reclaim", "-o", "json", hash_seed=n) for n in (1, 2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    first, second = (json.loads(run.stdout) for run in runs)
    assert [it["hash"] for it in first] == [it["hash"] for it in second]
    assert [it["measures"] for it in first] == [it["measures"] for it in second]
    assert first[0]["commits"] > 500 and first[0]["violations"] == []
    assert simulate(load(NIGHT), 4).digest != first[0]["hash"]


def test_a_drain_comes_right_after_a_checkpoint_and_loses_nothing() -> None:
    result = small("""
  health: true
  arrivals:
  - jobs: {name: train, every: 1m, count: 1, run: 90m, pods: 32, gpus: 1, checkpointEvery: 10m}
  faults:
  - {at: "00:36", gpu: any, kind: thermal, value: 99, for: 30m}
""")
    left = events(result, "pod-disrupted")
    assert len(left) == 8 and {round(row.seconds) % 600 for row in left} == {round(left[0].seconds) % 600}
    assert all(row.value == 0 for row in events(result, "work-lost")) and result.measures["lost"] == 0


def test_policies_are_compared_over_seeds() -> None:
    run = command(str(NIGHT), "--seeds", "1..2", "--compare", "reclaim,never")
    assert run.returncode == 0, run.stderr
    assert "MEASURE" in run.stdout and "never − reclaim" in run.stdout and "±" in run.stdout
    preemptions = next(line for line in run.stdout.splitlines() if line.startswith("preemptions"))
    reclaim, never = re.split(r"\s{3,}", preemptions)[1:3]
    assert never == "0.0 ± 0.0" and not reclaim.startswith("0.0"), run.stdout
    assert "4 of 4 runs done" in run.stderr


def test_a_rack_dies_and_its_jobs_go_on_elsewhere_from_their_checkpoints() -> None:
    result = small("""
  arrivals: [{jobs: {name: a, every: 1m, count: 1, run: 60m, gpus: 8, pods: 2, checkpointEvery: 10m}}]
  faults: [{at: 25m, rack: h-r0, for: 30m}]
""")
    assert result.violations == []
    lost = events(result, "work-lost")
    assert {row.detail for row in lost} == {"MachineDied"} and len(lost) == 2
    assert all(0 < row.value / 8 < 600 for row in lost)  # less than one interval a pod
    (recovered,) = events(result, "recovered")
    assert 300 < recovered.value < 420  # 50 s of silence, 300 s of toleration
    (finished,) = events(result, "job-finished")
    whole = 60 * 60 + sum(row.value for row in lost) / 16 + recovered.value
    assert abs(finished.value - whole) < 30  # nothing but what was lost is done twice


def test_a_short_break_of_the_network_stops_nothing() -> None:
    result = small("""
  arrivals: [{jobs: {name: a, every: 1m, count: 1, run: 30m, gpus: 8}}]
  faults: [{at: 10m, network: h-r0, for: 2m}, {at: 10m, network: h-r1, for: 2m}]
""")
    assert len(events(result, "node-not-ready")) == 4 and events(result, "work-lost") == []
    (finished,) = events(result, "job-finished")
    assert finished.value < 31 * 60


def test_nodes_that_are_cut_off_for_long_are_taken_for_dead_and_their_work_goes_on_elsewhere() -> None:
    result = small("""
  arrivals: [{jobs: {name: a, every: 1m, count: 2, run: 30m, pods: 1, gpus: 8, checkpointEvery: 5m}}]
  faults: [{at: 10m, network: h-r0, for: 40m}, {at: 10m, network: h-r1, for: 2m}]
""")
    assert {row.detail for row in events(result, "pod-disrupted")} <= {"DeletionByTaintManager"}
    lost, finished = events(result, "work-lost"), events(result, "job-finished")
    assert len(finished) == 2
    if lost:  # a job was in the rack that stayed away
        assert all(15 * 60 < row.seconds < 18 * 60 for row in lost), "five minutes after the node was missed"
        (back,) = [row for row in events(result, "recovered") if row.subject == "h-r0"]
        assert 5 * 60 < back.value < 8 * 60
    assert lost, "both racks had a job"


def test_a_gpu_that_breaks_ends_the_pod_that_uses_it_alone() -> None:
    result = small("""
  arrivals: [{jobs: {name: a, every: 1m, count: 8, run: 30m, gpus: 4}}]
  faults: [{at: 10m, gpu: h-r0-n0, kind: xid, value: 79, for: 30m}]
""")
    lost = events(result, "work-lost")
    assert [row.detail for row in lost] == ["Failed"] and len(events(result, "job-finished")) == 8


def test_while_the_api_server_is_away_jobs_wait_and_come_after() -> None:
    result = small("""
  arrivals: [{jobs: {name: a, every: 10m, count: 3, run: 30m, gpus: 1}}]
  faults: [{at: 19m, apiServer: down, for: 5m}]
""")
    arrived = [row.seconds for row in events(result, "job-arrived")]
    assert [round(seconds / 60) for seconds in arrived] == [10, 24, 30]
    assert len(events(result, "job-finished")) == 3


def test_when_the_api_server_goes_away_open_watches_break_and_go_on_afterwards() -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop())
        store = MemoryStore(clock)
        gate = Gate(store.break_watches)
        assembly = gated(assemble(store, clock, Chance(1), ApiOptions()), gate)
        await bootstrap(assembly)
        client = LocalClient(assembly.api, SYSTEM_ADMIN, "not-behind-the-gate")
        informer = Informer(assembly.client(), NODES)
        task = asyncio.create_task(informer.run())
        await informer.synced.wait()
        await client.create(NODES, {"metadata": {"name": "a"}})
        await asyncio.sleep(1)
        assert informer.healthy and len(informer) == 1
        gate.shut()
        await asyncio.sleep(1)
        assert not informer.healthy
        await client.create(NODES, {"metadata": {"name": "b"}})
        await asyncio.sleep(60)
        assert len(informer) == 1, "nothing comes through"
        gate.open()
        await asyncio.sleep(10)
        assert informer.healthy and len(informer) == 2
        task.cancel()

    run_virtual(main())


def test_what_breaks_an_invariant_is_told_in_a_line_that_plays_it_again(tmp_path: Path) -> None:
    path = tmp_path / "rogue.yaml"
    pods = "".join(
        f"  - {{at: 30m, object: {{apiVersion: v1, kind: Pod, metadata: {{name: p{number}}}, "
        "spec: {nodeName: h-r0-n0, containers: [{name: c, image: i, resources: {limits: {nvidia.com/gpu: 8}}}]}}}\n"
        for number in range(2)
    )
    path.write_text(SMALL + "  objects:\n" + pods)
    run = command(str(path), "--seeds", "5")
    assert run.returncode == 1
    line = run.stderr.strip().splitlines()[-1]
    assert line.startswith(f"atoll simulate {path} --seeds 5 --compare 'as written'   # devices at 00:30:00:")
    assert "16 of 8 nvidia.com/gpu are given away" in line
    again = command(*shlex.split(line.split("   #")[0])[2:])
    assert again.stderr.strip().splitlines()[-1] == line


def test_mistakes_are_told_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(NIGHT.read_text().replace("nominalQuota: 64", "nominalQuota: -1"))
    run = command(str(path))
    assert run.returncode == 1 and f"error: {path}:11:" in run.stderr and "nominalQuota" in run.stderr, run.stderr
    path.write_text(NIGHT.read_text().replace("    never:\n", "    never:\n      sample: soon\n"))
    run = command(str(path))
    assert f"{path}:48: spec.sample: 'soon' is not a duration" in run.stderr and "runs done" not in run.stderr


def test_tested_nodes_and_teams_are_simulated_too() -> None:
    """Nodes join closed until their tests have passed; teams have their nodes; a dead rack comes back so as well."""
    result = small("""
  health: true
  teams: true
  objects:
  - {apiVersion: v1, kind: Namespace, metadata: {name: atoll-system}}
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: atoll-teams, namespace: atoll-system}
    data: {teams.yaml: "teams: [{name: a, selector: {nvidia.com/gpu.present: 'true'}, amount: 1}]"}
  arrivals: [{jobs: {name: a, team: a, every: 10m, run: 5m, gpus: 8}}]
  faults: [{at: 40m, rack: h-r1, for: 20m}]
""")
    assert result.violations == [] and len(events(result, "job-finished")) >= 8


def test_a_job_that_never_started_says_why_and_tests_of_gpus_are_no_jobs() -> None:
    result = small("""
  health: true
  objects: [{apiVersion: v1, kind: Namespace, metadata: {name: atoll-system}}, {apiVersion: v1, kind: ConfigMap,
    metadata: {name: atoll-health, namespace: atoll-system}, data: {preflight.yaml: "periodic: {everySeconds: 1800}"}}]
  queues:
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: ResourceFlavor, metadata: {name: f}}
  - apiVersion: kueue.x-k8s.io/v1beta2
    kind: ClusterQueue
    metadata: {name: q}
    spec:
      resourceGroups:
      - coveredResources: [nvidia.com/gpu]
        flavors: [{name: f, resources: [{name: nvidia.com/gpu, nominalQuota: 32}]}]
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: LocalQueue, metadata: {name: q, namespace: default},
    spec: {clusterQueue: q}}
  arrivals:
  - {jobs: {name: queued, queue: q, every: 50m, run: 5m, gpus: 1}}
  - {jobs: {name: large, every: 70m, run: 5m, gpus: 9}}
""")
    waiting = {row.team: (row.subject, row.detail) for row in events(result, "job-waiting")}
    assert waiting["q"] == ("queued-1", "Workload namespace doesn't match ClusterQueue selector")
    subject, lacks = waiting["large"]
    assert subject == "large-0" and lacks.startswith("0/4 nodes are available: 4 Insufficient nvidia.com/gpu.")
    assert set(waiting) == {"q", "large"} and result.measures["finished"] == 0, "tests of GPUs ran, and are no jobs"


EXAMPLES = Path(__file__).parents[2] / "examples"
TRACE = Path(__file__).parents[3] / "shared" / "traces" / "openb" / "openb_pod_list_default.csv"


def test_example_16_a_rack_dies_in_the_night(tmp_path: Path) -> None:
    page = tmp_path / "night.html"
    run = command(
        str(EXAMPLES / "16-a-rack-dies-in-the-night" / "night.yaml"), "--seeds", "1..2", "--report", str(page)
    )
    assert run.returncode == 0, run.stderr
    lost = next(line for line in run.stdout.splitlines() if line.startswith("lost work"))
    without, saved = (float(cell.split(" ± ")[0]) for cell in re.split(r"\s{3,}", lost)[1:3])
    assert without > saved > 0
    assert "rack h100-b0-r1: 90 min" in page.read_text()


@pytest.mark.skipif(not TRACE.is_file(), reason="the published trace is not on this machine")
def test_example_17_compare_two_policies_on_a_trace(tmp_path: Path) -> None:
    folder = tmp_path / "17"
    shutil.copytree(EXAMPLES / "17-compare-two-policies-on-a-trace", folder)
    shutil.copy(TRACE, folder / "pods.csv")
    run = command(str(folder / "trace.yaml"), "--report", str(tmp_path / "trace.html"))
    assert run.returncode == 0, run.stderr
    rows = {line[:42].strip(): re.split(r"\s{3,}", line)[1:3] for line in run.stdout.splitlines()}
    strict_wait, wait = map(float, rows["queue wait, mean [min]"])
    assert wait < strict_wait, "small pods do not wait for the large one"
    strict_finished, finished = map(float, rows["jobs finished"])
    assert finished > strict_finished > 400, "the large one ran, and then they did"
    assert float(rows["jobs never started"][1]) == 1, "the large one starves"


PROFILES = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: gpu-share
  plugins: {filter: {enabled: [{name: Open-Gpu-Share}]}, score: {disabled: [{name: "*"}], enabled: [{name: %s}]}}
"""
PARTS = """
apiVersion: simulate.atoll.dev/v1alpha1
kind: Scenario
metadata: {name: parts}
spec:
  duration: 3h
  fleet: {pools: [{name: h, nodes: 4, model: G3, gpus: 4, shared: true}]}
  arrivals:
  - {jobs: {name: a, every: 1m, run: 30m, gpus: 1, gpuMilli: {choice: [250, 500, 700]}, schedulerName: gpu-share}}
  - {jobs: {name: b, every: 10m, run: 30m, gpus: 2, schedulerName: gpu-share}}
  policies: {fgd: {scheduler: {file: fgd.yaml}}, random: {scheduler: {file: random.yaml}}}
"""


def test_policies_that_share_gpus_are_compared_and_no_part_is_given_twice(tmp_path: Path) -> None:
    for name, score in (("fgd", "FGDScore"), ("random", "RandomScore")):
        (tmp_path / f"{name}.yaml").write_text(PROFILES % score)
    (tmp_path / "parts.yaml").write_text(PARTS)
    runs = [simulate(load(tmp_path / "parts.yaml", policy), 1) for policy in ("fgd", "random")]
    assert [run.violations for run in runs] == [[], []]
    assert runs[0].digest != runs[1].digest
    allocated = [row.value for row in runs[0].rows if row.event == "gauge" and row.subject == "allocated"]
    assert max(allocated) <= 16 and any(value % 1 for value in allocated), "parts of GPUs"
    assert len(events(runs[0], "job-finished")) > 100


def test_explored_scenarios_hold_their_invariants() -> None:
    run = command("--explore", "4", "--seeds", "20")
    assert run.returncode == 0 and "4 scenarios" in run.stdout and "0 broke an invariant" in run.stdout, run.stderr


PLANTED = """
from atoll.scheduling.state import NodeState
NodeState._count = lambda self, pod, sign: None  # a scheduler that forgets what it has placed
"""


def test_a_planted_fault_is_found_by_exploring_and_its_line_plays_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(PLANTED)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    run = command("--explore", "4", "--seeds", "20")
    assert run.returncode == 1
    lines = [line for line in run.stderr.splitlines() if line.startswith("atoll simulate --explore 1 --seeds ")]
    assert lines and all(" of " in line and "are given away" in line for line in lines)
    again = command(*shlex.split(lines[0].split("   #")[0])[2:])
    assert again.returncode == 1 and again.stderr.strip().splitlines()[-1] == lines[0]
