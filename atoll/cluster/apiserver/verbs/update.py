"""update, and the loop that every change of an existing object goes through (upstream's GuaranteedUpdate).

Read the newest record, make the new object from it, admit, check, compare-and-swap. When another writer came
first and the caller named no version, it starts again from what now stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from msgspec import Struct

from atoll.base.errors import AlreadyExists, ApiError
from atoll.cluster.apiserver import metadata as metas
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import AdmissionRequest, Cause, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import ownership
from atoll.cluster.apiserver.verbs.accept import NO_STATUS_DEFAULTS
from atoll.cluster.apiserver.verbs.commit import check_size, put, settle
from atoll.cluster.apiserver.verbs.create import admit_and_create, prepare_metadata
from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.store.port import Key, Record, StaleVersion
from atoll.objects.meta import copy

_ATTEMPTS = 64

Make = Callable[[Object | None, Object], Object]
"""(the stored object or None, the same or {} in the served version) → a private new object in the served version."""


class Strategy(Struct, frozen=True):
    """How a write through one subresource is prepared and checked; over the served kind's Behaviour."""

    subresource: str
    prepare: Callable[[Object, Object], None]
    validate: Callable[[Object, Object], list[Cause]]
    defaults: bool = True


def main_strategy(served: Served) -> Strategy:
    behaviour = served.behaviour
    return Strategy("", behaviour.prepare_update, behaviour.validate_update)


def status_strategy(served: Served) -> Strategy:
    behaviour = served.behaviour
    return Strategy("status", behaviour.prepare_status, behaviour.validate_status)


class Change(Struct):
    """One change of one object. `record` in the result is what now stands (or stood, where nothing changed)."""

    namespace: str
    name: str
    make: Make
    strategy: Strategy
    may_create: bool = False
    uid: str = ""
    managed: bool = True
    sent: Object | None = None  # of /scale: the Scale that `make` took last
    verb: str = "update"  # or patch


class Outcome(Struct):
    record: Record
    created: bool = False
    before: Record | None = None  # what `record` was made from, where it is a new one


async def update_through(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    sent: Sent,
    strategy: Strategy,
) -> Outcome:
    """PUT of the whole object, main or through a subresource that takes it. Raises NotFound, Conflict, Invalid …"""
    change = Change(
        namespace,
        name,
        sent.make,
        strategy,
        may_create=served.behaviour.create_on_update and not strategy.subresource,
        uid=sent.uid,
    )
    return await carry_out(api, context, served, change)


class Sent:
    """The object of a PUT, decoded for each try: a try changes what it is given."""

    def __init__(self, decode: Callable[[Any, Object], Object], raw: Any, shared: bool) -> None:
        """`decode(raw, shown)` gives a private object and may keep parts of `raw`, unless that is `shared`."""
        self._decode = decode
        self._raw = raw
        self._again: bytes | None = None
        self._shared = shared
        metadata = raw.get("metadata") if isinstance(raw, dict) else None
        self._conditional = bool(isinstance(metadata, dict) and metadata.get("resourceVersion"))
        self.uid: str = str(metadata.get("uid") or "") if isinstance(metadata, dict) else ""

    def make(self, _stored: Object | None, shown: Object) -> Object:
        if self._shared or self._conditional:  # a conditional one is tried again only to meet its conflict
            return self._decode(self._raw, shown)
        if self._again is None:
            try:
                self._again = orjson.dumps(self._raw)
            except TypeError:  # numbers over 64 bits
                return self._decode(copy(self._raw), shown)
            return self._decode(self._raw, shown)
        return self._decode(orjson.loads(self._again), shown)


async def carry_out(api: Api, context: Context, served: Served, change: Change) -> Outcome:
    """The loop. Raises NotFound, Conflict, Invalid, Forbidden …"""
    key = served.key(change.namespace, change.name)
    try:
        outcome = await _tries(api, context, served, change, key)
    except ApiError:
        await settle(api, key)
        raise
    if outcome.record.version > api.store.version:  # nothing changed, over what is still pending
        await settle(api, key)
    return outcome


async def _tries(api: Api, context: Context, served: Served, change: Change, key: Key) -> Outcome:
    for _ in range(_ATTEMPTS):
        current = api.store.newest(key)
        if current is None:
            if not change.may_create:
                raise problems.not_found(served.resource, change.name)
            outcome = await _create(api, context, served, change)
        else:
            outcome = await _attempt(api, context, served, change, current)
        if outcome is not None:
            return outcome
    raise problems.conflict(served.resource, change.name)


async def _create(api: Api, context: Context, served: Served, change: Change) -> Outcome | None:
    obj = change.make(None, {})
    metadata = obj["metadata"]
    if change.uid:
        raise problems.conflict(
            served.resource,
            change.name,
            f"Precondition failed: UID in precondition: {change.uid}, UID in object meta: ",
        )
    metadata["name"] = change.name
    metadata.pop("resourceVersion", None)
    prepare_metadata(api, served, change.namespace, metadata)
    obj = served.stored(obj)
    served.behaviour.default(obj)
    request = AdmissionRequest(
        "CREATE", served.resource, "", change.namespace, change.name, obj, None, context.user,
        context.dry_run, context.operation_options(), context.warnings, served.resource.kind,
        context.annotations,
    )  # fmt: skip
    try:
        return Outcome(await admit_and_create(api, context, served, obj, request, change.managed), created=True)
    except AlreadyExists:
        return None


