"""Cohorts and queues as a tree of quota (Kueue's hierarchical cohorts, KEP 79).

A node owns what it and those below it were given (`subtree`); of that it keeps `guaranteed` (all above its lending
limit) and the rest counts to its parent. Use that exceeds the guaranteed part is use of the parent. `available` is
thus what a queue may still use, by its own quota and by borrowing, at every level within the limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import inf

from atoll.capacity.queueing.model import Amounts, ClusterQueue, Cohort, FlavorResource, Key, Quota, Workload

_NONE = Quota(0)


class Node:
    """A queue (`queue` set) or a cohort."""

    __slots__ = (
        "children", "guaranteed", "height", "lendable_", "name", "parent", "queue", "quotas", "subtree", "usage",
        "weight", "workloads",
    )  # fmt: skip

    def __init__(self, name: str, quotas: Mapping[FlavorResource, Quota], weight: float, queue: ClusterQueue | None):
        self.name = name
        self.quotas = quotas
        self.weight = weight
        self.queue = queue
        self.parent: Node | None = None
        self.children: list[Node] = []
        self.height = 0
        self.subtree: Amounts = {}
        self.guaranteed: Amounts = {}
        self.usage: Amounts = {}
        self.workloads: dict[Key, Workload] = {}  # those with quota, of a queue
        self.lendable_: dict[str, int] | None = None

    # -- shape

    def path(self) -> Iterator[Node]:
        """Its cohorts, from the nearest to the root."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    @property
    def root(self) -> Node:
        node = self
        while node.parent is not None:
            node = node.parent
        return node

    def queues(self) -> Iterator[Node]:
        """The queues below (or itself)."""
        if self.queue is not None:
            yield self
        for child in self.children:
            yield from child.queues()

    def settle(self) -> None:
        """Compute what belongs to it, its children first."""
        self.subtree = {key: quota.nominal for key, quota in self.quotas.items()}
        self.height = 0
        for child in self.children:
            child.settle()
            self.height = max(self.height, child.height + 1)
            for key, amount in child.subtree.items():
                self.subtree[key] = self.subtree.get(key, 0) + amount - child.guaranteed[key]
        self.guaranteed = {key: self._kept(key, amount) for key, amount in self.subtree.items()}

    def _kept(self, key: FlavorResource, amount: int) -> int:
        lending = self.quotas.get(key, _NONE).lending
        return 0 if lending is None else max(0, amount - lending)

    # -- how much

    def local_available(self, key: FlavorResource) -> int:
        return max(0, self.guaranteed.get(key, 0) - self.usage.get(key, 0))

    def available(self, key: FlavorResource) -> int:
        """What may still be used; negative where others' quota was taken away meanwhile."""
        used, subtree = self.usage.get(key, 0), self.subtree.get(key, 0)
        if self.parent is None:
            return subtree - used
        guaranteed = self.guaranteed.get(key, 0)
        above = self.parent.available(key)
        borrowing = self.quotas.get(key, _NONE).borrowing
        if borrowing is not None:
            above = min(above, subtree - guaranteed - max(0, used - guaranteed) + borrowing)
        return max(0, guaranteed - used) + above

    def potential(self, key: FlavorResource) -> int:
        """The most that could ever be available."""
        subtree = self.subtree.get(key, 0)
        if self.parent is None:
            return subtree
        most = self.guaranteed.get(key, 0) + self.parent.potential(key)
        borrowing = self.quotas.get(key, _NONE).borrowing
        return most if borrowing is None else min(most, subtree + borrowing)

    def borrows(self, key: FlavorResource, more: int = 0) -> bool:
        """Whether it uses (with `more`) beyond its own."""
        return self.usage.get(key, 0) + more > self.subtree.get(key, 0)

    def within_nominal(self, keys: Iterable[FlavorResource]) -> bool:
        return not any(self.borrows(key) for key in keys)

    # -- use

    def add(self, key: FlavorResource, amount: int) -> None:
        node: Node | None = self
        while node is not None:
            free = node.local_available(key)
            node.usage[key] = node.usage.get(key, 0) + amount
            if amount <= free:
                return
            amount -= free
            node = node.parent

    def remove(self, key: FlavorResource, amount: int) -> None:
        node: Node | None = self
        while node is not None:
            used = node.usage.get(key, 0)
            beyond = used - node.guaranteed.get(key, 0)
            node.usage[key] = used - amount
            if beyond <= 0:
                return
            amount = min(amount, beyond)
            node = node.parent

    def add_all(self, amounts: Mapping[FlavorResource, int]) -> None:
        for key, amount in amounts.items():
            self.add(key, amount)

    def remove_all(self, amounts: Mapping[FlavorResource, int]) -> None:
        for key, amount in amounts.items():
            self.remove(key, amount)

    # -- shares

    def share(self) -> float:
        """The weighted dominant share: of what it borrows over what the tree could lend it, in thousandths."""
        parent = self.parent
        if parent is None:
            return 0.0
        borrowed: dict[str, int] = {}
        for key, used in self.usage.items():
            beyond = used - self.subtree.get(key, 0)
            if beyond > 0:
                borrowed[key[1]] = borrowed.get(key[1], 0) + beyond
        if not borrowed:
            return 0.0
        lendable = parent.lendable()
        ratio = max(amount / lendable[name] if lendable.get(name) else inf for name, amount in borrowed.items())
        return ratio * 1000.0 / self.weight if self.weight else inf

    def lendable(self) -> dict[str, int]:
        """By resource: all that could be available here. Remembered: quotas do not change."""
        if self.lendable_ is None:
            total: dict[str, int] = {}
            for key in self.root.subtree:
                total[key[1]] = total.get(key[1], 0) + self.potential(key)
            self.lendable_ = total
        return self.lendable_


