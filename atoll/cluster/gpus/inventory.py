"""What is known of a cluster's GPUs at a time, from shared informers: asked by the controller, the nodes, the exporter.

Nothing is kept that the API does not say, but for answers by the version of the Node that they follow from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atoll.cluster.gpus.claims import ClaimedDevices, claimed_devices
from atoll.cluster.gpus.settings import NAMESPACE, Settings, read_settings
from atoll.cluster.gpus.survey import Survey, claimed_gpus, has_gpus, pools_of, survey
from atoll.kinds.builtin import CONFIGMAPS, NODES, PODS, RESOURCE_CLAIMS
from atoll.objects.meta import node_names
from atoll.runtime.informer import Informers

Object = dict[str, Any]


class Inventory:
    """Surveys of nodes by name. `await synced()` before the first question."""

    def __init__(self, informers: Informers) -> None:
        self.nodes = informers.of(NODES)
        self.pods = informers.of(PODS)
        self.pods.add_index("node", node_names)
        self.claims = informers.of(RESOURCE_CLAIMS)
        self.claims.add_index("gpu-pool", pools_of)
        self.config_maps = informers.of(CONFIGMAPS, namespace=NAMESPACE)
        self.config_maps.add_handler(self._changed)
        self._settings: Settings | None = None
        self._surveys: dict[str, tuple[str, Survey]] = {}

    async def synced(self) -> None:
        for informer in (self.nodes, self.pods, self.claims, self.config_maps):
            await informer.synced.wait()

    @property
    def settings(self) -> Settings:
        if self._settings is None:
            self._settings = read_settings(self.config_maps)
        return self._settings

    def survey(self, name: str) -> Survey:
        """Of a node; one without GPUs for a node that has none or is not there."""
        node = self.nodes.get(name)
        if node is None or not has_gpus(node):
            self._surveys.pop(name, None)
            return Survey()
        version = node["metadata"]["resourceVersion"]
        known = self._surveys.get(name)
        if known is None or known[0] != version:
            known = self._surveys[name] = (version, survey(node, self.settings))
        return known[1]

    def pods_on(self, name: str) -> list[Object]:
        return self.pods.by_index("node", name)

    def claimed(self, name: str, found: Survey) -> frozenset[int]:
        """Indices of the node's GPUs that ResourceClaims have."""
        claims = self.claims.by_index("gpu-pool", name)
        return claimed_gpus(found.gpus, claims, name) if claims else frozenset()

    def claimed_devices(self, name: str, found: Survey) -> ClaimedDevices:
        """What the node's pods have by ResourceClaims."""
        claims = self.claims.by_index("gpu-pool", name)
        return claimed_devices(found.gpus, name, self.pods_on(name), claims) if claims else {}

    def gpu_nodes(self) -> Iterator[Object]:
        return (node for node in self.nodes if has_gpus(node))

    def _changed(self, old: Object | None, new: Object | None) -> None:
        self._settings = None
        self._surveys.clear()
