"""Server-side apply: merge a configuration as one manager, see conflicts with others, forget what is no longer applied.

The algorithm is structured-merge-diff's, on FieldsV1 tries and compiled schema nodes. `apply` returns the new object,
or None for its object if nothing changed; it shares parts with its arguments, so decode or copy it before changing it.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from atoll.base.errors import ApiError, BadRequest, Conflict, ServerError
from atoll.objects import managed as fields_of
from atoll.objects.fields import (
    FieldSet,
    difference,
    intersection,
    named_as_members,
    of_value,
    paths,
    union,
    without,
)
from atoll.objects.managed import APPLY, UPDATE, Entry, Managed, Manager, Object, Schema
from atoll.objects.merge import MergeError, check, merge, remove

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_BEFORE_FIRST = "before-first-apply"
_KUBECTL = "kubectl"
_STRIPPED: FieldSet = {
    "f:apiVersion": {},
    "f:kind": {},
    "f:metadata": {
        ".": {}, "f:name": {}, "f:namespace": {}, "f:creationTimestamp": {}, "f:selfLink": {}, "f:uid": {},
        "f:clusterName": {}, "f:generation": {}, "f:managedFields": {}, "f:resourceVersion": {},
    },
}  # fmt: skip


@dataclass(slots=True)
class _Conflicts(Exception):
    """Fields that others own, by manager."""

    found: dict[Manager, tuple[Entry, FieldSet]]


def apply(
    live: Object | None, config: Object, schema: Schema, *, manager: str, now: str, force: bool = False
) -> Object:
    """The object after applying, managedFields included; equal to `live` where nothing changed.

    Raises BadRequest (managedFields in the configuration), ServerError (it does not fit the schema), Conflict.
    """
    if config.get("apiVersion") != schema.api_version:
        raise BadRequest(
            "Incorrect version specified in apply patch. Specified patch version: "
            f"{config.get('apiVersion')}, expected: {schema.api_version}"
        )
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    if problems := check(config, schema.node):
        raise ServerError(_typed_fault(config, sorted(problems)), reason="")
    base = live if live is not None else _new_object(config, schema)
    managed = fields_of.decode_entries(base["metadata"].get("managedFields"))
    base = _without_managed(base)
    try:
        result, managed = _apply(base, config, schema, managed, manager, now, force)
    except _Conflicts as conflicts:
        if manager != _KUBECTL:
            raise _conflict_error(conflicts.found) from None
        left = _not_from_last_applied(conflicts.found, base, schema)
        if left:
            raise _conflict_error(left) from None
        result, managed = _apply(base, config, schema, managed, manager, now, force=True)
    result = _with_last_applied(result, config, manager)
    result = {**result, "metadata": dict(result.get("metadata") or {})}
    fields_of.set_entries(result, managed)
    return result


def _typed_fault(config: Object, problems: list[str]) -> str:
    metadata = config.get("metadata")
    if not isinstance(metadata, dict):
        metadata = {}
    group, _, version = str(config.get("apiVersion")).rpartition("/")
    name = f"{metadata.get('namespace', '')}/{metadata.get('name', '')}; {group}/{version}, Kind={config.get('kind')}"
    name = name.replace("; /", "; /") if group else name.replace(f"; /{version}", f"; /{version}")
    text = problems[0] if len(problems) == 1 else "errors:\n" + "\n".join(f"  {item}" for item in problems)
    return f"failed to create typed patch object ({name}): {text}"


def _new_object(config: Object, schema: Schema) -> Object:
    base = {**schema.empty(), "apiVersion": schema.api_version, "kind": config.get("kind")}
    base["metadata"] = dict(base.get("metadata") or {})
    return base


def _without_managed(obj: Object) -> Object:
    if "managedFields" not in obj["metadata"]:
        return obj
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}


def _apply(
    live: Object, config: Object, schema: Schema, managed: Managed, manager: str, now: str, force: bool
) -> tuple[Object, Managed]:
    managed = dict(managed)
    if not managed:
        before, _ = schema.compare(_new_object(live, schema), live, schema.api_version) or ({}, {})
        if before:
            managed[Manager(_BEFORE_FIRST, UPDATE, schema.api_version, schema.subresource)] = Entry(
                before, schema.api_version, now
            )
    identity = Manager(manager or "unknown", APPLY, "", schema.subresource)
    try:
        merged = merge(live, config, schema.node)
    except MergeError as error:
        raise ServerError(f"failed to merge config: {error}", reason="") from None
    last = managed.get(identity)
    applied = of_value(config, schema.node)
    if schema.reset:
        applied = without(applied, schema.reset)
    managed[identity] = Entry(fields_of.in_order(applied), schema.api_version, last.time if last else None)
    if last is not None and last.fields and not _applies_all_of(last, applied, schema):
        merged = _prune(merged, managed, schema, last)
    own = schema.compare(live, merged, schema.api_version) or ({}, {})
    if not force:
        _check_conflicts(managed, schema, own, live, merged, identity)
    fields_of.take(managed, schema, own, live, merged, keep=identity)
    _strip(managed, identity)
    changed = merged != live
    if changed and identity in managed:
        managed[identity].time = now
    return (merged if changed else live), managed


def _applies_all_of(last: Entry, applied: FieldSet, schema: Schema) -> bool:
    """Whether what was applied last is applied again, if with other values: then nothing is to be pruned.

    All of it, and all on the way to it, is owned by this very apply, so `_prune` would add it back.
    """
    return last.version == schema.api_version and not difference(last.fields, applied)


def _strip(managed: Managed, identity: Manager) -> None:
    entry = managed[identity]
    entry.fields = difference(entry.fields, _STRIPPED)
    if not entry.fields:
        del managed[identity]


def _check_conflicts(
    managed: Managed, schema: Schema, own: tuple[FieldSet, FieldSet], live: Object, merged: Object, identity: Manager
) -> None:
    found: dict[Manager, tuple[Entry, FieldSet]] = {}
    for manager, entry in managed.items():
        if manager == identity:
            continue
        compared = own
        if entry.version != schema.api_version:
            other = schema.compare(live, merged, entry.version)
            if other is None:
                continue
            compared = other
        overlap = intersection(entry.fields, compared[0])
        if overlap:
            found[manager] = (entry, overlap)
    if found:
        raise _Conflicts(found)


def _conflict_error(found: dict[Manager, tuple[Entry, FieldSet]]) -> ApiError:
    """The 409 with upstream's message and one cause a field."""
    causes = []
    by_manager: dict[str, list[str]] = {}
    for manager, (entry, overlap) in found.items():
        # identifiers carry no time, so neither does the message
        text = manager.text(entry.version)
        for path in paths(overlap):
            causes.append({"reason": "FieldManagerConflict", "message": f"conflict with {text}", "field": path})
            by_manager.setdefault(text, []).append(path)
    if len(causes) == 1:
        message = f"Apply failed with 1 conflict: {causes[0]['message']}: {causes[0]['field']}"
    else:
        lines = []
        for text in sorted(by_manager):
            lines += [f"conflicts with {text}:", *(f"- {path}" for path in by_manager[text])]
        message = f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)
    return Conflict(message, details={"causes": causes})


