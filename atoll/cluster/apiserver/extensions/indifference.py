"""Whether the schema of a custom resource looks into values by which two objects differ.

Where it does not, two writes that differ in nothing else are both valid, or neither is: what one came to tells what
the other comes to. Asked of a write that was accepted; in doubt it does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from atoll.cluster.apiserver.extensions.structure import Json, Structure
from atoll.cluster.apiserver.extensions.validation import MISSING, correlate

_OPEN = frozenset(
    {"type", "description", "title", "nullable", "default", "example", "minLength", "maxLength", "format"}
)  # what a schema may say of a string without looking at more than its length and whether it is a time
_JUDGING = frozenset({"allOf", "anyOf", "oneOf", "not", "enum"})


def looks_into(new: Any, old: Any, at: Structure, values: Collection[str]) -> bool:
    """`values`: times, and texts of one length each; `old` is MISSING where there is none."""
    return _judges(new, at, values) or any(key is None or _holds(key, values) for key in _inputs(new, old, at))


def _judges(value: Any, at: Structure | None, values: Collection[str]) -> bool:
    """Whether a place that has one of them is judged by more than that, or by its order among others."""
    if type(value) is str:
        if not any(item in value for item in values):
            return False
        return at is not None and not (at.raw.keys() <= _OPEN and at.raw.get("format", "date-time") == "date-time")
    if type(value) not in (dict, list) or not _holds(value, values):
        return False
    if at is not None and not _JUDGING.isdisjoint(at.raw):
        return True
    if type(value) is list:
        if at is not None and at.list_type in ("set", "map") and _holds(_identities(value, at), values):
            return True
        return any(_judges(item, at.items if at is not None else None, values) for item in value)
    if any(_holds(name, values) for name in value):
        return True
    return any(_judges(item, _below(at, name), values) for name, item in value.items())


def _identities(items: list[Any], at: Structure) -> list[Any]:
    """By what a list's items are told from each other."""
    if at.list_type == "set":
        return items
    return [item.get(name) for item in items if type(item) is dict for name in at.map_keys]


def _below(at: Structure | None, name: str) -> Structure | None:
    if at is None:
        return None
    return at.properties.get(name) or (at.additional if isinstance(at.additional, Structure) else None)


def _inputs(value: Any, old: Any, at: Structure) -> Iterator[Any]:
    """What all rules that have been run read of this place and below (`reads.Held.key`)."""
    if value is None or not at.rules_below:
        return
    if at.held is not None:
        yield at.held.key(value, old, old is not MISSING and old is not None)
    if isinstance(value, dict):
        before: Json = old if isinstance(old, dict) else {}
        for name, item in value.items():
            below = _below(at, name)
            if below is not None:
                yield from _inputs(item, before.get(name, MISSING), below)
    elif isinstance(value, list) and at.items is not None:
        correlated = correlate(at.raw, old)
        for item in value:
            yield from _inputs(item, correlated(item), at.items)


def _holds(value: Any, values: Collection[str]) -> bool:
    """Whether one of them is in a text of it."""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, str):
        return any(item in value for item in values)
    if isinstance(value, dict):
        return any(_holds(name, values) or _holds(item, values) for name, item in value.items())
    return isinstance(value, list | tuple) and any(_holds(item, values) for item in value)
