"""Objects that a scenario brings: at once or at a time, whatever is there already and whether the API server answers;
and what the command does about mistakes that only a run finds."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest
from simulate_runs import ATOLL, SMALL, command, events, small

from atoll.base.errors import UserError

QUEUE = """
  queues:
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: ResourceFlavor, metadata: {name: f}}
  - apiVersion: kueue.x-k8s.io/v1beta2
    kind: ClusterQueue
    metadata: {name: q}
    spec:
      namespaceSelector: {matchLabels: {kind: research}}
      resourceGroups:
      - coveredResources: [nvidia.com/gpu, cpu, memory]
        flavors: [{name: f, resources: [{name: nvidia.com/gpu, nominalQuota: 8}, {name: cpu, nominalQuota: 99},
          {name: memory, nominalQuota: 9Ti}]}]
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: LocalQueue, metadata: {name: q, namespace: ml}, spec: {clusterQueue: q}}
  arrivals:
  - {jobs: {name: small, namespace: ml, queue: q, every: 1m, count: 1, run: 1m, gpus: 8}}
  - {jobs: {name: large, namespace: ml, queue: q, every: 1m, count: 1, run: 5m, pods: 4, gpus: 8}}
"""
MORE = """
  - at: 31m
    object:
      apiVersion: kueue.x-k8s.io/v1beta2
      kind: ClusterQueue
      metadata: {name: q}
      spec:
        resourceGroups:
        - coveredResources: [nvidia.com/gpu, cpu, memory]
          flavors: [{name: f, resources: [{name: nvidia.com/gpu, nominalQuota: 32}, {name: cpu, nominalQuota: 99},
          {name: memory, nominalQuota: 9Ti}]}]
"""
SPACES = ("default", "ml")
NAMESPACE = "  objects:\n  - {apiVersion: v1, kind: Namespace, metadata: {name: ml, labels: {kind: research}}}"


def test_quota_changes_at_an_hour_and_waits_for_the_api_server() -> None:
    """The queue is for namespaces with a label, which objects bring beside it; its change comes when nobody answers."""
    result = small(QUEUE + NAMESPACE + MORE + "  faults: [{at: 30m, apiServer: down, for: 5m}]\n")
    started = {row.subject: row.seconds / 60 for row in events(result, "job-started")}
    assert 1 <= started["small-0"] < 2 and 35 <= started["large-0"] < 37 and result.violations == []


@pytest.mark.parametrize("later", [False, True])
def test_pods_come_into_namespaces_that_nobody_made(later: bool) -> None:
    """The API server lets no pod in before its namespace has its account."""
    spec = "{containers: [{name: c, image: i, resources: {limits: {nvidia.com/gpu: 8}}}]}"
    made = [f"{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: {it}}}, spec: {spec}}}" for it in SPACES]
    items = [f"{{at: 30m, object: {pod}}}" if later else pod for pod in made]
    result = small(f"  objects: [{', '.join(items)}]\n")
    allocated = [row.value for row in events(result, "gauge") if row.subject == "allocated"]
    assert allocated[-1] == 16.0


def test_two_objects_of_a_name_are_a_mistake_from_the_start() -> None:
    one = "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}"
    with pytest.raises(UserError, match=r'small.yaml:8: configmaps "c" already exists'):
        small(f"  objects: [{one}, {one}]")


def test_a_job_that_the_api_server_refuses_is_the_users_mistake() -> None:
    pod = "{restartPolicy: Never, containers: [{name: c, image: i}]}"
    taken = f"{{apiVersion: batch/v1, kind: Job, metadata: {{name: a-0}}, spec: {{template: {{spec: {pod}}}}}}}"
    jobs = "\n  arrivals: [{jobs: {name: a, every: 10m, run: 1m}}]\n"
    with pytest.raises(UserError, match="two jobs are called 'a-0'"):
        small(f"  objects: [{taken}]{jobs}")


@pytest.mark.parametrize(
    ("option", "target", "said"),
    [
        ("--report", "nowhere/r.html", "there is no folder"),
        ("--parquet", ".", "is a folder"),
        ("--report", "s.yaml", "is the scenario itself"),
    ],
)
def test_an_output_that_cant_be_written_is_told_before_the_run(
    tmp_path: Path, option: str, target: str, said: str
) -> None:
    (tmp_path / "s.yaml").write_text(SMALL)
    run = command(str(tmp_path / "s.yaml"), option, str(tmp_path / target))
    assert run.returncode == 1 and said in run.stderr and "runs done" not in run.stderr and not run.stdout
    assert (tmp_path / "s.yaml").read_text() == SMALL


def test_a_full_disk_hides_neither_the_figures_nor_the_line_that_plays_a_violation_again(tmp_path: Path) -> None:
    path = tmp_path / "it's a rogue.yaml"
    pods = "".join(
        f"  - {{at: 3m, object: {{apiVersion: v1, kind: Pod, metadata: {{name: p{number}}}, "
        "spec: {nodeName: h-r0-n0, containers: [{name: c, image: i, resources: {limits: {nvidia.com/gpu: 8}}}]}}}\n"
        for number in range(2)
    )
    path.write_text(SMALL + "  objects:\n" + pods + "  policies: {as it is: {}}\n")
    run = command(str(path), "--parquet", "/dev/full")
    assert run.returncode == 1 and "GPUs at work" in run.stdout
    assert "error: /dev/full: No space left on device" in run.stderr
    line = next(line for line in run.stderr.splitlines() if line.startswith("atoll simulate "))
    assert command(*shlex.split(line.split("   #")[0])[2:]).stderr.strip().splitlines()[-1] == line


def test_a_file_that_is_changed_meanwhile_changes_no_run(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(SMALL)
    line = [*ATOLL, "simulate", str(path), "--seeds", "1..2", "--jobs", "1", "-o", "json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None and run.stderr.readline().startswith("0 of 2 runs done")
        path.write_text("soon to be another night")
        told, why = run.communicate()
    assert run.returncode == 0 and [item["seed"] for item in json.loads(told)] == [1, 2], why


def test_exploring_takes_no_options_of_files() -> None:
    run = command("--explore", "1", "--report", "x.html")
    assert run.returncode == 1 and "--compare, --report and --parquet go with a file" in run.stderr
