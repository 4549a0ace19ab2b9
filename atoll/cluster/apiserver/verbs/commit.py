"""The one place that writes to the store for the verbs: size limit, storage failure as a Status."""

from __future__ import annotations

import asyncio

from atoll.base.errors import ServerError
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.store.port import Key, Record, StorageFailed


async def put(api: Api, key: Key, expected: int, obj: Object | None) -> Record:
    """Write and wait until durable. Raises StaleVersion at once, ServerError where storage fails.

    A caller that is cancelled while waiting does not undo the write: its outcome is unknown to it, as over HTTP.
    """
    try:
        future = api.store.write(key, expected, obj)
        record = await asyncio.shield(future) if not future.done() else future.result()
    except StorageFailed as error:
        raise ServerError(f"etcdserver: {error}") from None
    follower = api.followers.get(key.resource)
    if follower is not None:
        await follower(key, None if obj is None else record)
    return record
