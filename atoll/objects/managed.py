"""metadata.managedFields: who owns which fields, kept on every write (upstream's field manager).

`update` is for create, update and non-apply patches: the writer comes to own what it changed, others lose it.
Server-side apply itself is `atoll.objects.apply`. Both work on the stored FieldsV1 JSON directly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Struct

from atoll.kinds.decode import zero
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.schemas import schema_for
from atoll.objects.compare import compare
from atoll.objects.fields import FieldSet, difference, union, without

Object = dict[str, Any]
Convert = Callable[[Object, str], Object | None]
"""(object, apiVersion) → the object in that version, or None where it is not served any more."""

APPLY = "Apply"
UPDATE = "Update"
_MAX_UPDATERS = 10
_OLD_UPDATES = "ancient-changes"
_MOST_REMEMBERED_BYTES = 16 * 1024


class Manager(Struct, frozen=True):
    """What identifies a manager. An applier is the same whatever version it applies: its api_version is ""."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""

    def text(self, version: str, time: str | None = None) -> str:
        """As upstream's conflict messages name it."""
        found = f'"{self.name}"'
        if self.subresource:
            found += f' with subresource "{self.subresource}"'
        if self.operation == UPDATE:
            found += f" using {version}" + (f" at {time}" if time else "")
        return found


class Entry(Struct):
    """One manager's fields, in `version`."""

    fields: FieldSet
    version: str
    time: str | None = None


Managed = dict[Manager, Entry]


class Schema(Struct, frozen=True):
    """What field management must know of the kind being written: `reset`, fields that the strategy ignores."""

    node: SchemaNode
    api_version: str
    subresource: str = ""
    reset: FieldSet | None = None
    convert: Convert | None = None
    typed: bool = True  # a built-in kind: an absent object has Go's zero values; a CRD's is empty

    def empty(self) -> Object:
        """The object before it is created (shared: only to be compared with)."""
        return _zero(self.node) if self.typed else {}

    def node_in(self, version: str, obj: Object) -> SchemaNode:
        """The schema in a manager's version; versions of a CRD are taken to name their fields alike."""
        if version == self.api_version or not self.typed:
            return self.node
        group, _, name = version.rpartition("/")
        return schema_for(group, name, str(obj.get("kind", ""))) or self.node

    def compare(self, old: Object, new: Object, version: str) -> tuple[FieldSet, FieldSet] | None:
        """Compare in the version of a manager; None if that version is not served any more."""
        if version != self.api_version and self.convert is not None:
            converted_old, converted_new = self.convert(old, version), self.convert(new, version)
            if converted_old is None or converted_new is None:
                return None
            old, new = converted_old, converted_new
        changed, removed = compare(old, new, self.node_in(version, new))
        if self.reset:
            return without(changed, self.reset), without(removed, self.reset)
        return changed, removed

    def created(self, new: Object) -> tuple[FieldSet, FieldSet]:
        """Compare with the empty object. Objects come by the hundred from one template: a spec's set is remembered."""
        spec = new.get("spec")
        encoded = bytes(memoryview(orjson.dumps(spec))) if type(spec) is dict else b""
        if not encoded or len(encoded) > _MOST_REMEMBERED_BYTES or (self.reset and "f:spec" in self.reset):
            return self.compare(self.empty(), new, self.api_version) or ({}, {})
        nothing, rest = dict(self.empty()), dict(new)
        nothing.pop("spec", None)
        del rest["spec"]
        changed, removed = self.compare(nothing, rest, self.api_version) or ({}, {})
        more, less = _spec_fields(self.node, self.typed, encoded)
        return dict(sorted({**in_order(changed), **more}.items())), {**removed, **less}


@functools.lru_cache(maxsize=256)
def _spec_fields(node: SchemaNode, typed: bool, encoded: bytes) -> tuple[FieldSet, FieldSet]:
    """What compare says of an object that has only this spec."""
    empty = _zero(node) if typed else {}
    changed, removed = compare(
        {"spec": empty["spec"]} if "spec" in empty else {}, {"spec": orjson.loads(encoded)}, node
    )
    return in_order(changed), removed


def in_order(fields: FieldSet) -> FieldSet:
    """The set with its keys sorted, as it is served: to clients it is bytes that they compare."""
    found: FieldSet = orjson.loads(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS))
    return found


@functools.lru_cache(maxsize=256)
def _zero(node: SchemaNode) -> Object:
    made: Object = zero(node)
    return made


def decode_entries(entries: Any) -> Managed:
    """Parse metadata.managedFields. Raises ValueError where upstream refuses it."""
    managed: Managed = {}
    for index, entry in enumerate(entries or ()):
        operation, version = entry.get("operation"), entry.get("apiVersion")
        if operation not in (APPLY, UPDATE):
            raise ValueError("operation must be `Apply` or `Update`")
        if not version:
            raise ValueError("apiVersion must not be empty")
        kind = entry.get("fieldsType")
        if kind != "FieldsV1":
            problem = f'invalid fieldsType "{kind}"' if kind else "missing fieldsType"
            raise ValueError(f"{problem} in managed fields entry {index}")
        manager = Manager(
            entry.get("manager", ""), operation, "" if operation == APPLY else version, entry.get("subresource", "")
        )
        managed[manager] = Entry(entry.get("fieldsV1") or {}, version, entry.get("time"))
    return managed


