"""Which racks and hosts a pod set gets: topology-aware scheduling (Kueue KEP 2724), decided beside quota. Pure.

`required`: all pods in one domain of that level, the one with the least room that will do; `preferred`: the same, else
one level wider, else over as few domains as can be. Further down the domains are as few as can be too, the last one
the tightest. Without a wish the tightest hosts are filled first, so that roomy ones stay whole. Slices: that many pods
each, none of which is spread over two domains of its level; of several layers each divides the one above.

Pod sets of one group (a leader and its workers) share one domain of their level: domains are tried from the tightest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atoll.capacity.queueing.domains import Domains, Ints, Ledger
from atoll.capacity.queueing.topology import NoRoom, TopologyAssignment, TopologyRequest, Values, leaf_levels
from atoll.scheduling.filling import fewest_domains

Part = tuple[int, int]
"""(domain, pods)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Of one pod set: where it may go, how many pods, and what one of them asks for."""

    domains: Domains
    count: int
    requests: Mapping[str, int]
    request: TopologyRequest


def mistake(topology: str, levels: Sequence[str], request: TopologyRequest, count: int) -> NoRoom | None:
    """What is wrong with a request, whatever room there is."""
    for level in (request.required, request.preferred, *(level for level, _ in request.slices)):
        if level and level not in levels:
            return NoRoom(f'topology "{topology}" has no level {level}; it has: {", ".join(levels)}')
    whole, above = count, levels.index(request.required or request.preferred or levels[0])
    for level, size in request.slices:
        if whole % size:
            return NoRoom(f"{whole} pods can't be divided into slices of {size}")
        if levels.index(level) < above:
            return NoRoom(f"slices of level {level} can't hold a domain of {levels[above]}: name a narrower level")
        whole, above = size, levels.index(level)
    return None


class _Rooms:
    """How many pods each domain has room for: only whole slices count, down to the slices' level."""

    def __init__(self, ask: Ask, ledger: Ledger) -> None:
        domains, levels = ask.domains, ask.domains.levels
        self.ask, self.domains = ask, domains
        raw = domains.rooms(ledger, ask.requests)
        sizes = [(levels.index(level) + 1, size) for level, size in ask.request.slices]
        units = [next((size for at, size in sizes if at >= depth), 1) for depth in range(len(levels) + 1)]
        own = raw // units[-1] * units[-1]
        self.at: list[Ints] = [own]
        self.raw: list[Ints] = [raw]
        for depth in range(len(levels) - 1, -1, -1):
            starts, below = domains.starts[depth], domains.starts[depth + 1]
            if len(starts):
                own = np.add.reduceat(own, np.searchsorted(below, starts)) // units[depth] * units[depth]
                raw = np.add.reduceat(self.raw[-1], np.searchsorted(below, starts))
            self.at.append(own)
            self.raw.append(raw)
        self.at.reverse()
        self.raw.reverse()

    def tightest_first(self, depth: int) -> Iterator[int]:
        """The domains of that depth that hold all pods."""
        rooms = self.at[depth]
        fitting = (rooms >= self.ask.count).nonzero()[0]
        yield from fitting[np.lexsort((self.raw[depth][fitting], rooms[fitting]))].tolist()

    def descend(self, parts: list[Part], depth: int) -> TopologyAssignment:
        """Down to the leaves, over as few domains of each level as will do."""
        for at in range(depth, len(self.domains.levels)):
            narrower: list[Part] = []
            for domain, number in parts:
                below = self.domains.below(at, domain)
                chosen = slice(below.start, below.stop)
                order = np.argsort(self.raw[at + 1][chosen], kind="stable")
                sums = self.at[at + 1][chosen][order]
                narrower += [
                    (below.start + int(order[index]), share) for index, share in fewest_domains(sums, number) if share
                ]
            parts = narrower
        named = ((self.domains.leaves[leaf], count) for leaf, count in sorted(parts))
        return TopologyAssignment(leaf_levels(self.domains.levels), tuple(named))

    def most(self, depth: int) -> int:
        """The room of the roomiest domain of that depth."""
        return int(self.at[depth].max(initial=0))

    def room(self, domain: Values) -> int:
        index = self.domains.find(domain)
        return 0 if index is None else int(self.at[len(domain)][index])

    def fullest(self) -> tuple[list[Part], int]:
        """All pods in one leaf if one will do, else the fullest ones first. The whole must have room."""
        depth, left = len(self.domains.levels), self.ask.count
        one = next(self.tightest_first(depth), None)
        if one is not None:
            return [(one, left)], depth
        rooms, parts = self.at[depth], []
        for leaf in np.argsort(rooms, kind="stable").tolist():
            share = min(left, int(rooms[leaf]))
            if share:
                parts.append((leaf, share))
                left -= share
        return parts, depth


