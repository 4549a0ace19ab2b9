"""managedFields of writes that are not applies (upstream's fieldmanager, on every write)."""

from __future__ import annotations

from atoll.base.clock import rfc3339
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.objects import managed
from atoll.objects.fields import FieldSet
from atoll.objects.managed import keep_times

__all__ = ["keep_times", "on_create", "on_update", "schema_of"]

_MAIN_RESET: FieldSet = {"f:status": {".": {}}}
_STATUS_RESET: FieldSet = {"f:spec": {".": {}}}


def schema_of(served: Served, subresource: str = "") -> managed.Schema | None:
    """What field management must know of a write through this version and subresource; None: not tracked."""
    known = served.field_schemas.get(subresource)
    if known is None and served.schema is not None:
        known = served.field_schemas[subresource] = _make(served, subresource)
    return known


def _make(served: Served, subresource: str) -> managed.Schema:
    node, resource = served.schema, served.resource
    if not served.stored_as_served and served.from_storage is not None and served.storage_schema is not None:
        node, resource = served.storage_schema, served.storage
    assert node is not None
    reset = None
    if subresource == "status":
        reset = _STATUS_RESET
    elif not subresource and served.behaviour.has_status:
        reset = _MAIN_RESET
    return managed.Schema(node, resource.api_version, subresource, reset, typed=served.custom is None)


def on_create(api: Api, context: Context, served: Served, obj: Object) -> None:
    """The creator manages what it set."""
    schema = schema_of(served)
    if schema is not None:
        managed.update(None, obj, schema, manager=context.field_manager, now=rfc3339(api.clock.wall()))


def on_update(api: Api, context: Context, served: Served, old: Object, new: Object, subresource: str = "") -> None:
    """The updater manages what it changed; others lose it."""
    schema = schema_of(served, subresource)
    if schema is not None:
        managed.update(old, new, schema, manager=context.field_manager, now=rfc3339(api.clock.wall()))