def encode_entries(managed: Managed) -> list[Object]:
    """metadata.managedFields in upstream's order: by operation, time, manager, version, subresource."""
    ordered = managed.items()
    if len(managed) > 1:
        ordered = sorted(  # type: ignore[assignment]
            ordered, key=lambda item: (item[0].operation, item[1].time or "", item[0].name, item[1].version,
                                       item[0].subresource)
        )  # fmt: skip
    entries = []
    for manager, entry in ordered:
        found: Object = {"manager": manager.name, "operation": manager.operation, "apiVersion": entry.version}
        if entry.time:
            found["time"] = entry.time
        found["fieldsType"] = "FieldsV1"
        found["fieldsV1"] = entry.fields
        if manager.subresource:
            found["subresource"] = manager.subresource
        entries.append(found)
    return entries


def set_entries(obj: Object, managed: Managed) -> None:
    """Write managedFields into an object (private to the caller)."""
    if managed:
        obj["metadata"]["managedFields"] = encode_entries(managed)
    else:
        obj["metadata"].pop("managedFields", None)


def _current(old: Object | None, new: Object, subresource: str) -> Managed:
    """The entries that a write starts from: the request's own if it has sensible ones, else the live object's."""
    live = (old or {}).get("metadata", {}).get("managedFields")
    given = new["metadata"].get("managedFields")
    if not subresource and given is not None:
        if given == [] or given == [{}]:
            return {}  # an explicit reset
        if given is not live:
            try:
                managed = decode_entries(given)
            except (ValueError, AttributeError):
                managed = {}
            if managed:
                return managed
    try:
        return decode_entries(live)
    except (ValueError, AttributeError):
        return {}


def update(old: Object | None, new: Object, schema: Schema, *, manager: str, now: str) -> None:
    """Record a create (`old` None), update or patch: changes new["metadata"]["managedFields"], nothing else.

    `now` is rfc3339. Where the writer changed nothing its entry keeps its time.
    """
    identity = Manager(manager or "unknown", UPDATE, schema.api_version, schema.subresource)
    managed = _current(old, new, schema.subresource)
    if not managed and old is not None:
        new["metadata"].pop("managedFields", None)  # not tracked so far, or reset
        return
    if old is None:
        changed, removed = schema.created(new)
    else:
        changed, removed = schema.compare(old, new, schema.api_version) or ({}, {})
    if managed and (changed or removed or any(e.version != schema.api_version for e in managed.values())):
        take(managed, schema, (changed, removed), old or {}, new, keep=identity)
    own = managed.get(identity)
    if changed and old is not None:
        asked = orjson.dumps((own.fields if own is not None else {}, changed, removed))
        extended = _extended if len(asked) <= _MOST_REMEMBERED_BYTES else _extended.__wrapped__
        managed[identity] = Entry(extended(asked), schema.api_version, now)
        _cap(managed)
        set_entries(new, managed)
        return
    if own is not None and removed:
        left = difference(own.fields, removed)
        if left:
            own = managed[identity] = Entry(left, own.version, own.time)
        else:
            own = None
            del managed[identity]
    if changed:
        managed[identity] = Entry(changed if own is None else union(own.fields, changed), schema.api_version, now)
        _cap(managed)
    set_entries(new, managed)


@functools.lru_cache(maxsize=1024)
def _extended(asked: bytes) -> FieldSet:
    """(own, changed, removed) → what is owned then. One kind's statuses change in few ways: these are remembered."""
    own, changed, removed = orjson.loads(asked)
    left = difference(own, removed)
    fields = union(left, changed)
    return left if fields is left else in_order(fields)


def take(
    managed: Managed, schema: Schema, own: tuple[FieldSet, FieldSet], old: Object, new: Object,
    keep: Manager | None = None,
) -> None:  # fmt: skip
    """Everybody but `keep` loses what was changed, and what was removed."""
    comparisons = {schema.api_version: own}
    for manager, entry in list(managed.items()):
        if manager == keep:
            continue
        found = comparisons.get(entry.version)
        if found is None:
            found = schema.compare(old, new, entry.version)
            if found is None:
                del managed[manager]
                continue
            comparisons[entry.version] = found
        changed, removed = found
        fields = difference(difference(entry.fields, changed), removed)
        if not fields:
            del managed[manager]
        elif fields is not entry.fields:
            managed[manager] = Entry(fields, entry.version, entry.time)


def _cap(managed: Managed) -> None:
    """At most ten updaters: the oldest are merged into one `ancient-changes` entry per version."""
    updaters = [manager for manager in managed if manager.operation == UPDATE]
    count = len(updaters)
    if count <= _MAX_UPDATERS:
        return
    updaters.sort(key=lambda item: (managed[item].time or "", item.name, item.api_version, item.subresource))
    first: dict[str, Manager] = {}
    for manager in updaters:
        if count <= _MAX_UPDATERS:
            return
        entry = managed[manager]
        if entry.version not in first:
            first[entry.version] = manager
            continue
        bucket = Manager(_OLD_UPDATES, UPDATE, entry.version)
        if bucket not in managed:
            managed[bucket] = managed.pop(first[entry.version])
        merged = union(entry.fields, managed[bucket].fields)
        managed[bucket] = Entry(merged, entry.version, entry.time)
        if manager != bucket:
            del managed[manager]
        count -= 1


def keep_times(new: Object, old: Object) -> None:
    """Where nothing but the times in managedFields would change, keep the old ones: the write is then a no-op."""
    fresh, stale = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not fresh or not stale or len(fresh) != len(stale) or fresh == stale:
        return
    for ours, theirs in zip(fresh, stale, strict=True):
        if {**ours, "time": None} != {**theirs, "time": None}:
            return
    rest = {**new, "metadata": {**new["metadata"], "managedFields": stale}}
    if rest == old:
        new["metadata"]["managedFields"] = stale
