"""managedFields of writes that are not applies (upstream's fieldmanager, on every write)."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.objects import managed
from atoll.objects.managed import keep_times
from atoll.objects.reset import reset_fields

__all__ = ["keep_times", "on_create", "on_update", "schema_of"]


def schema_of(served: Served, subresource: str = "") -> managed.Schema | None:
    """What field management must know of a write through this version and subresource; None: not tracked."""
    known = served.field_schemas.get(subresource)
    if known is None and served.schema is not None:
        known = served.field_schemas[subresource] = _make(served, subresource)
    return known


def _make(served: Served, subresource: str) -> managed.Schema:
    node = served.schema
    assert node is not None
    resource, custom = served.resource, served.custom is not None
    reset = reset_fields(resource.group_resource, subresource, custom=custom, has_status=served.behaviour.has_status)
    return managed.Schema(node, resource.api_version, subresource, reset, served.convert, typed=not custom)


def on_create(api: Api, context: Context, served: Served, obj: Object) -> None:
    """The creator manages what it set. `obj` is in the storage version."""
    _record(api, context, served, None, obj, "")


def on_update(api: Api, context: Context, served: Served, old: Object, new: Object, subresource: str = "") -> None:
    """The updater manages what it changed; others lose it."""
    _record(api, context, served, old, new, subresource)


def _record(api: Api, context: Context, served: Served, old: Object | None, new: Object, subresource: str) -> None:
    schema = schema_of(served, subresource)
    if schema is None:
        return
    now = "" if subresource == "scale" else rfc3339(api.clock.wall())  # upstream loses the times of these
    back = served.from_storage
    if back is None:
        managed.update(old, new, schema, manager=context.field_manager, now=now)
        return
    shown = back(new)  # fields are named as in the version of the request
    shown["metadata"] = dict(shown["metadata"])
    managed.update(None if old is None else back(old), shown, schema, manager=context.field_manager, now=now)
    entries = shown["metadata"].get("managedFields")
    if entries:
        new["metadata"]["managedFields"] = entries
    else:
        new["metadata"].pop("managedFields", None)
