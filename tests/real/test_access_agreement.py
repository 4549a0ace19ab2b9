"""The same AuthenticationConfiguration and AuthorizationConfiguration in the real kube-apiserver and in ours: the same
tokens and requests get the same answers, and the same mistakes are told in the same words."""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from access_programs import Object, oidc_provider, webhook

from atoll.app.access import configure_access
from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.fleetspec import AccessFiles
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.base.errors import UserError
from atoll.cluster.apiserver.access.jwt import model
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN
from atoll.cluster.store.memory import MemoryStore
from atoll.wire.ca import CertificateAuthority, new_key_pem
from atoll.wire.server import serve

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from contextlib import AsyncExitStack

from control_plane import available, control_plane
from test_access_files import MISTAKES, authentication, authorizers, hooked, issuer

pytestmark = [pytest.mark.real, pytest.mark.skipif(not available(), reason="run tests/real/build.py")]
RULES: Object = {
    "claimValidationRules": [
        {"claim": "hd", "requiredValue": "example.com"},
        {"expression": "claims.exp - claims.iat <= 86400", "message": "too long a life"},
    ],
    "claimMappings": {
        "username": {"expression": "claims.email_verified ? claims.email : 'unverified'"},
        "groups": {"expression": "claims.roles"},
        "uid": {"claim": "sub"},
        "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
    },
    "userValidationRules": [{"expression": "!user.username.startsWith('system:')", "message": "reserved"}],
}
GOOD: Object = {"hd": "example.com", "email": "j@x", "email_verified": True, "roles": ["a"], "tenant": "t", "jti": "7"}
CHANGES: list[Object] = [
    {}, {"hd": "evil"}, {"hd": None}, {"hd": 7}, {"exp": 4_000_000_000}, {"exp": 1000}, {"aud": ["x", "y"]},
    {"aud": "atoll"},
    {"email": "system:admin"}, {"email": ""}, {"email_verified": "yes"}, {"roles": None}, {"roles": "a"}, {"roles": []},
    {"roles": [1]}, {"tenant": 5}, {"tenant": ["a", "", "b"]}, {"tenant": ""}, {"tenant": None}, {"sub": None},
    {"sub": 4},
    {"nbf": 4_000_000_000}, {"iss": "https://other"}, {"jti": None},
]  # fmt: skip
WORDS = [
    (re.compile(r"Token Expiry: [^)]*"), "Token Expiry: T"),
    (re.compile(r"current time [^,]*"), "early"),
]


def reviewed(status: Object) -> Object:
    """Without times in the words."""
    text = status.get("error", "")
    for pattern, replacement in WORDS:
        text = pattern.sub(replacement, text)
    return {**status, "error": text}


async def post(session: aiohttp.ClientSession, base: str, path: str, body: Object, **headers: str) -> Any:
    async with session.post(base + path, json=body, headers=headers) as response:
        return response.status, await response.json()


