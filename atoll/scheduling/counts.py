"""What is counted on a node: pods that a selection, a term or a preference means."""

from __future__ import annotations

from typing import Protocol

from atoll.scheduling.pod import LabelClass, Selection, SpreadConstraint, Template, Term
from atoll.scheduling.state import NodeState


class Counted(Protocol):
    def on(self, node: NodeState) -> int:
        """The count on one node as it is."""
        ...

    def touched(self, pods: LabelClass, template: Template) -> bool:
        """Whether the coming or going of such a pod may change a node's count."""
        ...


class LivePods(Counted):
    """Pods of a selection that are not being deleted; None: no pod at all."""

    def __init__(self, selection: Selection | None) -> None:
        self._selection = selection

    def on(self, node: NodeState) -> int:
        selection = self._selection
        if selection is None:
            return 0
        return sum(number for pods, number in node.live.items() if selection.matches(pods))

    def touched(self, pods: LabelClass, template: Template) -> bool:
        return self._selection is not None and self._selection.matches(pods)


def spread_pods(constraint: SpreadConstraint) -> Counted:
    return LivePods(None if constraint.matches_nothing else constraint.selection)


class PodsOfAll(Counted):
    """Pods that all of these terms mean."""

    def __init__(self, terms: list[Term]) -> None:
        self._terms = terms

    def on(self, node: NodeState) -> int:
        return sum(number for pods, number in node.all.items() if all(term.matches(pods) for term in self._terms))

    def touched(self, pods: LabelClass, template: Template) -> bool:
        return all(term.matches(pods) for term in self._terms)


class ExistingAnti(Counted):
    """Pods whose required anti-affinity is against the incoming pod."""

    def __init__(self, terms: frozenset[Term]) -> None:
        self._terms = terms

    def on(self, node: NodeState) -> int:
        return sum(number for term, number in node.anti_terms.items() if term in self._terms)

    def touched(self, pods: LabelClass, template: Template) -> bool:
        return bool(template.anti_affinity)


class Weights(Counted):
    """InterPodAffinity's score: what the incoming pod prefers, and what existing pods prefer of it."""

    def __init__(self, own: list[tuple[int, Term]], existing: frozenset[Term]) -> None:
        self._own = own
        self._existing = existing

    def on(self, node: NodeState) -> int:
        found = sum(weight for term, weight in node.score_terms.items() if term in self._existing)
        for weight, term in self._own:
            found += weight * sum(number for pods, number in node.all.items() if term.matches(pods))
        return found

    def touched(self, pods: LabelClass, template: Template) -> bool:
        if self._existing and (template.affinity or template.preferred):
            return True
        return any(term.matches(pods) for _, term in self._own)