async def _attempt(api: Api, context: Context, served: Served, change: Change, current: Record) -> Outcome | None:
    """None: another writer came first, look again."""
    await served.ready(current)
    old = served.working(current)
    obj = served.stored(change.make(old, served.present(current)))
    metadata = obj["metadata"]
    if change.uid and change.uid != old["metadata"].get("uid"):
        path = "/".join(part for part in (served.resource.plural, change.namespace, change.name) if part)
        raise problems.uid_conflict(served.resource, path, change.name, change.uid, current.uid)
    _check_version(served, change.name, metadata, current)
    if change.strategy.defaults:
        _default(served, change.strategy, obj, old)
    if change.managed:
        ownership.on_update(api, context, served, old, obj, change.strategy.subresource)
    request = AdmissionRequest(
        "UPDATE", served.resource, change.strategy.subresource, change.namespace, change.name, obj, old,
        context.user, context.dry_run, context.operation_options(), context.warnings, served.resource.kind,
        context.annotations, change.sent, verb=change.verb,
    )  # fmt: skip
    admission = api.hooks.admission
    await admission.mutate(request)
    metadata = obj["metadata"]
    metadata["resourceVersion"] = str(current.version)
    _set_generation(metadata, old["metadata"])
    change.strategy.prepare(obj, old)
    metas.prepare_update(metadata, old["metadata"])
    _check(served, change, obj, old)
    if not change.strategy.subresource:
        for warning in served.behaviour.warnings(obj, old):
            context.warn(warning)
    await admission.validate(request)
    ownership.keep_times(obj, old)
    return await _swap(api, context, served, current, old, obj)


def _default(served: Served, strategy: Strategy, obj: Object, old: Object) -> None:
    """Defaults; the status's alone where the spec is the stored one, which has them and is shared."""
    spec = obj.get("spec")
    quick = strategy.subresource == "status" and served.store_resource in NO_STATUS_DEFAULTS
    if not quick or spec is None or spec is not old.get("spec"):
        served.behaviour.default(obj)
    elif status := obj.get("status"):
        served.behaviour.default_status(status)


def _set_generation(metadata: Object, old: Object) -> None:
    if "generation" in old:
        metadata["generation"] = old["generation"]
    else:
        metadata.pop("generation", None)


def _check_version(served: Served, name: str, metadata: Object, current: Record) -> None:
    """Raises Conflict; Invalid where the kind must not be updated without a version."""
    asked = metadata.get("resourceVersion") or "0"
    if asked == "0":
        if served.behaviour.unconditional_update:
            return
        cause = Cause(
            "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
        )
        raise problems.invalid(served.resource.group, served.resource.plural, name, [cause])
    if not asked.isdigit():
        raise problems.plain_fault(problems.bad_version(asked))
    if asked != str(current.version):
        raise problems.conflict(served.resource, name)


def _check(served: Served, change: Change, obj: Object, old: Object) -> None:
    resource = served.resource
    custom = served.custom is not None
    causes = metas.validate_update(obj["metadata"], old["metadata"], resource.namespaced, custom)
    if not custom and "finalizers" in obj["metadata"]:
        causes += metas.builtin_finalizers(obj["metadata"])
    causes += change.strategy.validate(obj, old)
    if causes:
        raise problems.invalid(resource.group, resource.kind, change.name, causes)


async def _swap(
    api: Api, context: Context, served: Served, current: Record, old: Object, obj: Object
) -> Outcome | None:
    """None: another writer came first. One that named a version then meets the conflict on the next look."""
    key = current.key
    if obj == old:
        return Outcome(current)
    check_size(context, obj, current)
    metadata = obj["metadata"]
    released = not metadata.get("finalizers") and not held_by_spec(served, obj)
    if released and "deletionTimestamp" in old["metadata"] and not old["metadata"].get("deletionGracePeriodSeconds"):
        return await _finish_deletion(api, context, current, obj)
    if context.dry_run:
        return Outcome(Loose(key, current.version, obj))
    try:
        return Outcome(await put(api, key, current.version, await served.storable(obj)), before=current)
    except StaleVersion:
        return None


async def _finish_deletion(api: Api, context: Context, current: Record, obj: Object) -> Outcome | None:
    """The last finalizer is off: the object goes, and the writer sees what it wrote."""
    if not context.dry_run:
        try:
            await put(api, current.key, current.version, None)
        except StaleVersion:
            return None
    return Outcome(Loose(current.key, current.version, obj))


def held_by_spec(served: Served, obj: Object) -> bool:
    """A namespace stays until its spec.finalizers are gone."""
    return served.store_resource == "namespaces" and bool((obj.get("spec") or {}).get("finalizers"))
