"""Query options as upstream decodes and validates them (apimachinery metav1 and metainternalversion validation).

Each option set is a frozen value; parsing raises BadRequest or Invalid with upstream's text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.ports import Cause, Object, User
from atoll.cluster.apiserver.problems import bad_value, invalid_options, not_allowed, not_supported, required, too_long

Query = dict[str, list[str]]
EXACT, NOT_OLDER_THAN = "Exact", "NotOlderThan"
_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


class Context(Struct):
    """Who asks and how; warnings gather here."""

    user: User
    field_manager: str = ""
    field_validation: str = "Warn"
    dry_run: bool = False
    warnings: list[str] = []
    large: bool = False  # the body was: the object must be measured
    options: Object | None = None  # CreateOptions, UpdateOptions, as sent
    annotations: dict[str, str] | None = None  # the audit event's, as in ports.AdmissionRequest; None: not audited

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def operation_options(self) -> Object:
        """For admission: what the client asked of the write beside the object."""
        if self.options is not None:
            return self.options
        return {"dryRun": ["All"]} if self.dry_run else {}


class ListOptions(Struct, frozen=True):
    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""
    watch: bool = False
    timeout_seconds: int | None = None
    allow_bookmarks: bool = False
    send_initial_events: bool | None = None


class DeleteRequest(Struct, frozen=True):
    """metav1.DeleteOptions as sent."""

    grace_period_seconds: int | None = None
    propagation: str | None = None
    orphan_dependents: bool | None = None
    uid: str | None = None
    resource_version: str | None = None

    def to_object(self, dry_run: bool) -> Object:
        """The DeleteOptions that admission sees."""
        preconditions = {"uid": self.uid, "resourceVersion": self.resource_version}
        given: Object = {
            "gracePeriodSeconds": self.grace_period_seconds,
            "preconditions": {name: value for name, value in preconditions.items() if value is not None} or None,
            "orphanDependents": self.orphan_dependents,
            "propagationPolicy": self.propagation,
            "dryRun": ["All"] if dry_run else None,
        }
        return {name: value for name, value in given.items() if value is not None}


@functools.lru_cache(2048)
def parse_query(raw: str) -> Query:
    """Shared: do not change."""
    query: Query = {}
    for key, value in parse_qsl(raw, keep_blank_values=True):
        query.setdefault(key, []).append(value)
    return query


def _one(query: Query, name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


def flag(query: Query, name: str) -> bool | None:
    """A boolean as conversion-gen reads it: absent None; "", "1", "true" … True; "0", "false" False, others True."""
    values = query.get(name)
    if not values:
        return None
    return values[0].lower() not in ("0", "false")


def _integer(query: Query, name: str) -> int | None:
    text = _one(query, name)
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


@functools.lru_cache(2048)
def list_options(raw: str) -> ListOptions:
    """Raises BadRequest (malformed) or Invalid (combinations that are not allowed)."""
    query = parse_query(raw)
    options = ListOptions(
        label_selector=_one(query, "labelSelector"),
        field_selector=_one(query, "fieldSelector"),
        limit=_integer(query, "limit") or 0,
        continue_token=_one(query, "continue"),
        resource_version=_one(query, "resourceVersion"),
        resource_version_match=_one(query, "resourceVersionMatch"),
        watch=flag(query, "watch") or False,
        timeout_seconds=_integer(query, "timeoutSeconds"),
        allow_bookmarks=flag(query, "allowWatchBookmarks") or False,
        send_initial_events=flag(query, "sendInitialEvents"),
    )
    validate_list(options)
    return options


def validate_list(options: ListOptions) -> None:
    """Raises Invalid."""
    causes = _watch_causes(options) if options.watch else _list_causes(options)
    if causes:
        raise invalid_options("ListOptions", causes)


def _list_causes(options: ListOptions) -> list[Cause]:
    causes: list[Cause] = []
    match = options.resource_version_match
    name = "resourceVersionMatch"
    if match:
        if not options.resource_version:
            causes.append(not_allowed(name, f"{name} is forbidden unless resourceVersion is provided"))
        if options.continue_token:
            causes.append(not_allowed(name, f"{name} is forbidden when continue is provided"))
        if match not in (EXACT, NOT_OLDER_THAN):
            causes.append(not_supported(name, match, (EXACT, NOT_OLDER_THAN, "")))
        if match == EXACT and options.resource_version == "0":
            causes.append(not_allowed(name, f'{name} "exact" is forbidden for resourceVersion "0"'))
    if options.send_initial_events is not None:
        causes.append(not_allowed("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    return causes


def _watch_causes(options: ListOptions) -> list[Cause]:
    causes: list[Cause] = []
    match = options.resource_version_match
    name = "resourceVersionMatch"
    if options.send_initial_events is not None and match != NOT_OLDER_THAN:
        causes.append(not_allowed(name, f"sendInitialEvents requires setting {name} to {NOT_OLDER_THAN}"))
    if match:
        if options.send_initial_events is None:
            causes.append(not_allowed(name, f"{name} is forbidden for watch unless sendInitialEvents is provided"))
        if match != NOT_OLDER_THAN:
            causes.append(not_supported(name, match, (NOT_OLDER_THAN,)))
        if options.continue_token:
            causes.append(not_allowed(name, f"{name} is forbidden when continue is provided"))
    return causes


class WriteQuery(Struct, frozen=True):
    """CreateOptions, UpdateOptions and PatchOptions in one."""

    field_manager: str = ""
    field_validation: str = ""
    dry_run: bool = False
    force: bool | None = None


@functools.lru_cache(1024)
def write_options(raw: str, kind: str, apply: bool = False) -> WriteQuery:
    """`kind` is CreateOptions, UpdateOptions or PatchOptions. Raises Invalid."""
    if not raw:
        if apply:
            raise invalid_options(kind, [required("fieldManager", "is required for apply patch")])
        return WriteQuery()
    query = parse_query(raw)
    manager, validation = _one(query, "fieldManager"), _one(query, "fieldValidation")
    dry_run = list(query.get("dryRun", ()))
    force = flag(query, "force")
    causes: list[Cause] = []
    if kind == "PatchOptions":
        if apply and not manager:
            causes.append(required("fieldManager", "is required for apply patch"))
        elif not apply and force is not None:
            causes.append(not_allowed("force", "may not be specified for non-apply patch"))
    causes += _manager_causes(manager) + _dry_run_causes(dry_run)
    if validation not in ("", "Ignore", "Strict", "Warn"):
        causes.append(not_supported("fieldValidation", validation, ("", "Ignore", "Strict", "Warn")))
    if causes:
        raise invalid_options(kind, causes)
    return WriteQuery(manager, validation, bool(dry_run), force)


def _manager_causes(manager: str) -> list[Cause]:
    causes: list[Cause] = []
    if len(manager.encode()) > 128:
        causes.append(too_long("fieldManager", 128))
    for position, character in enumerate(manager):
        if not character.isprintable():
            shown = f"U+{ord(character):04X}"
            causes.append(bad_value("fieldManager", manager, f"invalid character {shown} (at position {position})"))
    return causes


def _dry_run_causes(values: Sequence[str]) -> list[Cause]:
    if any(value != "All" for value in values):
        return [not_supported("dryRun", list(values), ("All",))]
    return []


def delete_options(raw: str, body: Object | None) -> tuple[DeleteRequest, bool]:
    """The options (a body wins over the query, as upstream) and whether it is a dry run. Raises Invalid."""
    if body:
        preconditions = body.get("preconditions") or {}
        given: dict[str, Any] = {
            "grace": body.get("gracePeriodSeconds"),
            "propagation": body.get("propagationPolicy"),
            "orphan": body.get("orphanDependents"),
            "uid": preconditions.get("uid"),
            "version": preconditions.get("resourceVersion"),
        }
        dry_run = list(body.get("dryRun") or ())
    else:
        query = parse_query(raw)
        given = {
            "grace": _integer(query, "gracePeriodSeconds"),
            "propagation": _one(query, "propagationPolicy") or None,
            "orphan": flag(query, "orphanDependents"),
            "uid": None,
            "version": None,
        }
        dry_run = list(query.get("dryRun", ()))
    options = DeleteRequest(
        given["grace"], given["propagation"], given["orphan"], given["uid"] or None, given["version"] or None
    )
    causes = _propagation_causes(options) + _dry_run_causes(dry_run)
    if causes:
        raise invalid_options("DeleteOptions", causes)
    return options, bool(dry_run)


def _propagation_causes(options: DeleteRequest) -> list[Cause]:
    causes: list[Cause] = []
    if options.orphan_dependents is not None and options.propagation is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        causes.append(bad_value("propagationPolicy", options.propagation, why))
    known = ("Foreground", "Background", "Orphan")
    if options.propagation is not None and options.propagation not in known:
        causes.append(not_supported("propagationPolicy", options.propagation, (*known, "nil")))
    return causes
