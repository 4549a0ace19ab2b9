"""Values of the queues: what a ClusterQueue, Cohort, ResourceFlavor, LocalQueue and Workload say, read once.

Amounts are integers: milli-units of cpu, whole units of all else, as Kueue counts them. A `FlavorResource` is
(flavor, resource): quota is held, and used, by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from atoll.capacity.queueing.topology import TopologyAssignment, TopologyRequest

Object = dict[str, Any]
Key = tuple[str, str]
"""(namespace, name)."""
FlavorResource = tuple[str, str]
Amounts = dict[FlavorResource, int]

NEVER, LOWER, LOWER_OR_NEWER, ANY = "Never", "LowerPriority", "LowerOrNewerEqualPriority", "Any"


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one flavour and resource. None: no limit."""

    nominal: int
    borrowing: int | None = None
    lending: int | None = None


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    """Flavours in the order in which they are tried, for the resources that are covered together."""

    covered: tuple[str, ...]
    flavors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PreemptionPolicy:
    """spec.preemption."""

    within_queue: str = NEVER
    reclaim: str = NEVER
    borrow_policy: str = NEVER
    borrow_threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Fungibility:
    """spec.flavorFungibility: whether the search ends at the first flavour that needs borrowing, or preemption."""

    stop_at_borrow: bool = True
    stop_at_preempt: bool = False
    borrow_rather: bool = True  # of two that need one of both: borrow; else preempt


@dataclass(frozen=True, slots=True)
class ClusterQueue:
    name: str
    cohort: str = ""
    groups: tuple[ResourceGroup, ...] = ()
    quotas: Mapping[FlavorResource, Quota] = field(default_factory=dict)
    preemption: PreemptionPolicy = PreemptionPolicy()
    fungibility: Fungibility = Fungibility()
    strict: bool = False  # StrictFIFO
    weight: float = 1.0
    checks: tuple[tuple[str, frozenset[str]], ...] = ()  # (name, flavours: none = all)
    stop: str = "None"
    selector: Object | None = None  # of namespaces; None selects nothing
    leaving: bool = False  # it is being deleted
    by_past_usage: bool = False  # admissionScope UsageBasedAdmissionFairSharing

    def group_of(self, resource: str) -> ResourceGroup | None:
        """The group that covers the resource."""
        return next((group for group in self.groups if resource in group.covered), None)

    @property
    def flavors(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group.flavors)


@dataclass(frozen=True, slots=True)
class Cohort:
    name: str
    parent: str = ""
    quotas: Mapping[FlavorResource, Quota] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Flavor:
    """A ResourceFlavor: labels and taints of its nodes, tolerations that its pods are given."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Object, ...] = ()
    tolerations: tuple[Object, ...] = ()
    topology: str = ""  # the Topology by which its pods are placed


@dataclass(frozen=True, slots=True)
class LocalQueue:
    namespace: str
    name: str
    queue: str  # the ClusterQueue
    stop: str = "None"
    weight: float = 1.0

    @property
    def key(self) -> Key:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True, eq=False)
class PodSet:
    """Pods that are alike. `requests`: of one pod; `template`: its pod template, for taints and affinity; `counted`:
    what quota counts of one pod, where that is something else."""

    name: str
    count: int
    min_count: int | None
    requests: Mapping[str, int]
    template: Object = field(default_factory=dict)
    topology: TopologyRequest | None = None
    counted: Mapping[str, int] | None = None

    @property
    def charged(self) -> Mapping[str, int]:
        """To quota, for one pod."""
        return self.requests if self.counted is None else self.counted


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Shape:
    """What a workload asks for. Equal ones are one object, so that one search answers for all of them. `problem`: why
    its pods can't be made."""

    pod_sets: tuple[PodSet, ...]
    problem: str = ""

    @property
    def partial(self) -> bool:
        return any(pods.min_count is not None and pods.min_count < pods.count for pods in self.pod_sets)


@dataclass(frozen=True, slots=True)
class PodSetAssignment:
    """`usage` of all `count` pods together."""

    name: str
    flavors: Mapping[str, str]
    usage: Mapping[str, int]
    count: int
    topology: TopologyAssignment | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    queue: str
    pod_sets: tuple[PodSetAssignment, ...]

    def usage(self) -> Amounts:
        return usage_of(self.pod_sets)


def usage_of(assignments: tuple[PodSetAssignment, ...]) -> Amounts:
    """All pod sets together, by flavour and resource."""
    total: Amounts = {}
    for assignment in assignments:
        for resource, amount in assignment.usage.items():
            flavor = assignment.flavors.get(resource)
            if flavor is not None:
                key = (flavor, resource)
                total[key] = total.get(key, 0) + amount
    return total


class Workload(Struct, frozen=True):
    """One Workload, as the queues see it. Times are seconds since the epoch."""

    key: Key
    uid: str
    local_queue: str
    priority: int
    created: float
    order_at: float  # when it counts as queued: its creation, or the eviction after which it goes to the back
    shape: Shape
    admission: Admission | None = None
    usage: Mapping[FlavorResource, int] = {}  # of the admission, less what can be reclaimed
    reserved_at: float = 0.0
    evicted: bool = False
    active: bool = True
    finished: bool = False
    admitted: bool = False
    ready: bool = False  # PodsReady
    requeue_at: float = 0.0
    owners: tuple[str, ...] = ()  # names of the objects that it is of
    unhealthy: tuple[str, ...] = ()  # hosts whose pods must be placed elsewhere (status.unhealthyNodes)
    held: bool = False  # spec.active is true, but it may not be queued: an admission check said Retry or Rejected
    lacking_pods: bool = False  # of a group whose pods must be replaced before it may be queued

    @property
    def queue_key(self) -> Key:
        return self.key[0], self.local_queue

    @property
    def pending(self) -> bool:
        free = self.active and not self.finished and self.admission is None
        return free and not (self.held or self.lacking_pods)

    def asked(self) -> dict[str, int]:
        """All that it asks for, by resource."""
        total: dict[str, int] = {}
        for pods in self.shape.pod_sets:
            for resource, amount in pods.charged.items():
                total[resource] = total.get(resource, 0) + amount * pods.count
        return total


@dataclass(frozen=True, slots=True)
class FairSharing:
    """Configuration's fairSharing: on or off, and the preemption strategies in their order."""

    enabled: bool = False
    strategies: tuple[str, ...] = ("LessThanOrEqualToFinalShare", "LessThanInitialShare")


@dataclass(frozen=True, slots=True)
class PastUsage:
    """Configuration's admissionFairSharing: how fast what was consumed is forgotten, and what counts how much."""

    half_life_seconds: float = 0.0
    sampling_seconds: float = 300.0
    weights: Mapping[str, float] = field(default_factory=dict)
