"""Writes of many objects at once, without a task for each.

Controllers, the scheduler and kubelets of this process make, bind and patch pods, and tell of them, by the dozen. Where
a write's equals were decided before (`molds`, `recasts`), all that is left of it is a write to the store, which is
begun at once; all of them are in one commit then, or few. What can't be begun so is left to the whole way, nothing of
it being done: the first of them alone, as it may teach how the others are done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError, ServerError
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import dispatch, subresources
from atoll.cluster.apiserver.verbs.create import begin_cast, free_key
from atoll.cluster.apiserver.verbs.molds import Mold
from atoll.cluster.apiserver.verbs.recasts import Change
from atoll.cluster.store.port import ABSENT, Key, Record, StaleVersion, StorageFailed

_ALONE = (1, 4)  # so many go the whole way before the others are tried again; then all

Begun = tuple[Key, int, asyncio.Future[Record]]  # with the version that is replaced
T = TypeVar("T")


class Together:
    """Writes of one caller in one collection."""

    def __init__(self, api: Api, context: Context, served: Served) -> None:
        self._api = api
        self._context = context
        self._served = served
        self._follows = served.store_resource in api.followers
        self._last: tuple[Object, str, Mold | None] | None = None  # many are made of the very same object
        self._started = api.clock.monotonic()

    def create(self, namespace: str, obj: Object) -> Begun | AtollError | None:
        """The write of it, or why there is none; None: it must go the whole way."""
        return self._begun(self._create, namespace, obj)

    def bind(self, namespace: str, binding: Object) -> Begun | AtollError | None:
        """Of a pod to the node of a Binding that names the pod; likewise."""
        return self._begun(self._bind, namespace, binding)

    def patch_status(self, namespace: str, name: str, body: Any) -> Begun | AtollError | None:
        """A strategic merge patch of a pod; likewise."""
        return self._begun(self._patch_status, namespace, (name, body))

    def _begun(
        self, begin: Callable[[str, Any], Begun | None], namespace: str, asked: Any
    ) -> Begun | AtollError | None:
        if self._follows:
            return None
        try:
            return begin(namespace, asked)
        except AtollError as error:
            return error
        except StorageFailed as error:  # the store is closed
            return ServerError(f"etcdserver: {error}")

    def _create(self, namespace: str, obj: Object) -> Begun | None:
        if self._served.store_resource == "pods":
            return self._pod(namespace, obj)
        change = dispatch.event(self._api, self._context, self._served, namespace, obj)
        if change is None or change.recast is None:
            return None
        change.stamp(self._api.uids.uuid())
        return self._write(change)

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
        return None if key is None else (key, ABSENT, begin_cast(api, context, key, mold))

    def _bind(self, namespace: str, sent: Object) -> Begun | None:
        api, context = self._api, self._context
        if not subresources.is_plain(sent):
            return None
        metadata, node = {"namespace": namespace, **sent["metadata"]}, sent["target"].get("name")
        current = api.store.newest(self._served.key(namespace, metadata.get("name", "")))
        if not node or current is None or current.origin is None or sent["target"].get("kind", "Node") != "Node":
            return None
        request = AdmissionRequest(
            "CREATE", self._served.resource, "binding", namespace, current.key.name, {**sent, "metadata": metadata},
            None, context.user, False, {}, context.warnings, "Binding", context.annotations,
        )  # fmt: skip
        admission = api.hooks.admission
        if not (admission.mutate_at_once(request) and admission.validate_at_once(request)):
            return None
        now = rfc3339(api.clock.wall())
        change = api.recasts.binding(context, current, node, metadata, now)
        return None if change is None else self._write(change)

    def _patch_status(self, namespace: str, asked: tuple[str, Any]) -> Begun | None:
        api = self._api
        name, body = asked
        key, now = self._served.key(namespace, name), rfc3339(api.clock.wall())
        change = api.recasts.status_patch(self._context, api.hooks.admission, key, body, now)
        return None if change is None else self._write(change)

    def _write(self, change: Change) -> Begun | None:
        if change.recast is None:
            return None
        try:
            written = self._api.store.write(change.key, change.version, change.recast.fill(change.values))
        except StaleVersion:
            return None
        return change.key, change.version, written

    async def finish(self, begun: Begun) -> str | AtollError:
        """Its name, once it is durable; or why it is not."""
        key, replaced, written = begun
        try:
            await written
        except StorageFailed as error:
            return ServerError(f"etcdserver: {error}")
        if self._api.observe_write is not None:
            self._api.observe_write(key, replaced, False, self._api.clock.monotonic() - self._started)
        return key.name

    async def all(
        self,
        count: int,
        begin: Callable[[int], Begun | AtollError | None],
        whole: Callable[[Sequence[int]], Awaitable[Sequence[T | AtollError]]],
        done: Callable[[str], T],
    ) -> list[T | AtollError]:
        """What comes of each of so many writes. `begin` the one at a place, or `whole`: those at these places; `done`
        is what is said of one of this name that was begun."""
        made: dict[int, T | AtollError] = {}
        left: Sequence[int] = range(count)
        for most in (*_ALONE, count):
            self._last = None  # a mold may have been made on the whole way
            begun: list[tuple[int, Begun]] = []
            rest: list[int] = []
            for place in left:
                one = begin(place)
                if one is None:
                    rest.append(place)
                elif isinstance(one, AtollError):
                    made[place] = one
                else:
                    begun.append((place, one))
            some, left = rest[:most], rest[most:]
            if some:
                made.update(zip(some, await whole(some), strict=True))
            for place, one in begun:
                name = await self.finish(one)
                made[place] = name if isinstance(name, AtollError) else done(name)
            if not left:
                break
        return [made[place] for place in range(count)]
