"""Reads configuration documents of apiserver.config.k8s.io: strict about fields and types, in upstream's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from atoll.base.errors import UserError
from atoll.cluster.apiserver.ports import Cause

Object = dict[str, Any]
GROUP = "apiserver.config.k8s.io"
_DURATION = re.compile(r"(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def read(text: str, source: str, kind: str, shape: Mapping[str, Any]) -> Object:
    """The document of that kind, in any of its versions. `shape`: field → str, bool, a nested shape, or a list of one.

    Raises UserError that names the file.
    """
    import yaml

    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise UserError(f"{source}: not YAML: {error}") from None
    if not document:
        raise UserError(f"{source}: empty config data")
    if not isinstance(document, dict):
        raise UserError(f"{source}: must be one document of kind {kind}")
    version = document.get("apiVersion")
    if document.get("kind") != kind or version not in [f"{GROUP}/{name}" for name in ("v1", "v1beta1", "v1alpha1")]:
        found = f"{version}, Kind={document.get('kind')}"
        raise UserError(f"{source}: expected {GROUP}/v1, Kind={kind}, got {found}")
    wrong: list[str] = []
    _check(document, {"apiVersion": str, "kind": str, **shape}, "", wrong)
    if wrong:
        raise UserError(f"{source}: strict decoding error: {', '.join(wrong)}")
    return document


def _check(value: Any, shape: Any, path: str, wrong: list[str]) -> None:
    if value is None:
        return
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            wrong.append(f"{path or 'the document'} must be an object")
            return
        for key, item in value.items():
            at = f"{path}.{key}" if path else str(key)
            if key not in shape:
                wrong.append(f'unknown field "{at}"')
            else:
                _check(item, shape[key], at, wrong)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            wrong.append(f"{path} must be a list")
            return
        for index, item in enumerate(value):
            _check(item, shape[0], f"{path}[{index}]", wrong)
    elif not isinstance(value, shape) or (shape is int and isinstance(value, bool)):
        names = {str: "string", bool: "boolean", int: "number"}
        wrong.append(f"{path} must be a {names[shape]}")


def refuse(source: str, causes: Iterable[Cause]) -> None:
    """Raises UserError with all of them, as an aggregate of field errors is shown."""
    texts = list(dict.fromkeys(f"{cause.field}: {cause.message}" for cause in causes))
    if texts:
        raise UserError(f"{source}: {texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}")


def seconds(text: str | None) -> float | None:
    """Of a Go duration ("3s", "1m30s"); None for what is not there, NaN for what can't be read."""
    if not text:
        return None
    sign = -1.0 if text.startswith("-") else 1.0
    plain = text.lstrip("+-")
    parts = _DURATION.findall(plain)
    if "".join(number + unit for number, unit in parts) != plain or not parts:
        return 0.0 if plain == "0" else float("nan")
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def compile_problem(error: Exception) -> str:
    """Why an expression does not compile; here upstream does not say what it gives instead of what it must."""
    text = str(error)
    return text.partition(" but got ")[0] if text.startswith("must evaluate to ") else text
