"""The one port through which every controller reaches an API server.

Implementations: `atoll.client.http.HttpClient` (any API server, by kubeconfig), and the embedded cluster's
`atoll.cluster.apiserver.local.LocalClient` (in process, no sockets; also in virtual time). One contract
suite (`atoll.testing.contracts.client`) is run by each.

Objects are plain JSON values (`dict`). What a client returns may be shared with caches: never change it,
copy first (`atoll.objects.meta.copy`). Errors are those of `atoll.base.errors`: ApiError subclasses as the
server says, Unreachable when nothing was carried out, OutcomeUnknown when a write's answer was lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Literal, Protocol

from msgspec import Struct

from atoll.base.errors import AtollError
from atoll.kinds.builtin import PODS
from atoll.kinds.resource import Resource

Object = dict[str, Any]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class ListResult(Struct):
    """One page (or all) of a list, from one consistent version."""

    items: list[Object]
    resource_version: str
    continue_token: str | None = None
    remaining: int | None = None


class WatchEvent(Struct, frozen=True):
    """ADDED MODIFIED DELETED carry the object, BOOKMARK only its resourceVersion. ERROR raises ApiError instead."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object


class DeleteOptions(Struct, frozen=True):
    """metav1.DeleteOptions. propagation: Foreground, Background or Orphan."""

    grace_period_seconds: int | None = None
    propagation: str | None = None
    uid: str | None = None
    resource_version: str | None = None


class RawResponse(Struct, frozen=True):
    """What `raw` returns for any status."""

    status: int
    headers: dict[str, str] = {}
    body: bytes = b""


class Client(Protocol):
    """A Kubernetes API as one identity sees it. Methods name the field manager once, at construction."""

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *,
        subresource: str | None = None,
    ) -> Object: ...  # fmt: skip

    async def list(
        self, resource: Resource, namespace: str | None = None, *,
        label_selector: str | None = None, field_selector: str | None = None,
        limit: int | None = None, continue_token: str | None = None,
        resource_version: str | None = None,
    ) -> ListResult: ...  # fmt: skip

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
        """Events after `resource_version`, until the server or the consumer ends it. Raises Gone below the history."""

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
        """`name` and `subresource` for pods/NAME/binding, /eviction, serviceaccounts/NAME/token."""

    async def update(
        self,
        resource: Resource,
        obj: Object,
        *,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """PUT; the object's metadata.resourceVersion, if any, is the precondition."""

    async def patch(
        self, resource: Resource, name: str, patch: Any, namespace: str | None = None, *,
        content_type: str = MERGE_PATCH, subresource: str | None = None, dry_run: bool = False,
    ) -> Object: ...  # fmt: skip

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
        """Server-side apply of the fields in `obj` as this client's field manager."""

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions | None = None,
        dry_run: bool = False,
    ) -> Object:
        """The deleted object, or the Status. NotFound if it is not there."""

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> RawResponse:
        """Any request (discovery, OpenAPI, /version, proxies); never raises for a status."""

    async def close(self) -> None: ...


async def create_all(
    client: Client, resource: Resource, objs: Sequence[Object], namespace: str | None = None
) -> Sequence[str | AtollError]:
    """Create many objects together: the name of each, or why it was not made.

    A client whose class has a `create_all` does it in its own way; of others `create` is called for each, all at once.
    """
    own: Callable[..., Awaitable[Sequence[str | AtollError]]] | None = getattr(type(client), "create_all", None)
    if own is not None:
        return await own(client, resource, objs, namespace)
    made = await gathered(client.create(resource, obj, namespace) for obj in objs)
    return [one if isinstance(one, AtollError) else one["metadata"]["name"] for one in made]


async def bind_all(client: Client, bindings: Sequence[Object]) -> Sequence[AtollError | None]:
    """POST many Bindings, each to the pod that it names, together: None of each, or why the pod is not bound.

    In the client's own way or one by one, as `create_all`.
    """
    own: Callable[..., Awaitable[Sequence[AtollError | None]]] | None = getattr(type(client), "bind_all", None)
    if own is not None:
        return await own(client, bindings)
    return failures(await gathered(bind(client, binding) for binding in bindings))


def bind(client: Client, binding: Object) -> Coroutine[Any, Any, Object]:
    """POST a Binding to the pod that it names."""
    metadata = binding["metadata"]
    return client.create(PODS, binding, metadata.get("namespace"), name=metadata["name"], subresource="binding")


async def patch_all(
    client: Client,
    resource: Resource,
    patches: Sequence[tuple[str | None, str, Any]],
    *,
    content_type: str = MERGE_PATCH,
    subresource: str | None = None,
) -> Sequence[AtollError | None]:
    """Patch many objects together, each given as (namespace, name, patch): None, or why it is not patched.

    In the client's own way or one by one, as `create_all`.
    """
    own: Callable[..., Awaitable[Sequence[AtollError | None]]] | None = getattr(type(client), "patch_all", None)
    if own is not None:
        return await own(client, resource, patches, content_type=content_type, subresource=subresource)
    calls = [
        client.patch(resource, name, patch, namespace, content_type=content_type, subresource=subresource)
        for namespace, name, patch in patches
    ]
    return failures(await gathered(calls))


async def gathered(calls: Iterable[Coroutine[Any, Any, Object]]) -> list[Object | AtollError]:
    """All at once: what each gave, or the AtollError that it raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AtollError):
            raise result
    return results  # type: ignore[return-value]


def failures(results: Iterable[object]) -> list[AtollError | None]:
    """Of each: what it failed by."""
    return [result if isinstance(result, AtollError) else None for result in results]
