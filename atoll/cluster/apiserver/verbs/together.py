"""Creates of many objects at once, without a task for each.

Controllers of this process create pods and Events by the dozen. Where such a create's equals were decided before
(`molds`, `recasts`), all that is left of it is a write to the store, which is begun at once; all of them are in one
commit then, or few. What can't be begun so is left to the whole way, nothing of it being done.
"""

from __future__ import annotations

import asyncio

from atoll.base.errors import AtollError, ServerError
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import dispatch
from atoll.cluster.apiserver.verbs.create import begin_cast, free_key
from atoll.cluster.apiserver.verbs.molds import Mold
from atoll.cluster.store.port import ABSENT, Key, Record, StaleVersion, StorageFailed

Begun = tuple[Key, asyncio.Future[Record]]


class Together:
    """Creates of one caller in one collection."""

    def __init__(self, api: Api, context: Context, served: Served) -> None:
        self._api = api
        self._context = context
        self._served = served
        self._last: tuple[Object, str, Mold | None] | None = None  # many are made of the very same object
        self._started = api.clock.monotonic()

    def begin(self, namespace: str, obj: Object) -> Begun | AtollError | None:
        """The write of it, or why there is none; None: it must go the whole way."""
        try:
            return self._begin(namespace, obj)
        except StorageFailed as error:  # the store is closed
            return ServerError(f"etcdserver: {error}")

    def _begin(self, namespace: str, obj: Object) -> Begun | None:
        if self._served.store_resource == "pods":
            return self._pod(namespace, obj)
        if self._served.store_resource in self._api.followers:
            return None
        change = dispatch.event(self._api, self._context, self._served, namespace, obj)
        if change is None or change.recast is None:
            return None
        change.stamp(self._api.uids.uuid())
        try:
            return change.key, self._api.store.write(change.key, ABSENT, change.recast.fill(change.values))
        except StaleVersion:
            return None

    def _pod(self, namespace: str, obj: Object) -> Begun | None:
        api, served, context = self._api, self._served, self._context
        if self._last is None or self._last[0] is not obj or self._last[1] != namespace:
            molds = api.molds_of(served)
            equal = molds.equal(context, served, namespace, obj, ())
            self._last = obj, namespace, None if equal is None else molds.find(equal)
        mold = self._last[2]
        if mold is None or not mold.watched.hold(api.store):
            return None
        metadata = obj["metadata"]
        name = metadata.get("name") or ""
        if name and served.check_name(name):
            return None
        key = free_key(api, served, namespace, name, metadata.get("generateName") or "")
        return None if key is None else (key, begin_cast(api, context, key, mold))

    async def finish(self, begun: Begun) -> str | AtollError:
        """Its name, once it is durable; or why it is not."""
        key, written = begun
        try:
            await written
        except StorageFailed as error:
            return ServerError(f"etcdserver: {error}")
        if self._api.observe_write is not None:
            self._api.observe_write(key, ABSENT, False, self._api.clock.monotonic() - self._started)
        return key.name
