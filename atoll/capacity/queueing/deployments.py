"""Deployments of a queue: each pod waits for quota by itself, as Kueue has it for services. No Workload of the whole.

The queue and the priority class are put into the pod template, so that the pods are queued as plain pods are
(`pods.py`). One that is evicted is deleted; its ReplicaSet makes another, which waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from atoll.capacity.queueing.admission import Request
from atoll.kinds import kueue
from atoll.kinds.builtin import DEPLOYMENTS

_PASSED_ON = (kueue.QUEUE_LABEL, kueue.PRIORITY_CLASS_LABEL)


class QueuedDeployments:
    """Mutating admission, when one is made and when it is changed."""

    resources = frozenset({DEPLOYMENTS.group_resource})

    def __init__(self, on: Callable[[], bool]) -> None:
        self._on = on

    def mutate(self, request: Request) -> Awaitable[None] | None:
        obj = request.obj
        if request.operation not in ("CREATE", "UPDATE") or request.subresource or obj is None or not self._on():
            return None
        labels = (obj.get("metadata") or {}).get("labels") or {}
        if not labels.get(kueue.QUEUE_LABEL):
            return None
        template = obj["spec"]["template"]
        metadata = dict(template.get("metadata") or {})
        passed = {name: labels[name] for name in _PASSED_ON if labels.get(name)}
        metadata["labels"] = {**(metadata.get("labels") or {}), **passed}
        metadata["annotations"] = {**(metadata.get("annotations") or {}), kueue.POD_PARENT: "deployment"}
        obj["spec"]["template"] = {**template, "metadata": metadata}
        return None
