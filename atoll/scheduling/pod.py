"""A pod as the scheduler sees it: the part of its spec that placement depends on, parsed once per template.

Pods of one Deployment differ in name and token volume only, so the parsed form is shared: `Templates.of(pod)`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import orjson

from atoll.scheduling import resources
from atoll.scheduling.devices.annotations import devices_of, share_of
from atoll.scheduling.devices.model import Share
from atoll.scheduling.matching import (
    LabelMatcher,
    NodeSelector,
    NodeTerm,
    everything,
    label_selector,
    node_selector,
    tolerates,
)

Object = dict[str, Any]
Port = tuple[str, str, int]  # host IP, protocol, port

HOSTNAME = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
_TEMPLATE_LIMIT = 20_000


class LabelClass:
    """A namespace and a set of labels that some pods share; interned, so compared by identity.

    `memory` remembers which selections and terms matched.
    """

    __slots__ = ("__weakref__", "labels", "memory", "namespace")

    def __init__(self, namespace: str, labels: dict[str, str]) -> None:
        self.namespace = namespace
        self.labels = labels
        self.memory: dict[object, bool] = {}


class Selection:
    """A remembered predicate over label classes: in one namespace (or any of several), by labels."""

    __slots__ = ("__weakref__", "_matcher", "_namespaces", "key")

    def __init__(self, key: str, namespaces: frozenset[str] | None, matcher: LabelMatcher) -> None:
        self.key = key
        self._namespaces = namespaces
        self._matcher = matcher

    def matches(self, pods: LabelClass) -> bool:
        found = pods.memory.get(self)
        if found is None:
            inside = self._namespaces is None or pods.namespace in self._namespaces
            found = pods.memory[self] = inside and self._matcher(pods.labels)
        return found


class Term:
    """A pod (anti-)affinity term: which pods, near by which topology key. Interned by `key`."""

    __slots__ = (
        "__weakref__",
        "_matcher",
        "_namespace_labels",
        "_namespace_matcher",
        "_namespaces",
        "key",
        "topology_key",
    )

    def __init__(self, key: str, term: Object, namespace: str, namespace_labels: dict[str, dict[str, str]]) -> None:
        self.key = key
        self.topology_key: str = term["topologyKey"]
        names = frozenset(term.get("namespaces") or ())
        chosen = term.get("namespaceSelector")
        self._namespace_matcher = label_selector(chosen) if chosen is not None else None
        self._namespaces = names if names or chosen is not None else frozenset((namespace,))
        self._matcher = label_selector(term.get("labelSelector"))
        self._namespace_labels = namespace_labels

    def matches(self, pods: LabelClass) -> bool:
        found = pods.memory.get(self)
        if found is None:
            found = pods.memory[self] = self._in_namespace(pods.namespace) and self._matcher(pods.labels)
        return found

    def _in_namespace(self, namespace: str) -> bool:
        if namespace in self._namespaces:
            return True
        matcher = self._namespace_matcher
        return matcher is not None and matcher(self._namespace_labels.get(namespace, {}))


@dataclass(slots=True, frozen=True)
class SpreadConstraint:
    """One topology spread constraint, defaults filled in."""

    max_skew: int
    topology_key: str
    selection: Selection
    min_domains: int = 1
    honor_affinity: bool = True
    honor_taints: bool = False
    matches_nothing: bool = False  # an empty selector counts no pod (upstream's countPodsMatchSelector)


@dataclass(slots=True, eq=False)
class Template:
    """What placement depends on, shared by pods that differ only in identity and labels."""

    key: bytes
    namespace: str
    priority: int
    may_preempt: bool
    requests: dict[str, int]
    nonzero_cpu: int
    nonzero_memory: int
    node_selector: dict[str, str]
    node_affinity: NodeSelector | None
    only_nodes: frozenset[str] | None
    preferred_nodes: list[tuple[int, NodeTerm]]
    tolerations: list[Object]
    tolerates_unschedulable: bool
    ports: list[Port]
    images: list[str]
    hard_spread: list[SpreadConstraint]
    soft_spread: list[SpreadConstraint]
    explicit_spread: bool
    affinity: list[Term]
    anti_affinity: list[Term]
    preferred: list[tuple[int, Term]]  # weights of anti-affinity are negative
    share: Share | None  # GPUs in parts, or whole ones by number, that a node's own devices are given for

    def matches_node(self, name: str, labels: dict[str, str]) -> bool:
        """The required node affinity and node selector."""
        for key, value in self.node_selector.items():
            if labels.get(key) != value:
                return False
        return self.node_affinity is None or self.node_affinity(name, labels)


@dataclass(slots=True, eq=False)
class PodInfo:
    """One pod: its object, template and label class."""

    obj: Object
    uid: str
    template: Template
    pods: LabelClass
    terminating: bool
    devices: tuple[int, ...] = ()  # those of `template.share` that it was given on its node

    @property
    def priority(self) -> int:
        return self.template.priority

    @property
    def name(self) -> str:
        return str(self.obj["metadata"]["name"])

    @property
    def key(self) -> tuple[str, str]:
        return self.template.namespace, self.name


def _placement(pod: Object) -> tuple[object, ...]:
    """What of its spec a template is made of."""
    get = (pod.get("spec") or {}).get
    return (
        get("containers"), get("initContainers"), get("nodeSelector"), get("affinity"), get("tolerations"),
        get("topologySpreadConstraints"), get("priority"), get("preemptionPolicy"), get("overhead"), get("resources"),
    )  # fmt: skip


def _host_ports(spec: Object) -> list[Port]:
    found: list[Port] = []
    sidecars = [item for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"]
    for container in [*sidecars, *(spec.get("containers") or ())]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                found.append((port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"]))
    return found


def ports_conflict(wanted: list[Port], used: Iterable[Port]) -> bool:
    """Same protocol and port, and the same address or one of them any."""
    for ip, protocol, number in wanted:
        for other_ip, other_protocol, other_number in used:
            if number == other_number and protocol == other_protocol:  # noqa: SIM102
                if ip == other_ip or "0.0.0.0" in (ip, other_ip):
                    return True
    return False


def image_name(name: str) -> str:
    """With an explicit tag, as node images are listed."""
    return name if name.rfind(":") > name.rfind("/") else f"{name}:latest"


def _only_nodes(required: Object | None) -> frozenset[str] | None:
    """The node names that matchFields allow, None for no such limit (upstream's NodeAffinity PreFilter)."""
    if required is None:
        return None
    names: set[str] = set()
    terms = required.get("nodeSelectorTerms") or []
    for term in terms:
        mine: set[str] | None = None
        for item in term.get("matchFields") or ():
            if item["key"] == "metadata.name" and item["operator"] == "In":
                values = set(item.get("values") or ())
                mine = values if mine is None else mine & values
        if mine is None:
            return None
        names |= mine
    return frozenset(names) if terms else None


class Templates:
    """The interned label classes, terms and templates of one scheduler; those that no pod has any more are let go."""

    def __init__(self) -> None:
        self.namespace_labels: dict[str, dict[str, str]] = {}
        self._label_classes: WeakValueDictionary[tuple[str, tuple[tuple[str, str], ...]], LabelClass] = (
            WeakValueDictionary()
        )
        self._templates: dict[bytes, Template] = {}
        self._terms: WeakValueDictionary[str, Term] = WeakValueDictionary()
        self._selections: WeakValueDictionary[str, Selection] = WeakValueDictionary()

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        """A namespace's labels (None: deleted); True when they changed what terms select."""
        if labels is None:
            changed = self.namespace_labels.pop(name, None) is not None
        else:
            changed = self.namespace_labels.get(name) != labels
            self.namespace_labels[name] = labels
        if changed:
            for known in list(self._label_classes.values()):
                known.memory.clear()
        return changed

    def label_class(self, namespace: str, labels: dict[str, str]) -> LabelClass:
        key = (namespace, tuple(sorted(labels.items())))
        found = self._label_classes.get(key)
        if found is None:
            found = self._label_classes[key] = LabelClass(namespace, labels)
        return found

    def selection(self, key: str, namespace: str, matcher: LabelMatcher) -> Selection:
        full = f"{namespace}/{key}"
        found = self._selections.get(full)
        if found is None:
            found = self._selections[full] = Selection(full, frozenset((namespace,)), matcher)
        return found

    def pod(self, obj: Object) -> PodInfo:
        """The scheduler's view of a pod object."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or ""
        labels = metadata.get("labels") or {}
        share = share_of(metadata.get("annotations"))
        return PodInfo(
            obj=obj,
            uid=metadata.get("uid") or f"{namespace}/{metadata['name']}",
            template=self._template(namespace, labels, obj.get("spec") or {}, share),
            pods=self.label_class(namespace, labels),
            terminating="deletionTimestamp" in metadata,
            devices=devices_of(metadata["annotations"]) if share is not None else (),
        )

    def renewed(self, known: PodInfo, obj: Object) -> PodInfo:
        """`pod` of a newer state of a pod that is known: what was read of it stands where that is as it was."""
        old, new = known.obj["metadata"], obj["metadata"]
        if (
            known.template.share is not None
            or old.get("labels") != new.get("labels")
            or old.get("annotations") != new.get("annotations")
            or _placement(known.obj) != _placement(obj)
        ):
            return self.pod(obj)
        return PodInfo(obj, known.uid, known.template, known.pods, "deletionTimestamp" in new)

    def _template(self, namespace: str, labels: dict[str, str], spec: Object, share: Share | None) -> Template:
        constraints, affinity = spec.get("topologySpreadConstraints"), orjson.dumps(spec.get("affinity"))
        selecting = labels if b"atchLabelKeys" in affinity else None
        key = orjson.dumps(
            [
                namespace, spec.get("nodeSelector"), affinity.decode(), selecting, spec.get("tolerations"), constraints,
                [labels.get(name) for item in constraints or () for name in item.get("matchLabelKeys") or ()],
                spec.get("priority"), spec.get("preemptionPolicy"), spec.get("overhead"), spec.get("resources"),
                [_container_key(item) for item in spec.get("containers") or ()],
                [_container_key(item) for item in spec.get("initContainers") or ()],
                share and [share.count, share.milli, sorted(share.models), share.wrong, share.memory],
            ]
        )  # fmt: skip
        found = self._templates.get(key)
        if found is None:
            if len(self._templates) >= _TEMPLATE_LIMIT:
                self._templates.clear()
            found = self._templates[key] = self._parse(key, namespace, labels, spec, share)
        return found

    def _parse(self, key: bytes, namespace: str, labels: dict[str, str], spec: Object, share: Share | None) -> Template:
        affinity = spec.get("affinity") or {}
        node_affinity = affinity.get("nodeAffinity") or {}
        required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
        tolerations = spec.get("tolerations") or []
        nonzero = resources.pod_requests(spec, resources.DEFAULT_NONZERO)
        containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        hard, soft = self._spread(namespace, labels, spec.get("topologySpreadConstraints") or [])
        near, apart = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        return Template(
            key=key,
            namespace=namespace,
            priority=spec.get("priority") or 0,
            may_preempt=spec.get("preemptionPolicy") != "Never",
            requests=resources.pod_requests(spec),
            nonzero_cpu=nonzero.get(resources.CPU, 0),
            nonzero_memory=nonzero.get(resources.MEMORY, 0),
            node_selector=spec.get("nodeSelector") or {},
            node_affinity=node_selector(required),
            only_nodes=_only_nodes(required),
            preferred_nodes=[
                (item["weight"], NodeTerm(item.get("preference") or {}))
                for item in node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
                if item["weight"]
            ],
            tolerations=tolerations,
            tolerates_unschedulable=_tolerates_unschedulable(tolerations),
            ports=_host_ports(spec),
            images=[image_name(item["image"]) for item in containers if item.get("image")],
            hard_spread=hard,
            soft_spread=soft,
            explicit_spread=bool(spec.get("topologySpreadConstraints")),
            affinity=self._required_terms(near, namespace, labels),
            anti_affinity=self._required_terms(apart, namespace, labels),
            preferred=self._preferred(near, namespace, labels, 1) + self._preferred(apart, namespace, labels, -1),
            share=share,
        )

    def _spread(
        self, namespace: str, labels: dict[str, str], constraints: list[Object]
    ) -> tuple[list[SpreadConstraint], list[SpreadConstraint]]:
        hard: list[SpreadConstraint] = []
        soft: list[SpreadConstraint] = []
        for item in constraints:
            selector = item.get("labelSelector")
            extra = {name: labels[name] for name in item.get("matchLabelKeys") or () if name in labels}
            key = orjson.dumps([selector, extra]).decode()
            matcher = label_selector(selector, extra or None)
            constraint = SpreadConstraint(
                max_skew=item["maxSkew"],
                topology_key=item["topologyKey"],
                selection=self.selection(key, namespace, matcher),
                min_domains=item.get("minDomains") or 1,
                honor_affinity=(item.get("nodeAffinityPolicy") or "Honor") == "Honor",
                honor_taints=item.get("nodeTaintsPolicy") == "Honor",
                matches_nothing=matcher is everything,
            )
            (hard if item["whenUnsatisfiable"] == "DoNotSchedule" else soft).append(constraint)
        return hard, soft

    def _required_terms(self, affinity: Object, namespace: str, labels: dict[str, str]) -> list[Term]:
        terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()
        return [self._term(term, namespace, labels) for term in terms]

    def _preferred(self, affinity: Object, namespace: str, labels: dict[str, str], sign: int) -> list[tuple[int, Term]]:
        terms = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        return [(sign * item["weight"], self._term(item["podAffinityTerm"], namespace, labels)) for item in terms]

    def _term(self, term: Object, namespace: str, labels: dict[str, str]) -> Term:
        term = _with_label_keys(term, labels)
        key = orjson.dumps([namespace, term], option=orjson.OPT_SORT_KEYS).decode()
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = Term(key, term, namespace, self.namespace_labels)
        return found


def _with_label_keys(term: Object, labels: dict[str, str]) -> Object:
    """matchLabelKeys and mismatchLabelKeys as part of the selector (the API server of today writes them there)."""
    if not term.get("matchLabelKeys") and not term.get("mismatchLabelKeys"):
        return term
    selector = term.get("labelSelector") or {}
    more = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for field, operator in (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))
        for key in term.get(field) or ()
        if key in labels
    ]
    expressions = [*(selector.get("matchExpressions") or ()), *more]
    return {**term, "labelSelector": {**selector, "matchExpressions": expressions}}


def _container_key(container: Object) -> list[Any]:
    return [container.get("resources"), container.get("ports"), container.get("image"), container.get("restartPolicy")]


def _tolerates_unschedulable(tolerations: list[Object]) -> bool:
    from_taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    return any(tolerates(item, from_taint) for item in tolerations)
