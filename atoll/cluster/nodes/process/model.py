"""What a process node is made from, and what it keeps of each container."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from atoll.base import quantity
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.client.port import Client
from atoll.cluster.network.namespaces import NetworkNamespace
from atoll.cluster.nodes.process.admission import Admission
from atoll.cluster.nodes.process.cgroups import Group, Hierarchy
from atoll.cluster.nodes.process.container import Container
from atoll.cluster.nodes.process.devices import NodeDevices
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
    hierarchy: Hierarchy | None = None  # control groups, where the kernel is to enforce resources
    images: Sequence[Mapping[str, Any]] = ()
    overlays: bool = True  # whether writable overlays work here (doctor)
    max_pods: int = 110
    lease_seconds: int = 40
    crash_backoff_first_seconds: float = 10.0
    crash_backoff_most_seconds: float = 300.0
    log_max_bytes: int = 10 << 20
    log_max_files: int = 5
    refresh_seconds: float = 5.0  # ConfigMaps, Secrets and tokens in volumes

    @property
    def rootful(self) -> bool:
        """Containers are closed in by root: real users, shared namespaces, control groups."""
        return self.mode == "bridge"


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
    admission: Admission
    devices: NodeDevices | None = None
    granted: dict[str, Mapping[str, str]] = field(default_factory=dict)  # pod uid → requests

    @property
    def memory_bytes(self) -> int:
        return quantity.units(self.allocatable.get("memory", "0"))


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
    starting_at: float | None = None  # monotonic: its launcher is at work
    replaced_at: float | None = None  # monotonic: stopped to be started anew at once, and not there again yet
    group: Group | None = None
    target_pid_namespace: int = -1  # an ephemeral container's: that of the container that it looks at

    @property
    def resources(self) -> Object:
        """What the node has granted: what the spec said first, until a resize is granted."""
        if self.state.allocated is None:
            self.state.allocated = self.spec.get("resources") or {}
        return self.state.allocated

    def open_target(self, pid: int | None) -> None:
        if pid is not None:
            with suppress(OSError):
                self.target_pid_namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def close_target(self) -> None:
        if self.target_pid_namespace >= 0:
            os.close(self.target_pid_namespace)
            self.target_pid_namespace = -1

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        return self.container is not None and self.state.running_since is not None

    def log_path(self, attempt: int) -> Path:
        return self.folder / f"{attempt}.log"
