"""What a person may get wrong in a scenario and its files: told with line and key, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.simulate.arrivals import plan_arrivals
from atoll.simulate.scenario.model import Scenario
from atoll.simulate.scenario.read import parse

HEAD = "apiVersion: simulate.atoll.dev/v1alpha1\nkind: Scenario\nmetadata: {name: s}\nspec:\n  duration: 24h\n"
POOL = "  fleet: {pools: [{name: h, nodes: 8, gpu: H100, gpus: 8, block: 4, rack: 2}]}\n"
QUEUE = "  queues: [{apiVersion: kueue.x-k8s.io/v1beta2, kind: ClusterQueue, metadata: {name: q}, spec: {%s}}]\n"


def jobs(more: str, name: str = "a") -> str:
    return f"  arrivals: [{{jobs: {{name: {name}, run: 1h, {more}}}}}]\n"


def pool(more: str) -> str:
    return f"  fleet: {{pools: [{{name: h, nodes: 8, {more}}}]}}\n"


def scenario(text: str, policy: str | None = None, source: str = "s.yaml") -> Scenario:
    return parse(HEAD + text, source, policy)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POOL + jobs("every: 0s"), "s.yaml:7: every of a: jobs without end would come: give a"),
        (POOL + jobs("every: {exponential: 1m, most: 0s}"), "every of a: jobs without end would come"),
        (POOL + jobs("every: {uniform: [1m, 2m], least: 3m, most: 2m}"), "jobs.every.least: is above most"),
        (POOL + jobs("every: 0.001s"), "every of a: about 86,400,000 jobs would come"),
        (POOL + jobs("every: 1h, from: 5h, until: 2h"), "from of a: nothing comes: it begins after 18000 s, and is"),
        (POOL + jobs("every: 1h, pods: 10000000"), "pods of a: a job has 1,000,000 pods at most"),
        (POOL + jobs("every: 1h, priorityClass: urgent"), "'urgent' is no PriorityClass of objects; there are: none"),
        (POOL + jobs("every: 1h", "Train_A"), "s.yaml:7: spec.arrivals[0].jobs.name: 'Train_A': a lowercase RFC 1123"),
        (POOL + jobs("every: 1h, namespace: ML"), "s.yaml:7: spec.arrivals[0].jobs.namespace: 'ML': a lowercase"),
        (POOL + jobs("every: 1h, team: my team"), "s.yaml:7: spec.arrivals[0].jobs.team: 'my team': a valid label"),
        (POOL + "  arrivals:\n  - jobs: {name: a, every: 1h, run: 1h}\n  - jobs: {name: a, every: 2h, run: 1h}\n",
         "s.yaml:9: name of a: the stream of line 8 is called so too: their jobs would have the same names"),
        (POOL + "  faults: [{at: 1h, apiServer: up, for: 1m}]\n", "spec.faults[0].apiServer: must be down, not 'up'"),
        (POOL + "  faults: [{at: 30h, node: any, for: 1m}]\n", "s.yaml:7: at of node: 108000 s is after the"),
        (POOL + "  faults: [{every: 0s, node: any, for: 1m}]\n", "every of node: faults without end would strike"),
        (POOL + "  faults: [{perYear: 1000000000, node: any, for: 1m}]\n", "perYear of node: about 21,917,808 faults"),
        (POOL + "  faults: [{at: 1h, node: h-n9, for: 1m}]\n", "s.yaml:7: node: there is no node 'h-n9'"),
        (POOL + "  objects: [{at: 25h, object: {apiVersion: v1, kind: Namespace, metadata: {name: n}}}]\n",
         "s.yaml:7: Namespace n comes at 90000 s, but the scenario ends after 86400 s"),
        (pool("labels: {a: b c}"), "s.yaml:6: spec.fleet.pools[0].labels.a: a valid label must be an empty string"),
        (pool("taints: [{key: a, effect: NoRun}]"), "pools[0].taints[0].effect: 'NoRun' is none of NoSchedule, Prefer"),
        (pool("taints: [{key: a, value: b}]"), "s.yaml:6: spec.fleet.pools[0].taints[0].effect: missing"),
        ("  fleet: {pools: [{name: h, nodes: 2, rack: 2}, {name: h-r0, nodes: 2}]}\n", "two nodes are called 'h-r0-n0"),
        ("  fleet: {pools: [{name: GPU Pool, nodes: 2}]}\n", "s.yaml:6: spec.fleet.pools[0].name: 'GPU Pool': a lower"),
        ("  fleet: {pools: [{name: h, nodes: ²}]}\n", "[0].nodes: must be a whole number from 1 to 1000000, not '²'"),
        (POOL + "  duration: 1h\n  policies: {a: {}}\n", "s.yaml:7: spec.duration: given twice"),
        (POOL + "  policies: {a: {}, b: {}, a: {teams: true}}\n", "s.yaml:7: spec.policies.a: given twice"),
        (POOL + "  policies: {'a,b': {}}\n", "s.yaml:7: spec.policies.a,b: its name can't be told to --compare"),
        (POOL + QUEUE % "resourceGroups: [{flavors: [{name: f, name: g}]}]", "s.yaml:7: spec.queues[0].spec.resourceG"),
        (POOL + QUEUE % "cohort: !Ref x", "s.yaml:7: could not determine a constructor for the tag '!Ref'"),
        (POOL + QUEUE % "" + "  patches: [{kind: ClusterQueue, name: q, patch: hold}]\n", "patch: must be a mapping"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_line_and_key(text: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        scenario(text)
    assert said in raised.value.message


@pytest.mark.parametrize("duration", ["0s", "99999999999999999999999h", "soon"])
def test_a_scenario_lasts_a_while(duration: str) -> None:
    with pytest.raises(UserError, match=r"s.yaml:5: spec.duration: (must be more than 0|.* is longer|.* is not a dur)"):
        parse(HEAD.replace("24h", duration) + POOL, "s.yaml")


def test_queues_of_the_wrong_shape_are_left_to_the_api_server() -> None:
    for groups in ("[{flavors: [h100]}]", "{flavors: x}", "[a]"):
        assert scenario(POOL + QUEUE % f"resourceGroups: {groups}").queueing


def test_a_burst_may_come_at_once() -> None:
    found = plan_arrivals(scenario(POOL + jobs("every: 0s, count: 3, from: 1h")), Chance(1))
    assert [item.at for item in found] == [3600.0] * 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"s.yaml:7: spec.queues\[0\].file: .*q.yaml: there is no object in it"),
        (b"a: \x00b", "q.yaml: not YAML"),
        (b"\xff\xfe\xff", "q.yaml: is not UTF-8 text"),
        (b"kind: X\napiVersion: v1\nkind: Y\n", "q.yaml:3: kind: given twice"),
    ],
)
def test_a_file_of_objects_that_is_none_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "q.yaml").write_bytes(content)
    with pytest.raises(UserError, match=said):
        scenario(POOL + "  queues: [{file: q.yaml}]\n", source=str(tmp_path / "s.yaml"))


def test_what_kubectl_prints_is_taken_as_it_is(tmp_path: Path) -> None:
    """`kubectl get clusterqueues -o yaml` is a List of objects with what their API server wrote into them."""
    (tmp_path / "q.yaml").write_text(
        "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems:\n"
        "- apiVersion: kueue.x-k8s.io/v1beta2\n  kind: ClusterQueue\n"
        "  metadata: {name: q, uid: u, resourceVersion: '7', creationTimestamp: 2026-01-01T00:00:00Z, generation: 2}\n"
        "- {apiVersion: v1, kind: Namespace, metadata: {name: n, annotations: {since: 2026-01-01}}}\n"
    )
    found = scenario(POOL + "  queues: [{file: q.yaml}]\n", source=str(tmp_path / "s.yaml")).given
    assert [(item.obj["metadata"], item.where.rpartition(":")[2]) for item in found] == [
        ({"name": "q"}, "5"),
        ({"name": "n", "annotations": {"since": "2026-01-01"}}, "8"),
    ]


COLUMNS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,creation_time,deletion_time,scheduled_time\n"


def test_a_pod_of_a_trace_that_no_job_can_be_called_after_is_told(tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(COLUMNS + "p1,1,1,0,0,,5,9,5\ntask_M1,1,1,0,0,,1,9,1\n")
    text = POOL + "  arrivals: [{trace: {pods: pods.csv}}]\n"
    with pytest.raises(UserError, match=r"pods.csv, line 3, column name: 'task_M1' can't be the name of a Job"):
        plan_arrivals(scenario(text, source=str(tmp_path / "s.yaml")), Chance(1))


def test_a_trace_may_ask_for_the_gpus_of_a_pool_that_grows(tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(COLUMNS + "p1,1000,1024,1,1000,T4,5,9,5\n")
    text = (
        "  fleet: {pools: [{name: c, nodes: 1}]}\n"
        "  autoscale: {pools: [{name: t, max: 2, node: {cpu: 8, memory: 64Gi, gpu: T4, gpus: 4}}]}\n"
        "  arrivals: [{trace: {pods: pods.csv}}]\n"
    )
    (found,) = plan_arrivals(scenario(text, source=str(tmp_path / "s.yaml")), Chance(1))
    assert found.gpu == ("T4",) and found.products
