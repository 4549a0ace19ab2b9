"""Preemption under fair sharing (Kueue KEP 1714): from whom borrows the largest weighted share.

Victims are sought down the tree, at each level in the child with the largest share. `LessThanOrEqualToFinalShare`: the
preemptor's share with the workload must not exceed what the other's will be without its one; `LessThanInitialShare`:
it must be less than the other's is now.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.capacity.queueing.model import NEVER, Workload
from atoll.capacity.queueing.preemption import (
    FAIR,
    IN_QUEUE,
    Target,
    Wish,
    allows,
    fits,
    order,
    put_back,
    restore,
    uses,
)
from atoll.capacity.queueing.tree import Node

FINAL, INITIAL = "LessThanOrEqualToFinalShare", "LessThanInitialShare"
_STRATEGIES: dict[str, Callable[[float, float, float], bool]] = {
    FINAL: lambda wanting, _, after: wanting <= after,
    INITIAL: lambda wanting, before, _: wanting < before,
}


def fair_targets(wish: Wish, strategies: tuple[str, ...]) -> list[Target]:
    """The victims; empty where preemption can't help."""
    candidates = _candidates(wish)
    if not candidates:
        return []
    taken: list[Target] = []
    wish.node.add_all(wish.usage)  # shares are those with the workload
    try:
        fitting, left = _by_strategy(wish, candidates, strategies[0], taken)
        if not fitting and len(strategies) > 1:
            fitting = _second(wish, left, taken)
    finally:
        wish.node.remove_all(wish.usage)
    if fitting:
        put_back(wish, taken, True)
    restore(wish, taken)
    return taken if fitting else []


def _candidates(wish: Wish) -> dict[Node, list[Workload]]:
    """By queue, the first to be taken last."""
    policy = wish.policy
    found: dict[Node, list[Workload]] = {}
    if policy.within_queue != NEVER:
        found[wish.node] = [o for o in wish.node.workloads.values() if allows(policy.within_queue, wish.workload, o)]
    if policy.reclaim != NEVER and wish.node.parent is not None:
        for node in wish.node.root.queues():
            if node is not wish.node and not node.within_nominal(wish.keys):
                found[node] = [o for o in node.workloads.values() if allows(policy.reclaim, wish.workload, o)]
    for node, others in found.items():
        others[:] = sorted((o for o in others if uses(o, wish.keys)), key=lambda o: order(wish, node, o), reverse=True)
    return {node: others for node, others in found.items() if others}


def _fits(wish: Wish) -> bool:
    wish.node.remove_all(wish.usage)
    try:
        return fits(wish, True)
    finally:
        wish.node.add_all(wish.usage)


def _take(wish: Wish, taken: list[Target], node: Node, other: Workload, reason: str) -> None:
    taken.append(Target(other, node, reason))
    wish.take(taken[-1])


def _by_strategy(
    wish: Wish, candidates: dict[Node, list[Workload]], strategy: str, taken: list[Target]
) -> tuple[bool, dict[Node, list[Workload]]]:
    """Whether it fits now, and who was passed over."""
    passed: dict[Node, list[Workload]] = {}
    dropped: set[Node] = set()
    holds = _STRATEGIES[strategy]
    while (node := _largest(wish, candidates, dropped)) is not None:
        if node is wish.node:
            _take(wish, taken, node, candidates[node].pop(), IN_QUEUE)
            if _fits(wish):
                return True, {}
            continue
        mine, theirs = _below_meeting(wish.node, node)
        wanting, before = mine.share(), theirs.share()
        while candidates[node]:
            other = candidates[node].pop()
            node.remove_all(other.usage)
            after = theirs.share()
            node.add_all(other.usage)
            if holds(wanting, before, after):
                _take(wish, taken, node, other, FAIR)
                if _fits(wish):
                    return True, {}
                break  # shares have changed
            passed.setdefault(node, []).append(other)
    for others in passed.values():
        others.reverse()
    return False, passed


def _second(wish: Wish, candidates: dict[Node, list[Workload]], taken: list[Target]) -> bool:
    """LessThanInitialShare, one victim of a queue."""
    dropped: set[Node] = set()
    while (node := _largest(wish, candidates, dropped)) is not None:
        mine, theirs = _below_meeting(wish.node, node)
        if _STRATEGIES[INITIAL](mine.share(), theirs.share(), 0.0):
            _take(wish, taken, node, candidates[node].pop(), FAIR)
            if _fits(wish):
                return True
        dropped.add(node)
    return False


def _below_meeting(one: Node, other: Node) -> tuple[Node, Node]:
    """The ancestors (or selves) of both right below their lowest common cohort."""
    above = [one, *one.path()]
    node = other
    while node.parent not in above:
        assert node.parent is not None
        node = node.parent
    meeting = node.parent
    return above[above.index(meeting) - 1], node


def _largest(wish: Wish, candidates: dict[Node, list[Workload]], dropped: set[Node]) -> Node | None:
    """The queue whose turn it is: down from the root by the largest share, as long as there are candidates."""
    if wish.node.parent is None:
        return wish.node if candidates.get(wish.node) and wish.node not in dropped else None
    own = {wish.node, *wish.node.path()}

    def descend(cohort: Node) -> Node | None:
        ranked = [(child.share(), child.queue is None, child) for child in cohort.children]
        ranked.sort(key=lambda item: (-item[0], not item[1], item[2].name))
        for share, is_cohort, child in ranked:
            if share == 0 and child not in own:
                continue
            if is_cohort:
                found = descend(child)
                if found is not None:
                    return found
            elif candidates.get(child) and child not in dropped:
                return child
        return None

    return descend(wish.node.root)
