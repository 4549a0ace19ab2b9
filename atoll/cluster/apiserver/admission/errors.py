"""The refusal that every plugin gives, worded as the real admission chain's."""

from __future__ import annotations

from typing import Any

from atoll.base.errors import Forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest


def forbidden(request: AdmissionRequest, why: str, causes: list[dict[str, Any]] | None = None) -> Forbidden:
    """`pods "x" is forbidden: WHY`. An unnamed object is named by its generateName as upstream does."""
    name = request.name
    if not name and request.obj is not None:
        name = (request.obj.get("metadata") or {}).get("generateName") or "Unknown"
    resource = request.resource
    details: dict[str, Any] = {"name": name, "kind": resource.plural}
    if resource.group:
        details["group"] = resource.group
    if causes:
        details["causes"] = causes
    return Forbidden(f'{resource.group_resource} "{name}" is forbidden: {why}', details=details)
