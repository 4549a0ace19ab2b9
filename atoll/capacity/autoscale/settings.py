"""Pools of nodes: the key autoscale.yaml of the ConfigMap atoll-system/atoll-autoscale."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from atoll.base import quantity
from atoll.capacity import names
from atoll.capacity.nodes import GPU

CONFIG_MAP: Final = "atoll-autoscale"
KEY: Final = "autoscale.yaml"
_NAME = r"^[a-z0-9]([-a-z0-9]{0,40}[a-z0-9])?$"
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0)]


class DeviceSlice(Struct, frozen=True, forbid_unknown_fields=True, rename="camel", omit_defaults=True):
    """A ResourceSlice's spec as far as it is the same on each node (resource.k8s.io/v1)."""

    driver: str
    devices: tuple[dict[str, Any], ...] = ()
    shared_counters: tuple[dict[str, Any], ...] = ()


class NodeShape(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What a node of the pool looks like to the scheduler.

    `gpu`: the type of its GPUs, where they are simulated: labels, resources and slices follow from that. `resources`:
    extended ones beside nvidia.com/gpu. `resource_slices`: specs of the ResourceSlices that drivers will publish for a
    node, without pool and nodeName; those of a node of the pool that is there count before them.
    """

    cpu: str | int = "16"
    memory: str = "64Gi"
    pods: Count = 110
    gpus: Count = 0
    gpu: str = ""
    resources: dict[str, str | int] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    taints: tuple[dict[str, str], ...] = ()
    resource_slices: tuple[DeviceSlice, ...] = ()

    @property
    def capacity(self) -> dict[str, str]:
        """As in a Node's status."""
        amounts = {"cpu": str(self.cpu), "memory": self.memory, "pods": str(self.pods)}
        gpus = {GPU: str(self.gpus)} if self.gpus and not (self.gpu and self.resources) else {}
        return amounts | gpus | {name: str(amount) for name, amount in self.resources.items()}

    @property
    def amounts(self) -> dict[str, int]:
        """Resource → nano-units."""
        return {name: quantity.parse(value) for name, value in self.capacity.items()}


class Simulation(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """How the simulated provider behaves: `stock` machines at most; in `stockout_share` of all hours it has none."""

    boot_seconds: Seconds = 120.0
    boot_jitter_seconds: Seconds = 30.0
    stock: Count = 10_000
    stockout_share: Annotated[float, Meta(ge=0, le=1)] = 0.0


class Pool(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Nodes that are alike. `spare`: so many are kept warm by balloons. `max_age_seconds` 0: they grow old."""

    name: Annotated[str, Meta(pattern=_NAME)]
    max: Count
    min: Count = 0
    spare: Count = 0
    node: NodeShape = NodeShape()
    price_per_hour: Annotated[float, Meta(ge=0)] = 1.0
    max_age_seconds: Seconds = 0.0
    simulated: Simulation = Simulation()

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"pool {self.name!r}: min is above max")
        try:
            amounts = self.node.amounts
        except ValueError:
            raise ValueError(f"pool {self.name!r}: cpu, memory and resources are quantities, as 96 and 1Ti") from None
        if min(amounts["cpu"], amounts["memory"]) <= 0:
            raise ValueError(f"pool {self.name!r}: a node has cpu and memory")
        if self.node.gpu and not self.node.gpus:
            raise ValueError(f"pool {self.name!r}: gpus (how many a node has) goes with gpu (their type)")

    @property
    def labels(self) -> dict[str, str]:
        """Of its nodes, but for those that differ from node to node."""
        return {**self.node.labels, names.POOL_LABEL: self.name}


class AutoscaleSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`joining_at_once` and `creates_per_minute` keep hundreds of nodes from joining together."""

    pools: tuple[Pool, ...] = ()
    idle_seconds: Seconds = 600.0
    underused_share: Annotated[float, Meta(ge=0, le=1)] = (
        0.5  # of what a node has; one with less is emptied; 0: none is
    )
    underused_seconds: Seconds = 600.0
    joining_at_once: Annotated[int, Meta(ge=1)] = 20
    creates_per_minute: Annotated[int, Meta(ge=1)] = 60
    renew_at_once: Annotated[int, Meta(ge=1)] = 1
    stockout_seconds: Positive = 120.0  # a pool without stock is asked again after that
    seed: int = 1  # of the simulated provider

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(pool.name for pool in self.pools).items() if count > 1]
        if twice:
            raise ValueError(f"the pool {twice[0]!r} is named twice")

    def pool(self, name: str) -> Pool | None:
        return next((pool for pool in self.pools if pool.name == name), None)
