"""A live cluster as a scenario: its nodes as pools, its queues, budgets and unfinished work as objects. Read-only.

Nodes that are alike and stand in the same rack are one pool, under their own names. Workloads are taken as declared:
what runs is created anew and placed by the simulation's scheduler, so the first minute is not the cluster's, what
follows is. How long running Jobs still take nobody knows: `remaining` says. What holds secrets, and what lives in
kube-* namespaces, is not read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from atoll.base import quantity
from atoll.base.errors import ApiError
from atoll.client.port import Client
from atoll.cluster.nodes.simulated.fast import HOLD_ANNOTATION
from atoll.kinds import kueue
from atoll.kinds.builtin import DEPLOYMENTS, JOBS, NODES, POD_DISRUPTION_BUDGETS, PRIORITY_CLASSES, STATEFUL_SETS
from atoll.kinds.resource import Resource
from atoll.objects.meta import condition, labels, owners
from atoll.simulate.scenario.model import BLOCK_LABEL, GPU, RACK_LABEL
from atoll.simulate.scenario.read import API_VERSION

Object = dict[str, Any]
_QUEUES = (
    kueue.RESOURCE_FLAVORS, kueue.COHORTS, kueue.CLUSTER_QUEUES, kueue.LOCAL_QUEUES, kueue.WORKLOAD_PRIORITY_CLASSES,
)  # fmt: skip
_WORK = (PRIORITY_CLASSES, POD_DISRUPTION_BUDGETS, DEPLOYMENTS, STATEFUL_SETS, JOBS)
_KUBERNETES = ("kubernetes.io/", "node.kubernetes.io/", "beta.kubernetes.io/", "node-role.kubernetes.io/")
_MADE_LABELS = (*_KUBERNETES, "atoll.dev/")
_JOB_LABELS = ("controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


async def take(client: Client, name: str, *, duration: str, remaining_seconds: float) -> tuple[str, list[str]]:
    """The scenario's text, and what could not be read for it. Raises ApiError where that is the nodes."""
    nodes = (await client.list(NODES)).items
    unread: list[str] = []
    queues = [item for resource in _QUEUES for item in await _listed(client, resource, unread)]
    work = [item for resource in _WORK for item in await _listed(client, resource, unread)]
    return scenario_text(name, nodes, queues, work, duration=duration, remaining_seconds=remaining_seconds), unread


async def _listed(client: Client, resource: Resource, unread: list[str]) -> list[Object]:
    """Of a kind that may not be served; one that this user may not see is noted."""
    try:
        items = (await client.list(resource)).items
    except ApiError as error:
        if error.code == 403:
            unread.append(error.message)
        if error.code in (403, 404):
            return []
        raise
    return [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in items]


def scenario_text(
    name: str,
    nodes: Sequence[Object],
    queues: Iterable[Object],
    work: Iterable[Object],
    *,
    duration: str,
    remaining_seconds: float,
) -> str:
    """Pure. `work`: Deployments, StatefulSets, Jobs and what concerns them."""
    spec = {
        "duration": duration,
        "fleet": {"pools": _pools(nodes)},
        "queues": [_bare(item) for item in queues],
        "objects": [_declared(item, remaining_seconds) for item in work if _is_wanted(item)],
    }
    document = {
        "apiVersion": API_VERSION,
        "kind": "Scenario",
        "metadata": {"name": name},
        "spec": {key: value for key, value in spec.items() if value},
    }
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=120)
    return text + "  # what if? add arrivals:, faults: and policies: here (docs/simulate.md)\n"


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _pools(nodes: Sequence[Object]) -> list[Object]:
    alike: dict[str, tuple[Object, list[str]]] = {}
    for node in sorted(nodes, key=lambda item: item["metadata"]["name"]):
        pool = _pool(node)
        alike.setdefault(repr(pool), (pool, []))[1].append(node["metadata"]["name"])
    return [{"name": f"pool{number}", **pool, "names": names} for number, (pool, names) in enumerate(alike.values())]


def _pool(node: Object) -> Object:
    have: Mapping[str, Any] = (node.get("status") or {}).get("allocatable") or {}
    own = labels(node)
    topology = (BLOCK_LABEL, RACK_LABEL)
    kept = {key: own[key] for key in sorted(own) if key in topology or not _is_made(key)}
    pool: Object = {"cpu": str(have.get("cpu", "1")), "memory": str(have.get("memory", "1Gi"))}
    pool["pods"] = quantity.units(have.get("pods", 110))
    gpus = quantity.units(have.get(GPU, 0))
    if gpus:
        pool |= {"model": own.get("nvidia.com/gpu.product", "unknown"), "gpus": gpus}
    if own.get("topology.kubernetes.io/zone"):
        pool["zone"] = own["topology.kubernetes.io/zone"]
    if kept:
        pool["labels"] = kept
    taints = [
        {key: str(taint[key]) for key in ("key", "value", "effect") if taint.get(key)}
        for taint in (node.get("spec") or {}).get("taints") or ()
        if not taint["key"].startswith("node.kubernetes.io/")
    ]
    return pool | ({"taints": taints} if taints else {})


def _is_made(key: str) -> bool:
    """A label that nodes of a simulation get by themselves."""
    return key.startswith((*_MADE_LABELS, "nvidia.com/", "topology.kubernetes.io/"))


def _is_wanted(obj: Object) -> bool:
    metadata = obj["metadata"]
    if (metadata.get("namespace") or "").startswith("kube-") or metadata["name"].startswith("system-"):
        return False
    if owners(obj):
        return False  # its owner makes it again
    return not any((condition(obj, kind) or {}).get("status") == "True" for kind in ("Complete", "Failed"))


def _bare(obj: Object) -> Object:
    """The object as its user wrote it: without what the API server and controllers have added."""
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels") if metadata.get(key)}
    notes = {key: value for key, value in (metadata.get("annotations") or {}).items() if key != _LAST_APPLIED}
    if notes:
        kept["annotations"] = notes
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return {"apiVersion": rest.pop("apiVersion"), "kind": rest.pop("kind"), "metadata": kept, **rest}


def _declared(obj: Object, remaining_seconds: float) -> Object:
    bare = _bare(obj)
    if obj["kind"] != "Job":
        return bare
    spec = {key: value for key, value in obj["spec"].items() if key not in ("selector", "suspend", "manualSelector")}
    template = spec["template"]
    metadata = template.get("metadata") or {}
    kept = {key: value for key, value in (metadata.get("labels") or {}).items() if key not in _JOB_LABELS}
    notes = {**(metadata.get("annotations") or {}), HOLD_ANNOTATION: f"{remaining_seconds:g}"}
    bare["metadata"]["labels"] = {
        key: value for key, value in (bare["metadata"].get("labels") or {}).items() if key not in _JOB_LABELS
    }
    return {**bare, "spec": {**spec, "template": {**template, "metadata": {"labels": kept, "annotations": notes}}}}
