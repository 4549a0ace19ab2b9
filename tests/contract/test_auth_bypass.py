# ruff: noqa: E501 (tables of attempts)
"""Ways around authentication and authorisation, over a real connection: all refused, and nothing is told.

Mallory may get ConfigMaps in namespace `open`, and nothing else. In `closed` there is a Secret with a word in it. Every
attempt is raw bytes, because the clients that do this are not polite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, User
from atoll.cluster.apiserver.refusals import LIMITS
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES, SECRETS
from atoll.kinds.catalog import resource
from atoll.testing.cluster import namespace_object
from atoll.wire.server import serve

WORD = "aHVudGVyMg=="
SECRET = "/api/v1/namespaces/closed/secrets/s"
OPEN = "/api/v1/namespaces/open/configmaps/c"
MALLORY = User("mallory", ("system:authenticated",))


async def _assembly() -> Assembly:
    clock = SystemClock()
    tokens = {"admin": SYSTEM_ADMIN, "mallory": MALLORY}
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(static_tokens=tokens))
    await bootstrap(assembly)
    client = assembly.client()
    for name in ("open", "closed"):
        await client.create(NAMESPACES, namespace_object(name))
    await client.create(SECRETS, {"metadata": {"name": "s", "namespace": "closed"}, "data": {"password": WORD}})
    await client.create(CONFIGMAPS, {"metadata": {"name": "c", "namespace": "open"}, "data": {"fine": "yes"}})
    roles = resource("rbac.authorization.k8s.io", "v1", "roles")
    bindings = resource("rbac.authorization.k8s.io", "v1", "rolebindings")
    assert roles is not None and bindings is not None
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]
    await client.create(roles.resource, {"metadata": {"name": "r", "namespace": "open"}, "rules": rules})
    subject = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}
    binding = {"metadata": {"name": "b", "namespace": "open"}, "roleRef": reference, "subjects": [subject]}
    await client.create(bindings.resource, binding)
    return assembly


async def _raw(port: int, data: bytes) -> bytes:
    """All that the server answers until it closes, or until a last request of ours was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    end = b"GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nConnection: close\r\n\r\n"
    try:
        writer.write(data + end)
        return await asyncio.wait_for(reader.read(-1), 20)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def play(scenario: Callable[[int, Assembly], Awaitable[None]]) -> None:
    async def main() -> None:
        assembly = await _assembly()
        handler = handler_of(assembly)
        server = await serve(handler, "127.0.0.1", 0, limits=LIMITS, immediate=handler.immediate)
        try:
            await scenario(server.port, assembly)
        finally:
            await server.close()

    asyncio.run(main())


def request(path: str, *headers: str, method: str = "GET", body: str = "", token: str = "mallory") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines += headers
    if body and not any(line.lower().startswith(("content-length", "transfer-encoding")) for line in headers):
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


JSON = "Content-Type: application/json"
PATHS = {
    "as it is": SECRET,
    "double slash at the start": "/" + SECRET,
    "double slashes within": SECRET.replace("/", "//"),
    "trailing slash": SECRET + "/",
    "trailing dot": SECRET + ".",
    "dot segments from what is allowed": f"{OPEN}/../../../closed/secrets/s",
    "encoded dot segments": f"{OPEN}/%2e%2e/%2e%2e/%2e%2e/closed/secrets/s",
    "dot segments, slashes encoded": f"{OPEN}%2f..%2f..%2f..%2fclosed%2fsecrets%2fs",
    "the name is a path": "/api/v1/namespaces/open/configmaps/..%2f..%2fclosed%2fsecrets%2fs",
    "the namespace is a path": "/api/v1/namespaces/open%2f..%2fclosed/secrets/s",
    "twice encoded": SECRET.replace("closed", "%2563losed"),
    "encoded letters": SECRET.replace("secrets", "%73ecrets"),
    "an encoded slash between": SECRET.replace("/secrets/", "%2fsecrets%2f"),
    "upper case": SECRET.replace("secrets", "Secrets"),
    "upper case of all": SECRET.upper(),
    "a full url": f"http://x{SECRET}",
    "a full url of another host": f"http://evil{SECRET}",
    "a NUL behind": SECRET + "%00",
    "a semicolon": SECRET + ";x=configmaps",
    "a fragment": f"{SECRET}#/configmaps/c",
    "a backslash": SECRET.replace("/", "\\"),
    "another namespace in the query": f"{SECRET}?namespace=open",
    "the deprecated watch path": "/api/v1/watch/namespaces/closed/secrets/s",
    "a watch of the collection": "/api/v1/namespaces/closed/secrets?watch=1&timeoutSeconds=1",
    "a list over all namespaces": "/api/v1/secrets",
    "a list with a field selector": "/api/v1/secrets?fieldSelector=metadata.name=s",
    "as a table": f"{SECRET}?as=Table&includeObject=Object",
    "as a subresource": f"{OPEN}/secrets",
    "a proxy subresource": "/api/v1/namespaces/closed/pods/p/proxy/secrets",
    "the old proxy path": "/api/v1/proxy/namespaces/closed/services/s",
    "an aggregated path": "/apis/metrics.k8s.io/v1beta1/namespaces/closed/pods",
    "an aggregated path with dots": "/apis/metrics.k8s.io/../../api/v1/namespaces/closed/secrets/s",
    "a path of no group before it": f"/apis/x/v1/..{SECRET}",
    "openapi before it": f"/openapi/v3/..{SECRET}",
    "healthz before it": f"/healthz/..{SECRET}",
    "healthz before it, encoded": f"/healthz%2f..{SECRET}",
    "metrics": "/metrics",
    "logs": "/logs/",
    "profiling": "/debug/pprof/heap",
}  # fmt: skip


