"""The shape of an interpreter, what all kinds share, and how to find the one for a kind. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from atoll.fleet import names

Object = dict[str, Any]
HEALTHY, UNHEALTHY, UNKNOWN = "Healthy", "Unhealthy", "Unknown"


@dataclass(frozen=True, slots=True)
class Item:
    """A template's copy in one cluster, as its status is aggregated."""

    cluster: str
    status: Object  # as reflected; {} while nothing is known
    replicas: int | None = None  # what the cluster was given; None for kinds without, and duplicated ones
    known: bool = True  # False: the cluster can't be asked, so nothing there counts as ready
    settled: bool = True  # False: more may run there than was given, till replacements elsewhere are Ready


@dataclass(frozen=True, slots=True)
class Reference:
    """An object that a template needs where it runs."""

    api_version: str
    kind: str
    namespace: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Aggregation:
    """What an aggregate is made from: the template, its copies, the wanted number of replicas, the time."""

    template: Object
    items: tuple[Item, ...]
    wanted: int
    now: str
    moving: bool = False  # a failover or a return is under way: never report more than wanted

    def known(self) -> list[Item]:
        return [item for item in self.items if item.known and item.status]

    def observed(self) -> bool:
        """Every copy runs this generation of the template and its controller has seen it."""
        generation = self.template["metadata"].get("generation") or 0
        for item in self.items:
            status = item.status
            if int(status.get("resourceTemplateGeneration") or 0) < generation:
                return False
            if int(status.get("observedGeneration") or 0) < int(status.get("generation") or 0):
                return False
        return True

    def observed_generation(self) -> int:
        """The template's generation once all have observed it, else what was reported before."""
        if self.observed():
            return int(self.template["metadata"].get("generation") or 0)
        return int((self.template.get("status") or {}).get("observedGeneration") or 0)

    def condition(self, kind: str, status: str, reason: str, message: str) -> Object:
        """A condition whose transition time is kept while its status is the same."""
        old = next(
            (item for item in (self.template.get("status") or {}).get("conditions") or () if item.get("type") == kind),
            None,
        )
        since = old.get("lastTransitionTime") if old and old.get("status") == status else None
        return {"type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": since or self.now}  # fmt: skip


def _nothing(_: Object) -> None:
    return None


def _no_replicas(_: Object) -> int | None:
    return None


def _no_references(_: Object) -> list[Reference]:
    return []


def _ignore_replicas(_: Object, __: int) -> None:
    return None


def _whole_status(live: Object) -> Object:
    status = live.get("status")
    return dict(status) if isinstance(status, dict) else {}


def generic_health(live: Object) -> str:
    """By the Ready or Available condition where there is one; an object without status is healthy by being there."""
    status = live.get("status")
    if not isinstance(status, dict) or not status:
        return HEALTHY
    for condition in status.get("conditions") or ():
        if isinstance(condition, dict) and condition.get("type") in ("Ready", "Available", "Established"):
            return {"True": HEALTHY, "False": UNHEALTHY}.get(str(condition.get("status")), UNKNOWN)
    return HEALTHY


def generic_aggregate(given: Aggregation) -> Object | None:
    """One copy: its status. Several: the conditions that all of them have, True only where all say so."""
    known = given.known()
    if not known:
        return None
    if len(given.items) == 1:
        return {
            key: value
            for key, value in known[0].status.items()
            if key not in ("generation", "resourceTemplateGeneration")
        }
    kinds: dict[str, list[str]] = {}
    for item in known:
        for condition in item.status.get("conditions") or ():
            if isinstance(condition, dict) and "type" in condition:
                kinds.setdefault(condition["type"], []).append(str(condition.get("status")))
    conditions = []
    for kind, statuses in kinds.items():
        if len(statuses) < len(given.items) or len(set(statuses)) > 1:
            status = "False" if "False" in statuses or len(statuses) == len(given.items) else "Unknown"
        else:
            status = statuses[0]
        message = f"{statuses.count('True')} of {len(given.items)} clusters say True"
        conditions.append(given.condition(kind, status, "Aggregated", message))
    return {"conditions": conditions} if conditions else None


@dataclass(frozen=True, slots=True)
class Interpreter:
    """All that differs between kinds. The defaults serve a kind that nobody knows."""

    pod_path: tuple[str, ...] = ()  # where the pod (its spec's parent) is in the object
    replicas: Callable[[Object], int | None] = _no_replicas
    set_replicas: Callable[[Object, int], None] = _ignore_replicas
    prune: Callable[[Object], None] = _nothing  # takes away what the hub's API server filled in; in place
    reflect: Callable[[Object], Object] = _whole_status
    aggregate: Callable[[Aggregation], Object | None] = generic_aggregate
    health: Callable[[Object], str] = generic_health
    references: Callable[[Object], list[Reference]] = _no_references
    replicas_field: str = ""  # the field that an autoscaler owns in a member
    extra: Object = field(default_factory=dict)


_SERVER_FIELDS = (
    "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "ownerReferences", "finalizers", "selfLink", "generateName",
)  # fmt: skip
_SERVER_ANNOTATIONS = frozenset((
    "kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision",
    "pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller",
    names.UNMANAGED, names.DELETING, names.ORPHAN, *names.CLAIMS,
))  # fmt: skip


def strip_server_fields(template: Object) -> Object:
    """A shallow copy of the template without status and without what servers and the hub wrote in its metadata."""
    metadata = {key: value for key, value in template["metadata"].items() if key not in _SERVER_FIELDS}
    annotations = metadata.get("annotations")
    if annotations is not None:
        kept = {key: value for key, value in annotations.items() if key not in _SERVER_ANNOTATIONS}
        if kept:
            metadata["annotations"] = kept
        else:
            del metadata["annotations"]
    out = {key: value for key, value in template.items() if key != "status"}
    out["metadata"] = metadata
    return out


def pod_parent(obj: Object, path: Iterable[str]) -> Object | None:
    """The part of the object that holds a pod's metadata and spec."""
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else None


_POD_PATHS: dict[str, tuple[str, ...]] = {
    "Pod": (),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}
_TEMPLATED = frozenset(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "ReplicationController"))


def pod_spec(obj: Object) -> Object | None:
    """The pod spec in an object of a kind that has one."""
    kind = obj.get("kind", "")
    path = _POD_PATHS.get(kind, ("spec", "template") if kind in _TEMPLATED else None)
    if path is None:
        return None
    parent = pod_parent(obj, path)
    spec = (parent or {}).get("spec")
    return spec if isinstance(spec, dict) else None
