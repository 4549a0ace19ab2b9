"""Keeps the APIServices of what this API server serves itself (see `automanaged`), and says of all local ones that they
are available: level, from two informers."""

from __future__ import annotations

from contextlib import suppress

from atoll.base.clock import rfc3339
from atoll.base.errors import AlreadyExists, Conflict, NotFound
from atoll.client.port import DeleteOptions
from atoll.cluster.apiserver.aggregation import automanaged
from atoll.cluster.apiserver.aggregation.automanaged import Step
from atoll.cluster.apiserver.aggregation.availability import LOCAL, with_condition
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import Object, User
from atoll.kinds.builtin import API_SERVICES, CUSTOM_RESOURCE_DEFINITIONS
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informers

_NAME = "autoregister"
_WORKERS = 25  # all built-in ones at once: one commit of the store


class Autoregister:
    """Let `run` run while requests are served."""

    def __init__(self, api: Api) -> None:
        self._clock = api.clock
        self._client = LocalClient(api, User("system:apiserver", ("system:masters",)), "kube-apiserver")
        self._informers = Informers(self._client)
        self._services = self._informers.of(API_SERVICES)
        self._definitions = self._informers.of(CUSTOM_RESOURCE_DEFINITIONS)
        self._definitions.add_index(_NAME, automanaged.custom)
        served = {(item.resource.group, item.resource.version) for item in api.registry if item.custom is None}
        self._built_in = automanaged.built_in(served)
        self._at_start: frozenset[str] = frozenset()
        self._synced: set[str] = set()
        self._loop: Controller[str] = Controller(_NAME, self._reconcile, workers=_WORKERS)

    async def run(self) -> None:
        """Until cancelled."""
        self._informers.start()
        try:
            await self._informers.wait_synced()
            self._at_start = frozenset(item["metadata"]["name"] for item in self._services)
            for name in self._built_in:
                self._loop.queue.add(name)
            self._services.add_handler(self._service_changed)
            self._definitions.add_handler(self._definition_changed)
            await self._loop.run()
        finally:
            await self._informers.stop()

    def complete(self) -> bool:
        """Whether every built-in group version has been seen to: once true, it stays."""
        return self._built_in.keys() <= self._synced

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        changed = new or old
        assert changed is not None
        self._loop.queue.add(changed["metadata"]["name"])

    def _definition_changed(self, old: Object | None, new: Object | None) -> None:
        for crd in (old, new):
            for name in automanaged.versions_of(crd) if crd is not None else ():
                self._loop.queue.add(name)

    def _wanted(self, name: str) -> Object | None:
        if name in self._built_in:
            return self._built_in[name]
        for crd in self._definitions.by_index(_NAME, name):
            return automanaged.custom(crd)[name]
        return None

    async def _reconcile(self, name: str) -> float | None:
        wanted, current = self._wanted(name), self._services.get(name)
        step = automanaged.plan(wanted, current, at_start=self._at_start, synced=name in self._synced)
        with suppress(AlreadyExists, Conflict, NotFound):  # somebody was first, and the informer comes again
            if step is Step.CREATE:
                assert wanted is not None
                await self._client.create(API_SERVICES, wanted)
            elif step is Step.UPDATE:
                assert wanted is not None and current is not None
                await self._client.update(API_SERVICES, {**current, "spec": wanted["spec"]})
            elif step is Step.DELETE:
                assert current is not None
                await self._client.delete(API_SERVICES, name, options=DeleteOptions(uid=current["metadata"]["uid"]))
            elif current is not None and (again := self._available(current)) is not None:
                await self._client.update(API_SERVICES, again, subresource="status")
        self._synced.add(name)
        return None

    def _available(self, api_service: Object) -> Object | None:
        """Who names no Service is available, whoever wrote it; None: it says so."""
        if api_service["spec"].get("service") is not None:
            return None
        return with_condition(api_service, LOCAL, rfc3339(self._clock.wall()))
