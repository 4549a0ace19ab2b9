"""An audit Event as JSON, from what a request was and what it was answered. Pure."""

from __future__ import annotations

from typing import Any

import orjson

from atoll.base.clock import rfc3339_micro
from atoll.cluster.apiserver.ports import Attributes, User, user_info
from atoll.wire.messages import HttpRequest

Object = dict[str, Any]
_LONGEST_AGENT = 1024


def begun(event_id: str, level: str, request: HttpRequest, asked: Attributes, user: User, wall: float) -> Object:
    """What all stages of a request share. `user`: who was authenticated; `asked.user` differs where impersonated."""
    target = request.target or (f"{request.path}?{request.query}" if request.query else request.path)
    event: Object = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": level,
        "auditID": event_id,
        "stage": "",
        "requestURI": target,
        "verb": asked.verb,
        "user": user_info(user),
        "sourceIPs": source_addresses(request),
    }
    agent = request.headers.get("user-agent")
    if agent:
        event["userAgent"] = agent if len(agent) <= _LONGEST_AGENT else f"{agent[:_LONGEST_AGENT]}...TRUNCATED"
    if asked.resource:
        given = (
            ("resource", asked.resource), ("namespace", asked.namespace), ("name", asked.name),
            ("apiGroup", asked.group), ("apiVersion", asked.version), ("subresource", asked.subresource),
        )  # fmt: skip
        event["objectRef"] = {key: value for key, value in given if value}
    event["requestReceivedTimestamp"] = event["stageTimestamp"] = rfc3339_micro(wall)
    return event


def staged(event: Object, stage: str, wall: float, annotations: dict[str, str]) -> Object:
    """The event of a stage, its keys in upstream's order."""
    timestamps = {"requestReceivedTimestamp": event["requestReceivedTimestamp"], "stageTimestamp": rfc3339_micro(wall)}
    found = {key: value for key, value in event.items() if key not in timestamps}
    found["stage"] = stage
    found.update(timestamps)
    if annotations:
        found["annotations"] = dict(sorted(annotations.items()))
    return found


def impersonating(event: Object, user: User) -> Object:
    """With whom the request was for."""
    found: Object = {}
    for key, value in event.items():
        found[key] = value
        if key == "user":
            found["impersonatedUser"] = user_info(user)
    return found


def answered(status: int, body: Object | None) -> Object:
    """responseStatus: the code, and what a Status in the body says."""
    found: Object = {"metadata": {}}
    if body is not None and body.get("kind") == "Status" and body.get("apiVersion") == "v1":
        found.update({key: body[key] for key in ("status", "message", "reason", "details") if key in body})
    found["code"] = status
    return found


def refer(event: Object, obj: Object) -> None:
    """Complete objectRef by what the sent object says of itself."""
    reference, metadata = event.get("objectRef"), obj.get("metadata")
    if reference is None or not isinstance(metadata, dict):
        return
    for key in ("namespace", "name", "uid", "resourceVersion"):
        value = metadata.get(key)
        if isinstance(value, str) and value:
            reference.setdefault(key, value)


def without_managed_fields(obj: Object) -> Object:
    """Of an object, of a list's items and of a table's rows."""
    metadata = obj.get("metadata")
    if isinstance(metadata, dict) and "managedFields" in metadata:
        obj = {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}
    if isinstance(obj.get("items"), list):
        obj = {**obj, "items": [without_managed_fields(item) for item in obj["items"]]}
    if isinstance(obj.get("rows"), list):
        obj = {
            **obj,
            "rows": [{**row, "object": without_managed_fields(row.get("object") or {})} for row in obj["rows"]],
        }
    return obj


def line(event: Object) -> bytes:
    return orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE)


def source_addresses(request: HttpRequest) -> list[str]:
    """Who sent it, proxies last (X-Forwarded-For and X-Real-Ip are as trustworthy as who sets them)."""
    forwarded = [item.strip() for item in request.headers.get("x-forwarded-for", "").split(",")]
    peer = request.remote.rpartition(":")[0].strip("[]")
    found = [item for item in (*forwarded, request.headers.get("x-real-ip", ""), peer) if item]
    return list(dict.fromkeys(found))
