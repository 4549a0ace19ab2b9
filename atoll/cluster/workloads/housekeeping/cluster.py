"""Aggregated cluster roles, and pod CIDRs of nodes."""

from __future__ import annotations

import ipaddress

from atoll.base.errors import NotFound
from atoll.client.port import MERGE_PATCH, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.kinds.builtin import CLUSTER_ROLES, NODES
from atoll.objects.meta import labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informer


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
        self._nodes: Informer = context.informers.of(NODES)
        self._network = ipaddress.ip_network(context.options.cluster_cidr)
        prefix = max(context.options.node_cidr_mask_size, self._network.prefixlen)
        self._prefix = prefix if self._network.version == 4 else max(64, self._network.prefixlen)
        self._taken: dict[str, str] = {}  # range → node
        self._next = 0
        self.loop: Controller[str] = Controller(self.name, self._reconcile, wait_for=(self._nodes,))
        self._nodes.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._taken.pop((old.get("spec") or {}).get("podCIDR", ""), None)
            return
        present = (new.get("spec") or {}).get("podCIDR")
        if present:
            self._taken[present] = new["metadata"]["name"]
        elif old is None:
            self.loop.queue.add(new["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        node = self._nodes.get(name)
        if node is None or (node.get("spec") or {}).get("podCIDR"):
            return None
        chosen = self._choose()
        if chosen is None:
            return 30.0
        self._taken[chosen] = name
        patch = {"spec": {"podCIDR": chosen, "podCIDRs": [chosen]}}
        try:
            await self._client.patch(NODES, name, patch, content_type=MERGE_PATCH)
        except NotFound:
            self._taken.pop(chosen, None)
        return None

    def _choose(self) -> str | None:
        total = 1 << (self._prefix - self._network.prefixlen)
        width = 1 << (self._network.max_prefixlen - self._prefix)
        for _ in range(total):
            start = int(self._network.network_address) + self._next * width
            self._next = (self._next + 1) % total
            text = f"{ipaddress.ip_address(start)}/{self._prefix}"
            if text not in self._taken:
                return text
        return None
