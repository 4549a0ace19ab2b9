"""Scenario files: what they say is read as meant; a mistake is told with its line, its key and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.simulate.arrivals import job_object, plan_arrivals
from atoll.simulate.faults import plan_faults
from atoll.simulate.layout import node_of, places
from atoll.simulate.scenario.model import RACK_LABEL, Pool
from atoll.simulate.scenario.read import parse
from atoll.simulate.scenario.spread import Spread
from atoll.simulate.scenario.units import seconds_of

HEAD = "apiVersion: simulate.atoll.dev/v1alpha1\nkind: Scenario\nmetadata: {name: s}\nspec:\n  duration: 24h\n"
POOL = "  fleet: {pools: [{name: h, nodes: 8, gpu: H100, gpus: 8, block: 4, rack: 2}]}\n"
QUEUE = """  queues:
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: ResourceFlavor, metadata: {name: f}}
  - apiVersion: kueue.x-k8s.io/v1beta2
    kind: ClusterQueue
    metadata: {name: q}
    spec: {resourceGroups: [{coveredResources: [cpu], flavors: [{name: f, resources: [{name: cpu, nominalQuota: 8}]}]}]}
  - {apiVersion: kueue.x-k8s.io/v1beta2, kind: LocalQueue, metadata: {name: q}, spec: {clusterQueue: q}}
"""
JOBS = "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, gpus: 8, queue: q}}]\n"


def scenario(text: str, policy: str | None = None, source: str = "s.yaml") -> Any:
    return parse(HEAD + text, source, policy)


def test_a_whole_scenario_is_read() -> None:
    found = scenario(POOL + QUEUE + JOBS + "  faults: [{at: [03:30, 1d], rack: any, for: {uniform: [10m, 20m]}}]\n")
    assert found.seconds == 86400 and found.gpus == 64 and found.queueing
    assert found.jobs[0].run == Spread("constant", (7200.0,)) and found.jobs[0].queue == "q"
    (rule,) = found.faults
    assert (rule.target, rule.name, rule.at) == ("rack", "", (12600.0, 86400.0))
    stand = list(places(found.pools))
    assert [place.node for place in stand][:3] == ["h-b0-r0-n0", "h-b0-r0-n1", "h-b0-r1-n0"]
    node = node_of(stand[4], "10.0.0.1", "2023-11-14T22:13:20Z")
    assert node["metadata"]["labels"][RACK_LABEL] == "h-b1-r0"
    assert node["status"]["allocatable"]["nvidia.com/gpu"] == "8"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (POOL + "  fautls: []\n", "s.yaml:7: spec.fautls: unknown key; known here: arrivals, autoscale, duration, f"),
        ("  fleet: {pools: [{name: h}]}\n", "s.yaml:6: spec.fleet.pools[0].nodes: missing"),
        ("  fleet: {pools: [{name: h, nodes: 4, gpus: 8}]}\n", "gpus (how many a node has) goes with gpu (a type)"),
        ("  fleet: {pools: [{name: h, nodes: 4, gpu: H110, gpus: 8}]}\n", "pools[0].gpu: unknown GPU type 'H110'"),
        ("  fleet: {pools: [{name: h, nodes: 4, block: 3, rack: 2}]}\n", "3 nodes are not whole racks of 2"),
        (POOL + "  sample: often\n", "s.yaml:7: spec.sample: 'often' is not a duration such as 90s"),
        (POOL + "  invariants: [luck]\n", "s.yaml:7: spec.invariants[0]: 'luck' is none of devices, gangs, quota"),
        (POOL + "  arrivals: [{jobs: {name: a, every: 1h}}]\n", "s.yaml:7: spec.arrivals[0].jobs.run: missing"),
        (POOL + JOBS, "queue of a: 'q' is no LocalQueue of namespace default; there are: none"),
        (POOL + "  arrivals: [{jobs: {name: a, every: 1h, run: 1h, gpu: B200}}]\n", "no pool has GPUs of type 'B200'"),
        (POOL + "  faults: [{rack: any, for: 1h}]\n", "says when by one of: at (times), every (a rate for all)"),
        (POOL + "  faults: [{at: 1h, for: 1h}]\n", "names what breaks by one of: node, rack"),
        (POOL + "  patches: [{kind: ClusterQueue, name: x, patch: {}}]\n", "there is no ClusterQueue 'x' to patch"),
        (POOL + "  queues: [{file: q.yaml}]\n", "s.yaml:7: spec.queues[0].file: there is no file q.yaml"),
        (POOL + QUEUE.replace("clusterQueue: q", "clusterQueue: r"), "s.yaml:13: LocalQueue q: there is no Cl"),
        (POOL + QUEUE.replace("[{name: f, res", "[{name: g, res"), "s.yaml:9: ClusterQueue q: there is no Re"),
        ("", "spec.fleet.pools: a scenario needs at least one pool of nodes"),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_line_and_key(text: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        scenario(text)
    assert said in raised.value.message


PROFILES = """
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
profiles:
- schedulerName: gpu-share
  plugins: {filter: {enabled: [{name: Open-Gpu-Share}]}, score: {disabled: [{name: "*"}], enabled: [{name: %s}]}}
