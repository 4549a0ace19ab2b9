"""delete and deletecollection: preconditions, grace, finalizers (apiserver registry/rest/delete.go, store.go)."""

from __future__ import annotations

import orjson
from msgspec import Struct

from atoll.base import clock as clocks
from atoll.base.errors import ApiError, NotFound
from atoll.cluster.apiserver import metadata as metas
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.metadata import FOREGROUND, ORPHAN
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context, DeleteRequest, ListOptions
from atoll.cluster.apiserver.selection import Selection
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.commit import put, settle
from atoll.cluster.apiserver.verbs.list import Page, list_page
from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.apiserver.verbs.update import held_by_spec
from atoll.cluster.store.port import Key, Record, StaleVersion

_ATTEMPTS = 64
_KEEPS_NOTHING = frozenset({"events", "events.events.k8s.io"})


class Deleted(Struct):
    """`gone`: the object is no more; else it is being deleted (202 or 200 with the object)."""

    record: Record
    gone: bool


async def delete(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    options: DeleteRequest,
    *,
    of_collection: bool = False,
    admitted: bool = False,
) -> Deleted:
    """`of_collection`: admission is told no name; `admitted`: it was asked already, of what led to this.

    Raises NotFound, Conflict (preconditions, or always beaten by other writers).
    """
    key = served.key(namespace, name)
    admit_as = None if admitted else "" if of_collection else name
    try:
        done = await _tries(api, context, served, key, options, admit_as)
    except ApiError:
        await settle(api, key)
        raise
    if done.record.version > api.store.version:  # it is being deleted already, by what is still pending
        await settle(api, key)
    return done


async def _tries(
    api: Api, context: Context, served: Served, key: Key, options: DeleteRequest, admit_as: str | None
) -> Deleted:
    for _ in range(_ATTEMPTS):
        current = api.store.newest(key)
        if current is None:
            raise problems.not_found(served.resource, key.name)
        if options.propagation is None and options.orphan_dependents is None:
            warning = served.behaviour.extra.get("delete_warning")
            if warning:
                context.warn(warning)
        done = await _attempt(api, context, served, key.namespace, current, options, admit_as)
        if done is not None:
            await served.ready(done.record)
            return done
    raise problems.conflict(served.resource, key.name)


async def _attempt(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    current: Record,
    options: DeleteRequest,
    admit_as: str | None,
) -> Deleted | None:
    _check_preconditions(served, current, options)
    old = current.object
    if admit_as is not None:
        await served.ready(current)
        request = AdmissionRequest(
            "DELETE", served.resource, "", namespace, admit_as, None, served.working(current), context.user,
            context.dry_run, options.to_object(context.dry_run), context.warnings, served.resource.kind,
            context.annotations,
        )  # fmt: skip
        await api.hooks.admission.mutate(request)
        await api.hooks.admission.validate(request)
    metadata = dict(old["metadata"])
    grace = _grace(served, old, options)
    if grace is not None and "deletionTimestamp" in metadata and not _shorten(api, metadata, grace, options):
        return Deleted(current, gone=False)
    finalizers = _finalizers(served, metadata, options)
    if finalizers != (metadata.get("finalizers") or []):
        if finalizers:
            metadata["finalizers"] = finalizers
        else:
            metadata.pop("finalizers", None)
    marked = {**old, "metadata": metadata}
    begin = served.behaviour.extra.get("begin_deletion")
    if begin is not None and "deletionTimestamp" not in metadata:
        begin(marked, api.clock.wall())
        finalizers = metadata.get("finalizers") or []
    if served.store_resource == "namespaces":
        marked["status"] = {**(old.get("status") or {}), "phase": "Terminating"}
    held = bool(finalizers) or held_by_spec(served, marked)
    if not held and not grace:
        if grace == 0:
            metas.mark_deleting(metadata, api.clock.wall(), 0)
        return await _remove(api, context, current, metadata)
    if "deletionTimestamp" not in old["metadata"]:
        metas.mark_deleting(metadata, api.clock.wall(), grace or 0)
    elif grace is None or not grace:
        metas.mark_deleting(metadata, api.clock.wall(), 0)
    if served.store_resource == "namespaces" or begin is not None:
        metadata.pop("deletionGracePeriodSeconds", None)
    if marked == old:
        return Deleted(current, gone=False)
    if context.dry_run:
        return Deleted(Loose(current.key, current.version, marked), gone=False)
    try:
        return Deleted(await _mark(api, context, current, marked), gone=False)
    except StaleVersion:
        return None


async def _mark(api: Api, context: Context, current: Record, marked: Object) -> Record:
    """Write what is being deleted, in a known form if there is one: its kubelet's words stay cheap. Raises as put."""
    change = api.recasts.deletion(context, current, marked) if current.origin is not None else None
    if change is not None and change.recast is not None:
        filled = change.recast.fill(change.values)
        unversioned = {**marked, "metadata": {**marked["metadata"], "resourceVersion": ""}}
        if filled.head + filled.tail == orjson.dumps(unversioned):
            return await put(api, current.key, current.version, filled)
    record = await put(api, current.key, current.version, marked)
    if change is not None:
        api.recasts.learn(context, change, record)
    return record


