"""Request bodies: JSON, YAML and Kubernetes protobuf become JSON values; repeated keys are found and named.

The common case costs one parse and one cheap comparison of quote counts; only a body that may repeat a key is
parsed again slowly.
"""

from __future__ import annotations

import json
from typing import Any

import orjson
import yaml

from atoll.base.errors import BadRequest, UnsupportedMediaType
from atoll.cluster.apiserver import protobuf

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = (JSON, YAML, PROTOBUF)

Repeated = tuple[str, ...]


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
        return protobuf.decode(body)[2], ()
    raise unknown_format()


def parse_json(body: bytes, kind: str) -> tuple[Any, Repeated]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse"
            f" error: {_go_json_error(body, error)} ({_summary(body)})"
        ) from None
    if body.count(b'"') == orjson.dumps(value).count(b'"'):
        return value, ()
    return value, repeated_keys(body)


def _go_json_error(body: bytes, error: orjson.JSONDecodeError) -> str:
    if error.pos >= len(body.rstrip()):
        return "unexpected end of JSON input"
    character = body.decode(errors="replace")[error.pos : error.pos + 1]
    return f"invalid character '{character}' looking for beginning of value"


def _summary(body: bytes, most: int = 30) -> str:
    shown = body[:most].hex()
    return shown + (" ..." if len(body) > most else "")


class _Object(dict[str, Any]):
    """A parsed object that knows which of its keys came more than once."""

    __slots__ = ("again",)
    again: tuple[str, ...]


def _pairs(pairs: list[tuple[str, Any]]) -> _Object:
    found = _Object(pairs)
    found.again = ()
    if len(found) != len(pairs):
        seen: set[str] = set()
        again: dict[str, None] = {}
        for key, _ in pairs:
            if key in seen:
                again[key] = None
            seen.add(key)
        found.again = tuple(again)
    return found


def repeated_keys(body: bytes) -> Repeated:
    """`duplicate field "spec.replicas"` for each key that an object has more than once."""
    try:
        value = json.loads(body, object_pairs_hook=_pairs)
    except (ValueError, RecursionError):
        return ()
    found: list[str] = []
    _collect(value, "", found)
    return tuple(f'duplicate field "{path}"' for path in found)


def _collect(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Object):
        prefix = f"{path}." if path else ""
        found += [prefix + key for key in value.again]
        for key, item in value.items():
            if isinstance(item, (dict, list)):
                _collect(item, prefix + key, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, (dict, list)):
                _collect(item, f"{path}[{index}]", found)


class _Loader(yaml.CSafeLoader):
    """YAML as sigs.k8s.io/yaml reads it to JSON: no timestamps, keys are strings, repeated keys are noted."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.repeated: list[str] = []


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            key = {True: "true", False: "false", None: "null"}.get(key) or str(key)
        if key in result:
            line = key_node.start_mark.line + 1
            loader.repeated.append(f'line {line}: key "{key}" already set in map')
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse_yaml(body: bytes, kind: str) -> tuple[Any, Repeated]:
    """Raises BadRequest."""
    if body[:1] == b"{":
        return parse_json(body, kind)
    loader = _Loader(body)
    try:
        value = loader.get_single_data()
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        text = str(getattr(error, "problem", None) or error)
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse"
            f" error: error converting YAML to JSON: yaml: {where}{text} ({_summary(body)})"
        ) from None
    finally:
        loader.dispose()
    return value, tuple(loader.repeated)
