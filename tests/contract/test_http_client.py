"""The HTTP client's own part: errors by cause, lines of a watch, credentials, over our own server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import orjson
import pytest

from atoll.base.clock import SystemClock
from atoll.base.errors import Conflict, Forbidden, Gone, OutcomeUnknown, TooManyRequests, Unreachable, UserError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access, ExecPlugin
from atoll.client.port import APPLY_PATCH, DeleteOptions, WatchEvent
from atoll.kinds.builtin import DEPLOYMENTS, NODES, PODS
from atoll.wire.ca import CertificateAuthority
from atoll.wire.messages import Connection, Handler, HttpRequest, HttpResponse
from atoll.wire.server import bind, serve
from atoll.wire.tls import server_context

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x", "resourceVersion": "5"}}


def answer(value: object, status: int = 200) -> HttpResponse:
    return HttpResponse(status, [("Content-Type", "application/json")], orjson.dumps(value))


def failure(code: int, reason: str, **details: object) -> HttpResponse:
    status = {"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code}
    return answer({**status, "details": details}, code)


def with_client(handler: Handler, scenario: Callable[[HttpClient], Awaitable[None]], **access: object) -> None:
    async def main() -> None:
        server = await serve(handler)
        client = HttpClient(
            Access(f"http://127.0.0.1:{server.port}", **access),  # type: ignore[arg-type]
            clock=SystemClock(),
            timeout_seconds=5,
        )
        try:
            await scenario(client)
        finally:
            await client.close()
            await server.close()

    asyncio.run(main())


def test_each_verb_sends_what_the_api_asks() -> None:
    seen: list[tuple[str, str, str, str, bytes]] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        content_type = request.headers.get("content-type", "")
        seen.append((request.method, request.path, request.query, content_type, request.body))
        return answer(POD)

    async def scenario(client: HttpClient) -> None:
        await client.get(PODS, "a", "x")
        await client.create(PODS, POD)
        await client.create(PODS, {"kind": "Binding"}, "x", name="a", subresource="binding")
        await client.update(PODS, POD, subresource="status", dry_run=True)
        await client.patch(PODS, "a", {"spec": None}, "x")
        await client.apply(PODS, POD, force=False, field_manager="me")
        await client.delete(PODS, "a", "x", options=DeleteOptions(0, "Orphan", uid="u"))
        await client.get(NODES, "n")

    with_client(handler, scenario)
    json = "application/json"
    assert [item[:4] for item in seen] == [
        ("GET", "/api/v1/namespaces/x/pods/a", "", ""),
        ("POST", "/api/v1/namespaces/x/pods", "fieldManager=atoll", json),
        ("POST", "/api/v1/namespaces/x/pods/a/binding", "fieldManager=atoll", json),
        ("PUT", "/api/v1/namespaces/x/pods/a/status", "fieldManager=atoll&dryRun=All", json),
        ("PATCH", "/api/v1/namespaces/x/pods/a", "fieldManager=atoll", "application/merge-patch+json"),
        ("PATCH", "/api/v1/namespaces/x/pods/a", "fieldManager=me&force=false", APPLY_PATCH),
        ("DELETE", "/api/v1/namespaces/x/pods/a", "", json),
        ("GET", "/api/v1/nodes/n", "", ""),
    ]
    assert orjson.loads(seen[6][4]) == {
        "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan",
        "preconditions": {"uid": "u"},
    }  # fmt: skip


def test_a_list_gives_one_page_and_its_items_their_kind() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        assert request.query == "labelSelector=a%3Db%2Cc&limit=2&continue=t%2B1" or request.query == (
            "labelSelector=a%3Db,c&limit=2&continue=t%2B1"
        )
        metadata = {"resourceVersion": "9", "continue": "t2", "remainingItemCount": 3}
        return answer({"kind": "DeploymentList", "metadata": metadata, "items": [{"metadata": {"name": "d"}}]})

    async def scenario(client: HttpClient) -> None:
        page = await client.list(DEPLOYMENTS, "x", label_selector="a=b,c", limit=2, continue_token="t+1")
        assert page.items == [{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}}]
        assert (page.resource_version, page.continue_token, page.remaining) == ("9", "t2", 3)

    with_client(handler, scenario)


def test_statuses_become_errors_of_the_tree() -> None:
    answers = {
        "conflict": failure(409, "Conflict", name="a"),
        "forbidden": failure(403, "Forbidden"),
        "busy": failure(429, "TooManyRequests", retryAfterSeconds=7),
        "text": HttpResponse(410, [], b"gone"),
    }

    async def handler(request: HttpRequest) -> HttpResponse:
        return answers[request.path.rsplit("/", 1)[1]]

    async def scenario(client: HttpClient) -> None:
        for name, kind in (("conflict", Conflict), ("forbidden", Forbidden), ("busy", TooManyRequests), ("text", Gone)):
            with pytest.raises(kind) as caught:
                await client.get(PODS, name, "x")
        assert caught.value.message == "gone"
        with pytest.raises(TooManyRequests) as busy:
            await client.delete(PODS, "busy", "x")
        assert busy.value.retry_after_seconds == 7
        raw = await client.raw("GET", "/healthz/text")
        assert (raw.status, raw.body) == (410, b"gone")

    with_client(handler, scenario)


def test_a_watch_yields_whole_lines_however_they_are_cut() -> None:
    lines = b"".join(
        orjson.dumps({"type": kind, "object": {**POD, "pad": "x" * size}}) + b"\n"
        for kind, size in (("ADDED", 10), ("MODIFIED", 300_000), ("DELETED", 0), ("BOOKMARK", 1))
    )

    async def handler(request: HttpRequest) -> HttpResponse:
        async def stream() -> AsyncIterator[bytes]:
            for start in range(0, len(lines), 70_001):
                yield lines[start : start + 70_001]
                await asyncio.sleep(0)
            yield b'{"type":"ADDED","obj'

        return HttpResponse(stream=stream())

    async def scenario(client: HttpClient) -> None:
        events: list[WatchEvent] = [event async for event in client.watch(PODS, resource_version="1")]
        assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
        assert len(events[1].object["pad"]) == 300_000

    with_client(handler, scenario)


def test_a_watch_below_the_history_is_gone_and_a_cut_one_unreachable() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        async def stream() -> AsyncIterator[bytes]:
            if "resourceVersion=1&" in request.query:
                status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
                yield orjson.dumps({"type": "ERROR", "object": status}) + b"\n"
            else:
                yield orjson.dumps({"type": "ADDED", "object": POD}) + b"\n"
                raise ConnectionResetError

        return HttpResponse(stream=stream())

    async def scenario(client: HttpClient) -> None:
        with pytest.raises(Gone):
            await anext(aiter(client.watch(PODS, resource_version="1")))
        seen = []
        with pytest.raises(Unreachable):
            async for event in client.watch(PODS, resource_version="2"):
                seen.append(event.type)
        assert seen == ["ADDED"]

    with_client(handler, scenario)


def test_a_broken_connection_is_unknown_for_writes_and_unreachable_for_reads() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        async def cut(connection: Connection) -> None:
            await connection.close()

        return HttpResponse(upgrade=cut)

    async def scenario(client: HttpClient) -> None:
        with pytest.raises(Unreachable):
            await client.get(PODS, "a", "x")
        with pytest.raises(OutcomeUnknown):
            await client.create(PODS, POD)

    with_client(handler, scenario)


def test_a_write_is_sent_once_even_where_a_kept_connection_breaks() -> None:
    """Sent again it would be told Conflict or NotFound because of itself."""
    seen: list[str] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        seen.append(request.method)
        if request.method == "GET":
            return answer(POD)

        async def cut(connection: Connection) -> None:
            await connection.close()

        return HttpResponse(upgrade=cut)

    async def scenario(client: HttpClient) -> None:
        for write in (lambda: client.update(PODS, POD), lambda: client.delete(PODS, "a", "x")):
            await client.get(PODS, "a", "x")  # a connection that is kept
            with pytest.raises(OutcomeUnknown):
                await write()

    with_client(handler, scenario)
    assert seen == ["GET", "PUT", "GET", "DELETE"]


def test_nobody_listens() -> None:
    async def main() -> None:
        held = bind("127.0.0.1", 0)  # bound and not listening: refused
        client = HttpClient(Access(f"http://127.0.0.1:{held.getsockname()[1]}"), clock=SystemClock())
        with pytest.raises(Unreachable, match="can't connect"):
            await client.create(PODS, POD)
        await client.close()
        held.close()

    asyncio.run(main())


def test_tls_with_client_certificates_and_an_untrusted_server() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return answer({"kind": "Pod", "metadata": {}, "certificate": request.peer_certificate is not None})

    async def main() -> None:
        clock = SystemClock()
        ca = CertificateAuthority.create("test-ca", clock)
        theirs = ca.server("server", names=["localhost"], addresses=["127.0.0.1"])
        mine = ca.client("alice", organizations=["dev"])
        context = server_context(theirs.certificate_pem, theirs.key_pem, ca.certificate_pem)
        server = await serve(handler, ssl_context=context)
        url = f"https://127.0.0.1:{server.port}"
        for access, shown in (
            (Access(url, ca_pem=ca.certificate_pem), False),
            (Access(url, insecure=True), False),
            (
                Access(
                    url,
                    ca_pem=ca.certificate_pem,
                    certificate_pem=mine.certificate_pem,
                    key_pem=mine.key_pem,
                    tls_server_name="localhost",
                ),
                True,
            ),
        ):
            client = HttpClient(access, clock=clock)
            assert (await client.get(PODS, "a", "x"))["certificate"] is shown
            await client.close()
        other = CertificateAuthority.create("other-ca", clock)
        client = HttpClient(Access(url, ca_pem=other.certificate_pem), clock=clock)
        with pytest.raises(Unreachable, match="not trusted") as caught:
            await client.get(PODS, "a", "x")
        assert caught.value.hint
        await client.close()
        await server.close()

    asyncio.run(main())


def test_an_exec_plugin_is_asked_again_after_a_401(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    plugin = tmp_path / "plugin.py"
    plugin.write_text(
        "import json, pathlib, os\n"
        "json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"path = pathlib.Path({str(counter)!r})\n"
        "count = int(path.read_text()) + 1 if path.exists() else 1\n"
        "path.write_text(str(count))\n"
        "print(json.dumps({'kind': 'ExecCredential', 'status': {'token': f't{count}'}}))\n"
    )
    seen: list[str] = []

    async def handler(request: HttpRequest) -> HttpResponse:
        seen.append(request.headers.get("authorization", ""))
        return failure(401, "Unauthorized") if seen[-1] == "Bearer t1" else answer(POD)

    async def scenario(client: HttpClient) -> None:
        await client.get(PODS, "a", "x")
        await client.get(PODS, "a", "x")

    with_client(handler, scenario, exec=ExecPlugin(sys.executable, (str(plugin),)))
    assert seen == ["Bearer t1", "Bearer t2", "Bearer t2"]


def test_a_plugin_that_is_not_there_says_how_to_get_it() -> None:
    async def handler(request: HttpRequest) -> HttpResponse:
        return answer(POD)

    async def scenario(client: HttpClient) -> None:
        with pytest.raises(UserError) as caught:
            await client.get(PODS, "a", "x")
        assert caught.value.hint == "get it"

    with_client(handler, scenario, exec=ExecPlugin("/nowhere/plugin", install_hint="get it"))
