"""Why a node does not fit, and why a pod fits nowhere, in upstream's words (kube-scheduler's FitError)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any


@dataclass(slots=True, frozen=True)
class Status:
    """A filter's no. `resolvable`: removing pods from the node might help."""

    reasons: tuple[str, ...]
    resolvable: bool = False


_REASONS = attrgetter("reasons")

UNSCHEDULABLE = Status(("node(s) were unschedulable",))
UNTOLERATED = Status(("node(s) had untolerated taint(s)",))
NODE_AFFINITY = Status(("node(s) didn't match Pod's node affinity/selector",))
PORTS = Status(("node(s) didn't have free ports for the requested pod ports",), True)
SPREAD = Status(("node(s) didn't match pod topology spread constraints",), True)
SPREAD_LABEL = Status(("node(s) didn't match pod topology spread constraints (missing required label)",))
AFFINITY = Status(("node(s) didn't match pod affinity rules",))
ANTI_AFFINITY = Status(("node(s) didn't match pod anti-affinity rules",), True)
EXISTING_ANTI_AFFINITY = Status(("node(s) didn't satisfy existing pods anti-affinity rules",), True)
VOLUME_NODE = Status(("node(s) didn't match PersistentVolume's node affinity",))
VOLUME_BIND = Status(("node(s) didn't find available persistent volumes to bind",))
VOLUME_ZONE = Status(("node(s) had no available volume zone",))
_IN_USE = "PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
VOLUME_IN_USE = Status((f"node(s) unavailable due to {_IN_USE}",), True)
NOT_HELPFUL = Status(("Preemption is not helpful for scheduling",))
NO_VICTIMS = Status(("No preemption victims found for incoming pod",))
ABSENT = Status(("node(s) didn't satisfy plugin(s) [NodeAffinity]",))
CONFLICTING_TERMS = "pod affinity terms conflict"


Reasons = tuple[str, ...]


def counted(statuses: Iterable[Status]) -> Counter[Reasons]:
    """How many nodes have the same reasons."""
    return Counter(map(_REASONS, statuses))


def fit_error(total: int, nodes: Mapping[Reasons, int], prefilter: str = "", postfilter: str = "") -> str:
    """`0/3 nodes are available: 1 node(s) …, 2 Insufficient cpu. preemption: …`; `nodes`: how many have the same."""
    message = f"0/{total} nodes are available:"
    if prefilter:
        message += f" {prefilter}."
    else:
        counts = Counter[str]()
        for reasons, count in nodes.items():
            for reason in reasons:
                counts[reason] += count
        if counts:
            message += " " + ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items())) + "."
    return f"{message} {postfilter}" if postfilter else message


class Statuses(Mapping[str, Status]):
    """Why nodes refuse a pod, by name."""

    def counted(self) -> Counter[Reasons]:
        return counted(self.values())


class Told(dict[str, Status], Statuses):
    """Of a few nodes, or each by itself."""


@dataclass(slots=True)
class Failure:
    """Why a pod fits nowhere: per node, or (prefilter) before any node was looked at.

    `look` gives the statuses; it is asked at most once, and before the state changes: for thousands of nodes they
    cost a thousand times what it takes to see that none of them fits.
    """

    total: int
    prefilter: str = ""
    look: Callable[[], Statuses] = Told
    postfilter: str = ""
    devices: Any = None  # the pod's DeviceNeeds, as far as they were resolved
    _looked: Statuses | None = None

    @property
    def statuses(self) -> Statuses:
        if self._looked is None:
            self._looked = self.look()
        return self._looked

    @property
    def message(self) -> str:
        if self.total == 0:
            return "no nodes available to schedule pods"
        return fit_error(self.total, self.statuses.counted(), self.prefilter, self.postfilter)
