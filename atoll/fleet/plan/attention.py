"""What of a fleet a person should look at: what waits, what nothing manages, what found no place. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from atoll.fleet import names
from atoll.fleet.propagation.decide import scheduled_of

Object = dict[str, Any]


class Notice(msgspec.Struct, frozen=True, omit_defaults=True):
    """`what` is one of deleting, unmanaged, unplaced, not applied."""

    what: str
    label: str
    message: str


def attention(bindings: Iterable[Object]) -> list[Notice]:
    """From the hub's bindings of both scopes."""
    found = [notice for binding in bindings for notice in _of_binding(binding)]
    order = ("deleting", "unmanaged", "unplaced", "not applied")
    return sorted(found, key=lambda one: (order.index(one.what), one.label))


def _of_binding(binding: Object) -> list[Notice]:
    reference = binding["spec"]["resource"]
    space = f"{reference['namespace']}/" if reference.get("namespace") else ""
    label = f"{reference['kind']} {space}{reference['name']}"
    annotations = binding["metadata"].get("annotations") or {}
    if annotations.get(names.DELETING):
        return [Notice("deleting", label, annotations[names.DELETING])]
    found = []
    if annotations.get(names.UNMANAGED):
        found.append(Notice("unmanaged", label, annotations[names.UNMANAGED]))
    scheduled = scheduled_of(binding)
    if scheduled and scheduled.get("reason") != "Success":
        found.append(Notice("unplaced", label, str(scheduled.get("message") or "")))
    for item in (binding.get("status") or {}).get("aggregatedStatus") or ():
        message = item.get("appliedMessage") or ""
        if not item.get("applied") and message:
            found.append(Notice("not applied", label, f"{item['clusterName']}: {message}"))
    return found