"""
SHARED = "  fleet: {pools: [{name: h, nodes: 2, model: G3, gpus: 4, shared: true}]}\n"
PARTS = "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, gpus: 1, gpuMilli: 250, gpu: G3%s}}]\n"


def test_gpus_in_parts_are_asked_for_by_annotations_of_a_profile(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(PROFILES % "FGDScore")
    text = SHARED + PARTS % ", schedulerName: gpu-share" + "  scheduler: {file: s.yaml}\n"
    found = scenario(text, source=str(tmp_path / "x.yaml"))
    node = node_of(next(iter(places(found.pools))), "10.0.0.1", "2023-11-14T22:13:20Z")
    assert node["status"]["allocatable"]["alibabacloud.com/gpu-count"] == "4"
    assert node["metadata"]["labels"]["alibabacloud.com/gpu-card-model"] == "G3"
    first = plan_arrivals(found, Chance(1))[0]
    template = job_object(first)["spec"]["template"]
    words = {name: value for name, value in template["metadata"]["annotations"].items() if "alibabacloud" in name}
    assert words == {
        "alibabacloud.com/gpu-milli": "250",
        "alibabacloud.com/gpu-count": "1",
        "alibabacloud.com/gpu-card-model": "G3",
    }
    assert template["spec"]["schedulerName"] == "gpu-share" and "affinity" not in template["spec"]
    assert first.gpu_share == 0.25


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHARED + PARTS % "", "spec.scheduler: missing: parts of GPUs are given by a profile"),
        (SHARED + PARTS % "" + "  scheduler: {file: s.yaml}\n", "schedulerName of a: missing"),
        (
            SHARED + PARTS % ", schedulerName: b" + "  scheduler: {file: s.yaml}\n",
            "x.yaml:7: schedulerName of a: 'b'",
        ),
        (SHARED + "  scheduler: {file: no.yaml}\n", "x.yaml:7: spec.scheduler.file: there is no file"),
        (SHARED + "  scheduler: {file: bad.yaml}\n", "'NoScore' is no plugin here"),
        (POOL + PARTS % "", "gpuMilli of a: no pool shares its GPUs"),
        ("  fleet: {pools: [{name: h, nodes: 2, shared: true}]}\n", "pools[0].shared: the pool has no GPUs to share"),
    ],
)
def test_mistakes_in_profiles_and_parts_are_told(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(PROFILES % "FGDScore")
    (tmp_path / "bad.yaml").write_text(PROFILES % "NoScore")
    with pytest.raises(UserError) as caught:
        scenario(text, source=str(tmp_path / "x.yaml"))
    assert said in caught.value.message


def test_a_quota_cycle_is_named() -> None:
    kind = "{apiVersion: kueue.x-k8s.io/v1beta2, kind: Cohort"
    cohorts = "".join(
        f"  - {kind}, metadata: {{name: {name}}}, spec: {{parentName: {parent}}}}}\n"
        for name, parent in (("a", "b"), ("b", "c"), ("c", "a"))
    )
    with pytest.raises(UserError, match=r"s\.yaml:8: cohorts a → b → c → a are their own parents") as raised:
        scenario(POOL + "  queues:\n" + cohorts)
    assert raised.value.hint is not None and "parentName" in raised.value.hint


def test_policies_are_laid_over_the_scenario() -> None:
    policies = """  policies:
    plain: {}
    small: {fleet: {pools: [{name: h, nodes: 2, gpu: H100, gpus: 4}]}}
    more: {patches: [{kind: ClusterQueue, name: q, patch: {spec: {cohortName: all}}}]}
    calm: {faults: null}
    wrong: {sample: 5x}
