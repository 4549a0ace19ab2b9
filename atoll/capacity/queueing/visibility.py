"""Who waits in a queue, in order: Kueue's visibility API (visibility.kueue.x-k8s.io, KEP 168). Pure.

PendingWorkloadsSummary of a ClusterQueue, or of a LocalQueue with the positions in both. Computed when asked; the order
is the one in which the scheduler looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from atoll.base.clock import rfc3339
from atoll.base.errors import BadRequest
from atoll.base.names import LABEL_PREFIX
from atoll.capacity.queueing.line import class_of
from atoll.capacity.queueing.model import Key, Object, Workload
from atoll.capacity.queueing.state import State

GROUP: Final = "visibility.kueue.x-k8s.io"
VERSIONS: Final = ("v1beta2", "v1beta1")
WHY: Final = f"{LABEL_PREFIX}why"  # annotation of ours: upstream's API has no field for it
_DEFAULT_LIMIT = 1000

Query = Mapping[str, list[str]]
Stored = Callable[[Key], Object | None]
"""A Workload as it is stored."""


def of_cluster_queue(state: State, name: str, query: Query, stored: Stored, api_version: str) -> Object | None:
    """Of the ClusterQueue; None where there is none. Raises BadRequest for an offset or limit that is no number."""
    if name not in state.lines:
        return None
    return _summary(state, _placed(state, name), query, stored, api_version)


def of_local_queue(
    state: State, namespace: str, name: str, query: Query, stored: Stored, api_version: str
) -> Object | None:
    """Of the LocalQueue; None where there is none, nothing where its ClusterQueue does not exist."""
    local = state.setup.local_queues.get((namespace, name))
    if local is None:
        return None
    if local.queue not in state.lines:
        return _summary(state, iter(()), query, stored, api_version)
    own = (item for item in _placed(state, local.queue) if item[0].queue_key == local.key)
    return _summary(state, own, query, stored, api_version)


Placed = tuple[Workload, int, int]
"""(workload, its position in the ClusterQueue, and in its LocalQueue)."""


def _placed(state: State, queue: str) -> Iterator[Placed]:
    counts: dict[Key, int] = {}
    for position, workload in enumerate(state.pending_of(queue)):
        local = counts.get(workload.queue_key, 0)
        counts[workload.queue_key] = local + 1
        yield workload, position, local


def _summary(state: State, placed: Iterator[Placed], query: Query, stored: Stored, api_version: str) -> Object:
    offset, limit = _number(query, "offset", 0), _number(query, "limit", _DEFAULT_LIMIT)
    chosen = [item for index, item in enumerate(placed) if offset <= index < offset + limit]
    items = [
        _item(workload, position, local, stored(workload.key), _why(state, workload))
        for workload, position, local in chosen
    ]
    return {
        "kind": "PendingWorkloadsSummary",
        "apiVersion": api_version,
        "metadata": {"creationTimestamp": None},
        "items": items,
    }


def _why(state: State, workload: Workload) -> str:
    """What its class lacked when it was last looked at; "" if it was not."""
    line = state.lines.get(state.queue_of(workload) or "")
    found = line.parked.get(class_of(workload)) if line is not None else None
    return "" if found is None else found.message


def _item(workload: Workload, position: int, local: int, obj: Object | None, why: str) -> Object:
    metadata: dict[str, Any] = {
        "name": workload.key[1],
        "namespace": workload.key[0],
        "creationTimestamp": rfc3339(workload.created),
    }
    owners = ((obj or {}).get("metadata") or {}).get("ownerReferences")
    if owners:
        metadata["ownerReferences"] = owners
    if why:
        metadata["annotations"] = {WHY: why}
    return {
        "metadata": metadata,
        "priority": workload.priority,
        "localQueueName": workload.local_queue,
        "positionInClusterQueue": position,
        "positionInLocalQueue": local,
    }


def _number(query: Query, name: str, default: int) -> int:
    text = (query.get(name) or [""])[0]
    if not text:
        return default
    if not text.isdigit():
        raise BadRequest(f"{name} must be a number, 0 or more, not {text!r}")
    return int(text)