def place(topology: str, asks: Sequence[Ask], ledger: Ledger) -> list[TopologyAssignment] | NoRoom:
    """Where the pods of one pod set go, or of those of one group. What they take is taken from `ledger`."""
    levels, request = asks[0].domains.levels, asks[0].request
    rooms = [_Rooms(ask, ledger) for ask in asks]
    wanted = request.required or request.preferred
    first = levels.index(wanted) + 1 if wanted else len(levels)
    last = first if request.required else 0
    if request.unconstrained and len(asks) == 1:
        if rooms[0].most(0) >= asks[0].count:
            return _taken([rooms[0].descend(*rooms[0].fullest())], asks, ledger)
        return _no_room(topology, rooms[0], 0, "")
    for depth in range(first, last - 1, -1):
        found = _in_one_domain(rooms, depth, ledger)
        if found is not None:
            return found
    lacking = min(rooms, key=lambda it: it.most(last) / max(1, it.ask.count))
    return _no_room(topology, lacking, last, request.required)


def place_within(asks: Sequence[Ask], domain: Values, ledger: Ledger) -> list[TopologyAssignment] | None:
    """All of them in the domain of that name; None where it has not the room, and `ledger` is as it was."""
    found: list[TopologyAssignment] = []
    for ask in asks:
        rooms, depth = _Rooms(ask, ledger), len(domain)
        if rooms.room(domain) < ask.count:
            for done, other in zip(found, asks, strict=False):
                ledger.take(done, other.requests, -1)
            return None
        index = ask.domains.find(domain)
        assert index is not None
        found += _taken([rooms.descend([(index, ask.count)], depth)], [ask], ledger)
    return found


def _in_one_domain(rooms: list[_Rooms], depth: int, ledger: Ledger) -> list[TopologyAssignment] | None:
    """In the tightest domain of that depth (0: anywhere) that holds all pod sets; those with few pods go first."""
    asks = [it.ask for it in rooms]
    biggest = max(rooms, key=lambda it: it.ask.count)
    order = sorted(range(len(asks)), key=lambda index: asks[index].count)
    for index in biggest.tightest_first(depth):
        domain = biggest.domains.name(depth, index)
        if any(it.room(domain) < it.ask.count for it in rooms):
            continue
        found = place_within([asks[at] for at in order], domain, ledger)
        if found is not None:
            return [found[order.index(at)] for at in range(len(asks))]
    return None


def _taken(found: list[TopologyAssignment], asks: Sequence[Ask], ledger: Ledger) -> list[TopologyAssignment]:
    for assignment, ask in zip(found, asks, strict=True):
        ledger.take(assignment, ask.requests)
    return found


def _no_room(topology: str, rooms: _Rooms, depth: int, level: str) -> NoRoom:
    """In upstream's words, and in numbers."""
    most, count = rooms.most(depth), rooms.ask.count
    fits = f"allows to fit only {most} out of {count} pod(s)" if most else f"doesn't allow to fit any of {count} pod(s)"
    return NoRoom(f'topology "{topology}" {fits}', count, level, most, int((rooms.at[depth] == most).sum()))
