"""Where the next pod goes, decided on a `ClusterState`; or why it goes nowhere.

`Planner.decide` is kube-scheduler's scheduling cycle without its I/O: prefilters, filters, scores, and the choice.
It looks at all nodes (upstream samples large clusters): see index.py for why that is cheap.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atoll.base.chance import Chance
from atoll.scheduling import filters, status
from atoll.scheduling.index import Index
from atoll.scheduling.kind import Kind
from atoll.scheduling.matching import LabelMatcher
from atoll.scheduling.pod import HOSTNAME, ZONE, PodInfo, SpreadConstraint
from atoll.scheduling.state import ClusterState, NodeState
from atoll.scheduling.status import Failure, Status
from atoll.scheduling.volumes import VolumeNeeds, VolumePlan, Volumes

Object = dict[str, Any]

DefaultSelector = Callable[[Object], tuple[str, LabelMatcher] | None]
"""What spreads a pod by default: (identity, matcher) of its Services' and owner's selectors; None for none."""

_INDEX_ENTRIES = 60_000  # nodes remembered over all indexes, before the least used index is dropped


@dataclass(slots=True)
class Decision:
    """Exactly one of `node` and `failure` is set."""

    node: str | None = None
    volumes: VolumePlan | None = None
    failure: Failure | None = None


def no_default(_: Object) -> tuple[str, LabelMatcher] | None:
    return None


class Planner:
    """Decides for one pod at a time on a state that its owner keeps."""

    def __init__(self, chance: Chance, default_selector: DefaultSelector = no_default) -> None:
        self.state = ClusterState(chance)
        self.volumes = Volumes()
        self._default_selector = default_selector
        self._indexes: OrderedDict[tuple[object, ...], Index] = OrderedDict()

    def pod(self, obj: Object) -> PodInfo:
        return self.state.templates.pod(obj)

    def decide(self, pod: PodInfo) -> Decision:
        """The best node for a pod, or why there is none."""
        state = self.state
        if not state.nodes:
            return Decision(failure=Failure(0))
        needs = self.volumes.needs(pod.obj)
        only = pod.template.only_nodes
        if only is not None and not only:
            return Decision(failure=Failure(len(state.nodes), prefilter=status.CONFLICTING_TERMS))
        if needs.error:
            return Decision(failure=Failure(len(state.nodes), prefilter=needs.error))
        kind = self._kind(pod, needs)
        if only is not None and _looks_at_one_node(kind):
            return self._decide_among(pod, kind, only)
        index = self._index(kind)
        name = self._nominated(pod, index) or self._best(pod, index, only)
        if name is None:
            return Decision(failure=Failure(len(state.nodes), statuses=self._why(pod, index, only)))
        return self._chosen(name, needs)

    def index(self, pod: PodInfo) -> Index | None:
        """The index of the pod's kind (for preemption and for explaining); None when its claims are not resolved."""
        needs = self.volumes.needs(pod.obj)
        return None if needs.error else self._index(self._kind(pod, needs))

    def _chosen(self, name: str, needs: VolumeNeeds) -> Decision:
        plan = needs.plan(name, self.state.nodes[name].labels) if needs.delayed else None
        return Decision(node=name, volumes=plan)

    # kinds and their indexes

    def _kind(self, pod: PodInfo, needs: VolumeNeeds) -> Kind:
        template, state = pod.template, self.state
        soft, require_all, default = template.soft_spread, True, ""
        if not template.explicit_spread:
            require_all = False
            selector = self._default_selector(pod.obj)
            if selector is not None:
                default = selector[0]
                soft = self._default_constraints(template.namespace, *selector)
        hard_self = tuple(item.selection.matches(pod.pods) for item in template.hard_spread)
        affinity_self = bool(template.affinity) and all(term.matches(pod.pods) for term in template.affinity)
        against = frozenset(term for term in state.anti_terms if term.matches(pod.pods)) if state.anti_terms else _EMPTY
        liked = frozenset(term for term in state.score_terms if term.matches(pod.pods)) if state.score_terms else _EMPTY
        return Kind(
            key=(template, default, hard_self, affinity_self, against, liked, needs.key),
            template=template,
            hard=template.hard_spread,
            hard_self=hard_self,
            soft=soft,
            require_all=require_all,
            affinity_self=affinity_self,
            against=against,
            liked=liked,
            volumes=needs,
        )

    def _default_constraints(self, namespace: str, key: str, matcher: LabelMatcher) -> list[SpreadConstraint]:
        selection = self.state.templates.selection(key, namespace, matcher)
        return [SpreadConstraint(3, HOSTNAME, selection), SpreadConstraint(5, ZONE, selection)]

    def _index(self, kind: Kind) -> Index:
        index = self._indexes.get(kind.key)
        if index is None:
            most = max(8, _INDEX_ENTRIES // max(1, len(self.state.nodes)))
            while len(self._indexes) >= most:
                self._indexes.popitem(last=False)
            index = self._indexes[kind.key] = Index(self.state, kind)
        else:
            self._indexes.move_to_end(kind.key)
            index.sync()
        return index

    def forget(self) -> None:
        """Drop all that is remembered (a namespace's labels have changed: terms select other pods)."""
        self._indexes.clear()

    # choosing

    def _nominated(self, pod: PodInfo, index: Index) -> str | None:
        """The node that preemption made room on, tried first."""
        name = (pod.obj.get("status") or {}).get("nominatedNodeName") or self.state.nomination(pod.uid)
        if name is None or name not in self.state.nodes:
            return None
        return name if self._fits(pod, index, name) is None else None

    def _fits(self, pod: PodInfo, index: Index, name: str) -> Status | None:
        """Filters run twice where higher pods are nominated: with them and without."""
        why = index.status(name)
        rivals = self.state.rivals(name, pod)
        if why is not None or not rivals:
            return why
        return index.what_if(with_pods(self.state.nodes[name], rivals))

    def _best(self, pod: PodInfo, index: Index, only: frozenset[str] | None) -> str | None:
        state = self.state
        barred = [] if only is None else [name for name in state.nodes if name not in only]
        for name in state.nominated:
            if name in state.nodes and state.rivals(name, pod) and (only is None or name in only):  # noqa: SIM102
                if self._fits(pod, index, name) is not None:
                    barred.append(name)
        return index.without(barred) if barred else index.best()

    def _why(self, pod: PodInfo, index: Index, only: frozenset[str] | None) -> dict[str, Status]:
        state = self.state
        statuses = dict(index.statuses())
        for name in state.nominated:
            if name in state.nodes and name not in statuses:
                why = self._fits(pod, index, name)
                if why is not None:
                    statuses[name] = why
        if only is not None:
            return {name: statuses.get(name, status.ABSENT) if name in only else status.ABSENT for name in state.nodes}
        return statuses

    def _decide_among(self, pod: PodInfo, kind: Kind, only: frozenset[str]) -> Decision:
        """For pods tied to named nodes (DaemonSets'): no index, just those nodes."""
        state = self.state
        found: list[NodeState] = []
        failed: dict[str, Status] = {}
        for name in only:
            node = state.nodes.get(name)
            if node is None:
                continue
            why = _alone(kind, node)
            rivals = state.rivals(name, pod)
            if why is None and rivals:
                why = _alone(kind, with_pods(node, rivals))
            if why is None:
                found.append(node)
            else:
                failed[name] = why
        if found:
            return self._chosen(min(found, key=lambda node: node.order).name, kind.volumes)
        statuses = {name: failed.get(name, status.ABSENT) for name in state.nodes}
        return Decision(failure=Failure(len(state.nodes), statuses=statuses))


_EMPTY: frozenset[Any] = frozenset()


def with_pods(node: NodeState, pods: list[PodInfo]) -> NodeState:
    variant = node.clone()
    for pod in pods:
        if pod.uid not in variant.pods:
            variant.add(pod)
    return variant


def _looks_at_one_node(kind: Kind) -> bool:
    """Whether nothing on other nodes matters to feasibility, and no score could choose between several."""
    template = kind.template
    only = template.only_nodes or ()
    return len(only) == 1 and not (kind.hard or template.affinity or template.anti_affinity or kind.against)


def _alone(kind: Kind, node: NodeState) -> Status | None:
    template = kind.template
    return (
        filters.static(template, node) or filters.dynamic(template, node) or kind.volumes.check(node.name, node.labels)
    )
