"""Request bodies: JSON, YAML and Kubernetes protobuf become JSON values; repeated keys are found and named.

The common case costs one parse and one cheap comparison of quote counts; only a body that may repeat a key is
parsed again slowly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import orjson

from atoll.base.errors import BadRequest, UnsupportedMediaType
from atoll.client.port import JSON_PATCH, STRATEGIC_PATCH
from atoll.cluster.apiserver import gojson, protobuf

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML, PROTOBUF)
_TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_SHOWN_BYTES = 30


class Repeated(tuple[str, ...]):
    """`duplicate field "spec.replicas"` …; `order` has the position of every field, to list problems as they stand."""

    order: dict[str, int]


NONE = Repeated()
NONE.order = {}


def media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def unknown_format(accepted: tuple[str, ...] = ACCEPTED) -> UnsupportedMediaType:
    listed = ", ".join(accepted)
    return UnsupportedMediaType(
        f"the body of the request was in an unknown format - accepted media types include: {listed}"
    )


def parse(body: bytes, content_type: str, kind: str) -> tuple[Any, Repeated]:
    """`content_type` is a media type ("" is JSON); `kind` is for messages. Raises BadRequest, UnsupportedMediaType."""
    if content_type in ("", JSON):
        return parse_json(body, kind)
    if content_type == YAML:
        return parse_yaml(body, kind)
    if content_type == PROTOBUF:
        if not body.startswith(b"k8s\0"):
            why = "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
            raise _unrecognized(kind, why, body)
        return protobuf.decode(body)[2], NONE
    raise unknown_format()


def _unrecognized(kind: str, why: str, body: bytes) -> BadRequest:
    if kind == "DeleteOptions":
        return BadRequest(why)
    return BadRequest(f"the object provided is unrecognized (must be of type {kind}): {why} ({_summary(body)})")


def _summary(body: bytes) -> str:
    if not body:
        return "<empty>"
    start = body[:_SHOWN_BYTES]
    shown = start.decode(errors="replace") if body[:1] == b"{" else start.hex()
    return shown + (" ..." if len(body) > _SHOWN_BYTES else "")


def parse_json(body: bytes, kind: str) -> tuple[Any, Repeated]:
    """An object, or {} for null. Raises BadRequest."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        why = gojson.fault(body) or str(error)
        raise _unrecognized(kind, f"couldn't get version/kind; json parse error: {why}", body) from None
    if not isinstance(value, dict):
        if value is None:
            return {}, NONE
        why = f"json: cannot unmarshal {gojson.kind_name(value)} into Go value of type {_TYPE_META}"
        raise _unrecognized(kind, f"couldn't get version/kind; json parse error: {why}", body)
    return value, repeated_keys(body, value)


class _Object(dict[str, Any]):
    """A parsed object that knows its keys as they came."""

    __slots__ = ("pairs",)
    pairs: list[tuple[str, Any]]


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    found.pairs = pairs
    return found


def repeated_keys(body: bytes, value: Any) -> Repeated:
    """Keys that an object has more than once; `value` is what the body parsed to."""
    if body.count(b'"') == orjson.dumps(value).count(b'"'):
        return NONE
    try:
        again = json.loads(body, object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        return NONE
    order: dict[str, int] = {}
    found: list[str] = []
    _collect(again, "", found, order)
    result = Repeated(f'duplicate field "{path}"' for path in found)
    result.order = order
    return result


def _collect(value: Any, path: str, found: list[str], order: dict[str, int]) -> None:
    if isinstance(value, _Object):
        prefix = f"{path}." if path else ""
        seen: set[str] = set()
        for key, item in value.pairs:
            here = prefix + key
            if key in seen:
                found.append(here)
                order[f'duplicate field "{here}"'] = len(order)
            seen.add(key)
            order.setdefault(f'unknown field "{here}"', len(order))
            _collect(item, here, found, order)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _collect(item, f"{path}[{index}]", found, order)


def in_order(problems: list[str], repeated: Sequence[str]) -> list[str]:
    """Problems as they stand in the document, where that is known."""
    order = getattr(repeated, "order", None)
    if not order:
        return problems
    return sorted(problems, key=lambda problem: order.get(problem, len(order)))


def parse_yaml(body: bytes, kind: str) -> tuple[Any, Repeated]:
    """Raises BadRequest."""
    if body[:1] == b"{":
        return parse_json(body, kind)
    try:
        value, repeated = load_yaml(body)
    except ValueError as error:
        raise _unrecognized(kind, str(error), body) from None
    if value is None:
        return {}, NONE
    if not isinstance(value, dict):
        why = f"json: cannot unmarshal {gojson.kind_name(value)} into Go value of type {_TYPE_META}"
        raise _unrecognized(kind, f"couldn't get version/kind; json parse error: {why}", body)
    return value, repeated


def load_yaml(body: bytes) -> tuple[Any, Repeated]:
    """The JSON value of one YAML document. Raises ValueError with goyaml's text."""
    from atoll.cluster.apiserver import yamlbodies  # the library's import is not paid by clusters that read JSON alone

    value, repeated = yamlbodies.load(body)
    if not repeated:
        return value, NONE
    found = Repeated(("yaml: unmarshal errors:\n" + "\n".join(repeated),))
    found.order = {}
    return value, found


def _plain_json(body: bytes) -> tuple[Any, Repeated] | None:
    """A JSON object without repeated keys, which YAML would read to the same value; None for all else."""
    if body[:1] != b"{":
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return None if repeated_keys(body, value) else (value, NONE)


def parse_applied(body: bytes) -> tuple[Any, Repeated]:
    """YAML, which JSON is too: that is what controllers send, and it is read as such. Raises BadRequest."""
    try:
        value, repeated = _plain_json(body) or load_yaml(body)
    except ValueError as error:
        raise BadRequest(f"error decoding YAML: error converting YAML to JSON: {error}") from None
    if not isinstance(value, dict):
        kind = gojson.kind_name(value)
        raise BadRequest(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal"
            f" {kind} into Go value of type map[string]interface {{}}"
        )
    if not value.get("apiVersion") or not value.get("kind"):
        group, _, version = str(value.get("apiVersion") or "").rpartition("/")
        raise BadRequest(f"invalid object type: {group}/{version}, Kind={value.get('kind') or ''}")
    return value, repeated


def parse_patch(body: bytes, content_type: str) -> tuple[Any, Repeated]:
    """Raises BadRequest."""
    prefix = "" if content_type == STRATEGIC_PATCH else "error decoding patch: "
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(prefix + (gojson.fault(body) or str(error))) from None
    if content_type == JSON_PATCH:
        return value, NONE
    if not isinstance(value, dict):
        kind = gojson.kind_name(value)
        raise BadRequest(f"{prefix}json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    return value, repeated_keys(body, value)
