"""The snapshot that decisions are made on, kept up to date by small changes.

`ClusterState` is a value that its owner changes: nodes and the pods on them, with a journal of changed node names,
from which the arrays that decisions are computed on (`snapshot.py`) catch up.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from typing import Any, Generic, TypeVar

from atoll.base.chance import Chance
from atoll.scheduling import resources
from atoll.scheduling.pod import LabelClass, PodInfo, Port, Template, Templates, Term

Object = dict[str, Any]
_JOURNAL_LIMIT = 65_536

_Where = TypeVar("_Where")
Cause = tuple[LabelClass, Template]


class Journal(Generic[_Where]):
    """Where something changed, in order; and what kind of pod came or went there (None: the node itself changed).

    Readers remember a position, the `end` of when they last looked. `where`: an empty sequence to keep places in.
    """

    __slots__ = ("_causes", "_start", "_where")

    def __init__(self, where: MutableSequence[_Where]) -> None:
        self._where = where
        self._causes: list[Cause | None] = []
        self._start = 0

    @property
    def end(self) -> int:
        return self._start + len(self._where)

    def add(self, where: _Where, cause: Cause | None = None) -> None:
        self._where.append(where)
        self._causes.append(cause)
        if len(self._where) > _JOURNAL_LIMIT:
            drop = len(self._where) // 2
            del self._where[:drop], self._causes[:drop]
            self._start += drop

    def reset(self) -> None:
        """So much has changed at once that readers had better look at everything anew."""
        self._start = self.end + 1
        del self._where[:], self._causes[:]

    def since(self, position: int) -> MutableSequence[_Where] | None:
        """What has changed, some of it perhaps more than once; None when that is no longer known."""
        return None if position < self._start else self._where[position - self._start :]

    def entries(self, position: int) -> list[tuple[_Where, Cause | None]] | None:
        """Each change; None when they are no longer known."""
        if position < self._start:
            return None
        place = position - self._start
        return list(zip(self._where[place:], self._causes[place:], strict=True))


class NodeState:
    """One node and what is on it. `version` moves when anything static about it changes."""

    __slots__ = (
        "all",
        "allocatable",
        "anti_terms",
        "devices",
        "images",
        "known",
        "labels",
        "live",
        "name",
        "nonzero_cpu",
        "nonzero_memory",
        "order",
        "pods",
        "ports",
        "requested",
        "score_terms",
        "taints",
        "unschedulable",
        "version",
    )

    def __init__(self, name: str, order: float) -> None:
        self.name = name
        self.order = (order, name)  # how ties between equal scores are broken
        self.known = False  # pods may be bound to a node that has not been seen yet
        self.version = 0
        self.labels: dict[str, str] = {}
        self.taints: list[Object] = []
        self.unschedulable = False
        self.allocatable: dict[str, int] = {}
        self.images: dict[str, int] = {}
        self.pods: dict[str, PodInfo] = {}
        self.requested: dict[str, int] = {}
        self.nonzero_cpu = 0
        self.nonzero_memory = 0
        self.ports: dict[Port, int] = {}
        self.devices: dict[int, int] = {}  # by number: the milli of it that pods were given
        self.live: dict[LabelClass, int] = {}
        self.all: dict[LabelClass, int] = {}
        self.anti_terms: dict[Term, int] = {}
        self.score_terms: dict[Term, int] = {}  # summed weights of what existing pods prefer or require

    def clone(self) -> NodeState:
        """For what-if: changes to its pods leave the original alone."""
        other = NodeState.__new__(NodeState)
        for slot in NodeState.__slots__:
            value = getattr(self, slot)
            setattr(other, slot, dict(value) if isinstance(value, dict) else value)
        return other

    def add(self, pod: PodInfo) -> None:
        self.pods[pod.uid] = pod
        self._count(pod, 1)

    def remove(self, pod: PodInfo) -> None:
        del self.pods[pod.uid]
        self._count(pod, -1)

    def _count(self, pod: PodInfo, sign: int) -> None:
        template = pod.template
        requested = self.requested
        for name, value in template.requests.items():
            requested[name] = requested.get(name, 0) + sign * value
        self.nonzero_cpu += sign * template.nonzero_cpu
        self.nonzero_memory += sign * template.nonzero_memory
        _tally(self.all, pod.pods, sign)
        if not pod.terminating:
            _tally(self.live, pod.pods, sign)
        for port in template.ports:
            _tally(self.ports, port, sign)
        if template.share is not None:
            for device in pod.devices:
                _tally(self.devices, device, sign * template.share.milli)
        for term in template.anti_affinity:
            _tally(self.anti_terms, term, sign)
        for term in template.affinity:  # upstream's hardPodAffinityWeight is 1
            _tally(self.score_terms, term, sign)
        for weight, term in template.preferred:
            _tally(self.score_terms, term, sign * weight)


def _tally(counts: dict[Any, int], key: Any, change: int) -> None:
    count = counts.get(key, 0) + change
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)


class ClusterState:
    """Nodes, the pods on them and the pods nominated to them."""

    def __init__(self, chance: Chance) -> None:
        self.templates = Templates()
        self.nodes: dict[str, NodeState] = {}  # known nodes only
        self.journal: Journal[str] = Journal([])
        self.restarted: Journal[str] = Journal([])  # nodes whose pods changed in what no placement asks for: `_aside`
        self.promises: Journal[str] = Journal([])  # nodes to which a pod was nominated, or is no more
        self.images_version = 0
        self.image_nodes: dict[str, int] = {}
        self.anti_terms: dict[Term, int] = {}  # of all pods: term -> pods that have it
        self.score_terms: dict[Term, int] = {}
        self.nominated: dict[str, dict[str, PodInfo]] = {}
        self.pod_nodes: dict[str, str] = {}
        self._chance = chance
        self._unknown: dict[str, NodeState] = {}
        self._nominations: dict[str, str] = {}

    # nodes

    def set_node(self, obj: Object) -> bool:
        """Add or replace a node; True when anything that matters to placement has changed."""
        name = obj["metadata"]["name"]
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        node = self.nodes.get(name)
        fresh = node is None
        if node is None:
            node = self._unknown.pop(name, None) or NodeState(name, self._chance.random())
        labels = obj["metadata"].get("labels") or {}
        taints = spec.get("taints") or []
        unschedulable = bool(spec.get("unschedulable"))
        allocatable = resources.amounts(status.get("allocatable"))
        images = _images(status.get("images") or ())
        if not fresh and images == node.images and allocatable == node.allocatable and labels == node.labels:  # noqa: SIM102
            if taints == node.taints and unschedulable == node.unschedulable:
                return False
        if images != node.images:
            self._count_images(node.images, -1)
            self._count_images(images, 1)
        node.labels, node.taints, node.unschedulable = labels, taints, unschedulable
        node.allocatable, node.images = allocatable, images
        node.known = True
        node.version += 1
        self.nodes[name] = node
        if self.image_nodes and fresh:
            self.images_version += 1  # scores depend on the share of nodes that have an image
        self.journal.add(name)
        return True

    def touch(self, name: str) -> None:
        """Something about a node that is kept elsewhere (its devices) has changed."""
        node = self.nodes.get(name)
        if node is not None:
            node.version += 1
            self.journal.add(name)

    def remove_node(self, name: str) -> None:
        node = self.nodes.pop(name, None)
        if node is None:
            return
        self._count_images(node.images, -1)
        node.images = {}
        node.known = False
        node.version += 1
        if node.pods:
            self._unknown[name] = node
        self.journal.add(name)

    def _count_images(self, images: Iterable[str], sign: int) -> None:
        for image in images:
            _tally(self.image_nodes, image, sign)
            self.images_version += 1

    # pods

    def place(self, pod: PodInfo, node_name: str) -> None:
        """Put a pod (new, changed, or assumed) on a node."""
        old_name = self.pod_nodes.get(pod.uid)
        if old_name is not None:
            old = self._node(old_name).pods[pod.uid]
            if (
                old_name == node_name
                and old.template is pod.template
                and old.pods is pod.pods
                and old.terminating == pod.terminating
                and old.devices == pod.devices
            ):
                self._node(old_name).pods[pod.uid] = pod
                if _aside(old.obj) != _aside(pod.obj):
                    self.restarted.add(node_name)
                return
            self.lift(pod.uid)
        node = self._node(node_name)
        node.add(pod)
        self.pod_nodes[pod.uid] = node_name
        self._count_terms(pod, 1)
        self.journal.add(node_name, (pod.pods, pod.template))

    def placed(self, uid: str) -> PodInfo | None:
        """A pod that is on a node."""
        name = self.pod_nodes.get(uid)
        return None if name is None else self._node(name).pods[uid]

    def lift(self, uid: str) -> str | None:
        """Take a pod off its node; the node's name, None when it was on none."""
        name = self.pod_nodes.pop(uid, None)
        if name is None:
            return None
        node = self._node(name)
        pod = node.pods[uid]
        node.remove(pod)
        self._count_terms(pod, -1)
        if not node.known and not node.pods:
            self._unknown.pop(name, None)
        self.journal.add(name, (pod.pods, pod.template))
        return name

    def _count_terms(self, pod: PodInfo, sign: int) -> None:
        template = pod.template
        if template.anti_affinity or template.affinity or template.preferred:
            for term in template.anti_affinity:
                _tally(self.anti_terms, term, sign)
            for term in template.affinity:
                _tally(self.score_terms, term, sign)
            for _weight, term in template.preferred:
                _tally(self.score_terms, term, sign)

    def _node(self, name: str) -> NodeState:
        node = self.nodes.get(name) or self._unknown.get(name)
        if node is None:
            node = self._unknown[name] = NodeState(name, self._chance.random())
        return node

    # nominations

    def nominate(self, pod: PodInfo, node_name: str) -> None:
        """Room on a node is being made for a pod by preemption."""
        before = self.nominated.get(node_name, {}).get(pod.uid)
        if before is not None and before.template is pod.template:
            self.nominated[node_name][pod.uid] = pod  # told again
            return
        self.withdraw(pod.uid)
        self.nominated.setdefault(node_name, {})[pod.uid] = pod
        self._nominations[pod.uid] = node_name
        self.promises.add(node_name)

    def withdraw(self, uid: str) -> None:
        name = self._nominations.pop(uid, None)
        if name is not None:
            self.promises.add(name)
            pods = self.nominated[name]
            del pods[uid]
            if not pods:
                del self.nominated[name]

    def nomination(self, uid: str) -> str | None:
        return self._nominations.get(uid)

    def rivals(self, node_name: str, pod: PodInfo) -> list[PodInfo]:
        """Pods nominated to a node that come before or with `pod`."""
        found = self.nominated.get(node_name)
        if not found:
            return []
        return [item for item in found.values() if item.uid != pod.uid and item.priority >= pod.priority]


def _aside(obj: Object) -> tuple[str | None, Object | None]:
    """When it started, and its annotations, which may name its gang."""
    return (obj.get("status") or {}).get("startTime"), obj["metadata"].get("annotations")


def _images(images: Iterable[Object]) -> dict[str, int]:
    return {name: image.get("sizeBytes") or 0 for image in images for name in image.get("names") or ()}
