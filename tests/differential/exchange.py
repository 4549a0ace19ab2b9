"""The format of recordings, shared by the recorder and the replay.

A scenario is a list of steps; a step is a request, with `$(name.path)` references to earlier answers, and (recorded)
the real server's response. A body may be built from an earlier answer: {"$from": "name", "$set": {path: value},
"$unset": [path]}. `normalise` replaces what differs by nature: uids, versions, times, generated names, tokens,
allocated addresses and ports.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

Json = Any
REFERENCE = re.compile(r"\$\(([a-z][^)]*)\)")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_GO_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4} UTC( m=[+-][\d.]+)?")
_ECHOED_VERSION = re.compile(r'(resourceVersion\\*":\\*")\d+')
_SERVICE_IP = re.compile(r"\b10\.96\.\d+\.\d+\b")
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
_VERSION_TEXT = re.compile(r"(resource version: |current: |resourceVersion: |in record \()\d+")
_CERTIFICATE = re.compile(r"X509SHA256=[0-9a-f]{64}")
_GENERATED = re.compile(r"\b(kube-api-access-|gen-|made-|cluster-gen-|g{58})[bcdfghjklmnpqrstvwxz2456789]{5}\b")
_PATTERNS = (
    (_UUID, "<uid>"),
    (_TIME, "<time>"),
    (_GO_TIME, "<time>"),
    (_ECHOED_VERSION, r"\1<version>"),
    (_SERVICE_IP, "<service-ip>"),
    (_TOKEN, "<token>"),
    (_CERTIFICATE, "X509SHA256=<hash>"),
    (_GENERATED, r"\1<suffix>"),
)
_ERRORS = "errors:\n  "
_AGE = re.compile(r"\d+[smhd](\d+[smh])?")
_PORTS = re.compile(r":3\d{4}/")
_PORT_FIELDS = frozenset(("nodePort", "healthCheckNodePort"))
_SUFFIX = re.compile(r"-[bcdfghjklmnpqrstvwxz2456789]{5}$")


def dig(value: Json, path: str) -> Json:
    """value["a"]["b"][0] for "a.b.0"; a key with dots is written in quotes by its caller as one part with `/`."""
    for part in path.split("."):
        part = part.replace("/", ".") if part not in ("/",) else part
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def resolve(value: Json, known: dict[str, Json]) -> Json:
    """The body or path with its references filled in."""
    if isinstance(value, str):
        whole = REFERENCE.fullmatch(value)
        if whole:
            return _lookup(whole[1], known)
        return REFERENCE.sub(lambda match: str(_lookup(match[1], known)), value)
    if isinstance(value, list):
        return [resolve(item, known) for item in value]
    if isinstance(value, dict):
        if "$from" in value:
            return _derived(value, known)
        return {resolve(key, known): resolve(item, known) for key, item in value.items()}
    return value


def _lookup(reference: str, known: dict[str, Json]) -> Json:
    name, dot, path = reference.partition(".")
    return dig(known[name], path) if dot else known[name]


def _derived(value: dict[str, Json], known: dict[str, Json]) -> Json:
    obj = copy.deepcopy(known[value["$from"]])
    for path, item in value.get("$set", {}).items():
        *parents, last = path.split(".")
        target = obj
        for part in parents:
            part = part.replace("|", ".")
            if isinstance(target, list):
                target = target[int(part)]
            else:
                target = target.setdefault(part, {})
        item = resolve(item, known)
        if isinstance(target, list):
            target[int(last)] = item
        else:
            target[last.replace("|", ".")] = item
    for path in value.get("$unset", ()):
        *parents, last = path.split(".")
        target = obj
        for part in parents:
            part = part.replace("|", ".")
            target = target[int(part)] if isinstance(target, list) else target[part]
        if isinstance(target, list):
            del target[int(last)]
        else:
            target.pop(last.replace("|", "."), None)
    return obj


def encode_body(request: dict[str, Json], known: dict[str, Json]) -> bytes | None:
    """The bytes of a step's request."""
    if "raw" in request:
        return resolve(request["raw"], known).encode()
    if "body" not in request:
        return None
    return json.dumps(resolve(request["body"], known)).encode()


def decode_body(content_type: str, body: bytes) -> Json:
    """JSON as JSON, a watch as a list of events, anything else as text."""
    text = body.decode(errors="replace")
    if "json" not in content_type:
        return text
    try:
        return json.loads(text)
    except ValueError:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        return {"$stream": lines}


def normalise(value: Json) -> Json:
    """Equal for two servers that behave the same."""
    if isinstance(value, dict):
        return {key: _normalise_field(key, item, value) for key, item in value.items()}
    if isinstance(value, list):
        return [normalise(item) for item in value]
    if isinstance(value, str):
        return normalise_text(value)
    return value


def normalise_text(text: str) -> str:
    for pattern, shown in _PATTERNS:
        text = pattern.sub(shown, text)
    head, listed, errors = text.partition(_ERRORS)
    if listed:  # Go walks a map: several errors come in any order
        text = head + listed + "\n  ".join(sorted(errors.split("\n  ")))
    return _VERSION_TEXT.sub(r"\1<version>", text)


def _normalise_field(key: str, item: Json, owner: dict[str, Json]) -> Json:
    if key in ("resourceVersion",) and isinstance(item, str) and item:
        return "<version>" if item.isdigit() else item
    if key == "continue" and item:
        return "<continue>"
    if key == "name" and "generateName" in owner and isinstance(item, str):
        return _SUFFIX.sub("-<suffix>", item)
    if key in _PORT_FIELDS and isinstance(item, int) and item >= 30000:
        return "<port>"
    if key == "serverAddress":
        return "<address>"
    if key == "managedFields" and isinstance(item, list):  # upstream orders them by time, which two runs don't share
        return sorted(normalise(item), key=_manager)
    if key in ("nonResourceRules", "resourceRules") and isinstance(item, list):  # in no order of their own
        return sorted((normalise(rule) for rule in item), key=str)
    if key == "cells":
        return [_normalise_cell(cell) for cell in item]
    if key == "columnDefinitions":  # the descriptions are upstream's prose
        return [{name: value for name, value in column.items() if name != "description"} for column in item or ()]
    return normalise(item)


def _normalise_cell(cell: Json) -> Json:
    if not isinstance(cell, str):
        return normalise(cell)
    return "<age>" if _AGE.fullmatch(cell) else _PORTS.sub(":<port>/", normalise_text(cell))


def _manager(entry: Json) -> str:
    return "/".join(str(entry.get(field, "")) for field in ("operation", "manager", "apiVersion", "subresource"))


def differences(expected: Json, actual: Json, path: str = "") -> list[str]:
    """Human lines saying where two normalised values differ; empty when equal."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        found: list[str] = []
        for key in sorted(expected.keys() | actual.keys()):
            at = f"{path}.{key}"
            if key not in actual:
                found.append(f"- {at} = {_short(expected[key])}")
            elif key not in expected:
                found.append(f"+ {at} = {_short(actual[key])}")
            else:
                found += differences(expected[key], actual[key], at)
        return found
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [line for index, pair in enumerate(zip(expected, actual, strict=True))
                for line in differences(*pair, f"{path}[{index}]")]  # fmt: skip
    if expected == actual and isinstance(expected, bool) == isinstance(actual, bool):
        return []
    return [f"! {path}: {_short(expected)} → {_short(actual)}"]


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 400 else text[:400] + "…"
