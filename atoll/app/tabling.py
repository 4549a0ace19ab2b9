"""Chooses the printer of a served kind for server-side tables."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from atoll.base.clock import Clock
from atoll.cluster.apiserver.encode import Tables
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.tables.cells import Printer
from atoll.cluster.apiserver.tables.custom import custom_printer
from atoll.cluster.apiserver.tables.table import printer_for, table

Object = dict[str, Any]


def tables(clock: Clock) -> Tables:
    """The `tables` that the API's encoder takes: built-in printers, or a CRD's columns (compiled once a version)."""
    custom: WeakKeyDictionary[object, Printer] = WeakKeyDictionary()

    def make(served: Served, objects: list[Object], metadata: Object, include: str, headers: bool) -> Object:
        if served.custom is None:
            printer = printer_for(served.resource.group_resource)
        else:
            found = custom.get(served.custom)
            if found is None:
                found = custom[served.custom] = custom_printer(_columns(served.custom))
            printer = found
        return table(printer, objects, now=clock.wall(), include=include, metadata=metadata, headers=headers)

    return make


def _columns(kind: Any) -> list[Object] | None:
    return [
        {
            "name": column.name,
            "type": column.type,
            "jsonPath": column.json_path,
            "description": column.description,
            "format": column.format,
            "priority": column.priority,
        }
        for column in kind.columns
    ] or None
