"""Discovery and OpenAPI as HTTP answers, with ETags."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from atoll.cluster.apiserver.discovery import Discovery, Document, Foreign
from atoll.cluster.apiserver.openapi import CustomSchema, OpenApi
from atoll.kinds.catalog import ApiGroup
from atoll.wire.messages import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from atoll.cluster.apiserver.aggregation.documents import Told

_PROTOBUF = "application/com.github.proto-openapi.spec.v2"


class Documents:
    """`http.http_handler`'s documents. `v2_protobuf`: encodes OpenAPI v2 for clients that ask for protobuf."""

    def __init__(self, v2_protobuf: Callable[[bytes], bytes] | None = None) -> None:
        self.discovery = Discovery()
        self.openapi = OpenApi(self.discovery)
        self._v2_protobuf = v2_protobuf
        self._v2: tuple[bytes, bytes] | None = None

    def set_custom(
        self, groups: Iterable[ApiGroup], schemas: Iterable[CustomSchema], told: Iterable[Told] = ()
    ) -> None:
        """What CRDs serve now, and aggregated servers."""
        told = list(told)
        self.discovery.set_custom(groups, [_foreign(item) for item in told])
        self.openapi.set_custom(schemas)
        urls = {item.backend.path.strip("/"): item.openapi_url for item in told if item.openapi_url}
        self.openapi.set_foreign(urls, [item.openapi_v2 for item in told if item.openapi_v2])
        self._v2 = None

    def __call__(self, request: HttpRequest) -> HttpResponse | None:
        """None: not one of these paths."""
        path = request.path
        accept = request.headers.get("accept", "")
        if path == "/openapi/v2":
            return self._openapi_v2(request, accept)
        if path.rstrip("/") == "/openapi/v3":
            return _answer(request, self.openapi.v3_index())
        if path.startswith("/openapi/v3/"):
            document = self.openapi.v3(path.removeprefix("/openapi/v3/"))
        else:
            document = self.discovery.get(path, accept)
        return None if document is None else _answer(request, document)

    def _openapi_v2(self, request: HttpRequest, accept: str) -> HttpResponse:
        document = self.openapi.v2()
        wanted = next((part for part in accept.split(",") if _PROTOBUF in part or "json" in part or "*/*" in part), "")
        if self._v2_protobuf is None or _PROTOBUF not in wanted:
            return _answer(request, document)
        if self._v2 is None or self._v2[0] is not document.body:
            self._v2 = (document.body, self._v2_protobuf(document.body))
        return _answer(request, Document(self._v2[1], f"{_PROTOBUF}.v1.0+protobuf", document.etag))


def _foreign(told: Told) -> Foreign:
    backend = told.backend
    return Foreign(backend.group, backend.version, backend.group_priority, told.resources, told.is_stale)


def _answer(request: HttpRequest, document: Document) -> HttpResponse:
    headers = [("Content-Type", document.content_type), ("Vary", "Accept")]
    if document.etag:
        quoted = f'"{document.etag}"' if not document.etag.startswith('"') else document.etag
        headers += [("ETag", quoted), ("Cache-Control", "no-cache, private")]
        if request.headers.get("if-none-match") == quoted:
            return HttpResponse(304, headers)
    return HttpResponse(200, headers, document.body)
