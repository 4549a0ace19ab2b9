"""Aggregated APIs against a real server: TLS, the front proxy's certificate, streams, upgrades, discovery, OpenAPI."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from atoll.app.aggregation import aggregate, renew_trust, trust
from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.pki import ClusterKeys, open_keys
from atoll.app.serving import handler_of
from atoll.app.tasks import Tasks
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, User
from atoll.cluster.store.memory import MemoryStore
from atoll.wire.ca import CertificateAuthority
from atoll.wire.server import serve
from atoll.wire.tls import client_context, server_context

Object = dict[str, Any]
ADA = User("ada", ("readers", "system:authenticated"), "u-1", {"example.com/Team": ("a", "b"), "100%": ("x",)})
_V3 = "apis/wardle.example.com/v1"
_SERVICES = "/apis/apiregistration.k8s.io/v1/apiservices"


@dataclass
class Backend:
    """An extension API server; `seen`: the requests that came through the proxy."""

    port: int = 0
    ca_pem: bytes = b""
    legacy: bool = False
    seen: list[web.Request] = field(default_factory=list)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        user = request.headers.get("X-Remote-User")
        if user != "system:kube-aggregator":
            self.seen.append(request)
        answers: dict[str, Callable[[], Any]] = {
            "/apis": self._groups,
            "/apis/wardle.example.com/v1": self._resources,
            "/openapi/v2": self._openapi_v2,
            "/openapi/v3": lambda: {"paths": {_V3: {"serverRelativeURL": f"/openapi/v3/{_V3}?hash=H"}}},
            "/openapi/v3/apis/wardle.example.com/v1": lambda: {"openapi": "3.0.0", "from": "wardle"},
        }  # fmt: skip
        if request.path == "/apis/wardle.example.com/v1/namespaces/default/flunders/f/exec":
            return await self._echo(request)
        if request.query.get("watch"):
            return await self._watch(request)
        if request.path == "/apis" and not self.legacy:
            kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            return web.Response(text=json.dumps(self._groups()), headers={"Content-Type": kind})
        if request.path in answers:
            return web.json_response(answers[request.path]())
        body = await request.text()
        told = {"path": request.path_qs, "method": request.method, "body": body,
                "headers": [[name, value] for name, value in request.headers.items()],
                "certificate": _common_name(request)}  # fmt: skip
        return web.json_response(told, status=201 if request.method == "POST" else 200)

    def _groups(self) -> Object:
        resource = {"resource": "flunders", "scope": "Namespaced", "singularResource": "flunder", "verbs": ["get"],
                    "responseKind": {"group": "wardle.example.com", "version": "v1", "kind": "Flunder"}}  # fmt: skip
        versions = [{"version": "v1", "resources": [resource], "freshness": "Current"}]
        return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
                "items": [{"metadata": {"name": "wardle.example.com"}, "versions": versions}]}  # fmt: skip

    def _resources(self) -> Object:
        rows = [{"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder",
                 "verbs": ["get"]},
                {"name": "flunders/exec", "namespaced": True, "kind": "Flunder", "verbs": ["create"]}]  # fmt: skip
        return {"kind": "APIResourceList", "groupVersion": "wardle.example.com/v1", "resources": rows}

    def _openapi_v2(self) -> Object:
        reference = {"$ref": "#/definitions/wardle.Flunder"}
        get = {"responses": {"200": {"schema": reference}}}
        return {"swagger": "2.0",
                "paths": {"/apis/wardle.example.com/v1/flunders": {"get": get}, "/version/": {"get": {}}},
                "definitions": {"wardle.Flunder": {"type": "object"}, "not.Needed": {}}}  # fmt: skip

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type":"ADDED"}\n')
        await self.released.wait()
        await response.write(b'{"type":"MODIFIED"}\n')
        return response

    async def _echo(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(request.headers["X-Remote-User"])
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket


def _common_name(request: web.Request) -> str:
    assert request.transport is not None
    certificate = request.transport.get_extra_info("peercert") or {}
    return dict(pair[0] for pair in certificate.get("subject", ())).get("commonName", "")


@asynccontextmanager
async def backend_of(keys: ClusterKeys) -> AsyncIterator[Backend]:
    authority = CertificateAuthority.create("wardle-ca", SystemClock())
    certified = authority.server("wardle", names=["wardle.default.svc"])
    context = server_context(certified.certificate_pem, certified.key_pem, keys.front_proxy_ca_pem)
    context.verify_mode = ssl.CERT_REQUIRED
    backend = Backend(ca_pem=authority.certificate_pem)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", backend.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    backend.port = runner.addresses[0][1]
    try:
        yield backend
    finally:
        await runner.cleanup()


@dataclass
class Cluster:
    url: str
    session: aiohttp.ClientSession
    keys: ClusterKeys

    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        async with self.session.request(method, self.url + path, json=body, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if answer.content_type.startswith("application/json") else text

    async def until(self, path: str, right: Callable[[Any], Any]) -> Any:
        async with asyncio.timeout(30):
            while not (found := right((await self.ask("GET", path))[1])):
                await asyncio.sleep(0.02)
        return found

    async def register(self, backend: Backend, **spec: Any) -> None:
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "wardle"},
                   "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
        await self.ask("POST", "/api/v1/namespaces/default/services", service)
        status, body = await self.ask("POST", _SERVICES, api_service(backend, **spec))
        assert status == 201, body

    async def condition(self) -> Object:
        """Available, once it has been looked at."""

        def found(obj: Object) -> Object | None:
            conditions = (obj.get("status") or {}).get("conditions") or []
            return conditions[0] if conditions else None

        got: Object = await self.until(f"{_SERVICES}/v1.wardle.example.com", found)
        return got


def api_service(backend: Backend, **spec: Any) -> Object:
    whole = {
        "group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 15,
        "service": {"namespace": "default", "name": "wardle", "port": backend.port},
        "caBundle": base64.b64encode(backend.ca_pem).decode(), **spec,
    }  # fmt: skip
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1.wardle.example.com"},
        "spec": {key: value for key, value in whole.items() if value is not None},
    }


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keys = open_keys(folder, "test", [], clock)
        tokens = {"admin": SYSTEM_ADMIN, "ada": ADA}
        assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(static_tokens=tokens))
        await bootstrap(assembly, [trust(keys)])
        await renew_trust(assembly, keys)
        handler = handler_of(assembly)
        tasks = Tasks()
        stack.push_async_callback(tasks.stop)
        aggregate(assembly, handler, keys, tasks)
        context = server_context(keys.server_pem, keys.server_key_pem, keys.ca_pem)
        server = await serve(handler, "127.0.0.1", 0, ssl_context=context, immediate=handler.immediate)
        stack.push_async_callback(server.close)
        connector = aiohttp.TCPConnector(ssl=client_context(ca_pem=keys.ca_pem))
        headers = {"Authorization": "Bearer admin"}
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector, headers=headers))
        yield Cluster(f"https://127.0.0.1:{server.port}", session, keys)


@asynccontextmanager
async def both(**spec: Any) -> AsyncIterator[tuple[Cluster, Backend]]:
    async with cluster() as ours, backend_of(ours.keys) as backend:
        await ours.register(backend, **spec)
        yield ours, backend


_FLUNDERS = "/apis/wardle.example.com/v1/namespaces/default/flunders"
_AS_ADA = {"Authorization": "Bearer ada"}


async def _let_ada_in(ours: Cluster) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1/"
    rule = {"apiGroups": ["wardle.example.com"], "resources": ["*"], "verbs": ["*"]}
    await ours.ask("POST", f"{rbac}clusterroles", {"metadata": {"name": "wardle"}, "rules": [rule]})
    subject = {"kind": "User", "name": "ada", "apiGroup": "rbac.authorization.k8s.io"}
    reference = {"kind": "ClusterRole", "name": "wardle", "apiGroup": "rbac.authorization.k8s.io"}
    binding = {"metadata": {"name": "wardle"}, "subjects": [subject], "roleRef": reference}
    await ours.ask("POST", f"{rbac}clusterrolebindings", binding)


def test_the_user_goes_in_headers_under_the_front_proxys_certificate() -> None:
    async def main() -> None:
        async with both() as (ours, _):
            assert (await ours.condition())["reason"] == "Passed"
            await _let_ada_in(ours)
            forged = {"X-Remote-User": "root", "X-Remote-Extra-Sneaky": "1", "X-Remote-Group": "system:masters"}
            status, told = await ours.ask("POST", f"{_FLUNDERS}?dryRun=All&x=y", {"a": 1}, {**_AS_ADA, **forged})
            assert (status, told["method"], json.loads(told["body"])) == (201, "POST", {"a": 1})
            assert told["path"] == f"{_FLUNDERS}?dryRun=All&x=y"
            assert told["certificate"] == "front-proxy-client"
            sent = [(name.lower(), value) for name, value in told["headers"]]
            assert [value for name, value in sent if name == "x-remote-user"] == ["ada"]
            assert [value for name, value in sent if name == "x-remote-uid"] == ["u-1"]
            assert [value for name, value in sent if name == "x-remote-group"] == list(ADA.groups)
            extras = [(name, value) for name, value in sent if name.startswith("x-remote-extra-")]
            assert extras == [
                ("x-remote-extra-example.com%2fteam", "a"),
                ("x-remote-extra-example.com%2fteam", "b"),
                ("x-remote-extra-100%25", "x"),
            ]
            assert "authorization" not in dict(sent)

    asyncio.run(main())


def test_rights_are_asked_here_first() -> None:
    async def main() -> None:
        async with both() as (ours, backend):
            await ours.condition()
            status, told = await ours.ask("GET", _FLUNDERS, headers=_AS_ADA)
            assert status == 403 and 'cannot list resource "flunders"' in told["message"]
            assert not backend.seen

    asyncio.run(main())


def test_watches_and_upgrades_pass() -> None:
    async def main() -> None:
        async with both() as (ours, backend):
            await ours.condition()
            async with ours.session.get(f"{ours.url}{_FLUNDERS}?watch=true") as answer:
                assert await answer.content.readline() == b'{"type":"ADDED"}\n'
                backend.released.set()
                assert await answer.content.readline() == b'{"type":"MODIFIED"}\n'
            async with ours.session.ws_connect(f"{ours.url}{_FLUNDERS}/f/exec") as socket:
                assert await socket.receive_str() == "system:admin"
                await socket.send_str("hello")
                assert await socket.receive_str() == "HELLO"

    asyncio.run(main())


def test_discovery_and_openapi_are_merged() -> None:
    async def main(legacy: bool) -> None:
        async with cluster() as ours, backend_of(ours.keys) as backend:
            backend.legacy = legacy
            await ours.register(backend)
            accept = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}

            async def fresh() -> Object | None:
                _, listed = await ours.ask("GET", "/apis", headers=accept)
                found = [item for item in listed["items"] if item["metadata"].get("name") == "wardle.example.com"]
                return found[0] if found and found[0]["versions"][0]["freshness"] == "Current" else None

            async with asyncio.timeout(30):
                while not (group := await fresh()):
                    await asyncio.sleep(0.02)
            resource = group["versions"][0]["resources"][0]
            assert resource["resource"] == "flunders" and resource["responseKind"]["kind"] == "Flunder"
            _, groups = await ours.ask("GET", "/apis")
            names = [item["name"] for item in groups["groups"]]
            assert names.index("wardle.example.com") == len(names) - 1
            _, one = await ours.ask("GET", "/apis/wardle.example.com")
            assert one["preferredVersion"]["groupVersion"] == "wardle.example.com/v1"
            _, resources = await ours.ask("GET", "/apis/wardle.example.com/v1")
            assert [item["name"] for item in resources["resources"]] == ["flunders", "flunders/exec"]
            _, index = await ours.ask("GET", "/openapi/v3")
            url = index["paths"]["apis/wardle.example.com/v1"]["serverRelativeURL"]
            assert (await ours.ask("GET", url))[1]["from"] == "wardle"
            _, second = await ours.ask("GET", "/openapi/v2")
            assert "/apis/wardle.example.com/v1/flunders" in second["paths"]
            assert "wardle.Flunder" in second["definitions"] and "not.Needed" not in second["definitions"]
            await ours.ask("DELETE", f"{_SERVICES}/v1.wardle.example.com")
            assert "wardle.example.com" not in str(await ours.ask("GET", "/apis"))
            assert (await ours.ask("GET", _FLUNDERS))[0] == 404

    asyncio.run(main(False))
    asyncio.run(main(True))


def test_what_is_not_available_is_told_and_refused() -> None:
    async def main() -> None:
        async with cluster() as ours:
            nowhere = Backend(port=9, ca_pem=ours.keys.ca_pem)
            await ours.ask("POST", _SERVICES, api_service(nowhere))
            found = await ours.condition()
            assert (found["status"], found["reason"]) == ("False", "ServiceNotFound")
            assert found["message"] == 'service/wardle in "default" is not present'
            assert await ours.ask("GET", _FLUNDERS) == (503, "service unavailable\n")
            service = {"metadata": {"name": "wardle"}, "spec": {"ports": [{"port": 8}]}}
            await ours.ask("POST", "/api/v1/namespaces/default/services", service)

            async def reason(wanted: str) -> None:
                def has(obj: Object) -> bool:
                    return bool(obj["status"]["conditions"][0]["reason"] == wanted)

                await ours.until(f"{_SERVICES}/v1.wardle.example.com", has)

            await reason("ServicePortError")
            patch = json.dumps([{"op": "replace", "path": "/spec/ports/0/port", "value": 9}])
            headers = {"Content-Type": "application/json-patch+json"}
            async with ours.session.patch(
                f"{ours.url}/api/v1/namespaces/default/services/wardle", data=patch, headers=headers
            ) as answer:
                assert answer.status == 200
            await reason("EndpointsNotFound")
            slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
            empty = {"metadata": {"name": "w", "labels": {"kubernetes.io/service-name": "wardle"}},
                     "addressType": "IPv4", "endpoints": [], "ports": [{"name": "", "port": 9}]}  # fmt: skip
            assert (await ours.ask("POST", slices, empty))[0] == 201
            await reason("MissingEndpoints")

    asyncio.run(main())


def test_a_server_with_another_certificate_is_not_spoken_to_unless_told_so() -> None:
    async def main() -> None:
        async with cluster() as ours, backend_of(ours.keys) as backend:
            other = CertificateAuthority.create("other", SystemClock()).certificate_pem
            right, backend.ca_pem = backend.ca_pem, other
            await ours.register(backend)
            found = await ours.condition()
            assert (found["status"], found["reason"]) == ("False", "FailedDiscoveryCheck")
            spec = {"caBundle": None, "insecureSkipTLSVerify": True}
            headers = {"Content-Type": "application/merge-patch+json"}
            async with ours.session.patch(
                f"{ours.url}{_SERVICES}/v1.wardle.example.com", data=json.dumps({"spec": spec}), headers=headers
            ) as answer:
                assert answer.status == 200, await answer.text()

            def passed(obj: Object) -> bool:
                return bool(obj["status"]["conditions"][0]["reason"] == "Passed")

            await ours.until(f"{_SERVICES}/v1.wardle.example.com", passed)
            assert (await ours.ask("GET", _FLUNDERS))[0] == 200
            assert right != other

    asyncio.run(main())


def test_extension_servers_find_whom_to_believe() -> None:
    async def main() -> None:
        async with cluster() as ours:
            path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
            _, found = await ours.ask("GET", path)
            assert found["data"]["requestheader-client-ca-file"].encode() == ours.keys.front_proxy_ca_pem
            assert found["data"]["client-ca-file"].encode() == ours.keys.ca_pem
            assert json.loads(found["data"]["requestheader-allowed-names"]) == ["front-proxy-client"]
            assert json.loads(found["data"]["requestheader-username-headers"]) == ["X-Remote-User"]

    asyncio.run(main())
