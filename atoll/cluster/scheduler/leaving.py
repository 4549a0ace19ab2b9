"""Pods that go because gang preemption has chosen them, and the room that they are about to leave.

Where whole gangs go for one pod, its fellows come by the hundred before the first victim is gone. Each of them is
promised room that is being made anyway; only where there is none left is more made, and no victim is told twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from atoll.scheduling.evaluation import Refusals
from atoll.scheduling.plan import Planner, with_pods
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.state import NodeState


class Leaving:
    """By node, those whose end is decided and that are still there."""

    def __init__(self, planner: Planner) -> None:
        self._planner = planner
        self._on: dict[str, set[str]] = {}  # uids; nodes that were promised last are the last

    def add(self, victims: Iterable[tuple[PodInfo, str]]) -> Iterator[tuple[PodInfo, str]]:
        """Those of them (pod, node) that were not known to go yet."""
        for pod, node in victims:
            going = self._on.setdefault(node, set())
            if pod.uid not in going:
                going.add(pod.uid)
                yield pod, node

    def forget(self, pod: PodInfo, node: str) -> None:
        """It could not be told to go."""
        going = self._on.get(node, set())
        going.discard(pod.uid)
        if not going:
            self._on.pop(node, None)

    def room_for(self, pod: PodInfo) -> str | None:
        """A node on which the pod fits once they are gone, beside all that were promised room there before."""
        if not self._on or not pod.template.may_preempt:
            return None
        evaluation = self._planner.evaluation(pod)
        if evaluation is None or evaluation.refusals.look_around:
            return None
        promised = self._planner.state.nomination(pod.uid)
        for name in [promised, *self._on] if promised in self._on else list(self._on):
            assert name is not None
            node = self._without(name, pod.priority)
            if node is not None and self._fits(evaluation.refusals, node, pod):
                self._on[name] = self._on.pop(name)
                return name
        return None

    def _without(self, name: str, priority: int) -> NodeState | None:
        """The node as it will be; None where nobody less important goes from it."""
        node = self._planner.state.nodes.get(name)
        there = {} if node is None else node.pods
        self._on[name] &= there.keys()
        if node is None or not self._on[name]:
            del self._on[name]
            return None
        going = [there[uid] for uid in sorted(self._on[name])]
        if any(pod.priority >= priority for pod in going):
            return None
        variant = node.clone()
        for pod in going:
            variant.remove(pod)
        return variant

    def _fits(self, refusals: Refusals, node: NodeState, pod: PodInfo) -> bool:
        rivals = self._planner.state.rivals(node.name, pod)
        return refusals.why(with_pods(node, rivals) if rivals else node) is None