@pytest.mark.parametrize("way", list(PATHS))
@pytest.mark.parametrize("token", ["mallory", ""])
def test_no_path_leads_there(way: str, token: str) -> None:
    async def scenario(port: int, _: Assembly) -> None:
        told = await _raw(port, request(PATHS[way], token=token))
        status = int(told.split(b" ", 2)[1])
        assert status in (301, 307, 308, 400, 403, 404, 405, 406), told[:300]
        assert WORD.encode() not in told

    play(scenario)


HEADERS = {
    "impersonate the admin": ["Impersonate-User: system:admin", "Impersonate-Group: system:masters"],
    "impersonate a group alone": ["Impersonate-Group: system:masters"],
    "impersonate in another case": ["iMPERSONATE-uSER: system:admin"],
    "impersonate oneself with more groups": ["Impersonate-User: mallory", "Impersonate-Group: system:masters"],
    "impersonate a uid": ["Impersonate-Uid: 1"],
    "impersonate extra": ["Impersonate-User: mallory", "Impersonate-Extra-scopes: all"],
    "front proxy headers without its certificate": ["X-Remote-User: system:admin", "X-Remote-Group: system:masters"],
    "forwarded": ["X-Forwarded-User: system:admin", "Forwarded: for=127.0.0.1", "X-Forwarded-For: 127.0.0.1"],
    "original url": [f"X-Original-URL: {SECRET}", f"X-Rewrite-URL: {SECRET}"],
    "another method": ["X-HTTP-Method-Override: GET"],
    "a second token": ["Authorization: Bearer admin "],
    "a second token in another case": ["AUTHORIZATION: bearer  admin"],
    "a folded header": ["X-A: b", " Authorization: Bearer admin"],
    "a header with a space before its colon": ["Authorization : Bearer admin"],
    "an underscore for a dash": ["Impersonate_User: system:admin"],
    "a line feed alone": ["X-A: b\nAuthorization: Bearer admin"],
    "a NUL": ["X-A: b\0"],
    "a connection header that names the token": ["Connection: Authorization"],
    "a websocket token": ["Upgrade: websocket", "Connection: Upgrade",
                          "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.eA"],
}  # fmt: skip


@pytest.mark.parametrize("way", list(HEADERS))
def test_no_header_makes_mallory_another(way: str) -> None:
    async def scenario(port: int, _: Assembly) -> None:
        told = await _raw(port, request(SECRET, *HEADERS[way]))
        assert int(told.split(b" ", 2)[1]) in (400, 401, 403), told[:300]
        assert WORD.encode() not in told

    play(scenario)


def test_a_token_is_exact() -> None:
    async def scenario(port: int, _: Assembly) -> None:
        for token in ("admi", "admin\t", "Admin", "admin,mallory", "admin%00", "a" * 10_000, "ädmin"):
            told = await _raw(port, request(SECRET, token=token))
            assert int(told.split(b" ", 2)[1]) in (200, 400, 401, 431) and (
                WORD.encode() not in told or token.strip() == "admin"
            ), (token, told[:200])
        for kind in ("Basic YWRtaW46YWRtaW4=", "Bearer", "Token admin", "bearer", "Digest username=admin"):
            told = await _raw(port, request(SECRET, f"Authorization: {kind}", token=""))
            assert int(told.split(b" ", 2)[1]) in (401, 403) and WORD.encode() not in told, (kind, told[:200])

    play(scenario)


INNER = f"GET {SECRET} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\n\r\n"
SMUGGLED = {
    "content-length and chunked": (["Content-Length: 5", "Transfer-Encoding: chunked"], "0\r\n\r\n" + INNER),
    "chunked and content-length": (["Transfer-Encoding: chunked", "Content-Length: 5"], "0\r\n\r\n" + INNER),
    "two content-lengths": (["Content-Length: 0", f"Content-Length: {len(INNER)}"], INNER),
    "a list of content-lengths": ([f"Content-Length: 0, {len(INNER)}"], INNER),
    "a signed content-length": (["Content-Length: +0"], INNER),
    "a content-length in hex": (["Content-Length: 0x0"], INNER),
    "a negative content-length": (["Content-Length: -1"], INNER),
    "an encoding of two": (["Transfer-Encoding: chunked, identity"], "0\r\n\r\n" + INNER),
    "an encoding that is not one": (["Transfer-Encoding: xchunked"], "0\r\n\r\n" + INNER),
    "an encoding with a vertical tab": (["Transfer-Encoding: \x0bchunked"], "0\r\n\r\n" + INNER),
    "an encoding with a space before its colon": (["Transfer-Encoding : chunked"], "0\r\n\r\n" + INNER),
    "a chunk size with a sign": (["Transfer-Encoding: chunked"], "+0\r\n\r\n" + INNER),
    "a chunk size too large": (["Transfer-Encoding: chunked"], "fffffffffffffffff\r\n" + INNER),
}  # fmt: skip


