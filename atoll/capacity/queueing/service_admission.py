"""What Kueue's webhooks do to StatefulSets and LeaderWorkerSets of a queue, as admission: their pods join a group.

The owner's templates say whose pods they are; each pod gets its group's name, total and its role when it is created, so
that a change of them makes no new revision.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from atoll.capacity.queueing.admission import Request, carries
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.services import PARENTS, is_queued, marks_of
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import PODS, STATEFUL_SETS
from atoll.kinds.resource import Resource
from atoll.objects import meta
from atoll.objects.meta import controller_of, labels

Newest = Callable[[Resource, str, str], Object | None]
_TEMPLATES: Final = ("leaderTemplate", "workerTemplate")


class QueuedServices:
    """Mutating: the owners' templates, when they are made and changed; pods, when they are created."""

    resources = frozenset({STATEFUL_SETS.group_resource, batch.LEADER_WORKER_SETS.group_resource, "pods"})

    def __init__(self, on: Callable[[], bool], newest: Newest) -> None:
        """`newest`: the object of that resource, namespace and name."""
        self._on = on
        self._newest = newest

    def depends_on(self, user: Any) -> tuple[str, ...]:
        return ()

    def each_time(self, group_resource: str, obj: Object) -> bool:
        return group_resource != PODS.group_resource or carries(obj, kueue.POD_PARENT, "annotations")

    def mutate(self, request: Request) -> Awaitable[None] | None:
        obj = request.obj
        if obj is None or request.subresource or request.operation not in ("CREATE", "UPDATE") or not self._on():
            return None
        if request.resource.plural == "pods":
            if request.operation == "CREATE":
                self._join(request.namespace, obj)
        elif is_queued(obj):
            for template in _templates(obj):
                _mark(template, obj)
        return None

    def _join(self, namespace: str, pod: Object) -> None:
        parent = meta.annotations(pod).get(kueue.POD_PARENT, "")
        if parent not in PARENTS.values():
            return
        owner = self._owner(namespace, pod, parent)
        if owner is None or not is_queued(owner):
            return
        tags, notes = marks_of(owner, pod)
        metadata = pod["metadata"]
        metadata["labels"] = {**(metadata.get("labels") or {}), **tags}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **notes}

    def _owner(self, namespace: str, pod: Object, parent: str) -> Object | None:
        if parent == PARENTS[STATEFUL_SETS.kind]:
            found = controller_of(pod)
            own = found is not None and found["kind"] == STATEFUL_SETS.kind
            return self._newest(STATEFUL_SETS, namespace, found["name"]) if found is not None and own else None
        name = labels(pod).get(batch.LWS_NAME)
        return self._newest(batch.LEADER_WORKER_SETS, namespace, name) if name else None


def _templates(owner: Object) -> list[Object]:
    if owner["kind"] == STATEFUL_SETS.kind:
        return [owner["spec"]["template"]]
    both = owner["spec"]["leaderWorkerTemplate"]
    return [both[name] for name in _TEMPLATES if both.get(name)]


def _mark(template: Object, owner: Object) -> None:
    """In place; `owner`'s object is the request's own."""
    metadata = dict(template.get("metadata") or {})
    metadata["annotations"] = {**meta.annotations(template), kueue.POD_PARENT: PARENTS[owner["kind"]]}
    name = labels(owner).get(kueue.PRIORITY_CLASS_LABEL)
    if name:
        metadata["labels"] = {**labels(template), kueue.PRIORITY_CLASS_LABEL: name}
    template["metadata"] = metadata
