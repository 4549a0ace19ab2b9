"""Discovery documents: /api, /apis and their groups (legacy lists and the aggregated one), and /version.

Built-in groups come from the catalog; the CRD machinery (and aggregated API services) replaces the custom groups as
a whole with `set_custom` whenever they change. Documents are built when first asked for and kept as bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import orjson
from msgspec import Struct

from atoll.kinds.catalog import ApiGroup, ApiResource, ApiVersion, Subresource, catalog
from atoll.kinds.resource import Resource

KUBERNETES_VERSION = "v1.36.3"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_JSON = "application/json"
CRD_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_SUBRESOURCE_VERBS = ("get", "patch", "update")
_CUSTOM_PRIORITY = 1000
_VERSION = re.compile(r"^v(\d+)(?:(alpha|beta)(\d+))?$")


class Document(Struct, frozen=True):
    """An answer; `etag` is "" for documents that upstream gives none. `vary`: by Accept."""

    body: bytes
    content_type: str = _JSON
    etag: str = ""


class Foreign(Struct, frozen=True):
    """A group version that another server answers (APIService). `resources`: as in an APIVersionDiscovery."""

    group: str
    version: str
    priority: int  # of the group
    resources: tuple[dict[str, Any], ...] = ()
    is_stale: bool = False


def version_order(version: str) -> tuple[int, int, int, str]:
    """Sort key of Kubernetes' version priority: v2, v1, v1beta2, v1beta1, v1alpha1, then others by name."""
    match = _VERSION.match(version)
    if match is None:
        return (1, 0, 0, version)
    stability = {None: 2, "beta": 1, "alpha": 0}[match[2]]
    return (0, -stability, -(int(match[1]) * 1000 + int(match[3] or 0)), "")


