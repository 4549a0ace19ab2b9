"""Where the next pod goes, decided on a `ClusterState`; or why it goes nowhere.

`Planner.decide` is kube-scheduler's scheduling cycle without its I/O: prefilters, filters, scores, and the choice.
It looks at all nodes (upstream samples large clusters): see evaluation.py for why that is cheap.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import is_
from typing import Any

from atoll.base.chance import Chance
from atoll.base.errors import AtollError
from atoll.scheduling import status
from atoll.scheduling.arrays import load
from atoll.scheduling.dra.model import AllocationError, Selectors
from atoll.scheduling.dra.needs import DeviceNeeds, DevicePlan
from atoll.scheduling.dra.state import Devices
from atoll.scheduling.evaluation import Evaluation, Refusals
from atoll.scheduling.matching import LabelMatcher
from atoll.scheduling.plugins.port import Plugin
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.pod import HOSTNAME, ZONE, PodInfo, SpreadConstraint
from atoll.scheduling.reservation import Reservation
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import ClusterState, NodeState
from atoll.scheduling.status import Failure, Status, Statuses, Told
from atoll.scheduling.volumes import VolumeNeeds, VolumePlan, Volumes

Object = dict[str, Any]

DefaultSelector = Callable[[Object], tuple[str, LabelMatcher] | None]
"""What spreads a pod by default: (identity, matcher) of its Services' and owner's selectors; None for none."""

_MANY_NODES = 100
_ROWS = 2_000_000  # remembered over all evaluations (some 60 bytes each), before the least used one is dropped


class NoDevices(AtollError):
    """A node's devices were taken meanwhile."""

    retryable = True


@dataclass(slots=True)
class Decision:
    """Exactly one of `node` and `failure` is set."""

    node: str | None = None
    volumes: VolumePlan | None = None
    devices: DevicePlan | None = None
    failure: Failure | None = None


def no_default(_: Object) -> tuple[str, LabelMatcher] | None:
    return None


