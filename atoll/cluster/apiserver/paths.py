"""URL paths as upstream's RequestInfo reads them (apiserver pkg/endpoints/request/requestinfo.go)."""

from __future__ import annotations

import functools

from msgspec import Struct

_NAMESPACE_SUBRESOURCES = ("status", "finalize")


class Path(Struct, frozen=True):
    """A resource path. `rest` is what follows a subresource (proxy paths), `watch` the deprecated prefix."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str = ""
    subresource: str = ""
    rest: str = ""
    watch: bool = False


@functools.lru_cache(4096)
def parse(path: str) -> Path | None:
    """None for anything but a resource path."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) == 2 and parts[1] != "v1":
        return Path("", parts[1], "", "")  # an unknown version of the core group
    if parts[0] == "api" and len(parts) > 2:
        group, version, parts = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return None
    watch = parts[0] == "watch" and len(parts) > 1
    if watch:
        parts = parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    plural = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    rest = "/" + "/".join(parts[3:]) if len(parts) > 3 else ""
    if subresource == "proxy" and path.endswith("/"):
        rest = rest.rstrip("/") + "/"
    return Path(group, version, namespace, plural, name, subresource, rest, watch)
