"""What a process node is made from, and what it keeps of each container."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.client.port import Client
from atoll.cluster.network.namespaces import NetworkNamespace
from atoll.cluster.nodes.process.container import Container
from atoll.cluster.nodes.process.images import Catalogue
from atoll.cluster.nodes.process.status import ContainerState
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informer

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """A process node. `state_dir` is its own; `volumes_dir` is shared by the cluster's nodes (persistent volumes)."""

    cluster: str  # names the bridge: unique on this machine
    state_dir: Path
    volumes_dir: Path
    cluster_title: str = ""  # what users call it
    mode: str = "host"  # "bridge" (root: real pod addresses) or "host"
    address: str = "127.0.0.1"  # InternalIP; in bridge mode the pod range's first address
    kubelet_port: int = 10250  # 0: any free one
    pod_cidr: str = ""
    cluster_dns: str = ""
    cluster_domain: str = "cluster.local"
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Object] = ()
    capacity: Mapping[str, str] = field(default_factory=dict)  # over what the machine has
    images: Sequence[Mapping[str, Any]] = ()
    overlays: bool = True  # whether writable overlays work here (doctor)
    max_pods: int = 110
    lease_seconds: int = 40
    crash_backoff_first_seconds: float = 10.0
    crash_backoff_most_seconds: float = 300.0
    log_max_bytes: int = 10 << 20
    log_max_files: int = 5
    refresh_seconds: float = 5.0  # ConfigMaps, Secrets and tokens in volumes


@dataclass(slots=True)
class PodAddress:
    """Where a pod lives. `namespace` is None with the host's network; `ports` maps container ports chosen anew."""

    ip: str
    namespace: NetworkNamespace | None = None
    ports: dict[int, int] = field(default_factory=dict)


class PodNetwork(Protocol):
    """Gives pods their addresses."""

    def attach(self, pod: Object) -> PodAddress:
        """Raises OSError."""

    def detach(self, uid: str) -> None: ...

    def entered(self, address: PodAddress) -> AbstractContextManager[None]:
        """Within, this thread is in the pod's network."""


@dataclass(slots=True)
class NodeContext:
    """What every pod worker of a node shares."""

    name: str
    config: NodeConfig
    client: Client
    clock: Clock
    chance: Chance
    recorder: EventRecorder
    catalogue: Catalogue
    network: PodNetwork
    services: Informer
    allocatable: Mapping[str, str]


@dataclass(slots=True, eq=False)
class Slot:
    """A container of a pod: its spec, its present run, its back-offs."""

    spec: Object
    kind: str  # init, sidecar, app, ephemeral
    state: ContainerState
    folder: Path
    container: Container | None = None
    operation: asyncio.Task[None] | None = None  # a start or stop under way
    probes: asyncio.Task[None] | None = None
    attempt: int = 0
    crash_delay: float = 0.0
    crash_at: float = 0.0
    image_delay: float = 0.0
    image_at: float = 0.0
    image_error: str = ""
    retry_at: float = 0.0  # monotonic: after an error in making it
    backing_off: bool = False
    killed_because: str = ""

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        return self.container is not None and self.state.running_since is not None

    def log_path(self, attempt: int) -> Path:
        return self.folder / f"{attempt}.log"
