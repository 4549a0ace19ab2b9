"""YAML request bodies: Go's YAML, with repeated keys noted. Imported by the first one."""

from __future__ import annotations

from typing import Any

import yaml

from atoll.objects import goyaml


class _Loader(goyaml.Loader):
    """Go's YAML; repeated keys are noted."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self.repeated: list[str] = []


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[str, Any]:
    loader.flatten_mapping(node)
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            key = goyaml.key_text(key)
        if key in result:
            line = key_node.start_mark.line + 1
            loader.repeated.append(f'  line {line}: key "{key}" already set in map')
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(body: bytes) -> tuple[Any, list[str]]:
    """(the JSON value of one YAML document, its repeated keys in goyaml's words). Raises ValueError with its text."""
    try:
        loader = _Loader(body)
    except yaml.YAMLError as error:
        raise ValueError(_yaml_fault(error)) from None
    try:
        value = loader.get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(_yaml_fault(error)) from None
    finally:
        loader.dispose()
    return value, loader.repeated


def _yaml_fault(error: Exception) -> str:
    text = str(getattr(error, "problem", None) or "document is nested too deeply")
    line = 0
    for name in ("problem_mark", "context_mark"):
        mark = getattr(error, name, None)
        if mark is not None and mark.line:
            line = mark.line + isinstance(error, yaml.scanner.ScannerError)
            break
    return f"yaml: line {line}: {text}" if line else f"yaml: {text}"
