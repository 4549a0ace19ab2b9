"""managedFields of non-apply writes."""

from __future__ import annotations

from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served


def on_create(api: Api, context: Context, served: Served, obj: Object) -> None:
    """Record the creator as the manager of what it set."""


def on_update(api: Api, context: Context, served: Served, old: Object, new: Object, subresource: str = "") -> None:
    """Record the updater as the manager of what changed."""


def keep_times(obj: Object, old: Object) -> None:
    """Where only the times in managedFields differ nothing changed (IgnoreManagedFieldsTimestamps)."""
    new_fields, old_fields = obj["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if new_fields == old_fields or not new_fields or not old_fields or len(new_fields) != len(old_fields):
        return
    for new_entry, old_entry in zip(new_fields, old_fields, strict=True):
        if {**new_entry, "time": None} != {**old_entry, "time": None}:
            return
    metadata = obj["metadata"]
    metadata["managedFields"] = old_fields
    if obj != old:
        metadata["managedFields"] = new_fields
