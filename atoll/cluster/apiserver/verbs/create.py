"""create: defaults, admission, the kind's strategy and checks, then compare-and-swap against absence."""

from __future__ import annotations

import asyncio

from atoll.cluster.apiserver import metadata as metas
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import ownership
from atoll.cluster.apiserver.verbs.commit import check_size, put, settle
from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.apiserver.verbs.molds import Mold
from atoll.cluster.store.port import ABSENT, Key, Record, StaleVersion

_NAME_ATTEMPTS = 8
_LONGEST_GENERATED_PREFIX = 58


async def create(api: Api, context: Context, served: Served, namespace: str, obj: Object) -> Record:
    """`obj` is private to the call, decoded and in the served version. Raises AlreadyExists, Invalid, Forbidden …"""
    if served.custom is not None and served.custom.terminating:
        why = "create not allowed while custom resource definition is terminating"
        raise problems.forbidden(served.resource, obj["metadata"].get("name", ""), why)
    metadata = obj["metadata"]
    has_version = metadata.pop("resourceVersion", None) not in (None, "", "0")
    prepare_metadata(api, served, namespace, metadata)
    obj = served.stored(obj)
    metadata = obj["metadata"]
    served.behaviour.default(obj)
    request = AdmissionRequest(
        "CREATE", served.resource, "", namespace, metadata.get("name", ""), obj, None, context.user,
        context.dry_run, context.operation_options(), context.warnings, served.resource.kind, context.annotations,
    )  # fmt: skip
    return await admit_and_create(api, context, served, obj, request, has_version=has_version)


async def admit_and_create(
    api: Api,
    context: Context,
    served: Served,
    obj: Object,
    request: AdmissionRequest,
    managed: bool = True,
    has_version: bool = False,
) -> Record:
    """The part that server-side apply's create and create-on-update share.

    `has_version`: the client sent a resourceVersion. That is the storage's to refuse, so all other faults come first.
    """
    metadata = obj["metadata"]
    admission = api.hooks.admission
    if managed:
        ownership.on_create(api, context, served, obj)
    await admission.mutate(request)
    metadata = obj["metadata"]
    if not metadata.get("name") and metadata.get("generateName"):
        metadata["name"] = _generate(api, metadata["generateName"])
    served.behaviour.prepare_create(obj)
    check_create(served, obj)
    for warning in served.behaviour.warnings(obj, None):
        context.warn(warning)
    if served.warning:
        context.warn(served.warning)
    request.name = metadata.get("name", "")
    await admission.validate(request)
    if has_version:
        raise problems.version_on_create()
    return await _insert(api, context, served, obj)


def prepare_metadata(api: Api, served: Served, namespace: str, metadata: Object) -> None:
    """System fields and namespace."""
    metas.ensure_namespace(metadata, namespace if served.resource.namespaced else "")
    metas.fill_system_fields(metadata, api.uids.uuid(), api.clock.wall())
    metadata.pop("resourceVersion", None)


def _generate(api: Api, prefix: str) -> str:
    return prefix[:_LONGEST_GENERATED_PREFIX] + api.names.name_suffix()


def check_create(served: Served, obj: Object) -> None:
    """Raises Invalid with all that is wrong."""
    resource = served.resource
    metadata = obj["metadata"]
    causes = metas.validate(metadata, resource.namespaced, served.check_name)
    if served.custom is None and "finalizers" in metadata:
        causes += metas.builtin_finalizers(metadata)
    causes += served.behaviour.validate_create(obj)
    if causes:
        raise problems.invalid(served.storage.group, resource.kind, metadata.get("name", ""), causes)


async def cast(
    api: Api, context: Context, served: Served, namespace: str, mold: Mold, name: str, metadata: Object
) -> Record:
    """A create whose equals were decided before. Raises AlreadyExists."""
    _carry_over(context, mold)
    prefix = metadata.get("generateName") or ""
    for _ in range(_NAME_ATTEMPTS):
        own = name or _generate(api, prefix)
        key = served.key(namespace, own)
        try:
            encoded = mold.cast(own, api.uids.uuid(), api.clock.wall())
            return await put(api, key, ABSENT, encoded)
        except StaleVersion:
            if not prefix:
                await settle(api, key)
                raise problems.already_exists(served.resource, own) from None
            name = ""
    raise problems.generated_name_taken(served.resource, own)


def free_key(api: Api, served: Served, namespace: str, name: str, prefix: str) -> Key | None:
    """The key of a valid name or of one that is made, for `begin_cast`; None: it is taken, or others want to follow."""
    key = served.key(namespace, name or _generate(api, prefix))
    return None if key.resource in api.followers or api.store.newest(key) is not None else key


def begin_cast(api: Api, context: Context, key: Key, mold: Mold) -> asyncio.Future[Record]:
    """`cast` with a free key; done when durable. Raises StorageFailed, as the future does."""
    _carry_over(context, mold)
    return api.store.write(key, ABSENT, mold.cast(key.name, api.uids.uuid(), api.clock.wall()))


def _carry_over(context: Context, mold: Mold) -> None:
    for warning in mold.warnings:
        context.warn(warning)
    if context.annotations is not None:
        for key, value in mold.annotations:
            context.annotations.setdefault(key, value)


async def _insert(api: Api, context: Context, served: Served, obj: Object) -> Record:
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    check_size(context, obj)
    generated = bool(metadata.get("generateName"))
    for attempt in range(_NAME_ATTEMPTS):
        key = served.key(namespace, metadata["name"])
        if context.dry_run:
            if api.store.newest(key) is not None:
                await settle(api, key)
                raise problems.already_exists(served.resource, key.name)
            return Loose(key, api.store.version, obj)
        try:
            return await put(api, key, ABSENT, await served.storable(obj))
        except StaleVersion:
            if not generated:
                await settle(api, key)
                raise problems.already_exists(served.resource, key.name) from None
            if attempt + 1 < _NAME_ATTEMPTS:
                metadata["name"] = _generate(api, metadata["generateName"])
    raise problems.generated_name_taken(served.resource, metadata["name"])
