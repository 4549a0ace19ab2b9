"""Aggregated cluster roles, and pod CIDRs of nodes."""

from __future__ import annotations

import ipaddress

from atoll.base.errors import AtollError, NotFound
from atoll.client.port import MERGE_PATCH, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.kinds.builtin import CLUSTER_ROLES, NODES
from atoll.objects.meta import annotations as annotations_of
from atoll.objects.meta import labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informer

_SIMULATED = "kwok.x-k8s.io/node"
_WRITERS = 30  # as upstream's: hundreds of nodes may come at once


def aggregated_rules(role: Object, roles: list[Object]) -> list[Object]:
    """The rules of all roles that the aggregationRule selects, each once, by role name. Pure."""
    rules: list[Object] = []
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        matches = compile_selector(selector)
        for other in sorted(roles, key=lambda item: str(item["metadata"]["name"])):
            if other["metadata"]["name"] == role["metadata"]["name"] or not matches(labels(other)):
                continue
            rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules


class ClusterRoleAggregation:
    """Keeps the rules of admin, edit, view and every other role with an aggregationRule."""

    def __init__(self, context: Context) -> None:
        self.name = "clusterrole-aggregation-controller"
        self._client = context.client(self.name)
        self._roles: Informer = context.informers.of(CLUSTER_ROLES)
        self.loop: Controller[str] = Controller(self.name, self._reconcile, wait_for=(self._roles,))
        self._roles.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _granting(old) == _granting(new):
            return
        for role in self._roles:
            if role.get("aggregationRule"):
                self.loop.queue.add(role["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        role = self._roles.get(name)
        if role is None or not role.get("aggregationRule"):
            return None
        rules = aggregated_rules(role, list(self._roles))
        if rules != (role.get("rules") or []):
            await self._client.update(CLUSTER_ROLES, {**role, "rules": rules})
        return None


def _granting(role: Object) -> tuple[object, ...]:
    return role.get("rules"), role.get("aggregationRule"), labels(role)


class NodeAddresses:
    """Gives each node a range of the cluster's pod CIDR, and takes it back when the node goes."""

    def __init__(self, context: Context) -> None:
        self.name = "node-ipam-controller"
        self._client = context.client("node-controller")
        self._events = context.recorder("cidrAllocator")
        self._nodes: Informer = context.informers.of(NODES)
        network = ipaddress.ip_network(context.options.cluster_cidr)
        prefix = max(context.options.node_cidr_mask_size, network.prefixlen)
        self._ranges = Ranges(network, prefix if network.version == 4 else max(64, network.prefixlen))
        self._waiting: dict[str, None] = {}
        self.loop: Controller[str] = Controller(self.name, self._reconcile, workers=_WRITERS, wait_for=(self._nodes,))
        self._nodes.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._gone(old or {})
            return
        present = (new.get("spec") or {}).get("podCIDR")
        if present:
            self._ranges.take(present)
        elif old is None:
            self.loop.queue.add(new["metadata"]["name"])

    def _gone(self, node: Object) -> None:
        self._waiting.pop(node["metadata"]["name"], None)
        present = (node.get("spec") or {}).get("podCIDR")
        if present:
            self._ranges.give_back(present)
            if self._waiting:
                waiting = next(iter(self._waiting))
                del self._waiting[waiting]  # the next range is for another
                self.loop.queue.add(waiting)

    async def _reconcile(self, name: str) -> float | None:
        node = self._nodes.get(name)
        self._waiting.pop(name, None)
        if node is None or (node.get("spec") or {}).get("podCIDR"):
            return None
        chosen = self._ranges.choose()
        if chosen is None:
            self._waiting[name] = None
            if _SIMULATED not in annotations_of(node):  # their pods have addresses without it
                message = f"Node {name} status is now: CIDRNotAvailable"
                self._events.event(node, "Normal", "CIDRNotAvailable", message)
            return None
        patch = {"spec": {"podCIDR": chosen, "podCIDRs": [chosen]}}
        try:
            await self._client.patch(NODES, name, patch, content_type=MERGE_PATCH)
        except AtollError as error:
            self._ranges.give_back(chosen)
            if not isinstance(error, NotFound):
                raise
        return None


class Ranges:
    """The equal parts of a network: taken in order, those given back last."""

    def __init__(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network, prefix: int) -> None:
        self._network = network
        self._prefix = prefix
        self._width = 1 << (network.max_prefixlen - prefix)
        self._total = 1 << (prefix - network.prefixlen)
        self._next = 0
        self._returned: dict[int, None] = {}
        self._taken: set[int] = set()

    def choose(self) -> str | None:
        """A free range, from now on taken; None when all are."""
        while self._next < self._total:
            number = self._next
            self._next += 1
            if number not in self._taken:
                return self._text(number)
        if not self._returned:
            return None
        number = next(iter(self._returned))
        return self._text(number)

    def take(self, text: str) -> None:
        number = self._number(text)
        if number is not None:
            self._taken.add(number)
            self._returned.pop(number, None)

    def give_back(self, text: str) -> None:
        number = self._number(text)
        if number is not None and number in self._taken:
            self._taken.discard(number)
            if number < self._next:
                self._returned[number] = None

    def _text(self, number: int) -> str:
        self._taken.add(number)
        self._returned.pop(number, None)
        return f"{ipaddress.ip_address(int(self._network.network_address) + number * self._width)}/{self._prefix}"

    def _number(self, text: str) -> int | None:
        """None for a range that is none of these."""
        try:
            found = ipaddress.ip_network(text, strict=False)
        except ValueError:
            return None
        if found.version != self._network.version or found.prefixlen != self._prefix:
            return None
        number = (int(found.network_address) - int(self._network.network_address)) // self._width
        return number if 0 <= number < self._total else None
