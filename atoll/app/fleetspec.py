"""What a fleet is: its clusters, their nodes and networks. `fleetfile` reads it from YAML."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from atoll.base.errors import UserError

CLUSTER_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")
_FIRST_POD_NETWORK = ipaddress.IPv4Address("10.128.0.0")
_FIRST_SERVICE_NETWORK = ipaddress.IPv4Address("10.64.0.0")
_NETWORKS = 32


class NodeGroup(Struct, frozen=True):
    """Simulated nodes that are alike."""

    count: int
    cpu: str = "16"
    memory: str = "64Gi"
    pods: int = 110
    resources: dict[str, str] = {}  # extended ones, e.g. nvidia.com/gpu: "8"
    labels: dict[str, str] = {}
    taints: list[dict[str, str]] = []
    zone: str = ""
    annotations: dict[str, str] = {}
    gpus: str = ""  # NVIDIA GPUs of each, simulated: TYPE:COUNT, e.g. h100:8
    names: tuple[str, ...] = ()  # of the nodes, in place of numbered ones


class ProcessNodeSpec(Struct, frozen=True):
    """A process node of a given name. GPUs are declared by its annotation; real ones are found by NVML."""

    name: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    gpus: tuple[str, ...] = ()  # UUIDs of this machine's GPUs


class AuditSpec(Struct, frozen=True):
    """An audit log: its audit.k8s.io/v1 Policy, where it lies ("": with the cluster's state), how much is kept."""

    policy_file: str
    log_file: str = ""
    max_size_mb: int = 100
    max_backups: int = 10
    max_age_days: int = 0


class AccessFiles(Struct, frozen=True):
    """What kube-apiserver's flags of the same meaning name: paths of files ("" = none)."""

    authentication: str = ""  # AuthenticationConfiguration
    authorization: str = ""  # AuthorizationConfiguration
    token_webhook: str = ""  # a kubeconfig
    token_webhook_version: str = "v1"
    token_webhook_cache_ttl: str = "2m"

    @property
    def any(self) -> bool:
        return bool(self.authentication or self.authorization or self.token_webhook)


class ClusterSpec(Struct, frozen=True):
    """One member cluster."""

    name: str
    provider: str = ""
    region: str = ""
    zone: str = ""
    labels: dict[str, str] = {}
    simulated: tuple[NodeGroup, ...] = ()
    process_nodes: int = 0
    named_process_nodes: tuple[ProcessNodeSpec, ...] = ()
    process_nodes_tainted: bool = True
    pod_cidr: str = ""
    service_cidr: str = ""
    port: int = 0
    api_only: bool = False
    queueing: bool = False  # Kueue's kinds, and what acts upon them
    workload_api: bool = False  # scheduling.k8s.io/v1alpha2, alpha upstream
    device_previews: bool = False  # resource.k8s.io's betas and DeviceTaintRule, off by default upstream
    batch: bool = False  # JobSet, LeaderWorkerSet, Volcano's kinds and PodGroup, and what acts upon them
    teams: bool = False  # nodes are allotted to teams
    autoscale: bool = False  # nodes come and go by pools, with balloons
    health: bool = False  # nodes are tested, watched, drained and mended
    scheduler_config: str = ""  # a file of kind KubeSchedulerConfiguration
    access: AccessFiles = AccessFiles()
    nodes_of: str = ""  # the cluster after which the nodes are named, where it is another's restored state

    audit: AuditSpec | None = None
    max_requests_in_flight: int = 400
    max_mutating_requests_in_flight: int = 200

    @property
    def process_node_count(self) -> int:
        return self.process_nodes + len(self.named_process_nodes)

    @property
    def node_prefix(self) -> str:
        return self.nodes_of or self.name


class FleetSpec(Struct, frozen=True):
    """A hub (unless `hub` is false) and its clusters."""

    name: str
    clusters: tuple[ClusterSpec, ...]
    hub: bool = True
    hub_port: int = 0
    images: tuple[dict[str, Any], ...] = ()


def check_name(name: str) -> None:
    """Raises UserError for what can't be a cluster's name."""
    if not CLUSTER_NAME.match(name):
        raise UserError(f"{name!r} can't be a name", hint="use at most 40 lower-case letters, digits and '-'")


def default_fleet(name: str = "default") -> FleetSpec:
    """One on-premises and two cloud clusters, ten simulated nodes and a process node each."""
    places = (
        ("onprem", "onprem", "eu-north", "eu-north-hall1"),
        ("cloud-a", "aws", "eu-west-1", "eu-west-1a"),
        ("cloud-b", "gcp", "europe-west4", "europe-west4-b"),
    )
    clusters = [
        ClusterSpec(
            cluster, provider, region, zone, {"location": provider}, (NodeGroup(10, zone=zone),), process_nodes=1
        )
        for cluster, provider, region, zone in places
    ]
    return FleetSpec(name, tuple(clusters))


def with_networks(
    fleet: FleetSpec,
    *,
    known: Mapping[str, tuple[str, str]] | None = None,
    taken: Sequence[ipaddress.IPv4Network] = (),
) -> FleetSpec:
    """The fleet with a pod /14 and a service /16 of its own for each cluster that names none.

    `known`: what a cluster had before, by name (pods, services): it keeps that. `taken`: networks in use on this
    machine, which are passed over as long as others are free.
    """
    clusters = []
    used = list(taken)
    index = 0
    for cluster in fleet.clusters:
        pods, services = (known or {}).get(cluster.name, ("", ""))
        pods, services = cluster.pod_cidr or pods, cluster.service_cidr or services
        if not (pods and services):
            index = next((slot for slot in range(index, _NETWORKS) if _is_free(slot, used)), index)
            pods = pods or str(_pod_network(index))
            services = services or str(_service_network(index))
            index += 1
        used += [ipaddress.IPv4Network(pods), ipaddress.IPv4Network(services)]
        clusters.append(replace(cluster, pod_cidr=pods, service_cidr=services))
    return replace(fleet, clusters=tuple(clusters))


def _is_free(slot: int, used: Sequence[ipaddress.IPv4Network]) -> bool:
    wanted = (_pod_network(slot), _service_network(slot))
    return not any(network.overlaps(other) for network in wanted for other in used)


def _pod_network(slot: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((int(_FIRST_POD_NETWORK) + slot * (1 << 18), 14))


def _service_network(slot: int) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network((int(_FIRST_SERVICE_NETWORK) + slot * (1 << 16), 16))


def service_addresses(*cidrs: str) -> list[str]:
    """The first address of each range: where the API server is found from within."""
    return [str(ipaddress.ip_network(cidr)[1]) for cidr in cidrs if cidr]
