"""What capacity's controllers are given."""

from __future__ import annotations

from dataclasses import dataclass

from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.client.port import Client
from atoll.kinds.builtin import PODS
from atoll.objects.meta import node_names
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informer, Informers


@dataclass(frozen=True, slots=True)
class Parts:
    """One identity's way to the cluster, its informers, time, events and numbers."""

    client: Client
    informers: Informers
    clock: Clock
    events: EventRecorder
    metrics: Metrics


def pods_by_node(informers: Informers) -> Informer:
    """The informer of pods, with an index "node"."""
    pods = informers.of(PODS)
    pods.add_index("node", node_names)
    return pods
