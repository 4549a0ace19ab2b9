"""The OpenAPI documents: /openapi/v2, /openapi/v3 (the index) and one v3 document a group version.

Everything is built when first asked for and kept as bytes; a CRD change drops only what it touches. The index's
hashes are made from what goes into a document, so that it costs nothing to serve.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson
from msgspec import Struct

from atoll.cluster.apiserver.discovery import Discovery, Document
from atoll.cluster.apiserver.openapi_paths import Paths, definition_name
from atoll.cluster.apiserver.openapi_paths import to_v2 as path_to_v2
from atoll.cluster.apiserver.openapi_schemas import (
    META,
    bytes_v2,
    bytes_v3,
    closure,
    custom_v2,
    custom_v3,
    delete_options,
    list_v3,
    references,
)
from atoll.kinds.catalog import ApiResource
from atoll.kinds.schemas import builtin

_INFO = {"title": "Kubernetes", "version": "1.36"}
_SECURITY = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}
_BUILTIN_SALT = "atoll-openapi-1"  # to be changed with what the documents of built-in kinds contain


class CustomSchema(Struct, frozen=True):
    """A served version of a CRD: its catalog entry and its openAPIV3Schema (None: none given)."""

    item: ApiResource
    schema: dict[str, Any] | None


class OpenApi:
    """See the module. `set_custom` follows CRDs; built-in kinds come from `discovery`'s catalog."""

    def __init__(self, discovery: Discovery) -> None:
        self._discovery = discovery
        self._custom: dict[tuple[str, str], tuple[CustomSchema, ...]] = {}
        self._documents: dict[str, Document] = {}
        self._foreign: dict[str, str] = {}
        self._foreign_v2: tuple[dict[str, Any], ...] = ()

    def set_foreign(self, urls: dict[str, str], documents: Iterable[dict[str, Any]]) -> None:
        """Of aggregated APIs: "apis/GROUP/VERSION" → where its v3 document is; their parts of the v2 document."""
        self._foreign, self._foreign_v2 = urls, tuple(documents)
        for name in ("", "v2"):
            self._documents.pop(name, None)

    def set_custom(self, schemas: Iterable[CustomSchema]) -> None:
        """Replace the served custom kinds; documents of group versions that stay as they were are kept."""
        fresh: dict[tuple[str, str], tuple[CustomSchema, ...]] = {}
        for schema in schemas:
            resource = schema.item.resource
            key = (resource.group, resource.version)
            fresh[key] = (*fresh.get(key, ()), schema)
        for key in {*fresh, *self._custom}:
            if fresh.get(key) != self._custom.get(key):
                self._documents.pop(_path(*key), None)
        self._custom = fresh
        for name in ("", "v2"):
            self._documents.pop(name, None)

    def v3_index(self) -> Document:
        """/openapi/v3: {"paths": {"apis/apps/v1": {"serverRelativeURL": "…?hash=…"}}}."""
        document = self._documents.get("")
        if document is None:
            paths = {}
            for group, version in self._versions():
                path = _path(group, version)
                url = f"/openapi/v3/{path}?hash={self._hash(group, version)}"
                paths[path] = {"serverRelativeURL": url}
            for path, url in self._foreign.items():
                paths[path] = {"serverRelativeURL": url}
            document = self._documents[""] = Document(orjson.dumps({"paths": paths}))
        return document

    def v3(self, path: str) -> Document | None:
        """The document of "api/v1" or "apis/GROUP/VERSION"; None if that is not served."""
        path = path.strip("/")
        document = self._documents.get(path)
        if document is not None:
            return document
        found = next((key for key in self._versions() if _path(*key) == path), None)
        if found is None:
            return None
        document = self._documents[path] = Document(self._build_v3(*found), etag=f'"{self._hash(*found)}"')
        return document

    def v2(self) -> Document:
        """/openapi/v2 as JSON."""
        document = self._documents.get("v2")
        if document is None:
            body = self._build_v2()
            document = Document(body, etag=f'"{hashlib.sha512(body).hexdigest().upper()}"')
            self._documents["v2"] = document
        return document

    def _versions(self) -> list[tuple[str, str]]:
        return [(group.name, version.version) for group in self._discovery.groups for version in group.versions]

    def _hash(self, group: str, version: str) -> str:
        digest = hashlib.sha512(f"{_BUILTIN_SALT}/{group}/{version}".encode())
        for custom in self._custom.get((group, version), ()):
            digest.update(repr(custom.item).encode())
            digest.update(orjson.dumps(custom.schema, option=orjson.OPT_SORT_KEYS))
        return digest.hexdigest().upper()

    def _builtin_items(self, group: str, version: str) -> list[ApiResource]:
        custom = {item.item.resource for item in self._custom.get((group, version), ())}
        return [
            item
            for found in self._discovery.groups
            if found.name == group
            for served in found.versions
            if served.version == version
            for item in served.resources
            if item.resource not in custom
        ]

    def _contents(self, group: str, version: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """(paths, the custom definitions) of a group version, in v3 form."""
        paths: dict[str, Any] = {}
        definitions: dict[str, Any] = {}
        for item in self._builtin_items(group, version):
            if builtin().definition_of(group, version, item.resource.kind) is not None:
                paths |= Paths(item, custom=False).build()
        for custom in self._custom.get((group, version), ()):
            resource = custom.item.resource
            paths |= Paths(custom.item, custom=True).build()
            gvk = {"group": group, "kind": resource.kind, "version": version}
            name = definition_name(resource.api_version, resource.kind)
            definitions[name] = custom_v3(custom.schema, gvk)
            list_gvk = {**gvk, "kind": custom.item.list_kind}
            definitions[definition_name(resource.api_version, custom.item.list_kind)] = list_v3(
                name, resource.kind, list_gvk
            )
        return paths, definitions

    def _build_v3(self, group: str, version: str) -> bytes:
        paths, definitions = self._contents(group, version)
        schemas: dict[str, Any] = dict(definitions)
        for name in _needed(paths, definitions):
            schemas[name] = orjson.Fragment(bytes_v3(name))
        if META + "DeleteOptions" in schemas:
            schemas[META + "DeleteOptions"] = delete_options(group, version)
        return orjson.dumps(
            {
                "openapi": "3.0.0",
                "info": _INFO,
                "paths": dict(sorted(paths.items())),
                "components": {"schemas": dict(sorted(schemas.items())), "securitySchemes": _SECURITY},
            }
        )

    def _build_v2(self) -> bytes:
        all_paths: dict[str, Any] = {}
        schemas: dict[str, Any] = {}
        for group, version in self._versions():
            paths, definitions = self._contents(group, version)
            all_paths |= {path: path_to_v2(item) for path, item in paths.items()}
            schemas |= {name: custom_v2(schema) for name, schema in definitions.items()}
            for name in _needed(paths, definitions):
                if name not in schemas:
                    schemas[name] = orjson.Fragment(bytes_v2(name))
        for foreign in self._foreign_v2:
            all_paths |= foreign.get("paths") or {}
            schemas = {**(foreign.get("definitions") or {}), **schemas}
        return orjson.dumps(
            {
                "swagger": "2.0",
                "info": _INFO,
                "paths": dict(sorted(all_paths.items())),
                "definitions": dict(sorted(schemas.items())),
                "securityDefinitions": _SECURITY,
                "security": [{"BearerToken": []}],
            }
        )


def _needed(paths: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The built-in definitions that these refer to, directly or not."""
    direct = {META + name for name in ("Status", "APIResourceList")}
    references(paths, direct)
    references(definitions, direct)
    known = builtin().definitions
    return {name for start in direct if start in known for name in closure(start)}


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"
