"""The order of a cycle under fair sharing: whose share is the least with the workload goes first (Kueue KEP 1714)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from atoll.capacity.queueing.model import Amounts, Workload
from atoll.capacity.queueing.tree import Node


class Contender(Protocol):
    workload: Workload
    node: Node

    @property
    def usage(self) -> Amounts: ...


C = TypeVar("C", bound=Contender)


def tournament(entries: Sequence[C]) -> Iterator[C]:
    """One after another; what the last winner took counts for the next, so consume it step by step."""
    left = {entry.node.name: entry for entry in entries}
    while left:
        node = min(left.values(), key=lambda item: item.node.name).node
        winner = _winner(node.root, left)
        assert winner is not None
        del left[winner.node.name]
        yield winner


def _winner(node: Node, left: dict[str, C]) -> C | None:
    """Of those below `node`: at each cohort the child with the least share."""
    if node.queue is not None:
        return left.get(node.name)
    best: C | None = None
    rank: tuple[float, int, float, str] | None = None
    for child in node.children:
        entry = _winner(child, left)
        if entry is None:
            continue
        usage = entry.usage
        entry.node.add_all(usage)
        share = child.share()
        entry.node.remove_all(usage)
        own = (share, -entry.workload.priority, entry.workload.order_at, entry.workload.uid)
        if rank is None or own < rank:
            best, rank = entry, own
    return best
