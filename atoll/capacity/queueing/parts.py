"""What the queues' controllers are given, and the one way in which they write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.capacity.queueing.metrics import QueueingMetrics
from atoll.client.port import Client
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """`on()`: False while a real Kueue runs here, whose controllers own these kinds."""

    client: Client
    informers: Informers
    clock: Clock
    events: EventRecorder
    on: Callable[[], bool]
    metrics: QueueingMetrics = field(default_factory=lambda: QueueingMetrics(Metrics()))


async def write_status(client: Client, resource: Resource, old: Object, new: Object) -> Object:
    """Write a status that was computed from `old`, if it differs; its resourceVersion is the precondition.

    Raises Conflict where the object has changed since.
    """
    if new.get("status") == old.get("status"):
        return old
    return await client.update(resource, new, subresource="status")
