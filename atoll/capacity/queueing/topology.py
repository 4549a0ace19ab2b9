"""What is asked of a topology, what is given of it, and what there is (Kueue KEP 2724, topology-aware scheduling).

A Topology names node labels from wide to narrow; the values of all of them make a leaf. Where the narrowest label is
the host's name, a leaf is known by that alone, as upstream writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

HOSTNAME: Final = "kubernetes.io/hostname"

Values = tuple[str, ...]
"""Of the levels, from wide to narrow."""


@dataclass(frozen=True, slots=True)
class TopologyRequest:
    """spec.podSets[].topologyRequest; "" where it does not say.

    `slices`: (level, pods) from the coarsest to the finest: that many pods, which a domain of that level holds whole.
    `group`: pod sets of one group get one flavour and one domain.
    """

    required: str = ""
    preferred: str = ""
    slices: tuple[tuple[str, int], ...] = ()
    group: str = ""

    @property
    def unconstrained(self) -> bool:
        return not (self.required or self.preferred or self.slices)


@dataclass(frozen=True, slots=True)
class TopologyAssignment:
    """How many pods each leaf gets, in the order of ranks; a leaf may come twice, after a node was replaced."""

    levels: tuple[str, ...]
    domains: tuple[tuple[Values, int], ...]


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """A node: `free` is what pods that are not placed by topology leave of it. Only `usable` ones get pods."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, Any], ...]
    free: Mapping[str, int]
    usable: bool = True


@dataclass(frozen=True, slots=True)
class NoRoom:
    """Why pods found no place. Without `count` it is a mistake in the request that no room would help.

    `level`: of the one domain that is wanted, "" for anywhere; `most`: how many would fit there; `domains`: in how
    many of them.
    """

    problem: str
    count: int = 0
    level: str = ""
    most: int = 0
    domains: int = 0

    def __str__(self) -> str:
        return self.problem


def leaf_levels(levels: tuple[str, ...]) -> tuple[str, ...]:
    """The levels by which a leaf is known."""
    return levels[-1:] if levels[-1] == HOSTNAME else levels


def by_leaf(found: TopologyAssignment) -> TopologyAssignment:
    """The same with leaves as they are known."""
    if len(found.levels) == 1 or found.levels[-1] != HOSTNAME:
        return found
    return TopologyAssignment(found.levels[-1:], tuple((values[-1:], count) for values, count in found.domains))
