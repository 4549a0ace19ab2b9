"""CEL that picks devices: `device.driver`, `.attributes[domain].name`, `.capacity[domain].name`,
`.allowMultipleAllocations` (KEP-4381; upstream's dynamic-resource-allocation/cel).

A domain that a device does not have is an empty map; an attribute that it does not have is an error, as upstream.
"""

from __future__ import annotations

import functools
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver.expressions.environment import Environment, Program
from atoll.cluster.apiserver.expressions.errors import CompileError, CostExceeded, EvaluationError
from atoll.cluster.apiserver.expressions.estimate import Path, Span
from atoll.cluster.apiserver.expressions.kubernetes import to_version
from atoll.cluster.apiserver.expressions.types import ANY, BOOL, STRING, map_of, output_name, read, struct
from atoll.cluster.apiserver.expressions.values import Quantity, WithDefault

Object = dict[str, Any]

COST_LIMIT = 1_000_000
MOST_CHARACTERS = 10 * 1024
_ENTRIES, _DOMAIN, _NAME, _DRIVER, _VALUE = 32, 63, 32, 63, 64
_QUANTITY = read("kubernetes.Quantity")
_DEVICE = struct(
    "kubernetes.DRADevice",
    {
        "driver": STRING,
        "allowMultipleAllocations": BOOL,
        "attributes": map_of(STRING, map_of(STRING, ANY)),
        "capacity": map_of(STRING, map_of(STRING, _QUANTITY)),
    },
)


class _Sizes:
    """How large the parts of a device may become (`estimate.Sizes`)."""

    _FIELDS = {"driver": _DRIVER, "allowMultipleAllocations": 1, "attributes": _ENTRIES, "capacity": _ENTRIES}

    def at(self, path: Path) -> Span | None:
        if not path or path[0] != "device":
            return None
        steps = path[1:]
        if not steps:
            return Span(0, 0)
        most = self._FIELDS.get(steps[0])
        for depth, step in enumerate(steps[1:]):
            if most is None or steps[0] not in ("attributes", "capacity") or depth > 1:
                return None
            most = self._below(steps[0], depth, step)
        return None if most is None else Span(0, most)

    @staticmethod
    def _below(field: str, depth: int, step: str) -> int | None:
        if step == "@keys":
            return _NAME if depth else _DOMAIN
        if step in ("@items", "@values"):
            return _ENTRIES if depth == 0 else _VALUE if field == "attributes" else 0
        return _VALUE if depth == 1 and field == "attributes" else None


_SIZES = _Sizes()


@functools.cache
def _environment() -> Environment:
    return Environment({"device": _DEVICE}, binding=True)


class Selector:
    """A compiled expression."""

    def __init__(self, program: Program) -> None:
        self._program = program

    @property
    def most(self) -> int:
        """What it may cost at most."""
        return self._program.most(_SIZES)

    def matches(self, device: Object) -> bool:
        """`device`: as `view` makes it. Raises EvaluationError."""
        try:
            found = self._program.run({"device": device}, COST_LIMIT)
        except CostExceeded:
            raise EvaluationError("operation cancelled: actual cost limit exceeded") from None
        if type(found) is not bool:
            raise EvaluationError(f"type conversion error from '{_kind_of(found)}' to 'bool'")
        return found


def _kind_of(value: Any) -> str:
    return {int: "int", str: "string"}.get(type(value), type(value).__name__.lower())


@functools.lru_cache(maxsize=512)
def compile_selector(expression: str) -> Selector:
    """Raises CompileError, in upstream's words."""
    program = _environment().compile(expression)
    if program.result not in (BOOL, ANY):
        got = output_name(program.result)
        raise CompileError(f"must evaluate to bool or the unknown type, not {got}")
    return Selector(program)


def view(driver: str, device: Object) -> Object:
    """A device of a ResourceSlice as expressions see it. Raises EvaluationError: an attribute can't be read."""
    attributes, capacity = WithDefault(), WithDefault()
    attributes.default = capacity.default = {}
    for name, attribute in (device.get("attributes") or {}).items():
        domain, identifier = _qualified(name, driver)
        try:
            attributes.setdefault(domain, {})[identifier] = _value(attribute)
        except EvaluationError as error:
            raise EvaluationError(f"attribute {name}: {error}") from None
    for name, amount in (device.get("capacity") or {}).items():
        domain, identifier = _qualified(name, driver)
        capacity.setdefault(domain, {})[identifier] = Quantity(quantity.parse(amount["value"]))
    return {
        "driver": driver,
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
        "attributes": attributes,
        "capacity": capacity,
    }


def _qualified(name: str, driver: str) -> tuple[str, str]:
    domain, slash, identifier = name.partition("/")
    return (domain, identifier) if slash else (driver, name)


def _value(attribute: Object) -> Any:
    for kind in ("int", "bool", "string"):
        if kind in attribute:
            return attribute[kind]
    if "version" in attribute:
        try:
            return to_version(attribute["version"])
        except EvaluationError as error:
            raise EvaluationError(f"parse semantic version: {error}") from None
    raise EvaluationError("unsupported attribute value")
