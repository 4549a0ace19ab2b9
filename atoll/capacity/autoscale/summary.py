"""What people are told of pools, from Nodes, machines and pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atoll.capacity import names
from atoll.capacity.autoscale.model import Machine, Object, leaving_of
from atoll.capacity.autoscale.plan import has_work, is_open
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.capacity.autoscale.shape import is_balloon
from atoll.objects.meta import labels


@dataclass(frozen=True, slots=True)
class Line:
    """One pool. `warm`: nodes that balloons keep."""

    name: str
    least: int
    most: int
    machines: int
    joining: int
    working: int
    warm: int
    leaving: int
    price_per_hour: float


def lines(
    settings: AutoscaleSettings,
    machines: Iterable[Machine],
    nodes: Iterable[Object],
    pods: Mapping[str, list[Object]],
) -> list[Line]:
    """`pods`: by node."""
    known = {node["metadata"]["name"]: node for node in nodes if names.MACHINE in labels(node)}
    orders = list(machines)
    found = []
    for pool in settings.pools:
        own = [machine.name for machine in orders if machine.pool == pool.name]
        here = [name for name in own if name in known]
        found.append(
            Line(
                pool.name,
                pool.min,
                pool.max,
                len(own),
                sum(name not in known or not is_open(known[name]) for name in own),
                sum(has_work(pods.get(name, [])) for name in here),
                sum(any(map(is_balloon, pods.get(name, []))) for name in here),
                sum(leaving_of(known[name]) is not None for name in here),
                round(len(own) * pool.price_per_hour, 2),
            )
        )
    return found
