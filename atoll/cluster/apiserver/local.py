"""LocalClient: the client port directly on the verbs, with no bytes, sockets or threads.

Semantics are those of HTTP: what is written is decoded, defaulted, admitted and checked just the same. What is
returned is shared with the store: never change it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from atoll.base.errors import AtollError
from atoll.client.port import (
    APPLY_PATCH,
    MERGE_PATCH,
    DeleteOptions,
    ListResult,
    Object,
    RawResponse,
    WatchEvent,
    bind,
    failures,
    gathered,
)
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, User
from atoll.cluster.apiserver.request import Context, DeleteRequest, ListOptions, WriteQuery, validate_list
from atoll.cluster.apiserver.selection import selection
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import delete as deleting
from atoll.cluster.apiserver.verbs import dispatch
from atoll.cluster.apiserver.verbs import watch as watching
from atoll.cluster.apiserver.verbs.get import get
from atoll.cluster.apiserver.verbs.list import list_page
from atoll.cluster.apiserver.verbs.together import Begun, Together
from atoll.kinds.builtin import PODS
from atoll.kinds.resource import Resource
from atoll.objects.meta import copy


class LocalClient:
    """One identity's view of an Api; trusted (no authorizer stands before it)."""

    def __init__(self, api: Api, user: User = SYSTEM_ADMIN, field_manager: str = "atoll") -> None:
        self._api = api
        self._user = user
        self._field_manager = field_manager

    def _served(self, resource: Resource) -> Served:
        served = self._api.registry.of(resource)
        if served is None:
            raise problems.no_such_path()
        return served

    def _context(self, dry_run: bool, field_manager: str | None = None) -> Context:
        return Context(self._user, field_manager or self._field_manager, "Warn", dry_run)

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Object:
        served = self._served(resource)
        if subresource and subresource != "status":
            context = self._context(False)
            answer = await dispatch.get_subresource(self._api, context, served, namespace or "", name, subresource)
            return answer.obj
        record = get(self._api, served, namespace or "", name)
        await served.ready(record)
        return served.present(record)

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        limit: int | None = None,
        continue_token: str | None = None,
        resource_version: str | None = None,
    ) -> ListResult:
        served = self._served(resource)
        options = ListOptions(
            label_selector=label_selector or "",
            field_selector=field_selector or "",
            limit=limit or 0,
            continue_token=continue_token or "",
            resource_version=resource_version or "",
        )
        chosen = selection(served, options.label_selector, options.field_selector)
        page = await list_page(self._api, served, namespace, options, chosen)
        await served.ready(*page.records)
        items = [served.present(record) for record in page.records]
        return ListResult(items, str(page.version), page.continue_token or None, page.remaining)

    def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        bookmarks: bool = True,
    ) -> AsyncIterator[WatchEvent]:
        options = ListOptions(
            label_selector=label_selector or "",
            field_selector=field_selector or "",
            resource_version=resource_version,
            watch=True,
            allow_bookmarks=bookmarks,
        )
        return self._watch(resource, namespace, options)

    async def _watch(
        self, resource: Resource, namespace: str | None, options: ListOptions
    ) -> AsyncIterator[WatchEvent]:
        validate_list(options)
        served = self._served(resource)
        chosen = selection(served, options.label_selector, options.field_selector)
        batches = watching.start(self._api, served, namespace, options, chosen)
        async for batch in batches:
            for shown in batch:
                if shown.record is not None:
                    await served.ready(shown.record)
                yield WatchEvent(shown.type, watching.shown_object(served, shown))

    async def create(
        self,
        resource: Resource,
        obj: Object,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        served = self._served(resource)
        context = self._context(dry_run)
        space = namespace or (obj.get("metadata") or {}).get("namespace") or ""
        if subresource or name:
            answer = await dispatch.create_subresource(
                self._api, context, served, space, name or "", subresource or "", copy(obj)
            )
        else:
            own = obj if served.custom is None else copy(obj)  # decoding a built-in kind copies what may be changed
            answer = await dispatch.create(self._api, context, served, space, own)
        return answer.obj

    async def create_all(
        self, resource: Resource, objs: Sequence[Object], namespace: str | None = None
    ) -> Sequence[str | AtollError]:
        """See `atoll.client.port.create_all`."""
        together = Together(self._api, self._context(False), self._served(resource))

        def begin(place: int) -> Begun | AtollError | None:
            obj = objs[place]
            return together.create(namespace or (obj.get("metadata") or {}).get("namespace") or "", obj)

        async def whole(places: Sequence[int]) -> Sequence[str | AtollError]:
            made = await gathered(self.create(resource, objs[place], namespace) for place in places)
            return [one if isinstance(one, AtollError) else one["metadata"]["name"] for one in made]

        return await together.all(len(objs), begin, whole, lambda name: name)

    async def bind_all(self, bindings: Sequence[Object]) -> Sequence[AtollError | None]:
        """See `atoll.client.port.bind_all`."""
        together = Together(self._api, self._context(False), self._served(PODS))

        def begin(place: int) -> Begun | AtollError | None:
            binding = bindings[place]
            return together.bind(binding["metadata"].get("namespace") or "", binding)

        async def whole(places: Sequence[int]) -> Sequence[AtollError | None]:
            return failures(await gathered(bind(self, bindings[place]) for place in places))

        return await together.all(len(bindings), begin, whole, lambda name: None)

    async def patch_all(
        self,
        resource: Resource,
        patches: Sequence[tuple[str | None, str, Any]],
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
    ) -> Sequence[AtollError | None]:
        """See `atoll.client.port.patch_all`."""
        served = self._served(resource)
        together = Together(self._api, self._context(False), served)

        def begin(place: int) -> Begun | AtollError | None:
            namespace, name, patch = patches[place]
            return together.patch_status(namespace or "", name, patch)

        async def whole(places: Sequence[int]) -> Sequence[AtollError | None]:
            calls = [
                self.patch(resource, name, patch, namespace, content_type=content_type, subresource=subresource)
                for namespace, name, patch in map(patches.__getitem__, places)
            ]
            return failures(await gathered(calls))

        if not dispatch.may_repeat(served, subresource or "", content_type):
            return await whole(range(len(patches)))
        return await together.all(len(patches), begin, whole, lambda name: None)

    async def update(
        self, resource: Resource, obj: Object, *, subresource: str | None = None, dry_run: bool = False
    ) -> Object:
        served = self._served(resource)
        metadata = obj["metadata"]
        answer = await dispatch.update(
            self._api, self._context(dry_run), served, metadata.get("namespace") or "", metadata.get("name") or "",
            subresource or "", obj, shared=True,
        )  # fmt: skip
        return answer.obj

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Any,
        namespace: str | None = None,
        *,
        content_type: str = MERGE_PATCH,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        served = self._served(resource)
        answer = await dispatch.patch(
            self._api, self._context(dry_run), served, namespace or "", name, subresource or "", content_type,
            patch, WriteQuery(self._field_manager), shared=True,
        )  # fmt: skip
        return answer.obj

    async def apply(
        self,
        resource: Resource,
        obj: Object,
        *,
        subresource: str | None = None,
        force: bool = True,
        dry_run: bool = False,
        field_manager: str | None = None,
    ) -> Object:
        served = self._served(resource)
        metadata = obj["metadata"]
        context = self._context(dry_run, field_manager)
        answer = await dispatch.patch(
            self._api, context, served, metadata.get("namespace") or "", metadata["name"], subresource or "",
            APPLY_PATCH, copy(obj), WriteQuery(context.field_manager, force=force),
        )  # fmt: skip
        return answer.obj

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions | None = None,
        dry_run: bool = False,
    ) -> Object:
        served = self._served(resource)
        given = options or DeleteOptions()
        asked = DeleteRequest(given.grace_period_seconds, given.propagation, None, given.uid, given.resource_version)
        done = await deleting.delete(self._api, self._context(dry_run), served, namespace or "", name, asked)
        return deleting.answer(served, done)

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> RawResponse:
        """Through the HTTP translation, without a socket, if the Api has one."""
        handler = self._api.raw
        if handler is None:
            raise problems.no_such_path()
        status, answered, data = await handler(self._user, method, path, query, body, headers or {})
        return RawResponse(status, dict(answered), data)

    async def close(self) -> None:
        return None