def _prune(merged: Object, managed: Managed, schema: Schema, last: Entry) -> Object:
    """Take out what the manager applied last time and does not now, unless somebody else owns it."""
    version = last.version
    converted = _convert(merged, version, schema)
    if converted is None:
        return merged
    node = schema.node_in(version, merged)
    last_named = named_as_members(last.fields, node)
    pruned = remove(converted, last_named, node) or {}
    pruned = _add_back_owned(converted, pruned, managed, schema, version)
    pruned_set = named_as_members(of_value(pruned, node), node)
    merged_set = named_as_members(of_value(converted, node), node)
    gone = intersection(difference(merged_set, pruned_set), last_named)
    pruned = remove(converted, gone, node) or {}
    back = _convert(pruned, schema.api_version, schema)
    return merged if back is None else back


def _convert(obj: Object, version: str, schema: Schema) -> Object | None:
    if schema.convert is None or obj.get("apiVersion") == version:
        return obj
    return schema.convert(obj, version)


def _add_back_owned(merged: Object, pruned: Object, managed: Managed, schema: Schema, version: str) -> Object:
    by_version: dict[str, FieldSet] = {}
    for entry in managed.values():
        by_version[entry.version] = union(by_version.get(entry.version, {}), entry.fields)
    for owned_version in sorted(by_version, key=lambda item: item != version):
        at_merged = _convert(merged, owned_version, schema)
        at_pruned = _convert(pruned, owned_version, schema)
        if at_merged is None or at_pruned is None:
            continue
        node = schema.node_in(owned_version, merged)
        keep = union(
            named_as_members(of_value(at_pruned, node), node), named_as_members(by_version[owned_version], node)
        )
        gone = difference(named_as_members(of_value(at_merged, node), node), keep)
        pruned = remove(at_merged, gone, node) or {}
        merged = at_merged
    back = _convert(pruned, version, schema)
    return pruned if back is None else back


def _not_from_last_applied(
    found: dict[Manager, tuple[Entry, FieldSet]], live: Object, schema: Schema
) -> dict[Manager, tuple[Entry, FieldSet]]:
    """Conflicts that the client-side apply annotation does not explain: kubectl may take over its own fields."""
    allowed = _last_applied_set(live, schema)
    if allowed is None:
        return found
    left = {}
    for manager, (entry, overlap) in found.items():
        rest = difference(overlap, allowed)
        if rest:
            left[manager] = (entry, rest)
    return left


def _last_applied_set(live: Object, schema: Schema) -> FieldSet | None:
    text = ((live.get("metadata") or {}).get("annotations") or {}).get(LAST_APPLIED)
    if not text:
        return None
    try:
        config = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(config, dict) or config.get("apiVersion") != schema.api_version:
        return None
    changed, removed = schema.compare(config, live, schema.api_version) or ({}, {})
    return difference(difference(of_value(config, schema.node), changed), removed)


def _with_last_applied(result: Object, config: Object, manager: str) -> Object:
    """Keep kubectl's client-side annotation in step, where there is one."""
    annotations = (result.get("metadata") or {}).get("annotations") or {}
    if manager != _KUBECTL or not annotations.get(LAST_APPLIED):
        return result
    metadata = dict(config.get("metadata") or {})
    if metadata.get("annotations"):
        metadata["annotations"] = {k: v for k, v in metadata["annotations"].items() if k != LAST_APPLIED}
    text = orjson.dumps({**config, "metadata": metadata}, option=orjson.OPT_SORT_KEYS).decode() + "\n"
    if annotations[LAST_APPLIED] == text:
        return result
    return {**result, "metadata": {**result["metadata"], "annotations": {**annotations, LAST_APPLIED: text}}}