@pytest.mark.parametrize("way", list(SMUGGLED))
def test_where_a_request_ends_is_never_in_doubt(way: str) -> None:
    """A proxy before us may see one request where we would see two: such a one ends the connection."""
    headers, body = SMUGGLED[way]

    async def scenario(port: int, _: Assembly) -> None:
        told = await _raw(port, request("/api/v1/namespaces/open/configmaps", JSON, *headers, method="POST", body=body))
        assert WORD.encode() not in told, told[:500]
        assert told.count(b"HTTP/1.1 ") <= 1, told[:500]
        assert not told or int(told.split(b" ", 2)[1]) in (400, 413, 501), told[:200]

    play(scenario)


WRITES = {
    "a role that she does not hold": ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/open/roles",
        '{"metadata":{"name":"x"},"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}'),
    "a binding to cluster-admin": ("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
        '{"metadata":{"name":"x"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},'
        '"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mallory"}]}'),
    "a token of another account": ("POST", "/api/v1/namespaces/kube-system/serviceaccounts/default/token",
        '{"spec":{"audiences":["x"]}}'),
    "an eviction": ("POST", "/api/v1/namespaces/closed/pods/p/eviction", '{"metadata":{"name":"p"}}'),
    "a binding of a pod": ("POST", "/api/v1/namespaces/closed/bindings", '{"metadata":{"name":"p"},"target":{"name":"n"}}'),
    "a status through PATCH": ("PATCH", f"{OPEN}/status", "{}"),
    "a body of another namespace": ("POST", "/api/v1/namespaces/open/configmaps",
        '{"metadata":{"name":"x","namespace":"closed"}}'),
    "deletion of a collection": ("DELETE", "/api/v1/namespaces/closed/secrets", ""),
    "an aggregated server of her own": ("POST", "/apis/apiregistration.k8s.io/v1/apiservices",
        '{"metadata":{"name":"v1."},"spec":{"version":"v1","groupPriorityMinimum":1,"versionPriority":1}}'),
    "a webhook of her own": ("POST", "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        '{"metadata":{"name":"x"},"webhooks":[]}'),
    "a signed certificate": ("POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests",
        '{"metadata":{"name":"x"},"spec":{"request":"","signerName":"kubernetes.io/kube-apiserver-client","usages":["client auth"]}}'),
    "exec": ("POST", "/api/v1/namespaces/closed/pods/p/exec?command=id&stdout=1", ""),
    "exec by GET": ("GET", "/api/v1/namespaces/closed/pods/p/exec?command=id&stdout=1", ""),
    "port-forward": ("POST", "/api/v1/namespaces/closed/pods/p/portforward", ""),
    "a node's proxy": ("GET", "/api/v1/nodes/n/proxy/pods", ""),
    "a service's proxy": ("GET", "/api/v1/namespaces/kube-system/services/https:x:443/proxy/", ""),
    "an unknown method": ("EVIL", SECRET, ""),
    "connect": ("CONNECT", SECRET, ""),
    "trace": ("TRACE", SECRET, ""),
}  # fmt: skip


@pytest.mark.parametrize("way", list(WRITES))
def test_nothing_that_she_may_not_do_is_done(way: str) -> None:
    method, path, body = WRITES[way]
    kind = "Content-Type: application/merge-patch+json" if method == "PATCH" else JSON

    async def scenario(port: int, assembly: Assembly) -> None:
        before = assembly.store.version
        told = await _raw(port, request(path, kind, method=method, body=body))
        assert int(told.split(b" ", 2)[1]) in (400, 403, 405, 501), told[:300]
        assert WORD.encode() not in told and assembly.store.version == before

    play(scenario)


def test_an_upgrade_that_is_not_taken_leaves_the_connection_to_http() -> None:
    async def scenario(port: int, _: Assembly) -> None:
        asking = request(OPEN, "Upgrade: websocket", "Connection: Upgrade")
        told = await _raw(port, asking * 200 + request(OPEN))
        assert told.count(b"HTTP/1.1 200") == 202

    play(scenario)


def test_what_is_allowed_is_answered() -> None:
    """Else the tests above would pass on a server that refuses everything."""

    async def scenario(port: int, _: Assembly) -> None:
        told = await _raw(port, request(OPEN) + request(SECRET, token="admin"))
        assert told.count(b"HTTP/1.1 200") == 3 and b'"fine"' in told and WORD.encode() in told

    play(scenario)
