"""Devices by claims (DRA), seen from what may come: the ResourceSlices that a new node of a pool will have. Pure.

They are those of a node of the pool that is there, under the new one's name (as Cluster Autoscaler takes a node of the
group for its template); where none is, those that the pool declares. A node that opened a moment ago, and whose drivers
have not published all yet, has them too. A pool of which a node has been open for longer than that, and has none, is
`bare` whatever it declares: so no second node is made in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.autoscale.model import Object
from atoll.capacity.autoscale.settings import DeviceSlice, Pool
from atoll.capacity.nodes import is_ready
from atoll.objects.meta import condition, labels
from atoll.scheduling.dra.model import Selectors

_DRIVER_SECONDS = 300.0  # for drivers to publish what a node has


@dataclass(frozen=True, slots=True)
class DeviceView:
    """What of devices there is. `selectors`: CEL over devices, without which no expression can be met."""

    slices: Sequence[Object] = ()
    classes: Sequence[Object] = ()
    claims: Sequence[Object] = ()
    selectors: Selectors | None = None
    now: float = 0.0
    bare: frozenset[str] = frozenset()  # pools that were seen to have none


@dataclass(slots=True)
class PoolDevices:
    """Slices by node, those that nodes have and those that they will have."""

    view: DeviceView
    nodes: Iterable[Object]
    _by_node: dict[str, list[Object]] = field(default_factory=dict)
    _members: dict[str, list[Object]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in self.view.slices:
            self._by_node.setdefault(item["spec"].get("nodeName") or "", []).append(item)
        for node in self.nodes:
            pool = labels(node).get(names.POOL_LABEL)
            if pool:
                self._members.setdefault(pool, []).append(node)

    def shared(self) -> list[Object]:
        """Slices of no single node."""
        return self._by_node.get("", [])

    def of_node(self, node: Object, pool: Pool | None) -> list[Object]:
        """Of one that is there."""
        name = node["metadata"]["name"]
        own = self._by_node.get(name, [])
        if pool is None or _complete(own) or self._open_seconds(node) > _DRIVER_SECONDS:
            return own
        return self.of_new(pool, name) or own

    def of_new(self, pool: Pool, name: str) -> list[Object]:
        """Of one that may come, or comes."""
        members = sorted(self._members.get(pool.name, ()), key=lambda node: str(node["metadata"]["name"]))
        known = [(node, self._by_node.get(node["metadata"]["name"], [])) for node in members]
        whole = [(node["metadata"]["name"], found) for node, found in known if _complete(found)]
        if whole:  # the one with the fewest taints on its devices: others are sick, or in use
            template, found = min(whole, key=lambda item: (_tainted(item[1]), item[0]))
            return [_renamed(item, template, name, number) for number, item in enumerate(found)]
        return [] if pool.name in self.bare() else declared(pool.node.resource_slices, name)

    def bare(self) -> frozenset[str]:
        """Pools that have no devices: of one of their nodes that is known by now, of none the contrary."""
        found = set(self.view.bare)
        for pool, members in self._members.items():
            known = [(node, self._by_node.get(node["metadata"]["name"], [])) for node in members]
            if any(_complete(slices) for _, slices in known):
                found.discard(pool)
            elif any(self._open_seconds(node) > _DRIVER_SECONDS for node, _ in known):
                found.add(pool)
        return frozenset(found)

    def _open_seconds(self, node: Object) -> float:
        since = (condition(node, "Ready") or {}).get("lastTransitionTime")
        return self.view.now - parse_rfc3339(since) if since and is_ready(node) else 0.0


def declared(slices: Sequence[DeviceSlice], node: str) -> list[Object]:
    """As a node's drivers would publish them: one pool a driver, named after the node."""
    counts: dict[str, int] = {}
    for item in slices:
        counts[item.driver] = counts.get(item.driver, 0) + 1
    return [
        {
            "metadata": {"name": f"{node}-{number}"},
            "spec": {
                **msgspec.to_builtins(item),
                "nodeName": node,
                "pool": {"name": node, "generation": 1, "resourceSliceCount": counts[item.driver]},
            },
        }
        for number, item in enumerate(slices)
    ]


def _complete(slices: Sequence[Object]) -> bool:
    """Whether there are some, and each pool's are all there."""
    counts: dict[tuple[str, str, int], int] = {}
    wanted: Mapping[tuple[str, str], Object] = {}
    for item in slices:
        spec = item["spec"]
        pool = spec["pool"]
        own = (spec["driver"], pool["name"])
        counts[(*own, pool["generation"])] = counts.get((*own, pool["generation"]), 0) + 1
        if own not in wanted or pool["generation"] > wanted[own]["generation"]:
            wanted = {**wanted, own: pool}
    return bool(slices) and all(
        counts[(*own, pool["generation"])] == pool["resourceSliceCount"] for own, pool in wanted.items()
    )


def _tainted(slices: Iterable[Object]) -> int:
    return sum("taints" in device for item in slices for device in item["spec"].get("devices") or ())


def _renamed(item: Object, template: str, name: str, number: int) -> Object:
    """The slice as another node's drivers would publish it."""
    spec, pool = item["spec"], item["spec"]["pool"]
    own = name if pool["name"] == template else f"{pool['name']}/{name}"
    return {"metadata": {"name": f"{name}-{number}"}, "spec": {**spec, "nodeName": name, "pool": {**pool, "name": own}}}
