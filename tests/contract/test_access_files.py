"""Structured authentication and authorisation, and webhooks, against programs that answer over TLS."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from access_programs import Object, Provider, new_key, oidc_provider, webhook

from atoll.app.access import Configured, configure_access
from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.fleetspec import AccessFiles
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.base.errors import UserError
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import CLUSTER_ROLE_BINDINGS
from atoll.wire.ca import CertificateAuthority, new_key_pem
from atoll.wire.messages import HttpRequest

AUTHORITY = CertificateAuthority.create("outside", SystemClock())
CA = AUTHORITY.certificate_pem.decode()


@dataclass
class World:
    assembly: Assembly
    folder: Path
    handler: Any

    async def get(self, path: str, token: str = "", **headers: str) -> tuple[int, Object]:
        return await self.send("GET", path, b"", token, **headers)

    async def send(self, method: str, path: str, body: bytes, token: str = "", **headers: str) -> tuple[int, Object]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["authorization"] = f"Bearer {token}"
        if body:
            sent["content-type"] = "application/json"
        request = HttpRequest(method, path, "", sent, body)
        response = (self.handler.immediate(request) if method == "GET" else None) or await self.handler(request)
        return response.status, json.loads(response.body)

    async def whoami(self, token: str, **headers: str) -> Object:
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        status, found = await self.send("POST", path, b"{}", token, **headers)
        return found["status"]["userInfo"] if status == 201 else {"code": status}

    async def review(self, token: str, **spec: Any) -> Object:
        body = json.dumps({"spec": {"token": token, **spec}}).encode()
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        return (await self.send("POST", path, body, "admin"))[1]["status"]

    async def why(self, token: str) -> str:
        return (await self.review(token))["error"]


@asynccontextmanager
async def world(folder: Path, **files: Any) -> AsyncIterator[World]:
    """Values of `files` that are documents are written to files."""
    clock = SystemClock()
    options = ApiOptions(signing_key=new_key_pem(), static_tokens={"admin": SYSTEM_ADMIN})
    assembly = assemble(MemoryStore(clock), clock, Chance(1), options)
    await bootstrap(assembly)
    given = {}
    for name, value in files.items():
        given[name] = value
        if isinstance(value, dict):
            path = folder / f"{name}.yaml"
            path.write_text(yaml.safe_dump(value))
            given[name] = str(path)
    async with AsyncExitStack() as stack:
        await configure_access(stack, assembly, AccessFiles(**given))
        yield World(assembly, folder, handler_of(assembly))


def authentication(*jwt: Object, **more: Any) -> Object:
    kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration"}
    return {**kind, "jwt": list(jwt), **more}


def issuer(provider: Provider, **more: Any) -> Object:
    wanted: Object = {
        "issuer": {"url": provider.url, "audiences": ["atoll"], "certificateAuthority": CA},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"claim": "groups", "prefix": ""}},
    }
    wanted["issuer"] |= more.pop("issuer", {})
    wanted["claimMappings"] |= more.pop("claimMappings", {})
    return {**wanted, **more}


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def test_a_token_of_a_provider_is_a_user(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        async with (
            oidc_provider(AUTHORITY) as provider,
            world(tmp_path, authentication=authentication(issuer(provider))) as w,
        ):
            token = provider.token(groups=["devs"], jti="7")
            assert await w.whoami(token) == {
                "username": "oidc:jane",
                "groups": ["devs", "system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["JTI=7"]},
            }
            assert provider.fetches == ["discovery", "keys"]
            assert (await w.get("/api/v1/namespaces/default", token))[0] == 403
            subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "devs"}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}
            binding = {"metadata": {"name": "devs"}, "roleRef": role, "subjects": [subject]}
            await w.assembly.client().create(CLUSTER_ROLE_BINDINGS, binding)
            assert (await w.get("/api/v1/namespaces/default", token))[0] == 200
            assert (await w.get("/api/v1/namespaces/default", provider.token(groups="devs")))[0] == 200
            assert provider.fetches == ["discovery", "keys"]
            assert token not in caplog.text

    run(main)


def test_what_is_wrong_with_a_token_is_told_in_a_review(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            oidc_provider(AUTHORITY) as provider,
            world(tmp_path, authentication=authentication(issuer(provider))) as w,
        ):
            stranger = new_key("one")
            tokens = {
                "expired": provider.token(exp=1000),
                "audience": provider.token(aud=["other"]),
                "forged": provider.token(stranger),
                "no subject": provider.token(sub=None),
                "early": provider.token(nbf=4_000_000_000),
                "groups": provider.token(groups=[1]),
            }
            why = {name: await w.why(token) for name, token in tokens.items()}
            assert why == {
                name: f"[invalid bearer token, oidc: {text}]"
                for name, text in {
                    "expired": "verify token: oidc: token is expired (Token Expiry: 1970-01-01T00:16:40Z)",
                    "audience": 'verify token: oidc: expected audience "atoll" got ["other"]',
                    "forged": "verify token: failed to verify signature: failed to verify id token signature",
                    "no subject": 'parse username claims "sub": claim not present',
                    "early": why["early"][len("[invalid bearer token, oidc: ") : -1],
                    "groups": 'parse groups claim "groups": json: cannot unmarshal array into Go value of type string',
                }.items()
            }
            assert "before the nbf (not before) time: 2096-" in why["early"]
            for token in tokens.values():
                assert (await w.get("/api", token))[0] == 401
            assert await w.why(provider.token(iss="https://other")) == "invalid bearer token"
            none = provider.token().split(".")
            assert await w.why(f"eyJhbGciOiJub25lIn0.{none[1]}.") == await w.why(f"eyJhbGciOiJub25lIn0.{none[1]}.")
            assert "unsupported algorithm" in await w.why(f"eyJhbGciOiJub25lIn0.{none[1]}.")

    run(main)


def test_keys_are_fetched_anew_when_a_token_names_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            oidc_provider(AUTHORITY) as provider,
            world(tmp_path, authentication=authentication(issuer(provider))) as w,
        ):
            assert (await w.whoami(provider.token()))["username"] == "oidc:jane"
            provider.keys = [new_key("two", "EC")]

            async def rotated() -> bool:
                return "username" in await w.whoami(provider.token())

            while not await rotated():
                await asyncio.sleep(0.05)
            assert provider.fetches == ["discovery", "keys", "keys"]

    run(main)


def test_claims_by_expression_and_rules(tmp_path: Path) -> None:
    rules = {
        "claimValidationRules": [
            {"claim": "hd", "requiredValue": "example.com"},
            {"expression": "claims.exp - claims.iat <= 86400", "message": "too long a life"},
        ],
        "claimMappings": {
            "username": {"expression": "claims.email_verified ? claims.email : 'unverified'"},
            "groups": {"expression": "claims.roles.map(role, 'team:' + role)"},
            "uid": {"claim": "sub"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
        },
        "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
    }

    async def main() -> None:
        async with oidc_provider(AUTHORITY) as provider:
            several = {"audiences": ["other", "atoll"], "audienceMatchPolicy": "MatchAny"}
            config = authentication(issuer(provider, issuer=several, **rules))
            async with world(tmp_path, authentication=config) as w:
                good: Object = {
                    "hd": "example.com",
                    "email": "j@x",
                    "email_verified": True,
                    "roles": ["a", "b"],
                    "tenant": "t",
                }
                assert await w.whoami(provider.token(**good)) == {
                    "username": "j@x",
                    "uid": "jane",
                    "groups": ["team:a", "team:b", "system:authenticated"],
                    "extra": {"example.com/tenant": ["t"]},
                }
                wrong = [
                    ({"hd": "evil"}, "required claim hd value does not match. Got = evil, want = example.com"),
                    ({"exp": 4_000_000_000}, "failed: too long a life"),
                    (
                        {"email": "system:admin"},
                        "validation expression '!user.username.startsWith('system:')' failed: reserved",
                    ),
                    ({"roles": None}, "no such key: roles"),
                    ({"tenant": 5}, "expression must return a string or a list of strings"),
                ]
                for change, text in wrong:
                    assert text in await w.why(provider.token(**{**good, **change})), change

    run(main)


def test_discovery_elsewhere_and_a_provider_that_is_down(tmp_path: Path) -> None:
    async def main() -> None:
        async with oidc_provider(AUTHORITY) as provider:
            elsewhere = {"discoveryURL": f"{provider.url}/elsewhere", "url": "https://public.example"}
            down = {"url": "https://127.0.0.1:9", "audiences": ["atoll"]}
            both = authentication(issuer(provider, issuer=elsewhere), issuer(provider, issuer=down))
            provider.discovered_issuer = "https://public.example"
            async with world(tmp_path, authentication=both) as w:
                assert (await w.whoami(provider.token(iss="https://public.example")))["username"] == "oidc:jane"
                assert "oidc: discovery failed" in await w.why(provider.token(iss="https://127.0.0.1:9"))
                assert "oidc: authenticator not initialized" in await w.why(provider.token(iss="https://127.0.0.1:9"))

    run(main)


def test_anonymous_requests_by_path(tmp_path: Path) -> None:
    async def main() -> None:
        conditions = {"enabled": True, "conditions": [{"path": "/livez"}]}
        async with world(tmp_path, authentication=authentication(anonymous=conditions)) as w:
            assert (
                w.assembly.authenticator.authenticate(HttpRequest("GET", "/livez", "", {}, b"")).name
                == "system:anonymous"
            )
            assert (await w.get("/version"))[0] == 401
        async with world(tmp_path, authentication=authentication(anonymous={"enabled": False})) as w:
            assert (await w.get("/livez"))[0] == 401

    run(main)


EMAIL = {"username": {"expression": "claims.email"}}
MISTAKES: list[tuple[Object, str]] = [
    ({"issuer": {"url": "http://x"}}, 'jwt[0].issuer.url: Invalid value: "http://x": URL scheme must be https'),
    ({"issuer": {"audiences": []}}, "audiences: Required value: at least one jwt[0].issuer.audiences is required"),
    ({"issuer": {"audiences": ["a", "b"]}}, "audienceMatchPolicy must be MatchAny for multiple audiences"),
    ({"issuer": {"certificateAuthority": "junk"}}, 'issuer.certificateAuthority: Invalid value: "<omitted>"'),
    ({"issuer": {"unknown": 1}}, 'strict decoding error: unknown field "jwt[0].issuer.unknown"'),
    ({"claimMappings": {"username": {"claim": "sub"}}}, "username.prefix: Required value: prefix is required"),
    ({"claimMappings": {"username": {}}}, "username: Required value: claim or expression is required"),
    ({"claimMappings": EMAIL}, "claims.email_verified must be used in"),
    ({"claimMappings": {"username": {"expression": "clams.x"}}}, "undeclared reference to 'clams'"),
    ({"claimMappings": {"extra": [{"key": "k8s.io/x", "valueExpression": "''"}]}}, "reserved for Kubernetes use"),
    ({"userValidationRules": [{"expression": "user.nome == ''"}]}, "undefined field 'nome'"),
    ({"claimValidationRules": [{"expression": "'x'"}]}, "must evaluate to bool"),
    ({"claimValidationRules": [{"claim": "a", "message": "m"}]}, "may not be specified when claim is set"),
]


@pytest.mark.parametrize(("change", "text"), MISTAKES)
def test_mistakes_in_the_file_are_told(tmp_path: Path, change: Object, text: str) -> None:
    async def main() -> None:
        provider = Provider(url="https://provider.example")
        with pytest.raises(UserError) as caught:
            async with world(tmp_path, authentication=authentication(issuer(provider, **change))):
                pass
        assert text in caught.value.message

    run(main)


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            oidc_provider(AUTHORITY) as provider,
            world(tmp_path, authentication=authentication(issuer(provider))) as w,
        ):
            path = tmp_path / "authentication.yaml"
            assert (await w.whoami(provider.token()))["username"] == "oidc:jane"
            path.write_text("jwt: [")
            changed = issuer(provider, claimMappings={"username": {"claim": "sub", "prefix": "new:"}})
            draft = tmp_path / "draft"
            draft.write_text(yaml.safe_dump(authentication(changed)))
            assert (await w.whoami(provider.token()))["username"] == "oidc:jane"
            os.replace(draft, path)
            while (await w.whoami(provider.token()))["username"] != "new:jane":
                await asyncio.sleep(0.05)

    run(main)


def authorizers(*items: Object) -> Object:
    kind = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthorizationConfiguration"}
    return {**kind, "authorizers": list(items)}


def hooked(path: Path, **more: Any) -> Object:
    config = {
        "timeout": "3s", "subjectAccessReviewVersion": "v1", "failurePolicy": "Deny",
        "connectionInfo": {"type": "KubeConfigFile", "kubeConfigFile": str(path)},
    }  # fmt: skip
    return {"type": "Webhook", "name": "hook", "webhook": {**config, **more}}


RBAC = {"type": "RBAC", "name": "rbac"}


def test_a_token_webhook(tmp_path: Path) -> None:
    def answer(spec: Object) -> Object:
        if spec["token"] != "good":
            return {"authenticated": False, "error": "who?"} if spec["token"] == "bad" else {}
        user = {"username": "jo", "uid": "1", "groups": ["g"], "extra": {"e": ["v"]}}
        return {"authenticated": True, "user": user, "audiences": spec["audiences"]}

    async def main() -> None:
        async with webhook(AUTHORITY, answer) as hook:
            path = hook.kubeconfig(tmp_path, AUTHORITY.certificate_pem)
            async with world(tmp_path, token_webhook=str(path)) as w:
                hook.faults = [503]
                wanted = {"username": "jo", "uid": "1", "groups": ["g", "system:authenticated"], "extra": {"e": ["v"]}}
                assert await w.whoami("good") == wanted
                assert len(hook.asked) == 2  # the first ended in a fault
                assert await w.whoami("good") == wanted
                assert len(hook.asked) == 2
                assert (await w.get("/api", "bad"))[0] == 401
                assert await w.why("bad") == "[invalid bearer token, who?]"
                assert await w.why("unknown") == "invalid bearer token"
                reviewed = await w.review("good", audiences=["vault"])
                assert reviewed["authenticated"] and reviewed["audiences"] == ["vault"]
                assert hook.asked[-1] == {"token": "good", "audiences": ["vault"]}
                assert (await w.get("/api/v1/namespaces/default", "admin"))[0] == 200

    run(main)


def test_an_authorization_webhook_with_conditions(tmp_path: Path) -> None:
    def answer(spec: Object) -> Object:
        verb = (spec.get("resourceAttributes") or {}).get("verb")
        return {"get": {"allowed": True}, "list": {"denied": True, "reason": "no lists"}}.get(verb, {"allowed": False})

    async def main() -> None:
        async with webhook(AUTHORITY, answer) as hook:
            path = hook.kubeconfig(tmp_path, AUTHORITY.certificate_pem)
            conditions = {
                "matchConditionSubjectAccessReviewVersion": "v1",
                "matchConditions": [
                    {"expression": "has(request.resourceAttributes)"},
                    {"expression": "request.resourceAttributes.resource == 'configmaps'"},
                ],
            }
            config = authorizers(hooked(path, **conditions), RBAC)
            async with world(tmp_path, authorization=config) as w:
                jo = {"impersonate_user": "jo", "impersonate_group": "devs"}
                maps = "/api/v1/namespaces/default/configmaps"
                assert (await w.get(f"{maps}/x", "admin", **jo))[0] == 404  # allowed, and not there
                status, body = await w.get(maps, "admin", **jo)
                assert (status, body["message"].endswith(": no lists")) == (403, True)
                assert (await w.send("DELETE", f"{maps}/x", b"", "admin", **jo))[0] == 403
                asked = len(hook.asked)
                assert asked == 3
                assert hook.asked[0] == {
                    "resourceAttributes": {
                        "namespace": "default", "verb": "get", "version": "v1", "resource": "configmaps", "name": "x",
                    },
                    "user": "jo", "groups": ["devs", "system:authenticated"],
                }  # fmt: skip
                assert (await w.get(f"{maps}/x", "admin", **jo))[0] == 404
                assert (await w.get("/api/v1/namespaces/default/secrets/x", "admin", **jo))[0] == 403
                assert (await w.get(f"{maps}/x", "admin"))[0] == 404  # masters are never asked about
                assert len(hook.asked) == asked
                spec = {
                    "user": "jo",
                    "groups": ["devs"],
                    "resourceAttributes": {"verb": "list", "resource": "configmaps"},
                }
                path_of = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
                _, review = await w.send("POST", path_of, json.dumps({"spec": spec}).encode(), "admin")
                assert review["status"] == {"allowed": False, "denied": True, "reason": "no lists"}
                rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
                _, review = await w.send("POST", rules, b'{"spec":{"namespace":"default"}}', "admin", **jo)
                assert review["status"]["incomplete"] is True
                assert review["status"]["evaluationError"] == "webhook authorizer does not support user rule resolution"

    run(main)


@pytest.mark.parametrize(("policy", "status"), [("Deny", 403), ("NoOpinion", 404)])
def test_a_webhook_that_does_not_answer(tmp_path: Path, policy: str, status: int) -> None:
    async def main() -> None:
        async with webhook(AUTHORITY, lambda _: {"allowed": True}) as hook:
            hook.faults = [400]
            path = hook.kubeconfig(tmp_path, AUTHORITY.certificate_pem)
            allow = {"type": "AlwaysAllow", "name": "rest"}
            config = authorizers(hooked(path, failurePolicy=policy), allow)
            async with world(tmp_path, authorization=config) as w:
                found = await w.get("/api/v1/namespaces/absent", "admin", impersonate_user="jo")
                assert found[0] == status

    run(main)


MISNAMED = {
    "matchConditions": [{"expression": "request.usr == ''"}], "matchConditionSubjectAccessReviewVersion": "v1",
}  # fmt: skip
WRONG_AUTHORIZERS: list[tuple[list[Object], str]] = [
    ([], "authorizers: Required value: at least one authorization mode must be defined"),
    ([{"type": "ABAC", "name": "a"}], 'authorizers[0].type: Unsupported value: "ABAC"'),
    ([RBAC, {**RBAC, "name": "b"}], 'authorizers[1].type: Duplicate value: "RBAC"'),
    ([{"type": "Webhook", "name": "w"}], "authorizers[0].webhook: Required value: required when type=Webhook"),
    ([hooked(Path("x"))], 'connectionInfo.kubeConfigFile: Invalid value: "x": must be an absolute path'),
    ([hooked(Path("/x"), timeout="31s")], 'authorizers[0].timeout: Invalid value: "31s": must be > 0s and <= 30s'),
    ([hooked(Path("/x"), **MISNAMED)], "undefined field 'usr'"),
]


@pytest.mark.parametrize(("items", "text"), WRONG_AUTHORIZERS)
def test_mistakes_in_the_authorizers_are_told(tmp_path: Path, items: list[Object], text: str) -> None:
    async def main() -> None:
        with pytest.raises(UserError) as caught:
            async with world(tmp_path, authorization=authorizers(*items)):
                pass
        assert text in caught.value.message

    run(main)


def test_configured_reads_nothing_where_nothing_is_named(tmp_path: Path) -> None:
    async def main() -> None:
        clock = SystemClock()
        assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
        before = assembly.authorizer.authorizers
        Configured(assembly, AccessFiles(), None).apply()  # type: ignore[arg-type]
        assert assembly.authorizer.authorizers == before

    run(main)
