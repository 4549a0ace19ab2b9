"""Kinds of which templates are wanted, watched as soon as the hub serves them."""

from __future__ import annotations

from typing import Any, NamedTuple

from atoll.base.backoff import Backoff
from atoll.base.errors import Unreachable
from atoll.fleet.propagation.view import View
from atoll.runtime.controller import Controller

Object = dict[str, Any]


class Wanted(NamedTuple):
    api_version: str
    kind: str


class WantedKinds:
    """A policy, a binding or a dependency names a kind before the hub serves it, or before discovery shows it.

    A change of CRDs asks again at once. No event tells of discovery, which a real API server brings up to date a while
    after a CRD is established, nor of an aggregated API: so it is asked again anyway, every half minute at last.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self._unserved: dict[Wanted, None] = {}  # in the order of asking, so that a seed replays
        backoff = Backoff(first_seconds=0.2, most_seconds=30.0, jitter=0.0)
        self._controller: Controller[Wanted] = Controller("templates", self._watch, backoff=backoff)
        view.definitions.add_handler(self._on_definition)

    async def run(self) -> None:
        await self._controller.run()

    def add(self, api_version: str, kind: str) -> None:
        if self._view.template_informer(api_version, kind) is None:
            self._controller.queue.add(Wanted(api_version, kind))

    def _on_definition(self, old: Object | None, new: Object | None) -> None:
        for one in self._unserved:
            self._controller.queue.forget(one)
            self._controller.queue.add(one)

    async def _watch(self, one: Wanted) -> None:
        self._unserved[one] = None
        if await self._view.watch_kind(*one) is None:
            raise Unreachable(f"the hub does not serve {one.api_version} {one.kind} yet")
        del self._unserved[one]