"""
    text = POOL + QUEUE + JOBS + "  faults: [{at: 1h, node: any, for: 1h}]\n" + policies
    assert scenario(text).policy == "plain" and scenario(text).policies == ("plain", "small", "more", "calm", "wrong")
    assert scenario(text, "small").gpus == 8
    queue = next(item.obj for item in scenario(text, "more").given if item.obj["kind"] == "ClusterQueue")
    assert queue["spec"]["cohortName"] == "all" and queue["spec"]["resourceGroups"]
    assert scenario(text, "calm").faults == () and scenario(text, "plain").faults != ()
    with pytest.raises(UserError, match=r"s\.yaml:21: spec\.sample: '5x'"):
        scenario(text, "wrong")
    with pytest.raises(UserError, match="there is no policy 'fifo'"):
        scenario(text, "fifo")


def test_a_seed_draws_the_same_arrivals_and_faults_another_seed_others() -> None:
    text = (
        POOL + "  arrivals: [{jobs: {name: a, every: {exponential: 10m}, run: {lognormal: {median: 1h, sigma: 1}}}}]\n"
    )
    found = scenario(
        text + "  faults: [{perYear: 500, node: any, for: 10m}, {every: 6h, gpu: any, kind: ecc, for: 1h}]\n"
    )
    stand = list(places(found.pools))

    def drawn(seed: int) -> Any:
        return plan_arrivals(found, Chance(seed)), plan_faults(found, stand, Chance(seed))

    arrivals, faults = drawn(1)
    assert drawn(1) == (arrivals, faults) and drawn(2) != (arrivals, faults)
    assert 100 < len(arrivals) < 200  # 144 are to be expected
    assert {fault.target for fault in faults} == {"node", "gpu"} and len(faults) > 3
    assert all(0 <= fault.gpu < 8 and fault.nodes for fault in faults)


def test_faults_of_a_pool_that_grows_strike_who_is_there_then() -> None:
    rules = "  faults: [{at: 1h, node: any, pool: a, for: 10m}, {perYear: 2000, gpu: any, pool: a, for: 1h}]\n"
    found = scenario(SCALED.format(H100) + rules)
    (whole,), rates = (
        [fault for fault in plan_faults(found, [], Chance(1)) if fault.target == target] for target in ("node", "gpu")
    )
    struck = whole.among(["x", "y"])
    assert struck is not None and struck.nodes in (("x",), ("y",)) and struck.name == struck.nodes[0]
    assert whole.among([]) is None
    hit = sum(fault.among(["x"]) is not None for fault in rates)
    assert len(rates) > 8 and 0 < hit < len(rates) / 2, "one of four machines that there can be takes a quarter"


def test_faults_of_what_is_not_there_are_told() -> None:
    with pytest.raises(UserError, match=r"s.yaml:7: rack: there is no rack 'h-b9-r0'") as raised:
        scenario(POOL + "  faults: [{at: 1h, rack: h-b9-r0, for: 1h}]\n")
    assert raised.value.hint == "there are h-b0-r0, h-b0-r1, h-b1-r0 …"


def test_a_trace_becomes_jobs_of_its_window(tmp_path: Path) -> None:
    path = tmp_path / "pods.csv"
    path.write_text(
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time\n"
        "p1,4000,1024,1,500,,LS,100,1100,200\n"
        "p2,4000,1024,8,1000,H100|A100,BE,1000,5000,1000\n"
        "late,1000,1024,0,0,,BE,900000000,900000001,\n"
    )
    text = POOL + "  arrivals: [{trace: {pods: pods.csv, from: 100s, speed: 10}}]\n"
    found = plan_arrivals(scenario(text, source=str(tmp_path / "s.yaml")), Chance(1))
    assert [(item.name, item.at, item.run_seconds, item.gpus, item.gpu) for item in found] == [
        ("p1", 0.0, 90.0, 1, ()),
        ("p2", 90.0, 400.0, 8, ("H100",)),
    ]
    path.write_text(path.read_text().replace("H100|A100", "P100"))
    with pytest.raises(UserError, match="line 3, column gpu_spec: no pool has GPUs of type 'P100'"):
        plan_arrivals(scenario(text, source=str(tmp_path / "s.yaml")), Chance(1))
    path.write_text("name,cpu\na,1\n")
    with pytest.raises(UserError, match="line 1, column cpu_milli: is missing"):
        plan_arrivals(scenario(text, source=str(tmp_path / "s.yaml")), Chance(1))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("2d", 172800),
     ("03:30", 12600), ("0", 0), ("1.5h", 5400), ("h", None), ("1h x", None)],
)  # fmt: skip
def test_durations(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_draws_have_the_mean_that_they_should() -> None:
    chance = Chance(3)

    def mean(spread: Spread) -> float:
        return sum(spread.draw(chance) for _ in range(4000)) / 4000

    assert mean(Spread("exponential", (10.0,))) == pytest.approx(10, rel=0.1)
    assert mean(Spread("uniform", (0.0, 4.0))) == pytest.approx(2, rel=0.1)
    assert mean(Spread("choice", (1.0, 2.0), (3.0, 1.0))) == pytest.approx(1.25, rel=0.05)
    assert mean(Spread("lognormal", (8.0, 0.5))) == pytest.approx(8 * 1.1331, rel=0.1)  # e^(σ²/2)
    assert max(Spread("exponential", (10.0,), most=12.0).draw(chance) for _ in range(200)) == 12.0


SCALED = "  autoscale: {{pools: [{{name: a, max: 4, {}}}]}}\n"
H100 = "node: {cpu: 96, memory: 1Ti, gpu: H100, gpus: 8}"


def test_autoscaled_pools_are_read_as_a_cluster_reads_its_own_settings() -> None:
    job = "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, gpus: 8, gpu: H100}}]\n"
    found = scenario(SCALED.format(H100) + job)
    assert found.pools == () and found.most_machines == 4
    assert found.autoscale.pools[0].node.gpus == 8 and not found.autoscale.pools[0].node.labels, "as written"
    fixed = scenario("  fleet: {pools: [{name: h, nodes: 8, pricePerHour: 12.5}]}\n")
    assert fixed.pools[0].price_per_hour == 12.5 and fixed.autoscale is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  autoscale: on\n", "s.yaml:6: spec.autoscale: must be a mapping"),
        ("  autoscale: {idleSeconds: 60}\n", "s.yaml:6: spec.autoscale.pools: missing"),
        ("  autoscale:\n    pools:\n    - {name: a}\n", "s.yaml:8: spec.autoscale.pools[0]: object missing required f"),
        ("  autoscale:\n    pools:\n    - name: a\n      max: many\n", "s.yaml:9: spec.autoscale.pools[0].max: expe"),
        ("  autoscale:\n    pools:\n    - name: a\n      maxx: 3\n      max: 3\n",
         "s.yaml:9: spec.autoscale.pools[0].maxx: unknown key"),
        ("  autoscale:\n    pools: [{name: a, max: 1}]\n    idle: 3\n", "s.yaml:8: spec.autoscale.idle: unknown key"),
        ("  autoscale:\n    pools:\n    - {name: a, max: 1, min: 2}\n",
         "s.yaml:8: spec.autoscale.pools[0]: pool 'a': min is above max"),
        ("  autoscale:\n    pools:\n    - {name: a, max: 1, node: {gpu: H110, gpus: 8}}\n",
         "s.yaml:8: spec.autoscale.pools[0].node: pool 'a': unknown GPU type 'H110'"),
        (SCALED.format(H100) + "  faults: [{at: 1h, node: any, for: 1h}]\n",
         "s.yaml:7: faults: strike nodes of fleet.pools: give it one, or name by pool one that grows"),
        (SCALED.format(H100) + "  faults: [{at: 1h, node: any, pool: b, for: 1h}]\n",
         "s.yaml:7: pool: 'b' is no pool of autoscale; there are: a"),
        (SCALED.format(H100) + "  faults: [{at: 1h, rack: any, pool: a, for: 1h}]\n",
         "s.yaml:7: rack: of a pool that grows, faults strike node, gpu or network: any"),
        (SCALED.format("node: {gpus: 8}") + "  faults: [{at: 1h, gpu: any, pool: a, for: 1h}]\n",
         "s.yaml:7: gpu: nodes of 'a' declare no GPUs: give them gpu and gpus"),
        (SCALED.format(H100) + "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, gpus: 8, gpu: L4}}]\n",
         "no pool has GPUs of type 'L4'; the pools have H100"),
        (SCALED.format(H100) + "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, gpus: 8, selector: 'true'}}]\n",
         "s.yaml:7: selector of a: chooses among the devices of a class: name deviceClass"),
        (SCALED.format("node: {gpus: 8}") + "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, deviceClass: b}}]\n",
         "s.yaml:7: deviceClass of a: no pool declares GPUs: give one gpu: TYPE"),
        (SCALED.format(H100) + "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, deviceClass: b, resource: c/d}}]\n",
         "s.yaml:7: deviceClass of a: a job asks by either resource or deviceClass"),
        ("  fleet: {pools: [{name: h, nodes: 8, pricePerHour: dear}]}\n", "pools[0].pricePerHour: must be a number"),
    ],
)  # fmt: skip
def test_a_mistake_in_autoscaled_pools_is_told_with_line_and_key(text: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        scenario(text)
    assert said in raised.value.message, raised.value.message


A100 = "name: a, nodes: 2, gpu: A100, gpus: 4"


def pool_with(text: str) -> str:
    return f"  fleet:\n    pools:\n    - {{{A100}, {text}}}\n"


@pytest.mark.parametrize(
    ("text", "resources", "parts", "product"),
    [
        ("rack: 1", {"nvidia.com/gpu": "4"}, {"nvidia.com/gpu": 1.0}, "NVIDIA-A100-SXM4-80GB"),
        ("mig: all-1g.10gb", {"nvidia.com/gpu": "28"}, {"nvidia.com/gpu": 1 / 7}, "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb"),
        ("mig: all-3g.40gb, migStrategy: mixed", {"nvidia.com/mig-3g.40gb": "8"}, {"nvidia.com/mig-3g.40gb": 3 / 7},
         "NVIDIA-A100-SXM4-80GB"),
        ("timeSlicing: 8", {"nvidia.com/gpu": "32"}, {"nvidia.com/gpu": 1 / 8}, "NVIDIA-A100-SXM4-80GB-SHARED"),
        ("mig: all-3g.40gb, timeSlicing: 2", {"nvidia.com/gpu": "16"}, {"nvidia.com/gpu": 3 / 14},
         "NVIDIA-A100-SXM4-80GB-MIG-3g.40gb-SHARED"),
    ],
)  # fmt: skip
def test_partitioned_and_shared_gpus_are_what_a_nodes_agents_would_make_of_them(
    text: str, resources: dict[str, str], parts: dict[str, float], product: str
) -> None:
    found = scenario(pool_with(text))
    (pool,) = found.pools
    node = node_of(next(iter(places(found.pools))), "10.0.0.1", "2023-11-14T22:13:20Z")
    amounts = {key: value for key, value in node["status"]["allocatable"].items() if key.startswith("nvidia.com/")}
    assert amounts == resources == pool.made.fields.resources
    assert pool.made.parts == pytest.approx(parts)
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == pool.made.product == product


def test_labels_that_agents_would_take_away_or_overwrite_are_no_matter() -> None:
    labels = "labels: {nvidia.com/mig-1g.5gb.count: '3', nvidia.com/gpu.product: mine}"
    (pool,) = scenario(pool_with(labels)).pools
    assert pool.made.product == "NVIDIA-A100-SXM4-80GB" and pool.made.fields.resources == {"nvidia.com/gpu": "4"}


def test_configurations_of_ones_own_are_read_from_the_operators_config_maps() -> None:
    operator = """  objects:
  - apiVersion: v1
    kind: ConfigMap
    metadata: {name: parts, namespace: gpu-operator}
    data:
      mine: "{version: v1, flags: {migStrategy: mixed}}"
      mig.yaml: "{mig-configs: {odd: [{devices: all, mig-enabled: true, mig-devices: {1g.10gb: 1, 3g.40gb: 1}}]}}"
