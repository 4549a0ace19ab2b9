"""A Client (see `atoll.client.port`) of any API server, over HTTP.

Which error when: a connection that could not be made is Unreachable; one that broke, or an answer that did not come in
time, is Unreachable for a read and OutcomeUnknown for a write; what the server answered is an ApiError. A watch that
breaks raises Unreachable, one that the server ends just ends.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Any, Literal, NoReturn, cast

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from atoll.base.clock import Clock
from atoll.base.errors import ApiError, OutcomeUnknown, Unreachable, UserError, from_status
from atoll.base.names import FIELD_MANAGER
from atoll.client.credentials import Credentials
from atoll.client.kubeconfig import Access
from atoll.client.port import (
    APPLY_PATCH,
    MERGE_PATCH,
    DeleteOptions,
    ListResult,
    Object,
    RawResponse,
    WatchEvent,
)
from atoll.kinds.resource import Resource
from atoll.wire.tls import client_context

_WATCH_SECONDS = 240
_READS = ("GET", "HEAD", "OPTIONS")
_JSON = "application/json"


class HttpClient:
    """One identity at one API server. Make it within a running loop; `close` it."""

    def __init__(
        self,
        access: Access,
        *,
        clock: Clock,
        field_manager: str = FIELD_MANAGER,
        user_agent: str = "atoll",
        timeout_seconds: float = 30.0,
        connections: int = 64,
    ) -> None:
        """`connections` bounds the requests in flight; watches are not counted. Raises UserError."""
        self.access = access
        self._field_manager = field_manager
        self._timeout = timeout_seconds
        self._credentials = Credentials(access, clock)
        self._slots = asyncio.Semaphore(connections)
        self._headers = {"Accept": _JSON, "User-Agent": user_agent, "Accept-Encoding": "identity"}
        self._session: aiohttp.ClientSession | None = None
        self._session_certificate: bytes | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def get(
        self, resource: Resource, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Object:
        return await self._request("GET", resource.path(namespace, name, subresource))

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
        query = _query(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit) if limit else None,
            resourceVersion=resource_version,
        )
        if continue_token:
            query["continue"] = continue_token
        found = await self._request("GET", resource.path(namespace), query)
        metadata = found.get("metadata") or {}
        items: list[Object] = found.get("items") or []
        kind = resource.kind
        for index, item in enumerate(items):
            if "kind" not in item:  # items of a typed list say it only once, in the list
                items[index] = {"apiVersion": resource.api_version, "kind": kind, **item}
        return ListResult(
            items,
            str(metadata.get("resourceVersion", "")),
            metadata.get("continue") or None,
            metadata.get("remainingItemCount"),
        )

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        resource_version: str,
        label_selector: str | None = None,
        field_selector: str | None = None,
        bookmarks: bool = True,
    ) -> AsyncIterator[WatchEvent]:
        query = _query(
            watch="true",
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            allowWatchBookmarks="true" if bookmarks else None,
            timeoutSeconds=str(_WATCH_SECONDS),
        )
        path = resource.path(namespace)
        timeout = aiohttp.ClientTimeout(total=None, connect=self._timeout, sock_read=_WATCH_SECONDS + 30)
        try:
            async with await self._send("GET", path, query, b"", {}, timeout) as response:
                if response.status >= 400:
                    raise _failure(response, await response.read())
                async for line in _lines(response.content):
                    event = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise from_status(event["object"])
                    yield WatchEvent(
                        cast(Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"], event["type"]), event["object"]
                    )
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError) as error:
            raise Unreachable(f"watch of {resource.group_resource} at {self.access.server}: {_why(error)}") from None

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
        namespace = namespace or (obj.get("metadata") or {}).get("namespace")
        path = resource.path(namespace, name, subresource)
        return await self._request("POST", path, self._write_query(dry_run), orjson.dumps(obj))

    async def update(
        self, resource: Resource, obj: Object, *, subresource: str | None = None, dry_run: bool = False
    ) -> Object:
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._request("PUT", path, self._write_query(dry_run), orjson.dumps(obj))

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
        path = resource.path(namespace, name, subresource)
        query = self._write_query(dry_run)
        return await self._request("PATCH", path, query, orjson.dumps(patch), content_type)

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
        metadata = obj["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        query = self._write_query(dry_run)
        query["fieldManager"] = field_manager or self._field_manager
        query["force"] = "true" if force else "false"
        return await self._request("PATCH", path, query, orjson.dumps(obj), APPLY_PATCH)

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        options: DeleteOptions | None = None,
        dry_run: bool = False,
    ) -> Object:
        query = {"dryRun": "All"} if dry_run else {}
        body = b"" if options is None else orjson.dumps(_delete_options(options))
        return await self._request("DELETE", resource.path(namespace, name), query, body)

    async def raw(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> RawResponse:
        async with self._slots:
            try:
                async with await self._send(
                    method, path, query, body, headers or {}, self._request_timeout()
                ) as answer:
                    return RawResponse(answer.status, dict(answer.headers), await answer.read())
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._raise(method, error)

    async def stream(
        self, method: str, path: str, *, query: str = "", body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Any request, its answer as it comes and as long as it lasts (watches): status, headers, chunks.

        Raises Unreachable or OutcomeUnknown before the first chunk; a connection that breaks later ends the chunks.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._timeout)
        try:
            answer = await (await self._send(method, path, query, body, headers or {}, timeout))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._raise(method, error)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.content.iter_any():
                    yield chunk
            except (aiohttp.ClientError, OSError):
                return
            finally:
                answer.close()

        return answer.status, dict(answer.headers), chunks()

    async def close(self) -> None:
        self._closed = True
        if self._session is not None:
            await self._session.close()

    # -- below the verbs

    def _write_query(self, dry_run: bool) -> dict[str, str]:
        query = {"fieldManager": self._field_manager}
        if dry_run:
            query["dryRun"] = "All"
        return query

    def _request_timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self._timeout)

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: bytes = b"",
        content_type: str = _JSON,
    ) -> Object:
        headers = {"Content-Type": content_type} if body else {}
        async with self._slots:
            for attempt in (1, 2):
                try:
                    async with await self._send(
                        method, path, query or {}, body, headers, self._request_timeout()
                    ) as response:
                        answer = await response.read()
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    if attempt == 1 and method in _READS and isinstance(error, aiohttp.ServerDisconnectedError):
                        continue  # a kept connection that the server had given up
                    self._raise(method, error)
                if response.status == 401 and attempt == 1 and self._credentials.refreshable:
                    self._credentials.expire()
                    continue
                if response.status >= 400:
                    raise _failure(response, answer)
                return _parsed(response, answer, method)
        raise AssertionError("unreachable")

    def _all_headers(self, given: dict[str, str]) -> CIMultiDict[str]:
        """What is given replaces this client's own of the same name."""
        headers = CIMultiDict([*self._headers.items(), *self._credentials.headers])
        for name, value in given.items():
            headers[name] = value
        return headers

    async def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str] | str,
        body: bytes,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.client._RequestContextManager:
        session = await self._open()
        url = URL(self.access.server + path, encoded=True)
        if isinstance(query, str):
            if query:
                url = URL(f"{url}?{query}", encoded=True)
        elif query:
            url = url.with_query(query)
        return session.request(
            method,
            url,
            data=body or None,
            headers=self._all_headers(headers),
            server_hostname=self.access.tls_server_name,
            timeout=timeout,
            allow_redirects=False,
        )

    async def _open(self) -> aiohttp.ClientSession:
        """The session; made anew when a plugin has given another client certificate."""
        if self._closed:
            raise Unreachable("this client is closed")
        async with self._opening:
            await self._credentials.renew()
            certificate = self._credentials.certificate_pem
            if self._session is not None and certificate == self._session_certificate:
                return self._session
            before, self._session = self._session, None
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, ssl=self._context() or False, keepalive_timeout=60, enable_cleanup_closed=False
                ),
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=1 << 20,
            )
            # aiohttp sends a PUT or DELETE again when its connection breaks: the first may have been carried out, and
            # the second would then be told Conflict or NotFound, or not connect and look as if nothing was sent.
            self._session._retry_connection = False
            self._session_certificate = certificate
            if before is not None:
                await before.close()
            return self._session

    def _context(self) -> ssl.SSLContext | None:
        if not self.access.server.startswith("https://"):
            return None
        return client_context(
            ca_pem=self.access.ca_pem,
            certificate_pem=self._credentials.certificate_pem,
            key_pem=self._credentials.key_pem,
            insecure=self.access.insecure,
        )

    def _raise(self, method: str, error: Exception) -> NoReturn:
        message = f"{self.access.server}: {_why(error)}"
        certainly_not_sent = isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))
        if certainly_not_sent or method in _READS:
            raise Unreachable(message, hint=_hint(error)) from None
        raise OutcomeUnknown(message) from None


