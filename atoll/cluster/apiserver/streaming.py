"""What passes through the API server: pods' logs, exec, attach and port-forward, and the proxies.

The API server meets a node only at its kubelet's HTTPS port, with a client certificate of its own, so that any API
server could stand here. A simulated node has no such port: the answer says so.
"""

from __future__ import annotations

import base64
import gzip
import ssl
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from atoll.base.errors import ApiError, BadRequest, NotFound, ServerError, Unreachable
from atoll.base.names import SIMULATED_LABEL
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.dialing import Answer, Target, forwarded_headers, send, send_upgrade
from atoll.cluster.apiserver.paths import Path
from atoll.cluster.apiserver.ports import User
from atoll.cluster.apiserver.proxy_rewrite import rewritten_page, rewritten_url
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.get import get
from atoll.cluster.store.port import Key
from atoll.kinds.builtin import ENDPOINT_SLICES, NODES, PODS, SERVICES
from atoll.kinds.resource import Resource
from atoll.wire.connection import splice
from atoll.wire.messages import Connection, HttpRequest, HttpResponse
from atoll.wire.websocket import WebSocket
from atoll.wire.websocket import is_upgrade as is_websocket
from atoll.wire.websocket import upgrade as websocket_upgrade

Object = dict[str, Any]
Query = dict[str, list[str]]
_LOG_BINARY, _LOG_BASE64 = "binary.k8s.io", "base64.binary.k8s.io"
_MOST_PAGE_BYTES = 64 << 20
_KWOK_ANNOTATION = "kwok.x-k8s.io/node"
_LOG_PARAMETERS = (
    "follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream",
)  # fmt: skip
_STREAM_PARAMETERS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))