"""
    labels = "labels: {nvidia.com/device-plugin.config: mine, nvidia.com/mig.config: odd}"
    found = scenario(pool_with(labels) + operator)
    assert found.pools[0].made.fields.resources == {"nvidia.com/mig-1g.10gb": "4", "nvidia.com/mig-3g.40gb": "4"}
    with pytest.raises(UserError, match="pools say migStrategy or timeSlicing, and objects"):
        scenario(pool_with("timeSlicing: 2") + operator)


def test_jobs_ask_for_partitions_by_their_name() -> None:
    jobs = "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, resource: nvidia.com/mig-3g.40gb, gpu: A100}}]\n"
    found = scenario(pool_with("mig: all-3g.40gb, migStrategy: mixed") + jobs)
    (arrival, *_) = plan_arrivals(found, Chance(1))
    spec = job_object(arrival)["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/mig-3g.40gb": "1"}
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert term["matchExpressions"][0]["values"] == ["NVIDIA-A100-SXM4-80GB"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (pool_with("mig: all-9g"), "s.yaml:8: spec.fleet.pools[0]: unknown MIG configuration 'all-9g' for NVIDIA A100"),
        (pool_with("migStrategy: mixed"), "s.yaml:8: spec.fleet.pools[0].migStrategy: goes with mig"),
        (pool_with("mig: all-balanced, migStrategy: some"), "migStrategy: 'some' is none of single, mixed"),
        (pool_with("timeSlicing: 1"), "s.yaml:8: spec.fleet.pools[0].timeSlicing: must be a whole number from 2"),
        (pool_with("timeSlicing: 2, mig: all-balanced, migStrategy: mixed"), "timeSlicing: shares nvidia.com/gpu;"),
        (pool_with("timeSlicing: 2, shared: true"), "pools[0].timeSlicing: goes with gpu (a type that Atoll knows)"),
        (pool_with("mig: all-balanced, labels: {nvidia.com/mig.config: x}"), "labels.nvidia.com/mig.config: says the"),
        ("  fleet: {pools: [{name: h, nodes: 2, gpu: L4, gpus: 4, mig: all-balanced}]}\n", "NVIDIA L4 can't be"),
        (pool_with("mig: all-balanced"), "spec.fleet.pools[0]: its nodes would offer no GPUs: unlike pa"),
        (pool_with("mig: all-1g.10gb, migStrategy: mixed")
         + "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, gpus: 1}}]\n",
         "s.yaml:9: resource of a: no pool has 'nvidia.com/gpu'; the pools have nvidia.com/mig-1g.10gb"),
        (POOL + "  arrivals: [{jobs: {name: a, every: 1h, run: 2h, resource: nvidia.com/mig-1g.10gb}}]\n",
         "s.yaml:7: resource of a: no pool has 'nvidia.com/mig-1g.10gb'; the pools have nvidia.com/gpu"),
    ],
)  # fmt: skip
def test_a_mistake_in_partitions_is_told_with_line_and_key(text: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        scenario(text)
    assert said in raised.value.message, raised.value.message


def test_pools_that_are_made_by_hand_have_their_gpus_too() -> None:
    place = next(iter(places([Pool("h", 2, gpu="H100", gpus=8)])))
    node = node_of(place, "10.0.0.1", "2023-11-14T22:13:20Z")
    assert node["status"]["capacity"]["nvidia.com/gpu"] == "8"
    assert node["metadata"]["labels"]["nvidia.com/gpu.product"] == "NVIDIA-H100-80GB-HBM3"


def test_jobs_may_ask_for_all_that_nodes_of_a_growing_pool_will_have() -> None:
    node = "node: {cpu: 96, memory: 1Ti, gpu: H100, gpus: 8, resources: {example.com/nic: 2}}"
    for resource in ("nvidia.com/gpu", "example.com/nic"):
        job = f"  arrivals: [{{jobs: {{name: a, every: 1h, run: 2h, gpus: 2, resource: {resource}}}}}]\n"
        assert scenario(SCALED.format(node) + job).jobs[0].resource == resource
