"""Clusters as they are shown and as they are stored on a real hub: one kind under two group versions. Pure.

A CRD and an APIService can't share a group version, so Clusters are stored under our own group and shown, by an
aggregated API server of ours, as cluster.karmada.io. Objects, lists, tables, watch events, patches and refusals are
carried over between the two; nothing but the names of group and version differs.
"""

from __future__ import annotations

from typing import Any

import orjson

from atoll.kinds.hub import CLUSTERS, STORED_CLUSTERS

Object = dict[str, Any]
SHOWN, STORED = CLUSTERS.api_version, STORED_CLUSTERS.api_version
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def stored_path(path: str) -> str:
    """The hub's own path for a path of the shown group version."""
    return f"/apis/{STORED}{path.removeprefix(f'/apis/{SHOWN}')}"


def to_stored(value: Any) -> Any:
    """An object (or merge or apply patch) as the hub stores it; changed in place."""
    return _renamed(value, SHOWN, STORED)


def to_shown(value: Any) -> Any:
    """What the hub answered, as it is shown: an object, list, table or Status; changed in place."""
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "Status":
        return _status(value)
    for item in value.get("items") or ():
        _renamed(item, STORED, SHOWN)
    for row in value.get("rows") or ():
        _renamed(row.get("object"), STORED, SHOWN)
    return _renamed(value, STORED, SHOWN)


def shown_event(line: bytes) -> bytes:
    """One event of a watch."""
    event = orjson.loads(line)
    event["object"] = to_shown(event["object"])
    return orjson.dumps(event) + b"\n"


def _renamed(value: Any, old: str, new: str) -> Any:
    if not isinstance(value, dict):
        return value
    if value.get("apiVersion") == old:
        value["apiVersion"] = new
    for entry in (value.get("metadata") or {}).get("managedFields") or ():
        if entry.get("apiVersion") == old:
            entry["apiVersion"] = new
    return value


def _status(status: Object) -> Object:
    message = status.get("message")
    if isinstance(message, str):
        named = message.replace(STORED_CLUSTERS.group_resource, CLUSTERS.group_resource)
        status["message"] = named.replace(f'"{STORED_CLUSTERS.group}"', f'"{CLUSTERS.group}"')
    details = status.get("details") or {}
    if details.get("group") == STORED_CLUSTERS.group:
        details["group"] = CLUSTERS.group
    return status


def resource_list() -> Object:
    """Legacy discovery of the shown group version."""
    own = {"name": "clusters", "singularName": "cluster", "namespaced": False, "kind": "Cluster", "verbs": _VERBS}
    status = {**own, "name": "clusters/status", "singularName": "", "verbs": ["get", "patch", "update"]}
    proxy = {
        **own,
        "name": "clusters/proxy",
        "singularName": "",
        "verbs": ["create", "delete", "get", "patch", "update"],
    }
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": SHOWN,
        "resources": [{**own, "categories": ["karmada-io"]}, proxy, status],
    }


def openapi_index() -> Object:
    """What /openapi/v3 answers."""
    path = f"apis/{SHOWN}"
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}"}}}


def openapi(document: bytes) -> bytes:
    """The hub's OpenAPI of our group as that of the shown one."""
    old, new = STORED_CLUSTERS.group, CLUSTERS.group
    named = document.replace(old.encode(), new.encode())
    return named.replace(_reversed(old).encode(), _reversed(new).encode())


def _reversed(group: str) -> str:
    return ".".join(reversed(group.split(".")))
