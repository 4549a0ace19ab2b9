"""Programs outside that know about access: an OIDC provider and webhooks, over TLS, as a test needs them."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from atoll.wire.ca import CertificateAuthority
from atoll.wire.tls import server_context

Object = dict[str, Any]


@dataclass
class Provider:
    """`url` is the issuer; `keys` are served and sign; `fetches` counts what was asked for."""

    url: str = ""
    keys: list[Any] = field(default_factory=list)
    fetches: list[str] = field(default_factory=list)
    discovered_issuer: str = ""

    def token(self, key: Any = None, **claims: Any) -> str:
        key = key or self.keys[-1]
        now = int(time.time())
        algorithm = claims.pop("alg", "RS256" if isinstance(key, RSAKey) else "ES256")
        known = {"iss": self.url, "aud": "atoll", "exp": now + 600, "iat": now, "sub": "jane", **claims}
        given = {name: value for name, value in known.items() if value is not None}
        return jwt.encode({"alg": algorithm, "kid": key.kid}, given, key, algorithms=[algorithm])

    async def discovery(self, request: web.Request) -> web.Response:
        self.fetches.append("discovery")
        return web.json_response({"issuer": self.discovered_issuer or self.url, "jwks_uri": f"{self.url}/keys"})

    async def jwks(self, request: web.Request) -> web.Response:
        self.fetches.append("keys")
        keys = [{**key.as_dict(private=False), "kid": key.kid, "use": "sig"} for key in self.keys]
        return web.json_response({"keys": keys})


def new_key(kid: str, kind: str = "RSA") -> Any:
    parameters = {"kid": kid}
    return RSAKey.generate_key(2048, parameters) if kind == "RSA" else ECKey.generate_key("P-256", parameters)


def tls_of(authority: CertificateAuthority) -> ssl.SSLContext:
    made = authority.server("localhost", names=["localhost"], addresses=["127.0.0.1"])
    return server_context(made.certificate_pem, made.key_pem)


@asynccontextmanager
async def served(app: web.Application, authority: CertificateAuthority) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls_of(authority))
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def oidc_provider(authority: CertificateAuthority) -> AsyncIterator[Provider]:
    provider = Provider(keys=[new_key("one")])
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", provider.discovery)
    app.router.add_get("/elsewhere", provider.discovery)
    app.router.add_get("/keys", provider.jwks)
    async with served(app, authority) as url:
        provider.url = url
        yield provider


@dataclass
class Hook:
    """A webhook: `answer` makes the status of a review from its spec; `asked` holds the specs."""

    answer: Callable[[Object], Object]
    url: str = ""
    asked: list[Object] = field(default_factory=list)
    faults: list[int] = field(default_factory=list)  # statuses to answer first

    async def handle(self, request: web.Request) -> web.Response:
        review = await request.json()
        self.asked.append(review["spec"])
        if self.faults:
            return web.Response(status=self.faults.pop(0))
        return web.json_response({**review, "status": self.answer(review["spec"])})

    def kubeconfig(self, folder: Path, ca_pem: bytes, name: str = "hook.kubeconfig") -> Path:
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "hook",
            "clusters": [{"name": "hook", "cluster": {"server": f"{self.url}/review"}}],
            "users": [{"name": "hook", "user": {}}],
            "contexts": [{"name": "hook", "context": {"cluster": "hook", "user": "hook"}}],
        }  # fmt: skip
        authority = folder / f"{name}.ca"
        authority.write_bytes(ca_pem)
        document["clusters"][0]["cluster"]["certificate-authority"] = str(authority)  # type: ignore[index]
        path = folder / name
        path.write_text(json.dumps(document))
        return path


@asynccontextmanager
async def webhook(authority: CertificateAuthority, answer: Callable[[Object], Object]) -> AsyncIterator[Hook]:
    hook = Hook(answer)
    app = web.Application()
    app.router.add_post("/review", hook.handle)
    async with served(app, authority) as url:
        hook.url = url
        yield hook
