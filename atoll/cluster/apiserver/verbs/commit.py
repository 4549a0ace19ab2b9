"""The one place that writes to the store for the verbs: size limit, storage failure as a Status."""

from __future__ import annotations

import orjson

from atoll.base.errors import ServerError
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.verbs.recasts import Change, Recast
from atoll.cluster.store.port import ABSENT, Encoded, Key, Record, StaleVersion, StorageFailed

LARGE_BYTES = 1_000_000
_MOST_BYTES = 1_572_864 - 1024  # etcd's limit of a request, and what else is in one


def check_size(context: Context, obj: Object, standing: Record | None = None) -> None:
    """Raises upstream's error for objects over etcd's limit; only what may be large is measured."""
    may_be = context.large or (standing is not None and len(standing.data) > LARGE_BYTES)
    if may_be and len(orjson.dumps(obj)) > _MOST_BYTES:
        raise problems.too_large_for_etcd()


async def settle(api: Api, key: Key) -> None:
    """Before anybody is told what the newest, pending state of an object is: wait until it is durable.

    A refusal (or an answer that nothing had to change) may be due to a write that is not on the disk yet: told at
    once, it could be followed by a read that knows nothing of it, or by a crash after which it never happened. Raises
    ServerError where storage fails.
    """
    try:
        await api.store.settle(key)
    except StorageFailed as error:
        raise ServerError(f"etcdserver: {error}") from None


async def put(api: Api, key: Key, expected: int, obj: Object | Encoded | None) -> Record:
    """Write and wait until durable. Raises StaleVersion at once, ServerError where storage fails.

    A caller that is cancelled while waiting does not undo the write: its outcome is unknown to it, as over HTTP.
    """
    observe = api.observe_write
    started = api.clock.monotonic() if observe is not None else 0.0
    try:
        record = await api.store.write(key, expected, obj)
    except StorageFailed as error:
        raise ServerError(f"etcdserver: {error}") from None
    if observe is not None:
        observe(key, expected, obj is None, api.clock.monotonic() - started)
    follower = api.followers.get(key.resource)
    if follower is not None:
        await follower(key, None if obj is None else record)
    return record


async def repeat(api: Api, change: Change, recast: Recast) -> Record | None:
    """A change whose equals were decided before. None: another writer came first. Raises ServerError."""
    if change.version == ABSENT:
        change.stamp(api.uids.uuid())
    try:
        return await put(api, change.key, change.version, recast.fill(change.values))
    except StaleVersion:
        return None