def test_tokens_and_decisions_agree(tmp_path: Path) -> None:
    authority = CertificateAuthority.create("outside", SystemClock())

    def answer(spec: Object) -> Object:
        verb = (spec.get("resourceAttributes") or spec.get("nonResourceAttributes") or {}).get("verb")
        return {"get": {"allowed": True}, "list": {"denied": True, "reason": "no lists"}}.get(verb, {"allowed": False})

    async def main() -> None:
        async with oidc_provider(authority) as provider, webhook(authority, answer) as hook, AsyncExitStack() as stack:
            simple = issuer(provider, issuer={"url": "https://127.0.0.1:9"}, **RULES)
            config = authentication(
                issuer(provider, issuer={"certificateAuthority": authority.certificate_pem.decode()}, **RULES), simple
            )
            conditions = {
                "authorizedTTL": "5m", "unauthorizedTTL": "30s", "matchConditionSubjectAccessReviewVersion": "v1",
                "matchConditions": [
                    {"expression": "has(request.resourceAttributes)"},
                    {"expression": "request.resourceAttributes.resource in ['configmaps', 'pods']"},
                    {"expression": "!('system:masters' in request.groups)"},
                ],
            }  # fmt: skip
            kube = hook.kubeconfig(tmp_path, authority.certificate_pem)
            order = authorizers(
                {"type": "Node", "name": "node"}, hooked(kube, **conditions), {"type": "RBAC", "name": "rbac"}
            )
            authn, authz = tmp_path / "authn.yaml", tmp_path / "authz.yaml"
            authn.write_text(yaml.safe_dump(config))
            authz.write_text(yaml.safe_dump(order))
            loop = asyncio.get_running_loop()
            manager = control_plane(f"--authentication-config={authn}", f"--authorization-config={authz}")
            plane = await loop.run_in_executor(None, manager.__enter__)
            stack.callback(manager.__exit__, None, None, None)
            clock = SystemClock()
            options = ApiOptions(signing_key=new_key_pem(), static_tokens={"admin": SYSTEM_ADMIN})
            ours = assemble(MemoryStore(clock), clock, Chance(1), options)
            await bootstrap(ours)
            await configure_access(stack, ours, AccessFiles(str(authn), str(authz)))
            server = await serve(handler_of(ours))
            stack.push_async_callback(server.close)
            admin = ssl.create_default_context(cadata=plane.ca_pem)
            pem = tmp_path / "admin.pem"
            pem.write_bytes(plane.admin.certificate_pem + plane.admin.key_pem)
            admin.load_cert_chain(pem)
            real_session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=admin))
            our_session = aiohttp.ClientSession()
            stack.push_async_callback(real_session.close)
            stack.push_async_callback(our_session.close)
            mine = f"http://127.0.0.1:{server.port}"

            async def both(path: str, body: Object, **headers: str) -> tuple[tuple[int, Object], tuple[int, Object]]:
                theirs = await post(real_session, plane.server, path, body, **headers)
                return theirs, await post(our_session, mine, path, body, Authorization="Bearer admin", **headers)

            differ = []
            tokens = "/apis/authentication.k8s.io/v1/tokenreviews"
            for change in CHANGES:
                token = provider.token(**{**GOOD, **change})
                for audiences in ([], ["elsewhere"]):
                    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}
                    body |= {"spec": {"token": token, "audiences": audiences}}  # type: ignore[dict-item]
                    (code, real), (our_code, our) = await both(tokens, body)
                    if (code, reviewed(real["status"])) != (our_code, reviewed(our["status"])):
                        differ.append((change, audiences, reviewed(real["status"]), reviewed(our["status"])))
            access = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            for user, groups in (("jo", ["devs"]), ("system:node:one", ["system:nodes"]), ("root", ["system:masters"])):
                for verb in ("get", "list", "create"):
                    for attributes in (
                        {"resource": "pods", "namespace": "default", "verb": verb},
                        {"resource": "secrets", "namespace": "default", "verb": verb, "name": "s"},
                        {"resource": "nodes", "verb": verb, "name": "one"},
                        {
                            "resource": "leases",
                            "group": "coordination.k8s.io",
                            "namespace": "kube-node-lease",
                            "verb": verb,
                        },
                    ):
                        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
                        body |= {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}}  # type: ignore[dict-item]
                        real, our = await both(access, body)
                        if (real[0], real[1]["status"]) != (our[0], our[1]["status"]):
                            differ.append((user, attributes, real[1]["status"], our[1]["status"]))
            rules = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
            body = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectRulesReview",
                "spec": {"namespace": "default"},
            }
            real, our = await both(rules, body)
            for field in ("incomplete", "evaluationError"):
                if real[1]["status"].get(field) != our[1]["status"].get(field):
                    differ.append((field, real[1]["status"].get(field), our[1]["status"].get(field)))
            assert not differ, "\n".join(map(str, differ))

    asyncio.run(main())


@pytest.mark.parametrize(("change", "text"), MISTAKES)
def test_mistakes_agree(tmp_path: Path, change: Any, text: str) -> None:
    """kube-apiserver ends with the same text."""
    from access_programs import Provider

    path = tmp_path / "authn.yaml"
    path.write_text(yaml.safe_dump(authentication(issuer(Provider(url="https://provider.example"), **change))))
    with pytest.raises(UserError) as ours:
        model.parse(path.read_text(), str(path))
    told = ours.value.message.partition(": ")[2]
    with pytest.raises(RuntimeError) as real, control_plane(f"--authentication-config={path}"):
        pass
    assert told.splitlines()[0] in str(real.value).replace('\\"', '"')
