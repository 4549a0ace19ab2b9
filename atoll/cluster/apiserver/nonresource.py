"""Paths that name no resource: health, version, metrics, the root list, and the documents that part discovery makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import orjson

from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.discovery import custom_groups
from atoll.cluster.apiserver.documents import Documents
from atoll.cluster.apiserver.health import Health
from atoll.cluster.apiserver.openapi import CustomSchema
from atoll.cluster.apiserver.ports import User
from atoll.cluster.apiserver.protobuf import openapi_v2_protobuf
from atoll.cluster.apiserver.served import Served
from atoll.kinds.catalog import catalog
from atoll.wire.messages import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from atoll.cluster.apiserver.aggregation.documents import Told

_TEXT = ("Content-Type", "text/plain; charset=utf-8")


Answerer = Callable[[HttpRequest], HttpResponse]


class Aggregated(Protocol):
    """What aggregated servers tell; `generation` moves when that has changed."""

    @property
    def generation(self) -> int: ...

    @property
    def told(self) -> Mapping[tuple[str, str], Told]: ...


def _is_extra(served: Served) -> bool:
    """A built-in kind that is off by default."""
    resource = served.resource
    return catalog().resource(resource.group, resource.version, resource.plural) is None


class NonResource:
    """`more`: further paths, by the part that answers them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._documents = Documents(lambda body: openapi_v2_protobuf(orjson.loads(body)))
        self._generation = (-1, -1)
        self.aggregated: Aggregated | None = None
        self.more: dict[str, Answerer] = {}
        self.health = Health()

    async def __call__(self, request: HttpRequest, user: User) -> HttpResponse:
        path = request.path
        found = self.health.answer(request)
        if found is not None:
            return found
        if path == "/":
            return self._root()
        answerer = self.more.get(path)
        if answerer is not None:
            return answerer(request)
        self._follow_custom()
        found = self._documents(request)
        if found is not None:
            return found
        return HttpResponse(404, [_TEXT, ("X-Content-Type-Options", "nosniff")], b"404 page not found\n")

    def _follow_custom(self) -> None:
        """The documents show what CRDs serve now."""
        registry, aggregated = self._api.registry, self.aggregated
        generation = (registry.generation, -1 if aggregated is None else aggregated.generation)
        if generation == self._generation:
            return
        self._generation = generation
        custom = [served for served in registry if served.custom is not None]
        schemas = [
            CustomSchema(served.entry, served.custom.versions[served.resource.version].given_schema)
            for served in custom
        ]
        told = [] if aggregated is None else aggregated.told.values()
        shown = [
            served.entry for served in registry if served.custom is not None or served.virtual or _is_extra(served)
        ]
        self._documents.set_custom(custom_groups(shown), schemas, told)

    def _root(self) -> HttpResponse:
        found = {"/api", "/api/v1", "/apis", "/apis/", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3"}
        found |= {"/openapi/v3/", "/readyz", "/version"}
        found |= {path for path in self.more if not path.startswith("/debug/")}
        for served in self._api.registry:
            resource = served.resource
            if resource.group:
                found |= {f"/apis/{resource.group}", f"/apis/{resource.group}/{resource.version}"}
        body = orjson.dumps({"paths": sorted(found)}, option=orjson.OPT_INDENT_2)
        return HttpResponse(200, [("Content-Type", "application/json")], body)