def storage_version_hash(group: str, version: str, kind: str) -> str:
    """What discovery shows for a storage version (the same in all API servers)."""
    digest = hashlib.sha256(f"{group}/{version}/{kind}".encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def custom_resource(
    resource: Resource,
    *,
    singular: str,
    list_kind: str = "",
    short_names: Iterable[str] = (),
    categories: Iterable[str] = (),
    status: bool = False,
    scale: bool = False,
    storage_version: str = "",
) -> ApiResource:
    """The catalog entry of one served version of a CRD."""
    subresources = []
    if status:
        subresources.append(Subresource("status", resource.kind, _SUBRESOURCE_VERBS))
    if scale:
        subresources.append(Subresource("scale", "Scale", _SUBRESOURCE_VERBS, "autoscaling/v1"))
    digest = storage_version_hash(resource.group, storage_version, resource.kind) if storage_version else ""
    return ApiResource(
        resource, singular, CRD_VERBS, tuple(short_names), tuple(categories), tuple(subresources), digest,
        list_kind or resource.kind + "List",
    )  # fmt: skip


def custom_groups(resources: Iterable[ApiResource]) -> list[ApiGroup]:
    """Served custom resources as groups, ordered as the real server orders those of CRDs."""
    by_group: dict[str, dict[str, list[ApiResource]]] = {}
    for item in resources:
        by_group.setdefault(item.resource.group, {}).setdefault(item.resource.version, []).append(item)
    return [
        ApiGroup(
            group,
            tuple(
                ApiVersion(version, tuple(sorted(versions[version], key=lambda item: item.resource.plural)))
                for version in sorted(versions, key=version_order)
            ),
        )
        for group, versions in sorted(by_group.items())
    ]


class Discovery:
    """See the module. `set_custom` drops every cached document."""

    def __init__(self, *, git_version: str = f"{KUBERNETES_VERSION}+atoll", server_address: str = "") -> None:
        self._git_version = git_version
        self._server_address = server_address
        self._builtin = catalog().groups
        self._custom: list[ApiGroup] = []
        self._foreign: tuple[Foreign, ...] = ()
        self._documents: dict[tuple[str, bool], Document | None] = {}
        self.generation = 0

    @property
    def groups(self) -> list[ApiGroup]:
        """All served groups, the core one first, in the order of /apis."""
        return self._merged

    def set_custom(self, groups: Iterable[ApiGroup], foreign: Iterable[Foreign] = ()) -> None:
        """Replace the groups of CRDs and those of aggregated APIs, which win over CRDs."""
        self._custom = list(groups)
        self._foreign = tuple(foreign)
        self._documents.clear()
        self.generation += 1

    @property
    def _merged(self) -> list[ApiGroup]:
        """A custom group of a built-in name adds its versions (and resources) to that group."""
        extra = {group.name: group for group in self._custom}
        merged = []
        for group in self._builtin:
            more = extra.pop(group.name, None)
            merged.append(group if more is None else _joined(group, more))
        return merged + list(extra.values())

    def get(self, path: str, accept: str = "") -> Document | None:
        """The document at a path ("/api", "/apis/apps/v1", "/version" …); None if there is none there."""
        aggregated = path in ("/api", "/apis") and _wants_aggregated(accept)
        key = (path.rstrip("/"), aggregated)
        if key not in self._documents:
            if len(self._documents) > 4096:  # paths come from clients
                self._documents.clear()
            self._documents[key] = self._build(*key)
        return self._documents[key]

    def _build(self, path: str, aggregated: bool) -> Document | None:
        if aggregated:
            return self._aggregated(core=path == "/api")
        value: dict[str, Any] | None = None
        parts = path.strip("/").split("/")
        match parts:
            case ["version"]:
                value = self._version()
            case ["api"]:
                value = {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": self._addresses()}
            case ["apis"]:
                groups = [self._group_document(name, versions) for name, versions in self._names() if name]
                value = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
            case ["api", version]:
                value = self._resources("", version)
            case ["apis", name]:
                found = next((item for item in self._names() if item[0] == name), None) if name else None
                if found is not None:
                    value = {"kind": "APIGroup", "apiVersion": "v1", **self._group_document(*found)}
            case ["apis", name, version]:
                value = self._resources(name, version)
        return None if value is None else Document(orjson.dumps(value))

    def _names(self) -> list[tuple[str, list[str]]]:
        """Every group's name and versions, in order: built-in ones, then by priority (CRDs' is 1000) and name."""
        local = {group.name: [version.version for version in group.versions] for group in self._merged}
        if not self._foreign:
            return list(local.items())
        priorities: dict[str, int] = {}
        for item in self._foreign:
            versions = local.setdefault(item.group, [])
            if item.version not in versions:
                versions.append(item.version)
            priorities[item.group] = max(item.priority, priorities.get(item.group, 0))
        fixed = [group.name for group in self._builtin]
        rest = [name for name in local if name not in fixed]
        rest.sort(key=lambda name: (-priorities.get(name, _CUSTOM_PRIORITY), name))
        return [(name, local[name]) for name in (*fixed, *rest)]

    @staticmethod
    def _group_document(name: str, versions: list[str]) -> dict[str, Any]:
        rows = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
        return {"name": name, "versions": rows, "preferredVersion": rows[0]}

    def _addresses(self) -> list[dict[str, str]]:
        return [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._server_address}]

    def _version(self) -> dict[str, str]:
        major, minor = KUBERNETES_VERSION.removeprefix("v").split(".")[:2]
        return {
            "major": major,
            "minor": minor,
            "emulationMajor": major,
            "emulationMinor": minor,
            "minCompatibilityMajor": major,
            "minCompatibilityMinor": str(int(minor) - 1),
            "gitVersion": self._git_version,
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "go1.26.8",
            "compiler": "gc",
            "platform": "linux/amd64",
        }

    def _resources(self, group: str, version: str) -> dict[str, Any] | None:
        found = next((item for item in self._merged if item.name == group), None)
        served = next((item for item in found.versions if item.version == version), None) if found else None
        if served is None:
            return None
        rows: list[dict[str, Any]] = []
        for item in served.resources:
            rows += _resource_rows(item)
        document: dict[str, Any] = {"kind": "APIResourceList"}
        if group:
            document["apiVersion"] = "v1"
        document["groupVersion"] = f"{group}/{version}" if group else version
        document["resources"] = rows
        return document

    def _aggregated(self, *, core: bool) -> Document:
        items = []
        local = {
            (group.name, version.version): version.resources for group in self._merged for version in group.versions
        }
        foreign = {(item.group, item.version): item for item in self._foreign}
        for name, names in self._names():
            if (name == "") is not core:
                continue
            versions = []
            for version in names:
                other = foreign.get((name, version))
                resources = (
                    [_aggregated_resource(item) for item in local[name, version]]
                    if other is None
                    else list(other.resources)
                )
                freshness = "Stale" if other is not None and other.is_stale else "Current"
                versions.append({"version": version, "resources": resources, "freshness": freshness})
            items.append({"metadata": {"name": name} if name else {}, "versions": versions})
        body = orjson.dumps(
            {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}
        )
        return Document(body, AGGREGATED, f'"{hashlib.sha512(body).hexdigest().upper()}"')


def _joined(group: ApiGroup, more: ApiGroup) -> ApiGroup:
    versions = {version.version: version for version in group.versions}
    for version in more.versions:
        known = versions.get(version.version)
        resources = version.resources if known is None else known.resources + version.resources
        versions[version.version] = ApiVersion(version.version, resources)
    return ApiGroup(group.name, tuple(versions.values()))


def _wants_aggregated(accept: str) -> bool:
    """Whether the first media type that we can serve is the aggregated list."""
    for clause in accept.split(","):
        parts = {part.strip().lower() for part in clause.split(";")}
        if not parts & {"application/json", "*/*", "application/*"}:
            continue
        if "as=apigroupdiscoverylist" in parts:
            if "v=v2" in parts and "g=apidiscovery.k8s.io" in parts:
                return True
            continue
        return False
    return False


def _resource_rows(item: ApiResource) -> list[dict[str, Any]]:
    resource = item.resource
    row: dict[str, Any] = {
        "name": resource.plural,
        "singularName": item.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(item.verbs),
    }
    if item.short_names:
        row["shortNames"] = list(item.short_names)
    if item.categories:
        row["categories"] = list(item.categories)
    if item.storage_version_hash:
        row["storageVersionHash"] = item.storage_version_hash
    rows = [row]
    for sub in item.subresources:
        row = {"name": f"{resource.plural}/{sub.name}", "singularName": "", "namespaced": resource.namespaced}
        if sub.api_version:
            group, _, version = sub.api_version.rpartition("/")
            row |= {"group": group, "version": version} if group else {"version": version}
        row |= {"kind": sub.kind, "verbs": list(sub.verbs)}
        rows.append(row)
    return rows


def _aggregated_resource(item: ApiResource) -> dict[str, Any]:
    resource = item.resource
    custom = item.verbs is CRD_VERBS
    own = {"group": resource.group if custom else "", "version": resource.version if custom else ""}
    row: dict[str, Any] = {
        "resource": resource.plural,
        "responseKind": {**own, "kind": resource.kind},
        "scope": "Namespaced" if resource.namespaced else "Cluster",
        "singularResource": item.singular,
        "verbs": list(item.verbs),
    }
    if item.short_names:
        row["shortNames"] = list(item.short_names)
    if item.categories:
        row["categories"] = list(item.categories)
    if item.subresources:
        row["subresources"] = [_aggregated_subresource(sub, own) for sub in item.subresources]
    return row


def _aggregated_subresource(sub: Subresource, own: dict[str, str]) -> dict[str, Any]:
    kind = {**own, "kind": sub.kind}
    if sub.api_version:
        group, _, version = sub.api_version.rpartition("/")
        kind = {"group": group, "version": version, "kind": sub.kind}
    return {"subresource": sub.name, "responseKind": kind, "verbs": list(sub.verbs)}
