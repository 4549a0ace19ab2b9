"""Objects from their bytes, so that equal parts of them are one.

Siblings differ in names, uids and addresses; their conditions, capacities, templates and managedFields are the same. A
node or pod parsed by itself takes four to five times its bytes; where equal parts are shared, six tenths of them. A
part is known by its bytes, so that 1, 1.0 and true stay apart, as does the order of keys. What an object was before a
write has most of its parts, whichever siblings it has: where that is at hand, only the rest is parsed (a pod in a third
of the time).

What is parsed is shared, so it must never be changed: `changed` tells whether anybody has.
"""

from __future__ import annotations

from sys import intern
from typing import Any

import msgspec
import orjson

_MOST_BYTES = 64 << 10  # of an object: a larger one has no sibling
_PART_BYTES = 2048  # of a part that is remembered
_STRING_BYTES = 66
_GENERATION_BYTES = 1 << 20  # of the texts of one generation; their values take some four times that
_DEEPEST = 16

_loads = orjson.loads
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_STRING, _OBJECT, _LIST = b'"{['


class Parts:
    """The parts seen last, in two generations: one that nobody asks for goes with the older of them."""

    def __init__(self) -> None:
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}
        self._room = _GENERATION_BYTES

    def parse(self, data: bytes, before: tuple[bytes, dict[str, Any]] | None = None) -> dict[str, Any]:
        """An object from its canonical JSON. `before`: what was written there before, and parsed."""
        if len(data) > _MOST_BYTES:
            whole: dict[str, Any] = _loads(data)
            return whole
        if before is not None:
            return self._changed(data, *before)
        obj: dict[str, Any] = {}
        for name, item in _members(data).items():
            raw = bytes(item)
            if name == "metadata" and raw[0] == _OBJECT:  # never the same as another's
                obj[name] = self._value(raw, 1)
            else:
                obj[intern(name)] = self.part(raw, 1)
        return obj

    def part(self, raw: bytes, depth: int) -> Any:
        """The value of a part that stands so deep in its object."""
        first = raw[0]
        if first != _OBJECT and first != _LIST:
            return intern(_loads(raw)) if first == _STRING and len(raw) <= _STRING_BYTES else _loads(raw)
        value = self._young.get(raw)
        if value is not None:
            return value
        value = self._old.get(raw)
        if value is None:
            value = self._value(raw, depth)
        if len(raw) <= _PART_BYTES:
            self._remember(raw, value)
        return value

    def _changed(self, raw: bytes, was: bytes, value: dict[str, Any], depth: int = 1) -> dict[str, Any]:
        """An object, whole (depth 1) or one of its fields, that was `value` when it was written as `was`."""
        old, new = _members(was), {}
        for name, item in _members(raw).items():
            own, before = bytes(item), bytes(old.get(name, b" "))
            if own == before:
                new[intern(name)] = value[name]
            elif depth == 1 and own[0] == before[0] == _OBJECT:
                new[intern(name)] = self._changed(own, before, value[name], 2)
            elif depth == 2 and own[0] == before[0] == _LIST:
                new[intern(name)] = self._changed_list(own, before, value[name])
            else:
                new[intern(name)] = self.part(own, depth)
        return new

    def _changed_list(self, raw: bytes, was: bytes, value: list[Any]) -> list[Any]:
        """A list in a field of an object."""
        found = self._young.get(raw)
        if found is None:
            known = {bytes(item): part for item, part in zip(_elements(was), value, strict=True)}
            own = map(bytes, _elements(raw))
            found = [known[item] if item in known else self.part(item, 3) for item in own]
            if len(raw) <= _PART_BYTES:
                self._remember(raw, found)
        return found

    def changed(self) -> list[bytes]:
        """The texts of those remembered parts that are no longer what they were parsed from."""
        return [raw for known in (self._young, self._old) for raw, value in known.items() if orjson.dumps(value) != raw]

    def _value(self, raw: bytes, depth: int) -> Any:
        if depth >= _DEEPEST:
            return _loads(raw)
        part, depth = self.part, depth + 1
        if raw[0] == _LIST:
            return [part(bytes(item), depth) for item in _elements(raw)]
        value = {}
        for name, item in _members(raw).items():
            own = bytes(item)
            if own[0] == _STRING and len(own) <= _STRING_BYTES:
                value[intern(name)] = intern(_loads(own))
            else:
                value[intern(name)] = part(own, depth)
        return value

    def _remember(self, raw: bytes, value: Any) -> None:
        self._room -= len(raw)
        if self._room < 0:
            self._old, self._young = self._young, {}
            self._room = _GENERATION_BYTES - len(raw)
        self._young[raw] = value