def lowest_fit(node: Node, key: FlavorResource, amount: int) -> tuple[int, bool]:
    """The height of the lowest node whose own quota would hold `amount`, and whether it has a parent.

    0: without borrowing. A True second value means that what borrows beyond that node can be reclaimed from.
    """
    if not node.borrows(key, amount) or node.parent is None:
        return 0, node.parent is not None
    remaining = amount - node.local_available(key)
    top = node
    for top in node.path():
        if not top.borrows(key, remaining):
            return top.height, top.parent is not None
        remaining -= top.local_available(key)
    return top.height, False


def plant(
    queues: Iterable[ClusterQueue], cohorts: Iterable[Cohort]
) -> tuple[dict[str, Node], dict[str, Node], dict[str, list[str]]]:
    """Nodes of queues and of cohorts by name; and for each cohort on (or above which is) a cycle, that cycle.

    A cohort that is only named is made. What hangs on a cycle hangs on nothing, and may not admit.
    """
    queues = list(queues)
    given = {cohort.name: cohort for cohort in cohorts}
    parents = {name: cohort.parent for name, cohort in given.items() if cohort.parent}
    named = {queue.cohort for queue in queues if queue.cohort} | set(parents.values()) | set(given)
    cycles = {name: cycle for name in sorted(named) if (cycle := find_cycle(parents, name))}
    nodes = {}
    for name in sorted(named):
        cohort = given.get(name)
        nodes[name] = Node(name, cohort.quotas if cohort else {}, cohort.weight if cohort else 1.0, None)
    for name, parent in sorted(parents.items()):
        if name not in cycles:
            _hang(nodes[name], nodes[parent])
    leaves = {}
    for queue in sorted(queues, key=lambda item: item.name):
        leaf = leaves[queue.name] = Node(queue.name, queue.quotas, queue.weight, queue)
        if queue.cohort and queue.cohort not in cycles:
            _hang(leaf, nodes[queue.cohort])
    for node in [*nodes.values(), *leaves.values()]:
        if node.parent is None:
            node.settle()
    return leaves, nodes, cycles


def _hang(node: Node, parent: Node) -> None:
    node.parent = parent
    parent.children.append(node)


def find_cycle(parents: Mapping[str, str], start: str) -> list[str]:
    """The cycle that is met on the way up from `start` ([a, b, a]); empty if there is none."""
    seen: list[str] = []
    name: str | None = start
    while name is not None and name not in seen:
        seen.append(name)
        name = parents.get(name)
    return [] if name is None else [*seen[seen.index(name) :], name]
