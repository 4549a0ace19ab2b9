"""What a client sent becomes a private object of the served version: type, schema, unknown and repeated fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.kinds.decode import DecodeError, cannot_handle, decode, strict_error
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource


def accept(context: Context, served: Served, raw: Any, repeated: Sequence[str] = ()) -> Object:
    """`raw` must be private to the caller (parts of it are kept). Raises BadRequest."""
    resource = served.resource
    obj = typed(raw, resource)
    if served.custom is not None:
        accepted: Object = served.custom.accept(context, served, obj, repeated)
        return accepted
    if served.schema is None:
        return obj
    return check(context, served.schema, obj, resource.api_version, resource.kind, repeated)


def typed(raw: Any, resource: Resource) -> Object:
    """With apiVersion and kind, which a client may leave out, first. Raises BadRequest."""
    if not isinstance(raw, dict):
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {resource.kind}): couldn't get version/kind;"
            " json parse error: json: cannot unmarshal into Go value of type struct"
            ' { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
        )
    version, kind = raw.get("apiVersion") or resource.api_version, raw.get("kind") or resource.kind
    if kind != resource.kind:
        short = str(version).rpartition("/")[2]
        group = resource.group or "core"
        raise BadRequest(
            f'{kind} in version "{short}" cannot be handled as a {resource.kind}:'
            f" converting ({short}.{kind}) to ({group.partition('.')[0]}.{resource.kind}): unknown conversion"
        )
    if version != resource.api_version:
        raise BadRequest(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    obj: Object = {"apiVersion": version, "kind": kind, "metadata": None}
    obj.update(raw)
    metadata = obj["metadata"]
    if metadata is None:
        obj["metadata"] = {}
    return obj


def check(
    context: Context, node: SchemaNode, obj: Object, api_version: str, kind: str, repeated: Sequence[str] = ()
) -> Object:
    """Decoded by a built-in schema; unknown and repeated fields as fieldValidation says. Raises BadRequest."""
    try:
        decoded, unknown = decode(obj, node)
    except DecodeError as error:
        raise cannot_handle(kind, api_version, str(error)) from None
    if repeated or unknown:
        report(context, [*repeated, *unknown], api_version, kind)
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
