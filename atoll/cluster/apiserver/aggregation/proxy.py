"""Passes a request on to the server of its group version, in the name of the user whom this one has authenticated.

The user goes in X-Remote-* headers, which that server believes because the connection shows the front proxy's client
certificate (kube-system/extension-apiserver-authentication says whose). What a client sends under these names, and its
own credentials, are dropped. Streams and upgrades (watch, exec) pass as they come.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from urllib.parse import quote

from msgspec.structs import replace

from atoll.base.errors import ApiError, Unreachable
from atoll.cluster.apiserver.aggregation.backends import Backend, Backends
from atoll.cluster.apiserver.dialing import Answer, Target, forwarded_headers, send, send_upgrade
from atoll.cluster.apiserver.ports import User
from atoll.cluster.apiserver.service_address import service_address
from atoll.cluster.store.port import Store
from atoll.wire.connection import splice
from atoll.wire.messages import Connection, HttpRequest, HttpResponse

Secure = Callable[[bytes, bool], ssl.SSLContext]
"""(CA bundle or b"", insecure) → a client's context that shows the front proxy's certificate. Raises UserError."""
AGGREGATOR = User("system:kube-aggregator", ("system:masters",))
_TEXT = [("Content-Type", "text/plain; charset=utf-8"), ("X-Content-Type-Options", "nosniff")]
_MOST_CONTEXTS = 64


class Proxy:
    """See the module."""

    def __init__(self, store: Store, secure: Secure) -> None:
        self.backends = Backends(store)
        self._store = store
        self._secure = secure
        self._contexts: dict[tuple[bytes, bool], ssl.SSLContext] = {}

    def find(self, group: str, version: str) -> Backend | None:
        return self.backends.find(group, version)

    def of_path(self, path: str) -> Backend | None:
        """Who answers a path that names no resource: /apis/GROUP/VERSION, and the OpenAPI v3 document of that."""
        if not self.backends.all():
            return None
        parts = path.strip("/").split("/")
        if parts[:2] == ["openapi", "v3"]:
            parts = parts[2:]
        return self.find(parts[1], parts[2]) if len(parts) == 3 and parts[0] == "apis" else None

    def target(self, backend: Backend) -> Target:
        """Raises ApiError (no such service, no endpoints), UserError (a CA bundle that can't be read)."""
        host, port = service_address(self._store, backend.namespace, backend.service, backend.port)
        key = (backend.ca_pem, backend.insecure)
        context = self._contexts.get(key)
        if context is None:
            if len(self._contexts) >= _MOST_CONTEXTS:
                self._contexts.clear()
            context = self._contexts[key] = self._secure(*key)
        return Target(host, port, context, backend.server_name)

    async def get(self, backend: Backend, path: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
        """A GET of the aggregator's own. Raises Unreachable, ApiError."""
        return await send(self.target(backend), "GET", path, [*headers, *user_headers(AGGREGATOR)])

    async def __call__(self, request: HttpRequest, user: User, backend: Backend) -> HttpResponse:
        if not backend.available:
            return _plain(503, "service unavailable")
        try:
            target = self.target(backend)
        except ApiError:
            return _plain(503, "service unavailable")
        where = request.target or quote(request.path) + (f"?{request.query}" if request.query else "")
        passed = [*_passed(request), *user_headers(user)]
        try:
            if "upgrade" in request.headers:
                return await self._upgrade(request, target, where, passed)
            answer = await send(target, request.method, where, passed, request.body)
        except Unreachable as error:
            return _plain(503, f"error trying to reach service: {error.message}")
        return HttpResponse(answer.status, answer.headers, stream=_body(answer))

    async def _upgrade(
        self, request: HttpRequest, target: Target, where: str, passed: list[tuple[str, str]]
    ) -> HttpResponse:
        bare = replace(request, headers={name: request.headers[name] for name in _UPGRADING if name in request.headers})
        answer = await send_upgrade(target, bare, where, passed)
        if answer.status != 101:
            return HttpResponse(answer.status, answer.headers, await answer.whole())

        async def run(connection: Connection) -> None:
            await connection.write(answer.head)
            await splice(connection, answer.connection)

        return HttpResponse(101, upgrade=run)


_UPGRADING = ("upgrade", "connection", "x-stream-protocol-version")


def user_headers(user: User) -> list[tuple[str, str]]:
    """As transport.SetAuthProxyHeaders writes them: keys of extras are escaped where a header's name can't be them."""
    headers = [("X-Remote-User", user.name)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        headers += [(f"X-Remote-Extra-{escaped(key)}", value) for value in values]
    return [(name, value.encode().decode("latin-1")) for name, value in headers]  # UTF-8, as it comes


def escaped(key: str) -> str:
    """Percent-encoded but for the characters of an HTTP token, and a percent sign itself."""
    return quote(key, safe="!#$&'*+-.^_`|~")


def _passed(request: HttpRequest) -> list[tuple[str, str]]:
    """The client's headers without its credentials and without any that would name a user."""
    kept = [
        (name, value)
        for name, value in forwarded_headers(request)
        if not name.startswith("x-remote-") and not name.startswith("impersonate-") and name not in _UPGRADING
        and name not in ("x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-uri")
    ]  # fmt: skip
    kept += [("X-Forwarded-Uri", quote(request.path)), ("X-Forwarded-Proto", "https")]
    host = request.headers.get("host")
    if host:
        kept.append(("X-Forwarded-Host", host))
    if request.remote:
        before = request.headers.get("x-forwarded-for")
        own = request.remote.rpartition(":")[0]
        kept.append(("X-Forwarded-For", f"{before}, {own}" if before else own))
    return kept


def _plain(status: int, text: str) -> HttpResponse:
    return HttpResponse(status, list(_TEXT), text.encode() + b"\n")


async def _body(answer: Answer) -> AsyncIterator[bytes]:
    with suppress(ConnectionError):
        async for chunk in answer.body():
            yield chunk
