"""Nodes join closed: the taint and the label are there before any scheduler sees the Node.

A mutating plugin of the API server's shape. On API servers of others kubelets register with the taint
(`--register-with-taints`), or the controller adds it a moment later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from atoll.base.clock import Clock, rfc3339
from atoll.capacity import names
from atoll.capacity.health.model import Object
from atoll.capacity.nodes import with_taint
from atoll.capacity.preflight.settings import CONFIG_MAP, KEY, PreflightSettings, applies
from atoll.capacity.settings import SettingsError, read


class Request(Protocol):
    """What is used of the API server's AdmissionRequest."""

    operation: str
    subresource: str
    obj: Object | None


class NewNodes:
    """Mutating. `config_map(name)`: the newest ConfigMap of atoll-system."""

    resources = frozenset({"nodes"})

    def __init__(self, config_map: Callable[[str], Object | None], clock: Clock) -> None:
        self._config_map = config_map
        self._clock = clock

    def depends_on(self, user: Any) -> None:
        """It must be asked each time: it writes when."""
        return

    def mutate(self, request: Request) -> None:
        node = request.obj
        if request.operation != "CREATE" or request.subresource or node is None:
            return
        try:
            settings = read(self._config_map(CONFIG_MAP), KEY, PreflightSettings)
        except SettingsError:
            settings = PreflightSettings()
        own = node["metadata"].get("labels") or {}
        if names.PREFLIGHT in own or not applies(node, settings):
            return
        now = rfc3339(self._clock.wall())
        node["metadata"]["labels"] = {**own, names.PREFLIGHT: "pending"}
        told = node["metadata"].get("annotations") or {}
        node["metadata"]["annotations"] = {**told, names.PREFLIGHT_SINCE: now}
        node["spec"] = {**(node.get("spec") or {}), "taints": with_taint(node, names.PREFLIGHT, "pending", now)}