class Streamer:
    """The `Streaming` that `http_handler` takes. `tls` shows the API server's client certificate."""

    def __init__(self, api: Api, tls: ssl.SSLContext) -> None:
        self._api = api
        self._tls = tls

    async def __call__(self, request: HttpRequest, user: User, served: Served, path: Path) -> HttpResponse:
        try:
            return await self._route(request, path)
        except Unreachable as error:
            raise _unreachable(error) from None

    async def _route(self, request: HttpRequest, path: Path) -> HttpResponse:
        query = parse_qs(request.query, keep_blank_values=True)
        if path.subresource == "proxy":
            return await self._proxy(request, path)
        pod = self._get(PODS, path.name, path.namespace)
        if path.subresource == "log":
            return await self._log(request, pod, query)
        if path.subresource == "portforward":
            return await self._port_forward(request, pod, query)
        return await self._command(request, pod, path.subresource, query)

    def _get(self, resource: Resource, name: str, namespace: str = "") -> Object:
        served = self._api.registry.of(resource)
        if served is None:
            raise NotFound(f"{resource.group_resource} is not served")
        return served.present(get(self._api, served, namespace, name))

    def _kubelet(self, pod: Object) -> Target:
        """The kubelet's port of the pod's node. Raises BadRequest, NotFound, ServerError."""
        name = pod["spec"].get("nodeName")
        if not name:
            raise BadRequest(f"pod {pod['metadata']['name']} does not have a host assigned")
        node = self._get(NODES, name)
        if is_simulated(node):
            raise ApiError(
                f'node "{name}" is simulated: pods on it have no processes, hence no exec, attach or port-forward',
                code=501,
                reason="NotImplemented",
            )
        return self._node_target(node)

    def _node_target(self, node: Object) -> Target:
        status = node.get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
        addresses = {item["type"]: item["address"] for item in status.get("addresses") or []}
        for kind in ("InternalIP", "ExternalIP", "InternalDNS", "Hostname"):
            if kind in addresses:
                return Target(addresses[kind], port, self._tls)
        known = " ".join(f"{{{kind} {address}}}" for kind, address in addresses.items())
        raise problems.plain_fault(f"no preferred addresses found; known addresses: [{known}]")

    async def _log(self, request: HttpRequest, pod: Object, query: Query) -> HttpResponse:
        metadata = pod["metadata"]
        container = _container(pod, query, "log")
        _check_log_options(query, metadata["name"])
        name = pod["spec"].get("nodeName")
        if not name:
            return HttpResponse(204)
        node = self._get(NODES, name)
        if is_simulated(node):
            text = f'# pod {metadata["name"]} is on the simulated node "{name}": it has no process, hence no log\n'
            return HttpResponse(200, [("Content-Type", "text/plain")], text.encode())
        kept = [(key, query[key][-1]) for key in _LOG_PARAMETERS if query.get(key) and query[key][-1]]
        where = f"/containerLogs/{metadata['namespace']}/{metadata['name']}/{container}"
        answer = await send(self._node_target(node), "GET", where + (f"?{urlencode(kept)}" if kept else ""))
        if answer.status != 200:
            raise await _refused(answer)
        if is_websocket(request):
            return _log_by_websocket(request, answer)
        return HttpResponse(200, [("Content-Type", "text/plain")], stream=answer.body())

    async def _command(self, request: HttpRequest, pod: Object, kind: str, query: Query) -> HttpResponse:
        container = _container(pod, query, kind)
        self._kubelet(pod)
        wanted = [(there, "1") for here, there in _STREAM_PARAMETERS if _flag(query, here)]
        if not any(name in ("input", "output", "error") for name, _ in wanted):
            raise BadRequest("you must specify at least 1 of stdin, stdout, stderr")
        if kind == "exec":
            commands = query.get("command") or []
            if not commands:
                raise BadRequest("you must specify at least one command")
            wanted += [("command", part) for part in commands]
        metadata = pod["metadata"]
        where = f"/{kind}/{metadata['namespace']}/{metadata['name']}/{container}?{urlencode(wanted)}"
        return await self._upgrade(request, self._kubelet(pod), where)

    async def _port_forward(self, request: HttpRequest, pod: Object, query: Query) -> HttpResponse:
        metadata = pod["metadata"]
        ports = [("port", port) for value in query.get("ports") or [] for port in value.split(",")]
        where = f"/portForward/{metadata['namespace']}/{metadata['name']}"
        return await self._upgrade(request, self._kubelet(pod), where + (f"?{urlencode(ports)}" if ports else ""))

    async def _upgrade(self, request: HttpRequest, target: Target, path: str) -> HttpResponse:
        if "upgrade" not in request.headers:
            raise BadRequest("Upgrade request required")
        answer = await send_upgrade(target, request, path)
        if answer.status != 101:
            raise await _refused(answer)

        async def run(connection: Connection) -> None:
            await connection.write(answer.head)
            await splice(connection, answer.connection)

        return HttpResponse(101, upgrade=run)

    async def _proxy(self, request: HttpRequest, path: Path) -> HttpResponse:
        page = self._page_of_simulated(request, path)
        if page is not None:
            return page
        target = self._proxy_target(path)
        if not path.rest and request.method in ("GET", "HEAD") and "upgrade" not in request.headers:
            # relative links of the root page need the slash
            where = f"{request.path}/" + (f"?{request.query}" if request.query else "")
            return HttpResponse(301, [("Location", where)])
        where = quote(path.rest or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{request.query}" if request.query else "")
        headers = [*forwarded_headers(request), ("X-Forwarded-Uri", request.path)]
        try:
            if "upgrade" in request.headers:
                return await self._upgrade(request, target, where)
            answer = await send(target, request.method, where, headers, request.body)
        except Unreachable as error:
            raise ApiError(f"error trying to reach service: {error}", code=503, reason="ServiceUnavailable") from None
        return await _through(answer, request, path, target)

    def _page_of_simulated(self, request: HttpRequest, path: Path) -> HttpResponse | None:
        """What a simulated node serves; None for another node, and for what it has not."""
        pages = self._api.hooks.node_pages
        if pages is None or path.plural != "nodes" or request.method not in ("GET", "HEAD"):
            return None
        _, name, port = split_proxy_name(path.name)
        node = self._get(NODES, name)
        text = pages.page(node, port, path.rest) if is_simulated(node) else None
        if text is None:
            return None
        return HttpResponse(200, [("Content-Type", "text/plain; version=0.0.4; charset=utf-8")], text.encode())

    def _proxy_target(self, path: Path) -> Target:
        """The proxied address; names may be `scheme:name:port`."""
        scheme, name, port = split_proxy_name(path.name)
        tls = _trusting() if scheme == "https" else None
        if path.plural == "nodes":
            node = self._get(NODES, name)
            if is_simulated(node):
                raise ApiError(f'node "{name}" is simulated: it has no kubelet', code=501, reason="NotImplemented")
            target = self._node_target(node)
            return target if not port else Target(target.host, _number(port), tls)
        if path.plural == "pods":
            pod = self._get(PODS, name, path.namespace)
            address = (pod.get("status") or {}).get("podIP")
            if not address:
                raise BadRequest("address not allowed")
            return Target(address, _number(port) if port else _first_port(pod), tls)
        return self._service_target(path, name, port, tls)

    def _service_target(self, path: Path, name: str, port: str, tls: ssl.SSLContext | None) -> Target:
        service = self._get(SERVICES, name, path.namespace)
        ports = service["spec"].get("ports") or []
        chosen = [item for item in ports if port in ("", item.get("name"), str(item["port"]))]
        if not chosen or (not port and len(ports) > 1):
            raise ApiError(
                f'no service port "{port}" found for service "{name}"', code=503, reason="ServiceUnavailable"
            )
        served = self._api.registry.of(ENDPOINT_SLICES)
        assert served is not None
        own = [
            served.present(record)
            for record in self._api.scan(served, path.namespace)
            if record.labels.get("kubernetes.io/service-name") == name
        ]
        if not own and self._api.store.get(Key("endpoints", path.namespace, name)) is None:
            raise NotFound(f'endpoints "{name}" not found', details={"name": name, "kind": "endpoints"})
        for found in own:
            for slice_port in found.get("ports") or []:
                if (slice_port.get("name") or "") != (chosen[0].get("name") or ""):
                    continue
                for endpoint in found.get("endpoints") or []:
                    if (endpoint.get("conditions") or {}).get("ready", True):
                        return Target(endpoint["addresses"][0], slice_port["port"], tls)
        raise ApiError(f'no endpoints available for service "{name}"', code=503, reason="ServiceUnavailable")


def is_simulated(node: Object) -> bool:
    metadata = node["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    return labels.get(SIMULATED_LABEL) == "true" or _KWOK_ANNOTATION in annotations


def split_proxy_name(text: str) -> tuple[str, str, str]:
    """`https:name:port`, `name:port`, `name` → (scheme, name, port). Raises BadRequest."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("http", "https", ""):
        return parts[0], parts[1], parts[2]
    raise BadRequest(f'invalid proxy request "{text}"')


def _number(port: str) -> int:
    if port.isdigit() and 0 < int(port) < 65536:
        return int(port)
    raise BadRequest(f'invalid port "{port}"')


def _first_port(pod: Object) -> int:
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or []:
            return int(port["containerPort"])
    return 80


def _container(pod: Object, query: Query, kind: str) -> str:
    """The container that is meant, as upstream's registry chooses it. Raises BadRequest."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    wanted = (query.get("container") or [""])[-1]
    usual = [item["name"] for item in spec["containers"]]
    init = [item["name"] for item in spec.get("initContainers") or []]
    ephemeral = [item["name"] for item in spec.get("ephemeralContainers") or []]
    if wanted:
        if wanted not in (*usual, *init, *ephemeral):
            raise BadRequest(f"container {wanted} is not valid for pod {name}")
        return wanted
    if len(usual) == 1:
        return str(usual[0])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(usual)}]"
    if init:
        text += f" or one of the init containers: [{' '.join(init)}]"
    if ephemeral:
        text += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
    raise BadRequest(text)


