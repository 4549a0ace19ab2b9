"""Where the nodes of a scenario stand: names, racks, blocks, and the Node objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from atoll.app.gpus import GpuFields, furnished
from atoll.base.clock import parse_rfc3339
from atoll.base.errors import UserError
from atoll.cluster.gpus.plan import TIMESTAMP_LABEL
from atoll.cluster.gpus.settings import Settings
from atoll.cluster.gpus.types import gpu_type
from atoll.cluster.nodes.simulated.model import SimulatedGroup, node_object
from atoll.scheduling.devices.annotations import COUNT, MODEL
from atoll.simulate.scenario.model import BLOCK_LABEL, GPU, RACK_LABEL, Pool, PoolGpus
from atoll.simulate.shares import WHOLE, parts_of

Object = dict[str, Any]
GPU_LABEL = "nvidia.com/gpu.product"


@dataclass(frozen=True, slots=True)
class Place:
    """A node, and the rack and block that it stands in ("" where its pool has none)."""

    node: str
    rack: str
    block: str
    pool: Pool


def places(pools: Iterable[Pool]) -> Iterator[Place]:
    """The nodes, pool by pool, in rack order: POOL-bB-rR-nN, as far as the pool has such levels.

    A pool may also say by its labels in which rack and block all of it stands.
    """
    for pool in pools:
        if pool.gpus and not pool.made.product:  # it was not read from a file
            pool = replace(pool, made=pool_gpus(pool, Settings()))
        for number in range(pool.nodes):
            block = f"{pool.name}-b{number // pool.block_nodes}" if pool.block_nodes else ""
            within = number % pool.block_nodes if pool.block_nodes else number
            rack = f"{block or pool.name}-r{within // pool.rack_nodes}" if pool.rack_nodes else ""
            last = within % pool.rack_nodes if pool.rack_nodes else within
            name = pool.names[number] if pool.names else f"{rack or block or pool.name}-n{last}"
            known = dict(pool.labels)
            block, rack = block or known.get(BLOCK_LABEL, ""), rack or known.get(RACK_LABEL, "")
            yield Place(name, rack, block, pool)


def domains(stand: Iterable[Place]) -> Mapping[str, dict[str, list[str]]]:
    """Racks and blocks by name: the nodes in each."""
    found: dict[str, dict[str, list[str]]] = {"rack": {}, "block": {}}
    for place in stand:
        if place.rack:
            found["rack"].setdefault(place.rack, []).append(place.node)
        if place.block:
            found["block"].setdefault(place.block, []).append(place.node)
    return found


@lru_cache(maxsize=4096)
def product(gpu: str) -> str:
    """What nodes with such GPUs are labelled with."""
    try:
        return gpu_type(gpu).product.replace(" ", "-")
    except UserError:
        return gpu


def pool_gpus(pool: Pool, settings: Settings) -> PoolGpus:
    """`settings`: the configurations of the GPU operator's namespace. Raises UserError: there is no such layout."""
    if pool.declared:
        fields, found = furnished(pool.gpu, pool.gpus, dict(pool.labels), settings)
        if not fields.resources:
            why = "its nodes would offer no GPUs: unlike partitions go with migStrategy mixed"
            raise UserError(why, hint="give the pool migStrategy: mixed, or another layout")
        return PoolGpus(fields, parts_of(found), found.advertised.labels.get(GPU_LABEL, ""))
    if not pool.gpus:
        return PoolGpus()
    name = product(pool.gpu)
    if pool.shared:
        return PoolGpus(GpuFields({}, {GPU_LABEL: name, MODEL: pool.gpu}, {COUNT: str(pool.gpus)}), WHOLE, name)
    labels = {GPU_LABEL: name, "nvidia.com/gpu.present": "true", "nvidia.com/gpu.count": str(pool.gpus)}
    return PoolGpus(GpuFields({}, labels, {GPU: str(pool.gpus)}), WHOLE, name)


def node_of(place: Place, address: str, now: str) -> Object:
    """The Node as a kubelet with these GPUs would register it, marked as simulated."""
    pool = place.pool
    labels = dict(pool.labels)
    if place.rack:
        labels[RACK_LABEL] = place.rack
    if place.block:
        labels[BLOCK_LABEL] = place.block
    gpus = pool.made.fields
    discovered = {TIMESTAMP_LABEL: f"{parse_rfc3339(now):.0f}"} if gpus.annotations else {}
    group = SimulatedGroup(
        count=1, cpu=pool.cpu, memory=pool.memory, pods=pool.pods, resources=gpus.resources,
        labels={**gpus.labels, **discovered, **labels}, annotations=gpus.annotations,
        taints=[dict(taint) for taint in pool.taints], zones=(pool.zone,) if pool.zone else (),
    )  # fmt: skip
    node = node_object(group, 0, address, now)
    node["metadata"] |= {"name": place.node}
    node["metadata"]["labels"]["kubernetes.io/hostname"] = place.node
    node["status"]["addresses"][1]["address"] = place.node
    return node
