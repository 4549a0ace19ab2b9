"""Whoever knows the issuer can verify a service account's token with nothing but the two pages that it serves."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.jwk import KeySet

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.memory import MemoryStore
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.wire.messages import HttpRequest, HttpResponse

ADMIN = User("admin", ("system:masters", "system:authenticated"))
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"
CONFIGURATION = "/.well-known/openid-configuration"


def signing_key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def test_a_token_is_verified_by_what_discovery_says() -> None:
    async def main() -> None:
        clock = LoopClock(asyncio.get_running_loop(), 1_800_000_000.0)
        store = MemoryStore(clock)
        options = ApiOptions(static_tokens={"admin": ADMIN}, signing_key=signing_key())
        assembly = assemble(store, clock, Chance(1), options)
        await bootstrap(assembly)
        handler = handler_of(assembly)

        async def ask(method: str, path: str, body: Any = None, token: str = "admin") -> HttpResponse:
            headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
            return await handler(HttpRequest(method, path, "", headers, orjson.dumps(body) if body else b""))

        await ask("POST", ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "sa"}})
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["kept"]}}
        elsewhere = orjson.loads((await ask("POST", f"{ACCOUNTS}/sa/token", asked)).body)["status"]["token"]
        own = orjson.loads((await ask("POST", f"{ACCOUNTS}/sa/token", asked | {"spec": {}})).body)["status"]["token"]

        assert (await ask("GET", CONFIGURATION, token="")).status == 403
        said = await ask("GET", CONFIGURATION, token=own)
        document = orjson.loads(said.body)
        assert said.status == 200 and dict(said.headers)["Cache-Control"] == "public, max-age=3600"
        keys = await ask("GET", document["jwks_uri"].removeprefix(document["issuer"]), token=own)
        assert dict(keys.headers)["Content-Type"] == "application/jwk-set+json"
        assert b'"d"' not in keys.body  # the private part stays here
        algorithms = document["id_token_signing_alg_values_supported"]
        claims = jwt.decode(elsewhere, KeySet.import_key_set(orjson.loads(keys.body)), algorithms=algorithms).claims
        assert (claims["iss"], claims["aud"]) == (document["issuer"], ["kept"])
        paths = orjson.loads((await ask("GET", "/")).body)["paths"]
        assert {CONFIGURATION, "/openid/v1/jwks"} <= set(paths)
        await store.close()

    run_virtual(main())
