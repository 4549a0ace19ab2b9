"""Scenarios nobody thought of: small ones drawn from a seed, to find what breaks an invariant. Pure.

A seed makes one scenario: a pool, often one of partitioned or shared GPUs and one that grows, a tree of queues with
limits and preemption policies, jobs of all sizes that come fast, a service with a budget, and faults of every kind,
within ten to 25 minutes: half a second of CPU. The same seed
always makes the same text, so the one line that is printed for a failing seed plays it again.
"""

from __future__ import annotations

from typing import Any

import yaml

from atoll.base.chance import Chance
from atoll.simulate.scenario.model import Scenario
from atoll.simulate.scenario.read import API_VERSION, parse

Object = dict[str, Any]
_KUEUE = "kueue.x-k8s.io/v1beta2"
_RECLAIM = ["Never", "LowerPriority", "Any"]
_WITHIN = ["Never", "LowerPriority", "LowerOrNewerEqualPriority"]


def explored(seed: int) -> Scenario:
    """The scenario of a seed."""
    return parse(explored_text(seed), f"explored-{seed}.yaml")


def explored_text(seed: int) -> str:
    """The same as a file's text."""
    chance = Chance(seed, "explore")
    queues = chance.integer(1, 4)
    racks = chance.integer(2, 3)
    nodes = racks * chance.integer(1, 2)
    gpus = nodes * 8
    spec: Object = {
        "duration": f"{chance.integer(10, 25)}m",
        "fleet": {"pools": [{"name": "a", "nodes": nodes, "gpu": "H100", "gpus": 8, "rack": nodes // racks}]},
        "queues": _queues(chance, queues, gpus),
        "objects": [_priority(name, value) for name, value in (("low", -10), ("high", 1000))] + _service(chance),
        "arrivals": [_jobs(chance, number % queues, number) for number in range(chance.integer(2, 4))],
        "faults": _faults(chance, _FAULTS, {}),
    }
    _divided(spec, chance.stream("divided"))
    _scaled(spec, chance.stream("scaled"))
    document = {"apiVersion": API_VERSION, "kind": "Scenario", "metadata": {"name": f"explored-{seed}"}, "spec": spec}
    return yaml.safe_dump(document, sort_keys=False)


def _divided(spec: Object, chance: Chance) -> None:
    """Nodes whose GPUs are partitioned or shared, and jobs for them."""
    kinds: list[Object] = [
        {"mig": "all-1g.10gb", "migStrategy": "mixed"}, {"mig": "all-balanced", "migStrategy": "mixed"},
        {"mig": "all-2g.20gb"}, {"timeSlicing": chance.integer(2, 8)},
    ]  # fmt: skip
    if chance.random() < 0.5:
        return
    kind = chance.choice(kinds)
    pool = {"name": "d", "nodes": chance.integer(1, 2), "gpu": "A100", "gpus": chance.integer(1, 4)}
    spec["fleet"]["pools"].append({**pool, **kind})
    resource = "nvidia.com/mig-1g.10gb" if kind.get("migStrategy") else "nvidia.com/gpu"
    stream = {
        "name": "d", "every": {"exponential": f"{chance.integer(20, 120)}s"}, "gpu": "A100", "resource": resource,
        "run": {"exponential": f"{chance.integer(1, 12)}m"}, "gpus": {"choice": [1, 1, 2]}, "pods": {"choice": [1, 3]},
    }  # fmt: skip
    spec["arrivals"].append({"jobs": stream})


def _scaled(spec: Object, chance: Chance) -> None:
    """A pool that grows and shrinks."""
    if chance.random() < 0.6:
        return
    pool = {
        "name": "s", "max": chance.integer(1, 3), "spare": chance.integer(0, 1),
        "node": {"cpu": 96, "memory": "1Ti", "gpu": "H100", "gpus": 8},
        "simulated": {"bootSeconds": chance.integer(10, 200), "stockoutShare": chance.choice([0.0, 0.5])},
    }  # fmt: skip
    spec["autoscale"] = {"idleSeconds": chance.integer(30, 300), "pools": [pool]}
    spec["faults"] += _faults(chance, [{"node": "any"}, {"network": "any"}, _FALLEN], {"pool": "s"})


def _queues(chance: Chance, count: int, gpus: int) -> list[Object]:
    found: list[Object] = [{"apiVersion": _KUEUE, "kind": "ResourceFlavor", "metadata": {"name": "f"}}]
    cohorts = ["", "all", "left"]
    if chance.random() < 0.5:
        parent = {"apiVersion": _KUEUE, "kind": "Cohort", "metadata": {"name": "left"}, "spec": {"parentName": "all"}}
        found.append(parent)
    for number in range(count):
        resource: Object = {"name": "nvidia.com/gpu", "nominalQuota": chance.integer(1, max(1, gpus * 2 // count))}
        cohort = chance.choice(cohorts)
        if cohort and chance.random() < 0.5:
            resource["borrowingLimit"] = chance.integer(0, gpus)
        if cohort and chance.random() < 0.3:
            resource["lendingLimit"] = chance.integer(0, resource["nominalQuota"])
        plenty = [{"name": "cpu", "nominalQuota": 10_000}, {"name": "memory", "nominalQuota": "1Pi"}]
        spec: Object = {
            "namespaceSelector": {},
            "queueingStrategy": chance.choice(["StrictFIFO", "BestEffortFIFO"]),
            "preemption": {"withinClusterQueue": chance.choice(_WITHIN)},
            "resourceGroups": [
                {
                    "coveredResources": ["nvidia.com/gpu", "cpu", "memory"],
                    "flavors": [{"name": "f", "resources": [resource, *plenty]}],
                }
            ],
        }
        if cohort:
            spec["cohortName"] = cohort
            spec["preemption"]["reclaimWithinCohort"] = chance.choice(_RECLAIM)
        name = f"q{number}"
        found.append({"apiVersion": _KUEUE, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec})
        local = {"apiVersion": _KUEUE, "kind": "LocalQueue", "metadata": {"name": name}, "spec": {"clusterQueue": name}}
        found.append(local)
    return found


def _priority(name: str, value: int) -> Object:
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}


def _service(chance: Chance) -> list[Object]:
    """Something that serves, with a budget, beside the jobs."""
    if chance.random() < 0.3:
        return []
    labels = {"app": "serve"}
    resources = {"limits": {"nvidia.com/gpu": chance.integer(1, 4)}}
    container = {"name": "s", "image": "i", "resources": resources}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": chance.integer(1, 4), "selector": {"matchLabels": labels}, "template": template}
    budget: Object = {"selector": {"matchLabels": labels}, "minAvailable": chance.choice([1, "50%"])}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "serve"}, "spec": spec},
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "serve"}, "spec": budget},
    ]


