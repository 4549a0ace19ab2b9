"""What a default kube-apiserver 1.36 serves: every group, version, resource and subresource.

The table was recorded from the real server (data/catalog.json, by tools/kind_tables.py), in its order. `Catalog` is
also what CRDs become entries of (`ApiResource`), so discovery, OpenAPI and the API core read one shape.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterator
from typing import Any

import orjson
from msgspec import Struct, field

from atoll.kinds.resource import Resource

_ALL_VERBS = "create delete deletecollection get list patch update watch"

# Resources kept in another version than the one that discovery prefers (upstream's storage defaults).
_STORAGE_VERSIONS = {
    "horizontalpodautoscalers.autoscaling": ("autoscaling", "v2"),
    "events": ("", "v1"),
    "events.events.k8s.io": ("", "v1"),  # one set of objects, shown in two groups
    "deviceclasses.resource.k8s.io": ("resource.k8s.io", "v1"),
    "resourceclaims.resource.k8s.io": ("resource.k8s.io", "v1"),
    "resourceclaimtemplates.resource.k8s.io": ("resource.k8s.io", "v1"),
    "resourceslices.resource.k8s.io": ("resource.k8s.io", "v1"),
}


class Subresource(Struct, frozen=True):
    """e.g. status, scale; `api_version` only where its kind lives in another group (Scale, Eviction)."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    api_version: str = ""


class ApiResource(Struct, frozen=True):
    """A served resource with all that discovery says of it."""

    resource: Resource
    singular: str
    verbs: tuple[str, ...]
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[Subresource, ...] = ()
    storage_version_hash: str = ""
    list_kind: str = ""

    def subresource(self, name: str) -> Subresource | None:
        return next((item for item in self.subresources if item.name == name), None)


class ApiVersion(Struct, frozen=True):
    version: str
    resources: tuple[ApiResource, ...]


class ApiGroup(Struct, frozen=True):
    """`versions` in order of preference: the first is the preferred one."""

    name: str
    versions: tuple[ApiVersion, ...] = field(default=())


class Catalog:
    """The built-in resources, with look-ups."""

    def __init__(self, groups: list[ApiGroup]) -> None:
        self.groups = groups
        self._by_plural: dict[tuple[str, str, str], ApiResource] = {}
        self._by_kind: dict[tuple[str, str, str], ApiResource] = {}
        for item in self:
            resource = item.resource
            self._by_plural[resource.group, resource.version, resource.plural] = item
            self._by_kind.setdefault((resource.group, resource.version, resource.kind), item)

    def __iter__(self) -> Iterator[ApiResource]:
        for group in self.groups:
            for version in group.versions:
                yield from version.resources

    def resource(self, group: str, version: str, plural: str) -> ApiResource | None:
        return self._by_plural.get((group, version, plural))

    def by_kind(self, group: str, version: str, kind: str) -> ApiResource | None:
        return self._by_kind.get((group, version, kind))

    def group(self, name: str) -> ApiGroup | None:
        return next((group for group in self.groups if group.name == name), None)


def storage_version(resource: Resource) -> tuple[str, str]:
    """(group, version) in which a built-in resource's objects are kept; `atoll.kinds.convert` goes between."""
    return _STORAGE_VERSIONS.get(resource.group_resource, (resource.group, resource.version))


def _api_resource(group: str, version: str, row: dict[str, Any]) -> ApiResource:
    verbs = _ALL_VERBS if row["verbs"] == "*" else row["verbs"]
    return ApiResource(
        Resource(group, version, row["name"], row["kind"], row.get("namespaced", False)),
        row["singular"],
        tuple(verbs.split()),
        tuple(row.get("shortNames", ())),
        tuple(row.get("categories", ())),
        tuple(
            Subresource(sub["name"], sub["kind"], tuple(sub["verbs"].split()), sub.get("apiVersion", ""))
            for sub in row.get("subresources", ())
        ),
        row.get("storageVersionHash", ""),
        row["kind"] + "List",
    )


@functools.cache
def catalog() -> Catalog:
    """The one catalog of built-in resources (immutable data, loaded on first use)."""
    raw = (importlib.resources.files("atoll.kinds") / "data" / "catalog.json").read_bytes()
    groups = []
    for group in orjson.loads(raw):
        versions = tuple(
            ApiVersion(
                item["version"],
                tuple(_api_resource(group["group"], item["version"], row) for row in item["resources"]),
            )
            for item in group["versions"]
        )
        groups.append(ApiGroup(group["group"], versions))
    return Catalog(groups)


def resource(group: str, version: str, plural: str) -> ApiResource | None:
    """A built-in resource as served, e.g. resource("apps", "v1", "deployments")."""
    return catalog().resource(group, version, plural)
