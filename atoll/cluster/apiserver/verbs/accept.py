"""What a client sent becomes a private object of the served version: type, schema, unknown and repeated fields."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import orjson

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.bodies import in_order
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.problems import bad_value, invalid
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.kinds.catalog import catalog
from atoll.kinds.decode import DecodeError, cannot_handle, decode, strict_error
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource
from atoll.objects.meta import copy


def accept(
    context: Context, served: Served, raw: Any, repeated: Sequence[str] = (), standing: Object | None = None
) -> Object:
    """`raw` must be private to the caller (parts of it are kept). Raises BadRequest.

    `standing`: the object that stands, in this version: what `raw` has of it is not decoded again.
    """
    resource = served.resource
    if served.custom is not None and isinstance(raw, dict):
        _check_custom_kind(raw, resource)
    obj = typed(raw, resource)
    if served.custom is not None:
        accepted: Object = served.custom.accept(context, served, obj, repeated, standing)
        return accepted
    if served.schema is None:
        return obj
    return check(context, served.schema, obj, resource.api_version, resource.kind, repeated)


def accept_status(
    context: Context, served: Served, raw: Any, shown: Object, repeated: Sequence[str] = (), *, shared: bool = False
) -> Object:
    """The same for a write of status: what is as it stands beside it is taken over, not decoded again.

    `shared`: `raw` belongs to the caller.
    """
    custom = served.custom is not None
    quick = (custom or served.store_resource in NO_STATUS_DEFAULTS) and isinstance(raw, dict)
    if not quick or not _only_status_differs(raw, shown):
        return accept(context, served, copy(raw) if custom and shared else raw, repeated)
    part = {name: raw[name] for name in _STATUS_FIELDS if name in raw}
    obj = accept(context, served, part, repeated, shown)  # decoding copies what may be changed
    for name in list(obj):
        if name not in _STATUS_FIELDS and name not in shown:
            del obj[name]
    for name, value in shown.items():
        if name not in _STATUS_FIELDS:
            obj[name] = value
    return obj


NO_STATUS_DEFAULTS = frozenset(
    {
        "pods", "replicationcontrollers", "deployments.apps", "replicasets.apps", "statefulsets.apps",
        "daemonsets.apps", "jobs.batch",
    }
)  # fmt: skip
"""Kinds whose status upstream gives no defaults; their status is written most."""

_STATUS_FIELDS = ("apiVersion", "kind", "metadata", "status")


def _only_status_differs(raw: Object, shown: Object) -> bool:
    for name, value in raw.items():
        if name not in _STATUS_FIELDS:
            standing = shown.get(name)
            if value is not standing and value != standing:
                return False
    return True


def _check_custom_kind(raw: Object, resource: Resource) -> None:
    for field, name in (("kind", "Kind"), ("apiVersion", "apiVersion")):
        if not raw.get(field):
            text = orjson.dumps(raw).decode()
            shown = text if len(text) <= 30 else text[:30] + " ..."
            raise BadRequest(
                f"the object provided is unrecognized (must be of type {resource.kind}): Object '{name}' is missing in"
                f" '{text}' ({shown})"
            )
    kind = raw["kind"]
    if kind != resource.kind:
        cause = bad_value("kind", kind, f"must be {resource.kind}")
        name = str((raw.get("metadata") or {}).get("name") or "")
        raise invalid(resource.group, str(kind), name, [cause])


def typed(raw: Any, resource: Resource) -> Object:
    """With apiVersion and kind, which a client may leave out, first. Raises BadRequest."""
    if not isinstance(raw, dict):
        raise cannot_handle(resource.kind, resource.api_version, "not an object")
    version, kind = raw.get("apiVersion") or resource.api_version, raw.get("kind") or resource.kind
    if version != resource.api_version or kind != resource.kind:
        raise _other_kind(str(version), str(kind), resource)
    obj: Object = {"apiVersion": version, "kind": kind, "metadata": None}
    obj.update(raw)
    metadata = obj["metadata"]
    if metadata is None:
        obj["metadata"] = {}
    return obj


def _other_kind(version: str, kind: str, resource: Resource) -> BadRequest:
    group, _, short = version.rpartition("/")
    if catalog().by_kind(group, short, kind) is None:
        if kind == resource.kind and group == resource.group and resource.group not in _builtin_groups():
            return _other_version(version, resource)
        return cannot_handle_as(kind, short, resource.kind, unregistered(kind, version))
    if kind == resource.kind:
        return _other_version(version, resource)
    package = (resource.group or "core").partition(".")[0]
    detail = f"converting ({short}.{kind}) to ({package}.{resource.kind}): unknown conversion"
    return cannot_handle_as(kind, short, resource.kind, detail)


def _other_version(version: str, resource: Resource) -> BadRequest:
    return BadRequest(
        f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
    )


def cannot_handle_as(kind: str, version: str, wanted: str, detail: str) -> BadRequest:
    return BadRequest(f'{kind} in version "{version}" cannot be handled as a {wanted}: {detail}')


def unregistered(kind: str, version: str) -> str:
    return f'no kind "{kind}" is registered for version "{version}" in scheme "pkg/runtime/scheme.go:111"'


@functools.cache
def _builtin_groups() -> frozenset[str]:
    return frozenset(group.name for group in catalog().groups)


def check(
    context: Context, node: SchemaNode, obj: Object, api_version: str, kind: str, repeated: Sequence[str] = ()
) -> Object:
    """Decoded by a built-in schema; unknown and repeated fields as fieldValidation says. Raises BadRequest."""
    try:
        decoded, unknown = decode(obj, node)
    except DecodeError as error:
        raise cannot_handle(kind, api_version, str(error)) from None
    if repeated or unknown:
        report(context, in_order([*repeated, *unknown], repeated), api_version, kind)
    if "metadata" not in decoded:
        decoded["metadata"] = {}
    result: Object = decoded
    return result


def report(context: Context, problems: list[str], api_version: str, kind: str) -> None:
    """Raises BadRequest where strict; else they are warnings, or nothing."""
    if context.field_validation == "Strict":
        raise cannot_handle(kind, api_version, strict_error(problems))
    if context.field_validation != "Ignore":
        for problem in problems:
            context.warn(problem)