def _check_preconditions(served: Served, current: Record, options: DeleteRequest) -> None:
    name = current.key.name
    if options.uid is not None and options.uid != current.uid:
        raise problems.kind_conflict(
            served.resource,
            name,
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({current.uid})."
            " The object might have been deleted and then recreated",
        )
    if options.resource_version is not None and options.resource_version != str(current.version):
        raise problems.kind_conflict(
            served.resource,
            name,
            f"the ResourceVersion in the precondition ({options.resource_version}) does not match the"
            f" ResourceVersion in record ({current.version}). The object might have been modified",
        )


def _grace(served: Served, old: Object, options: DeleteRequest) -> int | None:
    """Seconds of grace for kinds that know it (pods); None for the others."""
    rule = served.behaviour.grace_period_seconds
    if rule is None:
        return None
    asked = options.grace_period_seconds
    if asked is not None and asked < 0:
        asked = 1
    return rule(old, asked)


def _shorten(api: Api, metadata: Object, grace: int, options: DeleteRequest) -> bool:
    """Deletion goes on already: only a shorter grace changes anything. False: nothing to do."""
    standing = metadata.get("deletionGracePeriodSeconds") or 0
    if standing == 0:
        return True
    if options.grace_period_seconds is None or grace >= standing:
        return False
    due = clocks.parse_rfc3339(metadata["deletionTimestamp"]) - standing + grace
    now = api.clock.wall()
    if due < now:
        due = now
        grace = 1 if grace else 0
    metadata["deletionTimestamp"] = clocks.rfc3339(due)
    metadata["deletionGracePeriodSeconds"] = grace
    return True


def _finalizers(served: Served, metadata: Object, options: DeleteRequest) -> list[str]:
    """With the garbage collector's finalizers as the options, what stands, and the kind's default say."""
    present: list[str] = metadata.get("finalizers") or []
    if served.store_resource in _KEEPS_NOTHING:
        return present
    kept = [item for item in present if item not in (ORPHAN, FOREGROUND)]
    if options.orphan_dependents is not None:
        orphan, foreground = options.orphan_dependents, False
    elif options.propagation is not None:
        orphan, foreground = options.propagation == "Orphan", options.propagation == "Foreground"
    elif ORPHAN in present or FOREGROUND in present:
        first = next(item for item in present if item in (ORPHAN, FOREGROUND))
        orphan, foreground = first == ORPHAN, first == FOREGROUND
    else:
        orphan, foreground = served.behaviour.extra.get("orphan_by_default", False), False
    return kept + [ORPHAN] * orphan + [FOREGROUND] * foreground


async def _remove(api: Api, context: Context, current: Record, metadata: Object) -> Deleted | None:
    """The answer shows the object as its deletion left it."""
    shown = Loose(current.key, current.version, {**current.object, "metadata": metadata})
    if context.dry_run:
        return Deleted(shown, gone=True)
    try:
        gone = await put(api, current.key, current.version, None)
    except StaleVersion:
        return None
    return Deleted(shown if metadata != current.object["metadata"] else gone, gone=True)


async def delete_collection(
    api: Api,
    context: Context,
    served: Served,
    namespace: str | None,
    options: DeleteRequest,
    listing: ListOptions,
    chosen: Selection,
) -> Page:
    """All that is chosen, one by one, as upstream: not atomic. The page lists what was chosen."""
    page = await list_page(api, served, namespace, listing, chosen)
    for record in page.records:
        try:
            await delete(api, context, served, record.key.namespace, record.key.name, options, of_collection=True)
        except NotFound:
            continue
    await served.ready(*page.records)
    return page


def answer(served: Served, done: Deleted) -> Object:
    """A Status for what is gone (pods and a few others answer the object itself, as upstream), else the object."""
    if not done.gone or served.store_resource in _RETURNS_OBJECT:
        return served.present(done.record)
    resource = served.resource
    details: Object = {"name": done.record.key.name}
    if resource.group:
        details["group"] = resource.group
    details["kind"] = resource.plural
    details["uid"] = done.record.uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


_RETURNS_OBJECT = frozenset(
    {
        "pods", "services", "serviceaccounts", "persistentvolumes", "persistentvolumeclaims", "podtemplates",
        "resourcequotas", "namespaces", "resourceclaims.resource.k8s.io", "resourceclaimtemplates.resource.k8s.io",
        "resourceslices.resource.k8s.io", "deviceclasses.resource.k8s.io", "devicetaintrules.resource.k8s.io",
        "storageclasses.storage.k8s.io",
        "csidrivers.storage.k8s.io", "csinodes.storage.k8s.io", "volumeattachments.storage.k8s.io",
        "volumeattributesclasses.storage.k8s.io",
    }
)  # fmt: skip
