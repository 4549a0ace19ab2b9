"""YAML as Go's sigs.k8s.io/yaml reads and writes it (YAML 1.1 with Go's idea of numbers), by way of JSON.

Reading: `yes` and `on` are booleans, 0777 is octal, timestamps stay text, keys become strings, the last of two equal
keys wins. Writing: block style, keys in order, strings quoted where they would be read as something else.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from atoll.base.errors import UserError

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_TRUE = frozenset(("y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"))
_INT = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")

# Plain scalars that would be read as something else: Go quotes those with double quotes.
_AMBIGUOUS = re.compile(
    rf"{_INT.pattern}|{_FLOAT.pattern}|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$|^(~|null|Null|NULL|<<|)$"
    r"|^(y|Y|yes|Yes|YES|no|No|NO|n|N|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"
    r"|^\d{4}-\d{1,2}-\d{1,2}([Tt ].*)?$"
)


class Loader(_BASE):  # type: ignore[misc]
    """PyYAML's safe loader with Go's resolution of plain scalars."""

    yaml_implicit_resolvers: dict[str, Any] = {}


class _Dumper(_DUMPER):  # type: ignore[misc]
    yaml_implicit_resolvers: dict[str, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind in (Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:bool",
        re.compile(r"^(?:y|Y|yes|Yes|YES|no|No|NO|n|N|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"),
        list("yYnNtTfFoO"),
    )
    _kind.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(_FLOAT.pattern[:-1] + r"$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
        list("-+0123456789."),
    )
    _kind.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^(?:<<)$"), ["<"])
    _kind.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])


def _construct_bool(loader: Any, node: Any) -> bool:
    return loader.construct_scalar(node) in _TRUE


def _construct_int(loader: Any, node: Any) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("+-")
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return int(text, 8)
    return int(text, 0)


def _construct_float(loader: Any, node: Any) -> float:
    text = loader.construct_scalar(node).lower().replace("_", "")
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


def _represent_str(dumper: Any, text: str) -> Any:
    style = "|" if "\n" in text else '"' if _AMBIGUOUS.match(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Loader.add_constructor("tag:yaml.org,2002:bool", _construct_bool)
Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)
_Dumper.add_representer(str, _represent_str)


class YamlError(UserError):
    """The text is not YAML."""


def load(text: str | bytes) -> Any:
    """One document as a JSON value. Raises YamlError."""
    try:
        return _json(yaml.load(text, Loader=Loader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"error converting YAML to JSON: {error}") from error


def load_all(text: str | bytes) -> list[Any]:
    """All documents, empty ones left out. Raises YamlError."""
    try:
        return [_json(item) for item in yaml.load_all(text, Loader=Loader) if item is not None]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlError(f"error converting YAML to JSON: {error}") from error


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key_text(key): _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def key_text(key: Any) -> str:
    """A key of any kind as JSON has it."""
    if isinstance(key, bool):
        return "true" if key else "false"
    return "null" if key is None else str(key)


def dump(value: Any) -> str:
    """sigs.k8s.io/yaml's Marshal."""
    return str(yaml.dump(value, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, width=1 << 30))
