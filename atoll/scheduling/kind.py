"""What an index is made of: a kind of pod, nodes' entries, and groups of nodes that do not differ to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from atoll.scheduling.matching import untolerated
from atoll.scheduling.pod import SpreadConstraint, Template, Term
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status
from atoll.scheduling.volumes import VolumeNeeds


@dataclass(slots=True, frozen=True)
class Kind:
    """Everything that a decision depends on besides the cluster. `key` identifies it."""

    key: tuple[object, ...]
    template: Template
    hard: list[SpreadConstraint]
    hard_self: tuple[bool, ...]
    soft: list[SpreadConstraint]
    require_all: bool
    affinity_self: bool
    against: frozenset[Term]  # existing pods' anti-affinity terms that match the pod
    liked: frozenset[Term]  # existing pods' (preferred or required) terms that match the pod
    volumes: VolumeNeeds


@dataclass(slots=True, eq=False)
class Group:
    signature: tuple[object, ...]
    taints: int
    preference: int
    node: NodeState  # any member, for its topology values
    size: int = 0
    heap: list[tuple[int, int, tuple[float, str], int]] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Entry:
    node: NodeState
    version: int = -1
    early: Status | None = None
    late: Status | None = None
    taints: int = 0
    preference: int = 0
    images: int = 0
    local: Status | None = None
    score: int = 0
    pods: int = 0
    stamp: int = 0
    group: Group | None = None


class Verdict(NamedTuple):
    """The scores of one group, not yet normalised."""

    group: Group
    spread: int | None
    affinity: int


def included(constraint: SpreadConstraint, template: Template, node: NodeState) -> bool:
    """nodeAffinityPolicy and nodeTaintsPolicy: does the node take part in the count?"""
    if constraint.honor_affinity and not template.matches_node(node.name, node.labels):
        return False
    return not (constraint.honor_taints and untolerated(node.taints, template.tolerations))


def by_key(terms: frozenset[Term]) -> list[tuple[str, frozenset[Term]]]:
    keys = sorted({term.topology_key for term in terms})
    return [(key, frozenset(term for term in terms if term.topology_key == key)) for key in keys]