class Planner:
    """Decides for one pod at a time on a state that its owner keeps."""

    def __init__(
        self,
        chance: Chance,
        default_selector: DefaultSelector = no_default,
        plugins: Sequence[Plugin] | None = None,
        selectors: Selectors | None = None,
        profiles: Mapping[str, Sequence[Plugin]] | None = None,
    ) -> None:
        """`selectors`: CEL over devices; without it no claim that has an expression can be allocated.

        `profiles`: by schedulerName, which plugins decide; `plugins` do for all others.
        """
        self.state = ClusterState(chance)
        self.nodes = Snapshot(self.state)
        self.plugins = default_plugins() if plugins is None else plugins
        self._profiles = profiles or {}
        self._prepared = False
        self._last: tuple[tuple[object, ...], Shape] | None = None  # the last decision's, and what it was made of
        self._default: tuple[tuple[str, str], list[SpreadConstraint]] | None = None  # the last ones
        self.reservation: Reservation | None = None  # room that is kept for a gang
        self.volumes = Volumes()
        self.devices = Devices(self.state.touch, selectors)
        self._new_id = chance.stream("device-shares").uuid
        self._default_selector = default_selector
        self._evaluations: OrderedDict[tuple[object, ...], Evaluation] = OrderedDict()

    def pod(self, obj: Object) -> PodInfo:
        return self.state.templates.pod(obj)

    def prepare(self) -> None:
        """Load what decisions need (0.1 s) once there are many nodes: the first pods do not wait for it then."""
        if not self._prepared and len(self.state.nodes) >= _MANY_NODES:
            self._prepared = True
            load()

    def decide(self, pod: PodInfo) -> Decision:
        """The best node for a pod, or why there is none. Raises AllocationError: a claim or class is wrong."""
        state = self.state
        if not state.nodes:
            return Decision(failure=Failure(0))
        needs = self.volumes.needs(pod.obj)
        only = pod.template.only_nodes
        if only is not None and not only:
            return Decision(failure=Failure(len(state.nodes), prefilter=status.CONFLICTING_TERMS))
        if needs.error:
            return Decision(failure=Failure(len(state.nodes), prefilter=needs.error))
        devices = self.devices.needs(pod.obj, pod.template.requests)
        if devices.error:
            return Decision(failure=Failure(len(state.nodes), prefilter=devices.error, devices=devices))
        shape = self._shape(pod, needs, devices)
        candidates = state.nodes if only is None else only
        kept = only is None and self.reservation is not None
        if len(candidates) == 1 and shape.template.share is None and not kept:
            refusals = Refusals(self.nodes, shape, self._plugins_of(shape))
            if not refusals.look_around:
                return self._decide_alone(pod, refusals, next(iter(candidates)), shape)
        self.nodes.follow()
        evaluation = self._evaluation(shape)
        name = self._nominated(pod, evaluation) or self._best(pod, evaluation, only)
        if name is None:
            look = partial(self._why, pod, evaluation, only)
            return Decision(failure=Failure(len(state.nodes), look=look, devices=devices))
        return self._chosen(name, shape)

    def evaluation(self, pod: PodInfo) -> Evaluation | None:
        """What is known of the pod's shape (preemption, explaining); None when its claims are not resolved."""
        needs = self.volumes.needs(pod.obj)
        devices = self.devices.needs(pod.obj, pod.template.requests)
        self.nodes.follow()
        return None if needs.error or devices.error else self._evaluation(self._shape(pod, needs, devices))

    def chosen(self, pod: PodInfo, name: str) -> Decision:
        """For a node that was found otherwise (a gang's): the decision with what the pod's claims need there.

        Raises AllocationError: its devices can't be had there.
        """
        needs, devices = self.volumes.needs(pod.obj), self.devices.needs(pod.obj, pod.template.requests)
        if devices.error:
            raise AllocationError(devices.error)
        return self._with_claims(name, needs, devices)

    def claims_on(self, pod: PodInfo, name: str) -> DevicePlan | None:
        """What a pod's claims get on a node; None: it has none. Raises AllocationError: they can't be had there."""
        devices = self.devices.needs(pod.obj, pod.template.requests)
        if devices.error:
            raise AllocationError(devices.error)
        return self._devices_on(self.state.nodes[name], devices)

    def _chosen(self, name: str, shape: Shape) -> Decision:
        return self._with_claims(name, shape.volumes, shape.devices)

    def _with_claims(self, name: str, needs: VolumeNeeds, devices: DeviceNeeds) -> Decision:
        node = self.state.nodes[name]
        volumes = needs.plan(name, node.labels) if needs.delayed else None
        return Decision(node=name, volumes=volumes, devices=self._devices_on(node, devices))

    def _devices_on(self, node: NodeState, devices: DeviceNeeds) -> DevicePlan | None:
        if not devices.has_claims:
            return None
        return devices.plan(node.name, node.labels, node.allocatable, self._new_id)

    def assume(self, pod: PodInfo, name: str) -> None:
        """Put a pod on the node that was chosen for it, and give it devices there if it asks for some.

        Raises NoDevices where the node has not enough of them any more.
        """
        if pod.template.share is not None and not pod.devices:
            evaluation = self.evaluation(pod)
            if evaluation is not None and evaluation.gives_devices:
                devices = evaluation.devices(self.nodes.rows[name])
                if len(devices) < pod.template.share.count:
                    raise NoDevices(f"{name} has no {pod.template.share.count} devices for {pod.key}")
                pod.devices = devices
        self.state.place(pod, name)

    def forgo(self, pod: PodInfo) -> None:
        """Take back what `assume` did."""
        self.state.lift(pod.uid)
        pod.devices = ()

    # shapes and their evaluations

    def _plugins_of(self, shape: Shape) -> Sequence[Plugin]:
        return self._profiles.get(shape.profile, self.plugins)

    def _shape(self, pod: PodInfo, needs: VolumeNeeds, devices: DeviceNeeds) -> Shape:
        template, state = pod.template, self.state
        soft, require_all, default = template.soft_spread, True, ""
        selector = None if template.explicit_spread else self._default_selector(pod.obj)
        profile = (pod.obj.get("spec") or {}).get("schedulerName") or "" if self._profiles else ""
        asked = (template, pod.pods, needs, devices, selector, profile)
        alone = not state.anti_terms and not state.score_terms
        if alone and self._last is not None and all(map(is_, self._last[0], asked)):
            return self._last[1]
        if not template.explicit_spread:
            require_all = False
            if selector is not None:
                default = selector[0]
                soft = self._default_constraints(template.namespace, *selector)
        hard_self = tuple(item.selection.matches(pod.pods) for item in template.hard_spread)
        affinity_self = bool(template.affinity) and all(term.matches(pod.pods) for term in template.affinity)
        against = frozenset(term for term in state.anti_terms if term.matches(pod.pods)) if state.anti_terms else _EMPTY
        liked = frozenset(term for term in state.score_terms if term.matches(pod.pods)) if state.score_terms else _EMPTY
        shape = Shape(
            key=(profile, template, default, hard_self, affinity_self, against, liked, needs.key, devices.key),
            template=template,
            hard=template.hard_spread,
            hard_self=hard_self,
            soft=soft,
            require_all=require_all,
            affinity_self=affinity_self,
            against=against,
            liked=liked,
            volumes=needs,
            devices=devices,
            profile=profile,
        )
        self._last = (asked, shape) if alone else None
        return shape

    def _default_constraints(self, namespace: str, key: str, matcher: LabelMatcher) -> list[SpreadConstraint]:
        if self._default is None or self._default[0] != (namespace, key):
            selection = self.state.templates.selection(key, namespace, matcher)
            constraints = [SpreadConstraint(3, HOSTNAME, selection), SpreadConstraint(5, ZONE, selection)]
            self._default = ((namespace, key), constraints)
        return self._default[1]

    def _evaluation(self, shape: Shape) -> Evaluation:
        found = self._evaluations.get(shape.key)
        if found is None:
            most = max(8, _ROWS // max(1, self.nodes.size))
            while len(self._evaluations) >= most:
                self._evaluations.popitem(last=False)
            found = self._evaluations[shape.key] = Evaluation(self.nodes, shape, self._plugins_of(shape))
        else:
            self._evaluations.move_to_end(shape.key)
            try:
                found.sync()
            except BaseException:
                del self._evaluations[shape.key]  # it may have caught up in part
                raise
        return found

    def forget(self) -> None:
        """Drop all that is remembered (a namespace's labels have changed: terms select other pods)."""
        self._evaluations.clear()
        self._last = None

    # choosing

    def _nominated(self, pod: PodInfo, evaluation: Evaluation) -> str | None:
        """The node that preemption made room on, tried first."""
        name = (pod.obj.get("status") or {}).get("nominatedNodeName") or self.state.nomination(pod.uid)
        if name is None or name not in self.state.nodes:
            return None
        return name if self._fits(pod, evaluation, name) is None else None

    def _fits(self, pod: PodInfo, evaluation: Evaluation, name: str) -> Status | None:
        """Filters run twice where higher pods are nominated: with them and without."""
        node = self.state.nodes[name]
        why = evaluation.refusals.why(node)
        rivals = self.state.rivals(name, pod)
        if why is not None or not rivals:
            return why
        return evaluation.refusals.why(with_pods(node, rivals))

    def _best(self, pod: PodInfo, evaluation: Evaluation, only: frozenset[str] | None) -> str | None:
        rows, nominated = self.nodes.rows, self.state.nominated
        barred = (
            self._kept_rows(pod, evaluation)
            if only is None
            else [row for name, row in rows.items() if name not in only]
        )
        known = _known(pod, evaluation) if nominated else set()
        if nominated and not barred:  # of the equally good ones the first that nobody was promised
            names = self.nodes.names
            for leader in evaluation.leaders(known):
                name = names[leader]
                if name not in nominated:
                    return name
                if leader not in known and not self._promised(pod, evaluation, None, [name], known):
                    return name
        if nominated:
            barred += self._promised(pod, evaluation, only, nominated, known)
        row = evaluation.best(barred)
        return None if row is None else self.nodes.names[row]

    def _kept_rows(self, pod: PodInfo, evaluation: Evaluation) -> list[int]:
        """Where the pod would take room that is kept for a gang. A pod that names its nodes (a DaemonSet's) may."""
        kept = self.reservation
        if kept is None or pod.template.only_nodes is not None or not kept.concerns(pod.priority):
            return []
        if pod.template.share is not None:
            everywhere: list[int] = kept.rows(self.nodes).tolist()
            return everywhere
        return kept.barred(self.nodes, pod.template.requests, evaluation.shape.devices.demanding)

    def _promised(
        self, pod: PodInfo, evaluation: Evaluation, only: frozenset[str] | None, names: Iterable[str], known: set[int]
    ) -> list[int]:
        """Of these nodes the rows where the pod would fit, were others not promised the room; `known` ones too."""
        state, rows = self.state, self.nodes.rows
        found = []
        open_: list[tuple[str, int, list[PodInfo]]] = []
        for name in names:
            row = rows.get(name)
            if row is None or not evaluation.is_open(row) or (only is not None and name not in only):
                continue
            if row in known:
                found.append(row)
                continue
            rivals = state.rivals(name, pod)
            if rivals:
                open_.append((name, row, rivals))
        if not open_:
            return found
        room = evaluation.room_on([row for _, row, _ in open_])
        alike = not evaluation.refusals.look_around
        for (name, row, rivals), most in zip(open_, room, strict=True):
            if alike and all(rival.template is pod.template for rival in rivals):  # so many more of them fit
                there = state.nodes[name].pods
                taken = most <= sum(rival.uid not in there for rival in rivals)
            else:
                taken = self._fits(pod, evaluation, name) is not None
            if taken:
                found.append(row)
                known.add(row)
        return found

    def _why(self, pod: PodInfo, evaluation: Evaluation, only: frozenset[str] | None) -> Statuses:
        state, rows = self.state, self.nodes.rows
        refused = evaluation.statuses()
        others: dict[int, Status] = {}
        for name in state.nominated:
            if name in state.nodes and name not in refused:
                why = self._fits(pod, evaluation, name)
                if why is not None:
                    others[rows[name]] = why
        for row in self._kept_rows(pod, evaluation):
            assert self.reservation is not None
            others[row] = self.reservation.status
        refused = refused.but(others)
        if only is not None:
            absent = status.ABSENT
            return Told((name, refused.get(name, absent) if name in only else absent) for name in state.nodes)
        return refused

    def _decide_alone(self, pod: PodInfo, refusals: Refusals, name: str, shape: Shape) -> Decision:
        """Where there is but one node to go to (DaemonSets' pods): no arrays, and no scores."""
        state = self.state
        node = state.nodes.get(name)
        statuses: dict[str, Status] = {}
        if node is not None:
            why = refusals.why(node)
            rivals = state.rivals(name, pod)
            if why is None and rivals:
                why = refusals.why(with_pods(node, rivals))
            if why is None:
                return self._chosen(name, shape)
            statuses[name] = why
        everyone = Told((other, statuses.get(other, status.ABSENT)) for other in state.nodes)
        return Decision(failure=Failure(len(state.nodes), look=lambda: everyone, devices=shape.devices))


_EMPTY: frozenset[Any] = frozenset()


def _known(pod: PodInfo, evaluation: Evaluation) -> set[int]:
    """Rows known to be promised to others; where pods look at other nodes too nothing is known for long."""
    return set() if evaluation.refusals.look_around else evaluation.promised.known(pod)


def with_pods(node: NodeState, pods: list[PodInfo]) -> NodeState:
    variant = node.clone()
    for pod in pods:
        if pod.uid not in variant.pods:
            variant.add(pod)
    return variant
