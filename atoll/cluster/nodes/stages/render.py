"""Renders stage templates to JSON, as KWOK's renderer does: Go template → YAML → JSON.

Parsing YAML is what costs. So, where a template only prints what changes from object to object (times, addresses),
those are printed as place-holders, the parsed result is remembered by the printed text, and the place-holders are
filled in: pods of one template are parsed once. A template that does anything else with them is rendered plainly.
"""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from atoll.objects import goyaml
from atoll.objects.gotemplate import Template, with_numbers
from atoll.objects.gotemplate.sprig import plain
from atoll.objects.gotemplate.values import go_quote

Object = dict[str, Any]
Table = Mapping[str, Callable[..., Any]]

VERSION = "v0.8.0"
_NODE_CONDITIONS = (
    ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("NetworkUnavailable", "False", "RouteCreated", "RouteController created a route"),
)
_CHANGING = frozenset(
    ("Now", "StartTime", "NodeIP", "NodeIPs", "NodeIPWith", "NodeIPsWith", "PodIP", "PodIPs", "PodIPWith", "PodIPsWith")
)
_CAREFREE = frozenset(("Quote", "index", "len", "not", "default", "coalesce", "list", "dict"))
_PLACEHOLDER = re.compile(r"Zq(\d+)qZ")
_MEMORY = 2000


def quote(value: Any) -> str:
    """KWOK's Quote: a JSON string, whatever the value."""
    if isinstance(value, str) and type(value).__name__ != "Number":
        text = json.dumps(str(value), ensure_ascii=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return go_quote(json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False))


def indented_yaml(value: Any, indent: int = 0) -> str:
    """KWOK's YAML: every line, the empty one before the first too, indented by so many steps of two."""
    text = goyaml.dump(plain(value))
    if indent > 0:
        text = ("\n" + text).replace("\n", "\n" + "  " * indent)
    return text


def node_conditions() -> list[Object]:
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": None,
            "lastTransitionTime": None,
        }
        for kind, status, reason, message in _NODE_CONDITIONS
    ]


KWOK_FUNCTIONS: Table = {
    "Quote": quote,
    "YAML": indented_yaml,
    "Version": lambda: VERSION,
    "NodeConditions": node_conditions,
}


class _Changing(str):
    """A place-holder for something that changes from object to object."""


class _Worked(Exception):
    """A place-holder was worked on: the result can't be remembered."""


class Renderer:
    """Renders many templates with one set of functions. `base` (sprig) comes first, then KWOK's own."""

    def __init__(self, base: Table, *, remember: bool = True) -> None:
        self._base: dict[str, Callable[..., Any]] = {**base, **KWOK_FUNCTIONS}
        self._watched = {name: _watch(name, function) for name, function in self._base.items()}
        self._templates: dict[tuple[str, frozenset[str]], Template] = {}
        self._memory: OrderedDict[str, Any] = OrderedDict()
        self._remember = remember
        self._plain: set[str] = set()

    def render(self, text: str, obj: Object, table: Table) -> Any:
        """The JSON value that a template gives for an object. Raises TemplateError, YamlError."""
        data = with_numbers(obj)
        if self._remember and text not in self._plain:
            try:
                return self._remembered(text, data, table)
            except _Worked:
                self._plain.add(text)
        return goyaml.load(self._template(text, table).render(data, {**self._base, **table}))

    def _template(self, text: str, table: Table) -> Template:
        key = (text, frozenset(table))
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = Template(text.strip(), {**self._base, **table})
        return found

    def _remembered(self, text: str, data: Any, table: Table) -> Any:
        values: list[str] = []

        def stand_in(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any) -> Any:
                result = function(*args)
                if isinstance(result, str) and result:
                    values.append(result)
                    return _Changing(f"Zq{len(values) - 1}qZ")
                if isinstance(result, list) and result:
                    values.extend(result)
                    return [_Changing(f"Zq{len(values) - len(result) + n}qZ") for n in range(len(result))]
                return result

            return call

        functions = dict(self._watched)
        for name, function in table.items():
            functions[name] = stand_in(function) if name in _CHANGING else _watch(name, function)
        printed = self._template(text, table).render(data, functions)
        if printed in self._memory:
            self._memory.move_to_end(printed)
        else:
            self._memory[printed] = goyaml.load(printed)
            if len(self._memory) > _MEMORY:
                self._memory.popitem(last=False)
        return _filled(self._memory[printed], values)


def _watch(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    if name in _CAREFREE:
        return function

    def call(*args: Any) -> Any:
        for item in args:
            if type(item) is _Changing or (type(item) is list and item and type(item[0]) is _Changing):
                raise _Worked
        return function(*args)

    return call


def _filled(value: Any, values: list[str]) -> Any:
    """A copy with the place-holders filled in."""
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if isinstance(value, str) and "Zq" in value:
        return _PLACEHOLDER.sub(lambda match: values[int(match[1])], value)
    return value
