"""Keeps the `Available` conditions of aggregated APIs, and what discovery and OpenAPI tell of them.

One loop, which does nothing while no APIService names a Service. It looks again when an APIService, a Service or an
EndpointSlice has changed, soon where a server fails, and every half minute. Level: it may be stopped at any await.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import orjson
from msgspec.structs import replace

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError
from atoll.cluster.apiserver.aggregation import documents
from atoll.cluster.apiserver.aggregation.availability import PASSED, Availability, check, with_condition
from atoll.cluster.apiserver.aggregation.backends import API_SERVICES, Backend
from atoll.cluster.apiserver.aggregation.documents import Told
from atoll.cluster.apiserver.aggregation.proxy import Proxy
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.discovery import AGGREGATED
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.verbs.commit import put
from atoll.cluster.store.port import Key, Record, StaleVersion

log = logging.getLogger(__name__)
_SERVICES, _SLICES = "services", "endpointslices.discovery.k8s.io"
_LOOK_SECONDS = 0.2
_RETRY_SECONDS = 1.0
_RESYNC_SECONDS = 30.0
_ASK_SECONDS = 5.0
_MOST_BYTES = 32 << 20
_DISCOVERY = f"{AGGREGATED},{AGGREGATED.replace('v=v2', 'v=v2beta1')}"


class Keeper:
    """`told`: by (group, version). `generation` moves when that has changed."""

    def __init__(self, api: Api, proxy: Proxy) -> None:
        self.told: dict[tuple[str, str], Told] = {}
        self.generation = 0
        self._api = api
        self._proxy = proxy
        self._written = asyncio.Event()
        api.followers[API_SERVICES] = self._follow

    async def _follow(self, key: Key, record: Record | None) -> None:
        self._forget()
        self._written.set()

    def _forget(self) -> None:
        """Discovery shows at once that a group version has come (stale till its server has told) or gone."""
        backends = self._proxy.backends.all()
        kept = {key: self.told.get(key) or Told(backend) for key, backend in backends.items()}
        self._tell({key: replace(told, backend=backends[key]) for key, told in kept.items()})

    def _tell(self, told: Mapping[tuple[str, str], Told]) -> None:
        if told != self.told or list(told) != list(self.told):
            self.told = dict(told)
            self.generation += 1

    async def run(self) -> None:
        """Until cancelled."""
        self._forget()
        while True:
            if not self._proxy.backends.all():
                self._written.clear()
                await self._written.wait()
            seen = self._changes()
            failing = await self._all()
            await self._rest(seen, _RETRY_SECONDS if failing else _RESYNC_SECONDS)

    def _changes(self) -> tuple[int, ...]:
        store = self._api.store
        services = [store.get(Key(API_SERVICES, "", backend.name)) for backend in self._proxy.backends.all().values()]
        specs = tuple(hash(orjson.dumps(item.object["spec"])) for item in services if item is not None)
        return (store.last_change(_SERVICES), store.last_change(_SLICES), *specs)

    async def _rest(self, seen: tuple[int, ...], seconds: float) -> None:
        """Until something has changed, or that time is over."""
        clock = self._api.clock
        until = clock.monotonic() + seconds
        while clock.monotonic() < until and self._changes() == seen:
            self._written.clear()
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._written.wait()
            except TimeoutError:
                continue

    async def _all(self) -> bool:
        """Look at every backend once; whether one is not available."""
        backends = list(self._proxy.backends.all().values())
        results = await asyncio.gather(*(self._one(backend) for backend in backends))
        return not all(results)

    async def _one(self, backend: Backend) -> bool:
        found = self._precheck(backend)
        if found is None:
            found = await self._ask(backend)
        if found is PASSED:
            told = await self._discover(backend)
        else:
            before = self.told.get((backend.group, backend.version))
            told = Told(backend) if before is None else replace(before, backend=backend, is_stale=True)
        if (backend.group, backend.version) in self._proxy.backends.all():
            self._tell({**self.told, (backend.group, backend.version): told})
        await self._write(backend, found)
        return found is PASSED

    def _precheck(self, backend: Backend) -> Availability | None:
        store = self._api.store
        service = store.get(Key(_SERVICES, backend.namespace, backend.service))
        label = "kubernetes.io/service-name"
        slices = [
            record.object
            for record in store.scan(_SLICES, backend.namespace)
            if record.labels.get(label) == backend.service
        ]
        return check(backend, None if service is None else service.object, slices)

    async def _ask(self, backend: Backend) -> Availability:
        """A path that the server must answer."""
        shown = backend.path
        try:
            target = self._proxy.target(backend)
            shown = f"https://{target.netloc}{backend.path}"
            async with asyncio.timeout(_ASK_SECONDS):
                answer = await self._proxy.get(backend, backend.path)
                await answer.whole(_MOST_BYTES)
        except TimeoutError:
            return Availability("False", "FailedDiscoveryCheck", f"timed out waiting for {shown}")
        except (AtollError, ConnectionError) as error:
            why = f'failing or missing response from {shown}: Get "{shown}": {error}'
            return Availability("False", "FailedDiscoveryCheck", why)
        if not 200 <= answer.status < 300:
            why = f"failing or missing response from {shown}: bad status from {shown}: {answer.status}"
            return Availability("False", "FailedDiscoveryCheck", why)
        return PASSED

    async def _write(self, backend: Backend, found: Availability) -> None:
        key = Key(API_SERVICES, "", backend.name)
        while (current := self._api.store.newest(key)) is not None:
            changed = with_condition(current.object, found, rfc3339(self._api.clock.wall()))
            if changed is None:
                return
            try:
                await put(self._api, key, current.version, changed)
                return
            except StaleVersion:
                continue

    async def _discover(self, backend: Backend) -> Told:
        listed = await self._json(backend, "/apis", _DISCOVERY)
        resources = None if listed is None else documents.from_aggregated(listed, backend)
        if resources is None:
            legacy = await self._json(backend, backend.path, "application/json")
            resources = None if legacy is None else documents.from_legacy(legacy, backend)
        index = await self._json(backend, "/openapi/v3", "application/json")
        paths = (index or {}).get("paths") or {}
        url = (paths.get(backend.path.strip("/")) or {}).get("serverRelativeURL") or ""
        second = await self._json(backend, "/openapi/v2", "application/json")
        openapi = documents.own_openapi(second, backend) if second is not None else {}
        return Told(backend, resources or (), resources is None, url, openapi)

    async def _json(self, backend: Backend, path: str, accept: str) -> Object | None:
        """None: no such document."""
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                answer = await self._proxy.get(backend, path, [("Accept", accept)])
                body = await answer.whole(_MOST_BYTES)
            value = orjson.loads(body) if answer.status == 200 else None
        except (AtollError, ConnectionError, TimeoutError, orjson.JSONDecodeError) as error:
            log.warning("%s: %s can't be read: %s", backend.name, path, error)
            return None
        return value if isinstance(value, dict) else None
