"""Answers in table form, and as metadata only."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.cluster.apiserver.tables import core, extended, workloads
from atoll.cluster.apiserver.tables.cells import Object, Printer
from atoll.cluster.apiserver.tables.pods import PODS

META_V1 = "meta.k8s.io/v1"
_PRINTERS: dict[str, Printer] = {
    "pods": PODS,
    **core.PRINTERS,
    **workloads.PRINTERS,
    **extended.PRINTERS,
    "events.events.k8s.io": core.PRINTERS["events"],
}


def printer_for(group_resource: str, subresource: str = "") -> Printer:
    """The printer of a built-in resource ("deployments.apps"); kinds without one show name and creation time."""
    if subresource == "scale":
        return extended.SCALE
    return _PRINTERS.get(group_resource, extended.DEFAULT)


def rows(printer: Printer, objects: Iterable[Object], *, now: float, include: str = "Metadata") -> list[Object]:
    """Table rows. `include` is the request's includeObject: None, Metadata or Object. `now` is wall seconds."""
    made = []
    for obj in objects:
        row: Object = {"cells": printer.cells(obj, now)}
        if printer.conditions is not None:
            conditions = printer.conditions(obj)
            if conditions:
                row["conditions"] = conditions
        if include == "Object":
            row["object"] = obj
        elif include == "None":
            row["object"] = None
        else:
            row["object"] = partial(obj)
        made.append(row)
    return made


def table(
    printer: Printer,
    objects: Iterable[Object],
    *,
    now: float,
    include: str = "Metadata",
    metadata: Object | None = None,
    headers: bool = True,
    api_version: str = META_V1,
) -> Object:
    """A Table. `metadata` is the list's; a watch sends headers in its first event only."""
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": metadata or {},
        "columnDefinitions": list(printer.columns) if headers else None,
        "rows": rows(printer, objects, now=now, include=include),
    }


def partial(obj: Object, api_version: str = META_V1) -> Object:
    """PartialObjectMetadata of an object (sharing its metadata)."""
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj.get("metadata") or {}}
