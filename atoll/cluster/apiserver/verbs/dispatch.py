"""From (verb, subresource) to the function that carries it out; both translations (HTTP, LocalClient) come here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atoll.base.clock import rfc3339
from atoll.base.errors import BadRequest
from atoll.client.port import STRATEGIC_PATCH
from atoll.cluster.apiserver import metadata as metas
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context, WriteQuery
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import ownership, scale, subresources
from atoll.cluster.apiserver.verbs import patch as patching
from atoll.cluster.apiserver.verbs import update as updating
from atoll.cluster.apiserver.verbs.accept import accept, accept_status
from atoll.cluster.apiserver.verbs.answer import Answer
from atoll.cluster.apiserver.verbs.commit import repeat
from atoll.cluster.apiserver.verbs.create import cast
from atoll.cluster.apiserver.verbs.create import create as create_object
from atoll.cluster.apiserver.verbs.get import ready_to_get
from atoll.cluster.apiserver.verbs.recasts import Change
from atoll.objects.meta import copy

_REPEATED = ("pods", "status", STRATEGIC_PATCH)


async def create(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    raw: Any,
    repeated: Sequence[str] = (),
    body: bytes = b"",
) -> Answer:
    """POST to the collection. `raw` is private to the call; `body`: the JSON that it was parsed from, if it was."""
    molds = api.molds_of(served)
    equal = molds.equal(context, served, namespace, raw, repeated)
    watched = None
    if equal is not None:
        mold = molds.find(equal)
        name = raw["metadata"].get("name") or ""
        if mold is not None and not (name and served.check_name(name)):
            if body and served.custom is None:
                molds.remember(mold, equal, body, raw["metadata"])
            record = await cast(api, context, served, namespace, mold, name, raw["metadata"])
            return Answer(served, record, created=True)
        depends = None if served.reads_name() else api.hooks.admission.repeats(served.store_resource, context.user, raw)
        watched = molds.watch(equal, depends)
    change = None if repeated else event(api, context, served, namespace, raw)
    if change is not None and change.recast is not None:
        made = await repeat(api, change, change.recast)
        if made is not None:
            return Answer(served, made, created=True)
    virtual = api.hooks.virtual.get((served.resource.group, served.resource.plural))
    obj = accept(context, served, raw, repeated)
    if (served.resource.group, served.resource.plural) == ("", "bindings"):
        pods = api.registry.find("", "v1", "pods")
        assert pods is not None
        return await subresources.bind_legacy(api, context, pods, namespace, obj)
    if virtual is not None:
        ownership.on_create(api, context, served, obj)
        await _admit_virtual(api, context, served, namespace, obj)
        return Answer(None, None, await virtual(context.user, obj, namespace), created=True)
    record = await create_object(api, context, served, namespace, obj)
    await served.ready(record)
    if equal is not None and watched is not None:
        molds.learn(equal, watched, record, context)
    if change is not None:
        api.recasts.learn(context, change, record)
    return Answer(served, record, created=True)


def event(api: Api, context: Context, served: Served, namespace: str, raw: Any) -> Change | None:
    """The create of a core/v1 Event as one that may be like others."""
    if served.store_resource != "events" or served.from_storage is not None or raw.__class__ is not dict:
        return None
    metadata = raw.get("metadata")
    name = metadata.get("name") if metadata.__class__ is dict else None
    if name.__class__ is not str or not name or served.check_name(name):
        return None
    now = rfc3339(api.clock.wall())
    return api.recasts.event(context, api.hooks.admission, served.key(namespace, name), raw, now)


async def _admit_virtual(api: Api, context: Context, served: Served, namespace: str, obj: Object) -> None:
    request = AdmissionRequest(
        "CREATE", served.resource, "", namespace, obj["metadata"].get("name") or "", obj, None, context.user,
        context.dry_run, context.operation_options(), context.warnings, served.resource.kind, context.annotations,
    )  # fmt: skip
    await api.hooks.admission.mutate(request)
    await api.hooks.admission.validate(request)


async def get_subresource(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    subresource: str,
    query: Mapping[str, list[str]] | None = None,
) -> Answer:
    """GET of a subresource other than status."""
    _require(served, subresource)
    made_up = api.hooks.subresources.get((served.resource, subresource))
    if made_up is not None:
        found = made_up(namespace, name, query or {})
        if found is None:
            raise problems.not_found(served.resource, name)
        return Answer(None, None, found)
    if served.converter is not None:
        await ready_to_get(api, served, namespace, name)
    return subresources.get(api, served, namespace, name, subresource)


async def create_subresource(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    subresource: str,
    raw: Any,
    repeated: Sequence[str] = (),
) -> Answer:
    """POST to NAME/SUBRESOURCE."""
    _require(served, subresource)
    return await subresources.create(api, context, served, namespace, name, subresource, raw, repeated)


async def update(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    subresource: str,
    raw: Any,
    repeated: Sequence[str] = (),
    *,
    shared: bool = False,
) -> Answer:
    """PUT. `shared`: `raw` belongs to the caller. Raises BadRequest where it names another object than the path."""
    if subresource in subresources.OTHER_KINDS:
        _require(served, subresource)
        return await scale.update(api, context, served, namespace, name, raw, repeated)
    strategy = updating.main_strategy(served)
    if subresource:
        _require(served, subresource)
        strategy = subresources.strategy(served, subresource)
    scope = namespace if served.resource.namespaced else ""

    def decode(sent: Any, shown: Object) -> Object:
        if subresource == "status":
            obj = accept_status(context, served, sent, shown, repeated, shared=shared)
        else:
            obj = accept(context, served, copy(sent) if shared and served.custom is not None else sent, repeated)
        check_name(served, obj, namespace, name)
        metas.ensure_namespace(obj["metadata"], scope)
        return obj

    if not isinstance(raw, dict) or api.store.newest(served.key(namespace, name)) is None:
        decode(raw if not shared else copy(raw), {})  # a bad body is told before an absent object
    change = None
    if subresource == "status" and served.custom is not None and not repeated:
        key, now = served.key(namespace, name), rfc3339(api.clock.wall())
        change = api.recasts.status_update(context, api.hooks.admission, served, key, raw, now)
        if change is not None and change.recast is not None:
            record = await repeat(api, change, change.recast)
            if record is not None:
                return Answer(served, record)
    sent = updating.Sent(decode, raw, shared)
    outcome = await updating.update_through(api, context, served, namespace, name, sent, strategy)
    await served.ready(outcome.record)
    if change is not None:
        _learn_status(api, context, served, change, outcome)
    return Answer(served, outcome.record, created=outcome.created)


def _learn_status(api: Api, context: Context, served: Served, change: Change, outcome: updating.Outcome) -> None:
    before = outcome.before
    if before is None or before.version != change.version:
        return
    new, old = served.present(outcome.record), served.present(before)
    if served.custom.looks_into(
        served.resource.version, new, old, {value.decode() for value in change.values if value}
    ):
        api.recasts.refuse(change)
    else:
        api.recasts.learn(context, change, outcome.record)


async def patch(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    subresource: str,
    content_type: str,
    body: Any,
    options: WriteQuery,
    repeated: Sequence[str] = (),
    *,
    shared: bool = False,
) -> Answer:
    """PATCH of four kinds; `body` is parsed. `shared`: it belongs to the caller."""
    if subresource:
        _require(served, subresource)
    change = None
    if may_repeat(served, subresource, content_type) and not repeated:
        key, now = served.key(namespace, name), rfc3339(api.clock.wall())
        change = api.recasts.status_patch(context, api.hooks.admission, key, body, now)
        if change is not None and change.recast is not None:
            record = await repeat(api, change, change.recast)
            if record is not None:
                return Answer(served, record)
    request = patching.Patch(content_type, copy(body) if shared else body, options.force or False, repeated)
    if subresource in subresources.OTHER_KINDS:
        patching.check_supported(served, content_type)
        return await scale.patch(api, context, served, namespace, name, request)
    strategy = subresources.strategy(served, subresource) if subresource else updating.main_strategy(served)
    outcome = await patching.patch(api, context, served, namespace, name, strategy, request)
    if change is not None and outcome.before is not None and outcome.before.version == change.version:
        api.recasts.learn(context, change, outcome.record)
    await served.ready(outcome.record)
    return Answer(served, outcome.record, created=outcome.created)


def may_repeat(served: Served, subresource: str, content_type: str) -> bool:
    """Whether such patches may be like others (`recasts`)."""
    return (served.store_resource, subresource, content_type) == _REPEATED


def check_name(served: Served, obj: Object, namespace: str, name: str) -> None:
    """Raises BadRequest."""
    metadata = obj["metadata"]
    own = metadata.get("name") or ""
    if not own:
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if own != name:
        raise BadRequest(f"the name of the object ({own}) does not match the name on the URL ({name})")
    space = metadata.get("namespace") or ""
    if namespace and served.resource.namespaced and space and space != namespace:
        raise problems.bad_namespace()


def _require(served: Served, subresource: str) -> None:
    if served.entry.subresource(subresource) is None:
        raise problems.no_such_path()