def _jobs(chance: Chance, queue: int, number: int) -> Object:
    stream: Object = {
        "name": f"j{number}",
        "every": {"exponential": f"{chance.integer(40, 400)}s"},
        "run": {"exponential": f"{chance.integer(1, 12)}m"},
        "pods": {"choice": [1, chance.integer(1, 4), chance.integer(1, 6)]},
        "gpus": {"choice": [chance.integer(1, 8), 8]},
        "queue": f"q{queue}",
        "priorityClass": chance.choice(["low", "high"]),
    }
    if chance.random() < 0.5:
        stream["checkpointEvery"] = f"{chance.integer(1, 10)}m"
    return {"jobs": stream}


_FALLEN: Object = {"gpu": "any", "kind": "xid", "value": 79}  # off the bus
_FAULTS: list[Object] = [
    {"rack": "any"}, {"node": "any"}, {"network": "any"}, {"apiServer": "down"},
    _FALLEN, {"gpu": "any", "kind": "lost"},
]  # fmt: skip


def _faults(chance: Chance, kinds: list[Object], more: Object) -> list[Object]:
    found = []
    for kind in kinds:
        every, lasts = chance.integer(3, 20), chance.integer(10, 900)
        if chance.random() < 0.6:
            found.append({**kind, **more, "every": {"exponential": f"{every}m"}, "for": {"exponential": f"{lasts}s"}})
    return found
