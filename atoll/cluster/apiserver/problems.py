"""Status errors in upstream's words (apimachinery pkg/api/errors): the text clients parse and people know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from atoll.base.errors import (
    AlreadyExists,
    ApiError,
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    MethodNotAllowed,
    NotFound,
    TooLarge,
)
from atoll.cluster.apiserver import gojson
from atoll.cluster.apiserver.ports import Attributes, Cause
from atoll.kinds.resource import Resource

CHANGED_SINCE_READ = "the object has been modified; please apply your changes to the latest version and try again"


def _details(resource: Resource, name: str) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    return details


def not_found(resource: Resource, name: str) -> NotFound:
    return NotFound(f'{resource.group_resource} "{name}" not found', details=_details(resource, name))


def no_such_path() -> NotFound:
    """What a path that nothing serves answers."""
    return NotFound("the server could not find the requested resource", details={})


def already_exists(resource: Resource, name: str) -> AlreadyExists:
    return AlreadyExists(f'{resource.group_resource} "{name}" already exists', details=_details(resource, name))


def generated_name_taken(resource: Resource, name: str) -> AlreadyExists:
    return AlreadyExists(
        f'{resource.group_resource} "{name}" already exists, the server was not able to generate a unique name'
        " for the object",
        details=_details(resource, name) | {"retryAfterSeconds": 1},
    )


def conflict(resource: Resource, name: str, why: str = CHANGED_SINCE_READ) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on {resource.group_resource} "{name}": {why}',
        details=_details(resource, name),
    )


def kind_conflict(resource: Resource, name: str, why: str) -> Conflict:
    """Deletion preconditions name the kind where the others name the resource."""
    named = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    details = _details(resource, name) | {"kind": resource.kind}
    return Conflict(f'Operation cannot be fulfilled on {named} "{name}": {why}', details=details)


def forbidden(resource: Resource, name: str, why: str) -> Forbidden:
    subject = f'{resource.group_resource} "{name}"' if name else resource.group_resource
    return Forbidden(f"{subject} is forbidden: {why}", details=_details(resource, name))


def denied(attributes: Attributes, reason: str) -> Forbidden:
    """An authorizer's no (apiserver pkg/endpoints/handlers/responsewriters/errors.go)."""
    user = attributes.user.name
    if not attributes.resource:
        why = f'User "{user}" cannot {attributes.verb} path "{attributes.path}"'
        message = f"forbidden: {why}{': ' + reason if reason else ''}"
        return Forbidden(message, details={})
    resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
    where = f' in the namespace "{attributes.namespace}"' if attributes.namespace else " at the cluster scope"
    why = f'User "{user}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}"{where}'
    named = Resource(attributes.group, attributes.version, attributes.resource, "")
    return forbidden(named, attributes.name, why + (f": {reason}" if reason else ""))


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> Invalid:
    """422; repeated messages are said once in the text, all are listed in the causes."""
    qualified = f"{kind}.{group}" if group else kind
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in causes))
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if kind:
        details["kind"] = kind
    details["causes"] = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    return Invalid(f'{qualified} "{name}" is invalid: {text}', details=details)


def invalid_options(kind: str, causes: Sequence[Cause]) -> Invalid:
    return invalid("meta.k8s.io", kind, "", causes)


def method_not_supported(resource: Resource, verb: str) -> MethodNotAllowed:
    return MethodNotAllowed(
        f'{verb} is not supported on resources of kind "{resource.group_resource}"',
        details=_details(resource, ""),
    )


def method_not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource", details={})


def too_new(asked: int, current: int) -> ApiError:
    """A version that has not happened yet: 504 as upstream, which clients retry."""
    return ApiError(
        f"Timeout: Too large resource version: {asked}, current: {current}",
        code=504,
        reason="Timeout",
        details={"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]},
        retry_after_seconds=1,
    )


def too_old(asked: int, oldest: int | None = None) -> Gone:
    """A watch from below the history."""
    return Gone(f"too old resource version: {asked}" + (f" ({oldest})" if oldest is not None else ""))


def compacted() -> Gone:
    """An exact list from below the history."""
    return Gone("The resourceVersion for the provided list is too old.")


def too_large_for_etcd() -> ApiError:
    """What upstream answers when etcd refuses an object over its 1.5 MiB."""
    return ApiError("etcdserver: request is too large", code=500, reason="", details=None)


def body_too_large(limit: int) -> TooLarge:
    return TooLarge(f"Request entity too large: limit is {limit}")


def bad_namespace() -> BadRequest:
    return BadRequest("the namespace of the provided object does not match the namespace sent on the request")


class GoStruct(dict[str, Any]):
    """Printed field by field as it is, though it holds nothing but text."""


def quoted(value: Any) -> str:
    """How field errors show a bad value: strings quoted as Go does, others as JSON."""
    if isinstance(value, str):
        return gojson.quote(value)
    if value is None:
        return "null"
    text = orjson.dumps(_in_go_order(value)).decode()
    for character, escaped in _HTML:  # as Go's encoding/json
        text = text.replace(character, escaped)
    return text


_HTML = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"))


def _in_go_order(value: Any) -> Any:
    """Go writes maps by key; maps of text are told from structs by having nothing but text."""
    if isinstance(value, dict):
        if not isinstance(value, GoStruct) and all(isinstance(item, str) for item in value.values()):
            return dict(sorted(value.items()))
        return {key: _in_go_order(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_in_go_order(item) for item in value]
    return value


def bad_value(field: str, value: Any, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {quoted(value)}: {why}", field)


def internal_error(field: str, why: str) -> Cause:
    """A fault of the server's own (upstream's field.InternalError)."""
    return Cause("InternalError", f"Internal error: {why}", field)


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", f"Required value: {why}" if why else "Required value", field)


def not_allowed(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def too_long(field: str, most: int) -> Cause:
    unit = "byte" if most == 1 else "bytes"
    return Cause("FieldValueTooLong", f"Too long: may not be more than {most} {unit}", field)


def too_many(field: str, count: int, most: int) -> Cause:
    unit = "item" if most == 1 else "items"
    return Cause("FieldValueTooMany", f"Too many: {count}: must have at most {most} {unit}", field)


def not_supported(field: str, value: Any, allowed: Iterable[str]) -> Cause:
    listed = ", ".join(f'"{item}"' for item in allowed)
    return Cause("FieldValueNotSupported", f"Unsupported value: {quoted(value)}: supported values: {listed}", field)


def duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", f"Duplicate value: {quoted(value)}", field)


def version_on_create() -> ApiError:
    return ApiError("resourceVersion should not be set on objects to be created", code=500, reason="")


def bad_version(text: str) -> str:
    return f'strconv.ParseUint: parsing "{text}": invalid syntax'


def plain_fault(message: str) -> ApiError:
    """What upstream answers where an error of its own has no Status: 500 without a reason."""
    return ApiError(message, code=500, reason="")


def uid_conflict(resource: Resource, key: str, name: str, asked: str, actual: str) -> Conflict:
    return conflict(
        resource,
        name,
        f"StorageError: invalid object, Code: 4, Key: /registry/{key}, ResourceVersion: 0, AdditionalErrorMsg:"
        f" Precondition failed: UID in precondition: {asked}, UID in object meta: {actual}",
    )


NO_PAGE = "NoPage"


def no_such_page() -> NotFound:
    """A path outside of every API group: plain text over HTTP, as upstream."""
    return NotFound("404 page not found", reason=NO_PAGE)
