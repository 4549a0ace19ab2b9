"""What a scenario is, as values. `read` makes it of a file; nothing here knows YAML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from atoll.app.gpus import GpuFields
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.simulate.scenario.spread import Spread

Object = dict[str, Any]
Target = Literal["node", "rack", "block", "gpu", "network", "apiServer"]

BLOCK_LABEL = "cloud.provider.com/topology-block"
RACK_LABEL = "cloud.provider.com/topology-rack"
TEAM_LABEL = "atoll.dev/team"
GPU = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class PoolGpus:
    """What follows for a pool's nodes from their GPUs, partitioned and shared as they are: what they are made with, how
    much of a GPU a unit of each resource is, and the label of their product."""

    fields: GpuFields = field(default_factory=GpuFields)
    parts: Mapping[str, float] = field(default_factory=dict)
    product: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """Nodes that are alike. `block_nodes`, `rack_nodes`: how many stand in one (0: the pool has no such level)."""

    name: str
    nodes: int
    gpu: str = ""  # the type, e.g. H100; "" for nodes without
    declared: bool = False  # the nodes declare simulated GPUs of that type; else only its name is known
    gpus: int = 0  # a node's
    cpu: str = "96"
    memory: str = "1Ti"
    pods: int = 110
    block_nodes: int = 0
    rack_nodes: int = 0
    labels: tuple[tuple[str, str], ...] = ()
    taints: tuple[tuple[tuple[str, str], ...], ...] = ()
    zone: str = ""
    names: tuple[str, ...] = ()  # of a snapshot's nodes
    shared: bool = False  # its GPUs are given in parts (docs/scheduling-openb.md)
    price_per_hour: float = 0.0  # of a node
    made: PoolGpus = field(default_factory=PoolGpus, compare=False)


@dataclass(frozen=True, slots=True)
class Given:
    """An object to create, at a time of the scenario, and where it was written."""

    at_seconds: float
    obj: Object
    where: str


@dataclass(frozen=True, slots=True)
class JobStream:
    """Jobs that keep coming. Times in seconds; `pods`, `gpus` (of a pod) and `run` are drawn for each job."""

    name: str
    every: Spread
    run: Spread
    pods: Spread
    gpus: Spread
    resource: str = GPU  # of which it asks for so many
    device_class: str = ""  # or of the devices of this DeviceClass, by a ResourceClaim
    selector: str = ""  # CEL, of those devices
    gpu: tuple[str, ...] = ()  # types it can use; any, if none
    cpu: str = "4"
    memory: str = "32Gi"
    namespace: str = "default"
    queue: str = ""
    team: str = ""
    priority_class: str = ""
    start: float = 0.0
    until: float = math.inf
    most: int = 0  # jobs at all; 0: no limit
    checkpoint_seconds: float = 0.0  # 0: it writes none
    gang: bool = False
    milli: Spread | None = None  # of each GPU that a pod has a part of; None: it has it whole
    scheduler: str = ""  # schedulerName of its pods


@dataclass(frozen=True, slots=True)
class TraceStream:
    """Pods of a trace (CSV as Alibaba publishes it), those of a window of its time, faster by `speed`."""

    path: Path
    where: str
    start_seconds: float = 0.0  # of the trace's time
    speed: float = 1.0
    most: int = 0
    by_class: tuple[tuple[str, str], ...] = ()  # the trace's `qos` → queue
    queue: str = ""
    team: str = ""
    namespace: str = "default"
    name: str = "trace"
    scheduler: str = ""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """Something that breaks, at times or by a rate, for a while. `name`: which one; "" draws it.

    `pool`: one that grows; what breaks is drawn among the machines that it has then.
    """

    target: Target
    name: str
    lasts: Spread
    at: tuple[float, ...] = ()
    every: Spread | None = None  # of the whole fleet
    per_year: float = 0.0  # of each that may break
    gpu_kind: str = "xid"
    gpu_value: int = 79
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One policy of one scenario file: all that a run needs but its seed."""

    name: str
    source: str
    policy: str
    seconds: float
    pools: tuple[Pool, ...]
    queueing: bool
    batch: bool  # the kinds of gangs are served
    teams: bool  # nodes are allotted to teams
    health: bool  # nodes are tested before they take work, watched and mended
    given: tuple[Given, ...]
    jobs: tuple[JobStream, ...]
    traces: tuple[TraceStream, ...]
    faults: tuple[FaultRule, ...]
    invariants: tuple[str, ...]
    sample_seconds: float
    policies: tuple[str, ...] = ()  # all that the file names
    scheduler_config: str = ""  # a file of kind KubeSchedulerConfiguration
    workload_api: bool = False  # scheduling.k8s.io/v1alpha2 is served
    autoscale: AutoscaleSettings | None = None  # pools beside the fixed ones, as written

    @property
    def shared(self) -> bool:
        """GPUs are given in parts."""
        return any(pool.shared for pool in self.pools)

    @property
    def gpus(self) -> int:
        return sum(pool.nodes * pool.gpus for pool in self.pools)

    @property
    def most_machines(self) -> int:
        """That autoscaled pools may have."""
        return sum(pool.max for pool in self.autoscale.pools) if self.autoscale is not None else 0
