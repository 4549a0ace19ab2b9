"""What aggregated servers tell of their group versions, for discovery and OpenAPI. Pure: answers in, entries out."""

from __future__ import annotations

from msgspec import Struct

from atoll.cluster.apiserver.aggregation.backends import Backend
from atoll.cluster.apiserver.ports import Object


class Told(Struct, frozen=True):
    """Of one group version: its resources as aggregated discovery has them, where its OpenAPI v3 is, its part of v2."""

    backend: Backend
    resources: tuple[Object, ...] = ()
    is_stale: bool = True
    openapi_url: str = ""
    openapi_v2: Object = {}


def from_aggregated(document: Object, backend: Backend) -> tuple[Object, ...] | None:
    """An APIGroupDiscoveryList's resources of the backend's group version; None: it has none of it."""
    for group in document.get("items") or ():
        if ((group.get("metadata") or {}).get("name") or "") != backend.group:
            continue
        for version in group.get("versions") or ():
            if version.get("version") == backend.version:
                return tuple(version.get("resources") or ())
    return None


def from_legacy(document: Object, backend: Backend) -> tuple[Object, ...]:
    """An APIResourceList's resources in the aggregated form."""
    rows = document.get("resources") or ()
    found: dict[str, Object] = {}
    for row in rows:
        if "/" not in row["name"]:
            found[row["name"]] = _resource(row, backend)
    for row in rows:
        plural, _, subresource = row["name"].partition("/")
        if subresource and plural in found:
            below = {"subresource": subresource, "responseKind": _kind(row, backend), "verbs": row.get("verbs") or []}
            found[plural].setdefault("subresources", []).append(below)
    return tuple(found.values())


def _kind(row: Object, backend: Backend) -> Object:
    return {"group": row.get("group") or backend.group, "version": row.get("version") or backend.version,
            "kind": row.get("kind") or ""}  # fmt: skip


def _resource(row: Object, backend: Backend) -> Object:
    resource: Object = {
        "resource": row["name"],
        "responseKind": _kind(row, backend),
        "scope": "Namespaced" if row.get("namespaced") else "Cluster",
        "singularResource": row.get("singularName") or "",
        "verbs": row.get("verbs") or [],
    }
    for field_name in ("shortNames", "categories"):
        if row.get(field_name):
            resource[field_name] = row[field_name]
    return resource


def own_openapi(document: Object, backend: Backend) -> Object:
    """An OpenAPI v2 document's paths of the group version, and the definitions that they need."""
    prefix = backend.path
    paths = {
        path: item
        for path, item in (document.get("paths") or {}).items()
        if path == f"{prefix}/" or path == prefix or path.startswith(f"{prefix}/")
    }
    definitions = document.get("definitions") or {}
    needed: dict[str, Object] = {}
    waiting = sorted(_references(paths))
    waiting += [
        name
        for name, schema in definitions.items()
        if any(
            (gvk.get("group"), gvk.get("version")) == (backend.group, backend.version)
            for gvk in schema.get("x-kubernetes-group-version-kind") or ()
        )
    ]
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in needed:
            needed[name] = definitions[name]
            waiting += _references(definitions[name])
    return {"paths": paths, "definitions": needed}


def _references(value: object) -> set[str]:
    found: set[str] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            reference = item.get("$ref")
            if isinstance(reference, str):
                found.add(reference.removeprefix("#/definitions/"))
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return found