def _check_log_options(query: Query, pod: str) -> None:
    for key in ("sinceSeconds", "tailLines", "limitBytes"):
        value = (query.get(key) or [""])[-1]
        if value and not value.lstrip("-").isdigit():
            raise BadRequest(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        least = 0 if key == "tailLines" else 1
        if value and int(value) < least:
            bound = "must be greater than 0" if least else "must be greater than or equal to 0"
            raise problems.invalid("", "PodLogOptions", pod, [problems.bad_value(key, int(value), bound)])


def _flag(query: Query, name: str) -> bool:
    return (query.get(name) or [""])[-1].lower() in ("1", "true", "t")


async def _refused(answer: Answer) -> ApiError:
    """What the kubelet refused, as the API server tells it."""
    text = (await answer.whole(64 * 1024)).decode(errors="replace").strip()
    if answer.status == 400:
        return BadRequest(text or "the kubelet refused the request")
    if answer.status == 404:
        return NotFound(text or "the server could not find the requested resource")
    if answer.status in (401, 403):
        return ServerError(f"Internal error occurred: the kubelet refused the API server: {text}")
    return ServerError(f"Internal error occurred: {text or f'the kubelet answered {answer.status}'}")


def _unreachable(error: Unreachable) -> ApiError:
    return ServerError(f"Internal error occurred: error dialing backend: {error}")


def _log_by_websocket(request: HttpRequest, answer: Answer) -> HttpResponse:
    """One message a chunk: bytes, or base64 where the client asks for that (apiserver's wsstream)."""

    async def serve(socket: WebSocket) -> None:
        async for chunk in answer.body():
            encoded = socket.subprotocol == _LOG_BASE64
            await socket.send(base64.b64encode(chunk).decode() if encoded else chunk)

    return websocket_upgrade(request, ("", _LOG_BINARY, _LOG_BASE64), serve)


async def _through(answer: Answer, request: HttpRequest, path: Path, target: Target) -> HttpResponse:
    """The proxied answer; its redirect, or the links of its page, lead through the proxy too."""
    prefix = request.path.removesuffix(path.rest).rstrip("/")
    asked = request.headers.get("host", "")
    found = {name.lower(): value for name, value in answer.headers}
    if location := found.get("location"):
        kept = [(name, value) for name, value in answer.headers if name.lower() != "location"]
        kept.append(("Location", rewritten_url(location, prefix, target.netloc, asked)))
        return HttpResponse(answer.status, kept, stream=_body(answer))
    page = found.get("content-type", "").partition(";")[0].strip() == "text/html"
    encoding = found.get("content-encoding", "")
    if not page or encoding not in ("", "gzip"):
        return HttpResponse(answer.status, answer.headers, stream=_body(answer))
    data = await answer.whole(_MOST_PAGE_BYTES)
    text = (gzip.decompress(data) if encoding else data).decode(errors="surrogateescape")
    data = rewritten_page(text, prefix, target.netloc, asked).encode(errors="surrogateescape")
    return HttpResponse(answer.status, answer.headers, gzip.compress(data) if encoding else data)


async def _body(answer: Answer) -> AsyncIterator[bytes]:
    async for chunk in answer.body():
        yield chunk


def _trusting() -> ssl.SSLContext:
    """https: to a pod or service is not verified, as upstream's proxy doesn't."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
