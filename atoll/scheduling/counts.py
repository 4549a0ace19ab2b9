"""How many pods of some sort there are per value of a topology key, kept up to date node by node."""

from __future__ import annotations

from collections.abc import Callable

from atoll.scheduling.pod import Selection, SpreadConstraint, Term
from atoll.scheduling.state import NodeState

Contribution = Callable[[NodeState], int]


class TopologyCount:
    """For one topology key: value -> count, over the eligible nodes that carry the key.

    `per_node`: each value belongs to one node only (hostname), so the count belongs to the node.
    """

    __slots__ = ("_contribution", "_eligible", "_of_node", "domains", "key", "per_node", "total", "totals")

    def __init__(
        self, key: str, contribution: Contribution, eligible: Callable[[NodeState], bool] | None = None
    ) -> None:
        self.key = key
        self.totals: dict[str, int] = {}
        self.domains: dict[str, int] = {}  # value -> eligible nodes
        self.total = 0
        self.per_node = False
        self._contribution = contribution
        self._eligible = eligible
        self._of_node: dict[str, tuple[str, int]] = {}

    def of(self, node: NodeState) -> tuple[str, int] | None:
        """(value, contribution) of a node as it is (or might be); None when it does not take part."""
        value = node.labels.get(self.key)
        if value is None or (self._eligible is not None and not self._eligible(node)):
            return None
        return value, self._contribution(node)

    def update(self, node: NodeState) -> None:
        self._replace(node.name, self.of(node))

    def drop(self, name: str) -> None:
        self._replace(name, None)

    def _replace(self, name: str, new: tuple[str, int] | None) -> None:
        old = self._of_node.get(name)
        if old == new:
            return
        if old is not None:
            value, count = old
            self.totals[value] -= count
            self.total -= count
            self.domains[value] -= 1
            if not self.domains[value]:
                del self.domains[value]
                del self.totals[value]
            del self._of_node[name]
        if new is not None:
            value, count = new
            self.totals[value] = self.totals.get(value, 0) + count
            self.total += count
            self.domains[value] = self.domains.get(value, 0) + 1
            self._of_node[name] = new

    def at(self, node: NodeState, variant: NodeState | None = None) -> int | None:
        """The count at a node's value; None when the node lacks the key. `variant`: if the node were so."""
        value = node.labels.get(self.key)
        if value is None:
            return None
        count = self.totals.get(value, 0)
        if variant is not None:
            count += self._change(variant)
        return count

    def _change(self, variant: NodeState) -> int:
        now, then = self._of_node.get(variant.name), self.of(variant)
        return (then[1] if then else 0) - (now[1] if now else 0)

    def sum(self, variant: NodeState | None = None) -> int:
        return self.total if variant is None else self.total + self._change(variant)

    def least(self, min_domains: int, variant: NodeState | None = None) -> int:
        """The smallest count of any domain; 0 when there are fewer domains than asked."""
        if len(self.totals) < min_domains:
            return 0
        if variant is None:
            return min(self.totals.values(), default=1 << 31)
        change = self._change(variant)
        value = variant.labels.get(self.key)
        return min((count + (change if name == value else 0) for name, count in self.totals.items()), default=1 << 31)


def live_pods(selection: Selection) -> Contribution:
    """Pods of a selection that are not being deleted."""

    def count(node: NodeState) -> int:
        return sum(number for pods, number in node.live.items() if selection.matches(pods))

    return count


def no_pods(_: NodeState) -> int:
    return 0


def spread_pods(constraint: SpreadConstraint) -> Contribution:
    return no_pods if constraint.matches_nothing else live_pods(constraint.selection)


def pods_of_term(term: Term) -> Contribution:
    def count(node: NodeState) -> int:
        return sum(number for pods, number in node.all.items() if term.matches(pods))

    return count


def pods_of_all(terms: list[Term]) -> Contribution:
    def count(node: NodeState) -> int:
        return sum(number for pods, number in node.all.items() if all(term.matches(pods) for term in terms))

    return count


def existing_anti(terms: frozenset[Term]) -> Contribution:
    """Pods on the node whose required anti-affinity is against the incoming pod."""

    def count(node: NodeState) -> int:
        return sum(number for term, number in node.anti_terms.items() if term in terms)

    return count


def weights(own: list[tuple[int, Term]], existing: frozenset[Term]) -> Contribution:
    """InterPodAffinity's score: what the incoming pod prefers, and what existing pods prefer of it."""

    def count(node: NodeState) -> int:
        found = sum(weight for term, weight in node.score_terms.items() if term in existing)
        for weight, term in own:
            found += weight * sum(number for pods, number in node.all.items() if term.matches(pods))
        return found

    return count
