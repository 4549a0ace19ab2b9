"""The admission chain: plugins in upstream's order, mutating first, then validating, quota last.

A plugin is an object with `mutate` or `validate` (or both) and the plurals it looks at; it reads other objects from
the store directly, so it sees the newest durable state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Protocol

from atoll.cluster.apiserver.ports import AdmissionRequest


class Mutating(Protocol):
    @property
    def resources(self) -> frozenset[str] | None:
        """The group resources it looks at, None for all."""

    def mutate(self, request: AdmissionRequest) -> None: ...


class Validating(Protocol):
    @property
    def resources(self) -> frozenset[str] | None: ...

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None: ...


class AdmissionChain:
    """Implements `ports.Admission` over a list of plugins."""

    def __init__(self, mutating: Iterable[Mutating], validating: Iterable[Validating]) -> None:
        self._mutating = list(mutating)
        self._validating = list(validating)
        self._mutating_for: dict[str, list[Mutating]] = {}
        self._validating_for: dict[str, list[Validating]] = {}

    async def mutate(self, request: AdmissionRequest) -> None:
        name = request.resource.group_resource
        plugins = self._mutating_for.get(name)
        if plugins is None:
            plugins = [plugin for plugin in self._mutating if plugin.resources is None or name in plugin.resources]
            self._mutating_for[name] = plugins
        for plugin in plugins:
            plugin.mutate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        name = request.resource.group_resource
        plugins = self._validating_for.get(name)
        if plugins is None:
            plugins = [plugin for plugin in self._validating if plugin.resources is None or name in plugin.resources]
            self._validating_for[name] = plugins
        for plugin in plugins:
            waiting = plugin.validate(request)
            if waiting is not None:
                await waiting
