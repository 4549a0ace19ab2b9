"""A live cluster as a scenario: its nodes as pools, its queues, teams and unfinished work as objects. Read-only.

Nodes that are alike and stand in the same rack are one pool, under their own names; those that take no work now are
left out. Workloads are taken as declared: what runs is created anew and placed by the simulation's scheduler, so the
first minute is not the cluster's, what follows is. How long running Jobs still take nobody knows: `remaining` says.
What holds secrets, and what lives in kube-* namespaces, is not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from atoll.base import quantity
from atoll.base.errors import ApiError
from atoll.base.names import LABEL_PREFIX
from atoll.capacity import names
from atoll.client.port import Client
from atoll.cluster.gpus.slices import DRIVER, device_classes
from atoll.cluster.gpus.types import gpu_types
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import (
    CONFIGMAPS,
    CRON_JOBS,
    DAEMON_SETS,
    DEPLOYMENTS,
    DEVICE_CLASSES,
    JOBS,
    NAMESPACES,
    NODES,
    POD_DISRUPTION_BUDGETS,
    PRIORITY_CLASSES,
    RESOURCE_CLAIM_TEMPLATES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    STATEFUL_SETS,
)
from atoll.kinds.resource import Resource
from atoll.objects.meta import condition, labels
from atoll.simulate.declared import declared, is_wanted, whole_queues
from atoll.simulate.scenario.model import BLOCK_LABEL, GPU, RACK_LABEL
from atoll.simulate.scenario.read import API_VERSION

Object = dict[str, Any]
_QUEUES = (
    kueue.TOPOLOGIES, kueue.RESOURCE_FLAVORS, kueue.COHORTS, kueue.CLUSTER_QUEUES, kueue.LOCAL_QUEUES,
    kueue.WORKLOAD_PRIORITY_CLASSES,
)  # fmt: skip
_WORK = (
    NAMESPACES, PRIORITY_CLASSES, POD_DISRUPTION_BUDGETS, DEVICE_CLASSES, RESOURCE_CLAIM_TEMPLATES, RESOURCE_CLAIMS,
    batch.POD_GROUPS, DEPLOYMENTS, STATEFUL_SETS, JOBS, batch.JOB_SETS, batch.LEADER_WORKER_SETS,
)  # fmt: skip
_NOT_PLAYED = (DAEMON_SETS, CRON_JOBS, batch.VOLCANO_JOBS)
_OLDER = {kueue.GROUP: "v1beta1"}  # where a cluster does not serve the newest version yet
_TEAMS = "atoll-teams"
_MADE_LABELS = ("kubernetes.io/hostname", "node-role.kubernetes.io/simulated", "nvidia.com/gfd.timestamp")
_USUAL_LABELS = {
    "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
    "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
}  # fmt: skip
_ZONE = "topology.kubernetes.io/zone"
_OUT = (names.UNHEALTHY_TAINT, names.PREFLIGHT, names.LEAVING)
_KNOWN_CLASSES = {item["metadata"]["name"] for item in device_classes()}  # the simulation has them by itself
Gpus = Mapping[str, tuple[str, int]]
"""Node → type and number of the GPUs that its DRA driver publishes."""


async def take(client: Client, name: str, *, duration: str, remaining_seconds: float) -> tuple[str, list[str]]:
    """The scenario's text, and what is left out of it. Raises ApiError where the nodes can't be read."""
    nodes = (await client.list(NODES)).items
    left_out = [f"node {node['metadata']['name']}: {why}" for node in nodes if (why := out_of_service(node))]
    queues, unusable = whole_queues([it for kind in _QUEUES for it in await _listed(client, kind, left_out)])
    left_out += unusable
    work = [item for resource in _WORK for item in await _listed(client, resource, left_out)]
    left_out += _other_resources(nodes)
    gpus = published_gpus(await _listed(client, RESOURCE_SLICES, left_out))
    teams = await _teams(client, left_out)
    if teams is not None:
        work.append(teams)
    for resource in _NOT_PLAYED:
        found = [item for item in await _listed(client, resource, left_out) if is_wanted(item)]
        left_out += [f"{len(found)} {resource.group_resource}: they are not played"] if found else []
    checked = [item["metadata"]["name"] for item in queues if (item.get("spec") or {}).get("admissionChecks")]
    left_out += [f"admission checks of ClusterQueue {item}: nobody would answer them" for item in checked]
    text = scenario_text(name, nodes, queues, work, gpus, duration=duration, remaining_seconds=remaining_seconds)
    return text, left_out


async def _listed(client: Client, resource: Resource, unread: list[str]) -> list[Object]:
    """Of a kind that may not be served, or in an older version; one that this user may not see is noted."""
    try:
        items = (await client.list(resource)).items
    except ApiError as error:
        older = _OLDER.get(resource.group, resource.version)
        if error.code == 404 and older != resource.version:
            return await _listed(client, replace(resource, version=older), unread)
        if error.code == 403:
            unread.append(error.message)
        if error.code in (403, 404):
            return []
        raise
    return [{"apiVersion": resource.api_version, "kind": resource.kind, **item} for item in items]


async def _teams(client: Client, unread: list[str]) -> Object | None:
    """The ConfigMap that says which nodes are whose (docs/teams.md)."""
    try:
        return await client.get(CONFIGMAPS, _TEAMS, names.SYSTEM_NAMESPACE)
    except ApiError as error:
        if error.code == 403:
            unread.append(f"teams: {error.message}")
        if error.code in (403, 404):
            return None
        raise


def scenario_text(
    name: str,
    nodes: Sequence[Object],
    queues: Iterable[Object],
    work: Iterable[Object],
    gpus: Gpus | None = None,
    *,
    duration: str,
    remaining_seconds: float,
) -> str:
    """Pure. `work`: Deployments, StatefulSets, Jobs and what concerns them."""
    wanted = [item for item in work if is_wanted(item) and item["metadata"]["name"] not in _KNOWN_CLASSES]
    spec = {
        "duration": duration,
        "fleet": {"pools": _pools([node for node in nodes if not out_of_service(node)], gpus or {})},
        "teams": any(item["kind"] == "ConfigMap" for item in wanted),
        "queues": [declared(item, remaining_seconds) for item in queues],
        "objects": [declared(item, remaining_seconds) for item in wanted],
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


def out_of_service(node: Object) -> str:
    """Why no work comes onto a node; "" where it does."""
    spec = node.get("spec") or {}
    if spec.get("unschedulable"):
        return "it is cordoned"
    ready = condition(node, "Ready")
    if ready is not None and ready.get("status") != "True":
        return "it is not ready"
    out = [taint["key"] for taint in spec.get("taints") or () if taint["key"] in _OUT]
    return f"it has the taint {out[0]}" if out else ""


def _other_resources(nodes: Iterable[Object]) -> list[str]:
    """Extended resources that pools of a scenario do not have, and on how many nodes they are."""
    amounts = [(node.get("status") or {}).get("allocatable") or {} for node in nodes]
    found = Counter(name for have in amounts for name in have if "/" in name and name != GPU and have[name] != "0")
    return [f"{name} of {count} nodes: nodes of a scenario do not have it" for name, count in sorted(found.items())]


def published_gpus(slices: Iterable[Object]) -> Gpus:
    """By node: whole GPUs of one type that simulated nodes can declare."""
    found: dict[str, Counter[str]] = {}
    for item in slices:
        spec = item["spec"]
        for device in spec.get("devices") or () if spec.get("driver") == DRIVER and spec.get("nodeName") else ():
            told = {key: (value or {}).get("string") for key, value in (device.get("attributes") or {}).items()}
            if told.get("type") == "gpu":
                found.setdefault(spec["nodeName"], Counter())[told.get("productName") or ""] += 1
    types = {kind.product: name for name, kind in gpu_types().items()}
    alike = {node: next(iter(kinds.items())) for node, kinds in found.items() if len(kinds) == 1}
    return {node: (types[product], count) for node, (product, count) in alike.items() if product in types}


def _pools(nodes: Sequence[Object], gpus: Gpus) -> list[Object]:
    alike: dict[str, tuple[Object, list[str]]] = {}
    for node in sorted(nodes, key=lambda item: item["metadata"]["name"]):
        pool = _pool(node, gpus.get(node["metadata"]["name"]))
        alike.setdefault(repr(pool), (pool, []))[1].append(node["metadata"]["name"])
    return [{"name": f"pool{number}", **pool, "names": names} for number, (pool, names) in enumerate(alike.values())]


def _pool(node: Object, published: tuple[str, int] | None) -> Object:
    have: Mapping[str, Any] = (node.get("status") or {}).get("allocatable") or {}
    own = labels(node)
    kept = {key: own[key] for key in sorted(own) if not _is_made(key, own[key], declared=published is not None)}
    pool: Object = {"cpu": str(have.get("cpu", "1")), "memory": str(have.get("memory", "1Gi"))}
    pool["pods"] = quantity.units(have.get("pods", 110))
    gpus = quantity.units(have.get(GPU, 0))
    if published is not None:
        pool |= {"gpu": published[0], "gpus": published[1]}
    elif gpus:
        pool |= {"model": own.get("nvidia.com/gpu.product", "unknown"), "gpus": gpus}
    if own.get(_ZONE):
        pool["zone"] = own[_ZONE]
    if kept:
        pool["labels"] = kept
    taints = [
        {key: str(taint[key]) for key in ("key", "value", "effect") if taint.get(key)}
        for taint in (node.get("spec") or {}).get("taints") or ()
        if not taint["key"].startswith(("node.kubernetes.io/", LABEL_PREFIX))  # controllers set them again
    ]
    return pool | ({"taints": taints} if taints else {})


def _is_made(key: str, value: str, *, declared: bool) -> bool:
    """A label that nodes of a simulation get by themselves. `declared`: their GPUs' labels too."""
    if key in (BLOCK_LABEL, RACK_LABEL):
        return False
    made = key in _MADE_LABELS or key == _ZONE or _USUAL_LABELS.get(key) == value
    made = made or (key.startswith(LABEL_PREFIX) and key != names.POOL_LABEL)
    return made or (declared and key.startswith("nvidia.com/"))
