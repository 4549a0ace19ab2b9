"""Values that decisions about a fleet are made from: a cluster as the planner sees it, and where things go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
Amounts = Mapping[str, int]  # as atoll.scheduling.resources: milli-CPU, whole units of the rest


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What is free on one node of a member (or on several alike: `count`)."""

    free: Amounts
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Object, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A member as a snapshot: what its Cluster object says, and what is free on its nodes."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    provider: str = ""
    region: str = ""
    zones: tuple[str, ...] = ()
    taints: tuple[Object, ...] = ()
    ready: bool = True
    deleting: bool = False
    enablements: frozenset[tuple[str, str]] | None = None  # (apiVersion, kind); None: not known
    nodes: tuple[NodeRoom, ...] | None = None  # None: not known
    uid: str = ""

    @classmethod
    def of(cls, obj: Object, nodes: tuple[NodeRoom, ...] | None = None) -> ClusterView:
        """From a Cluster object; `nodes` come from the member."""
        spec, status, metadata = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
        zones = tuple(spec.get("zones") or ([spec["zone"]] if spec.get("zone") else ()))
        enabled = status.get("apiEnablements")
        kinds = None
        if enabled:
            kinds = frozenset(
                (item["groupVersion"], kind["kind"]) for item in enabled for kind in item.get("resources") or ()
            )
        return cls(
            name=metadata["name"],
            labels=metadata.get("labels") or {},
            provider=spec.get("provider") or "",
            region=spec.get("region") or "",
            zones=zones,
            taints=tuple(spec.get("taints") or ()),
            ready=is_ready(obj),
            deleting="deletionTimestamp" in metadata,
            enablements=kinds,
            nodes=nodes,
            uid=metadata.get("uid") or "",
        )

    def field(self, name: str) -> tuple[str, ...]:
        """The values of a spread or selector field: provider, region, zone, cluster."""
        if name == "zone":
            return self.zones
        value = {"provider": self.provider, "region": self.region, "cluster": self.name}.get(name, "")
        return (value,) if value else ()


def is_ready(cluster: Object) -> bool:
    conditions = (cluster.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What one replica asks of a node: ReplicaRequirements of a binding."""

    requests: Amounts = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    node_affinity: Object | None = None
    tolerations: tuple[Object, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why one cluster was or was not chosen."""

    cluster: str
    chosen: bool
    reason: str
    score: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a template goes. `replicas` per cluster (0 replicas is a cluster that keeps the object, with none)."""

    targets: dict[str, int | None]
    verdicts: tuple[Verdict, ...] = ()
    affinity: str = ""  # the name of the clusterAffinities group in use
    unplaced: int = 0
    reason: str = ""  # Success, NoClusterFit, InsufficientCapacity
    message: str = ""
    division: str = ""  # how the replicas were divided, in words
