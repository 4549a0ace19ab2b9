"""The admission chain: plugins in upstream's order, mutating first, then validating, quota last.

Where a webhook or a mutating policy changed the object, the mutating plugins run once more (reinvocation). `allocating`
ones come after all of them, once: they give what the object asks for in the end.

A plugin is an object with `mutate` or `validate` (or both) and the plurals it looks at; it reads other objects from
the store directly, so it sees the newest durable state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from atoll.cluster.apiserver.ports import AdmissionRequest, Object, Repeatability, User


class Mutating(Protocol):
    @property
    def resources(self) -> frozenset[str] | None:
        """The group resources it looks at, None for all."""

    def mutate(self, request: AdmissionRequest) -> Awaitable[None] | None: ...


class Validating(Protocol):
    @property
    def resources(self) -> frozenset[str] | None: ...

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None: ...


class Repeating(Protocol):
    """A plugin may say so, of either kind: on equal creates it does the same, as long as some resources stay."""

    def depends_on(self, user: User) -> tuple[str, ...] | None:
        """Those resources; None: at present it must be asked each time (as is one that does not say)."""


class Choosing(Repeating, Protocol):
    """One that does the same on equal creates, but for some objects: what it does to these depends on more."""

    def each_time(self, group_resource: str, obj: Object) -> bool:
        """Whether creates of this object must be asked about each time. As it was sent: nothing has looked at it yet
        but whether its metadata are a dict."""


class Drawing(Protocol):
    """A plugin that draws a string by chance for each object."""

    def drawn(self, obj: Object) -> str:
        """The string in an admitted object, "" if none."""

    def draw(self) -> str: ...


_Plugin = TypeVar("_Plugin", Mutating, Validating)


def _that_look_at(name: str, plugins: Iterable[_Plugin]) -> list[_Plugin]:
    """Those of them that look at this group resource."""
    return [plugin for plugin in plugins if plugin.resources is None or name in plugin.resources]


class AdmissionChain:
    """Implements `ports.Admission` over a list of plugins."""

    def __init__(
        self, mutating: Iterable[Mutating], validating: Iterable[Validating], allocating: Iterable[Mutating] = ()
    ) -> None:
        self._mutating = list(mutating)
        self._allocating = list(allocating)
        self._validating = list(validating)
        self._mutating_for: dict[str, list[Mutating]] = {}
        self._validating_for: dict[str, list[Validating]] = {}

    def repeats(self, group_resource: str, user: User, created: Object | None = None) -> Repeatability | None:
        resources: list[str] = []
        drawing: list[Any] = []
        plugins: list[Mutating | Validating] = [*self._mutating, *self._allocating, *self._validating]
        for plugin in plugins:
            if plugin.resources is not None and group_resource not in plugin.resources:
                continue
            depends_on = getattr(plugin, "depends_on", None)
            found = None if depends_on is None else depends_on(user)
            if found is None:
                return None
            each_time = getattr(plugin, "each_time", None)
            if created is not None and each_time is not None and each_time(group_resource, created):
                return None
            resources += found
            if hasattr(plugin, "draw"):
                drawing.append(plugin)
        if len(drawing) > 1:
            return None
        chosen = drawing[0] if drawing else None
        names = tuple(dict.fromkeys(resources))
        return Repeatability(names) if chosen is None else Repeatability(names, chosen.drawn, chosen.draw)

    async def mutate(self, request: AdmissionRequest) -> None:
        for plugin in self._mutators(request):
            waiting = plugin.mutate(request)
            if waiting is not None:
                await waiting
        if request.reinvoke and not request.is_again:
            request.is_again = True
            await self.mutate(request)
            return
        self._allocate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        for plugin in self._validators(request):
            waiting = plugin.validate(request)
            if waiting is not None:
                await waiting

    def mutate_at_once(self, request: AdmissionRequest) -> bool:
        for plugin in self._mutators(request):
            waiting = plugin.mutate(request)
            if waiting is not None:
                return _left(waiting)
        if request.reinvoke:
            return False
        self._allocate(request)
        return True

    def validate_at_once(self, request: AdmissionRequest) -> bool:
        for plugin in self._validators(request):
            waiting = plugin.validate(request)
            if waiting is not None:
                return _left(waiting)
        return True

    def _allocate(self, request: AdmissionRequest) -> None:
        for plugin in _that_look_at(request.resource.group_resource, self._allocating):
            plugin.mutate(request)

    def _mutators(self, request: AdmissionRequest) -> list[Mutating]:
        name = request.resource.group_resource
        plugins = self._mutating_for.get(name)
        if plugins is None:
            plugins = self._mutating_for[name] = _that_look_at(name, self._mutating)
        return plugins

    def _validators(self, request: AdmissionRequest) -> list[Validating]:
        name = request.resource.group_resource
        plugins = self._validating_for.get(name)
        if plugins is None:
            plugins = self._validating_for[name] = _that_look_at(name, self._validating)
        return plugins


def _left(waiting: Awaitable[None]) -> bool:
    """What a plugin wants to wait for is not begun."""
    if isinstance(waiting, Coroutine):
        waiting.close()
    return False