def _query(**items: str | None) -> dict[str, str]:
    return {name: value for name, value in items.items() if value is not None}


def _delete_options(options: DeleteOptions) -> Object:
    body: Object = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if options.grace_period_seconds is not None:
        body["gracePeriodSeconds"] = options.grace_period_seconds
    if options.propagation:
        body["propagationPolicy"] = options.propagation
    preconditions = _query(uid=options.uid, resourceVersion=options.resource_version)
    if preconditions:
        body["preconditions"] = preconditions
    return body


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines; what follows the last newline is dropped (a broken event is no event)."""
    parts: list[bytes] = []
    async for chunk in content.iter_any():
        lines = chunk.split(b"\n")
        if len(lines) == 1:
            parts.append(chunk)
            continue
        parts.append(lines[0])
        first = b"".join(parts)
        if first:
            yield first
        for line in lines[1:-1]:
            if line:
                yield line
        parts = [lines[-1]]


def _parsed(response: aiohttp.ClientResponse, body: bytes, method: str) -> Object:
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        message = f"{method} {response.url.path}: the answer is not a JSON object"
        raise UserError(message, hint="is this the URL of a Kubernetes API server?")
    return found


def _failure(response: aiohttp.ClientResponse, body: bytes) -> ApiError:
    try:
        status = orjson.loads(body)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = body[:500].decode(errors="replace").strip()
        answered = f"the server answered {response.status} {response.reason}"
        if text and response.status >= 500:
            text = f"{answered}: {text}"
        status = {"message": text or answered}
    error = from_status(status, response.status)
    after = response.headers.get("Retry-After", "")
    if error.retry_after_seconds is None and after.isdigit():
        error.retry_after_seconds = int(after)
    return error


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return f"TLS failed: {error.os_error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"can't connect: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection"
    return str(error) or type(error).__name__


def _hint(error: Exception) -> str | None:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the kubeconfig's certificate-authority must be the one that signed the server's certificate"
    return None
