"""cluster.karmada.io on a real hub: an aggregated API server over the Clusters that the hub stores under our group.

The hub's kube-apiserver passes requests for the group on to it (an APIService), with the user in headers that only it
may set: it shows a client certificate of the front proxy's CA, as kube-system/extension-apiserver-authentication says.
Rights are the hub's own, asked by SubjectAccessReview.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson
import yaml

from atoll.base.clock import Clock
from atoll.base.errors import ApiError, AtollError, BadRequest, ServerError, Unauthorized, UserError
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.cluster.apiserver import paths, problems
from atoll.cluster.apiserver.access.client_certificates import user_of_certificate
from atoll.cluster.apiserver.ports import Attributes, User
from atoll.cluster.apiserver.refusals import LIMITS, refusal
from atoll.fleet import names
from atoll.fleet.registry import shown
from atoll.fleet.registry.join import access_of
from atoll.fleet.registry.preflight import API_SERVICE
from atoll.fleet.registry.proxy import Person, with_cluster_proxy
from atoll.kinds.builtin import API_SERVICES, CONFIGMAPS, SECRETS, SERVICES
from atoll.kinds.hub import CLUSTERS, STORED_CLUSTERS
from atoll.kinds.resource import Resource
from atoll.wire.ca import CertificateAuthority
from atoll.wire.messages import HttpRequest, HttpResponse
from atoll.wire.server import serve
from atoll.wire.tls import server_context

Object = dict[str, Any]
log = logging.getLogger("atoll.hub")
SERVICE = "atoll-hub"
_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False)
_FRONT_PROXY = "extension-apiserver-authentication"
_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_PASSED = ("accept", "content-type", "user-agent", "if-match")
_KEPT = ("content-type", "warning", "retry-after", "audit-id", "cache-control")


@dataclass(frozen=True, slots=True)
class FrontProxy:
    """Whom the hub's API server says that it is, and in which headers it names the user."""

    ca_pem: bytes
    allowed: tuple[str, ...]
    user_headers: tuple[str, ...]
    group_headers: tuple[str, ...]
    extra_prefixes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to serve, and the host by which the hub's API server finds it."""

    host: str
    port: int = 0
    advertise: str = ""

    @classmethod
    def parse(cls, text: str, advertise: str = "") -> Listen:
        """HOST:PORT. Raises UserError."""
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit() or int(port) > 65535:
            raise UserError(f"--listen {text}: not HOST:PORT", hint="e.g. --listen 0.0.0.0:6444")
        return cls(host, int(port), advertise)


async def serve_clusters(stack: AsyncExitStack, client: HttpClient, clock: Clock, listen: Listen) -> int:
    """Serve and register, until the stack is closed; the port. Raises UserError where the hub does not aggregate."""
    front = await read_front_proxy(client)
    authority = CertificateAuthority.create("atoll-hub", clock)
    host = f"{SERVICE}.{names.SYSTEM_NAMESPACE}.svc"
    certified = authority.server(host, names=[host], addresses=[])
    context = server_context(certified.certificate_pem, certified.key_pem, front.ca_pem)
    api = ClusterApi(client, front)
    handler = with_cluster_proxy(api, api.person, api.reach, _refused)
    try:
        server = await serve(handler, listen.host, listen.port, ssl_context=context, limits=LIMITS)
    except OSError as error:
        raise UserError(f"can't listen on {listen.host}:{listen.port}: {error.strerror}") from None
    stack.push_async_callback(server.close)
    await _register(client, authority.certificate_pem, listen.advertise or listen.host, server.port)
    return server.port


async def read_front_proxy(client: HttpClient) -> FrontProxy:
    """Raises UserError where the API server does not aggregate."""
    data = (await client.get(CONFIGMAPS, _FRONT_PROXY, "kube-system")).get("data") or {}
    if not data.get("requestheader-client-ca-file"):
        raise UserError(
            "the hub's kube-apiserver does not aggregate: it names no front proxy",
            hint="start it with --requestheader-client-ca-file, --proxy-client-cert-file and --proxy-client-key-file",
        )

    def listed(key: str) -> tuple[str, ...]:
        return tuple(orjson.loads(data.get(key) or "[]"))

    def lowered(key: str) -> tuple[str, ...]:
        return tuple(item.lower() for item in listed(key))

    return FrontProxy(
        data["requestheader-client-ca-file"].encode(), listed("requestheader-allowed-names"),
        lowered("requestheader-username-headers"), lowered("requestheader-group-headers"),
        lowered("requestheader-extra-headers-prefix"),
    )  # fmt: skip


async def _register(client: HttpClient, ca_pem: bytes, host: str, port: int) -> None:
    """A Service of the address, and the APIService that names it."""
    metadata = {"name": SERVICE, "namespace": names.SYSTEM_NAMESPACE}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata,
               "spec": {"type": "ExternalName", "externalName": host, "ports": [{"port": port}]}}  # fmt: skip
    spec = {
        "group": CLUSTERS.group, "version": CLUSTERS.version, "groupPriorityMinimum": 2000, "versionPriority": 10,
        "caBundle": base64.b64encode(ca_pem).decode(), "service": {**metadata, "port": port},
    }  # fmt: skip
    await client.apply(SERVICES, service)
    await client.apply(API_SERVICES, {
        "apiVersion": API_SERVICES.api_version, "kind": API_SERVICES.kind,
        "metadata": {"name": API_SERVICE, "labels": {"app.kubernetes.io/managed-by": "atoll"}}, "spec": spec,
    })  # fmt: skip


class ClusterApi:
    """The handler of the group, without its proxy."""

    def __init__(self, client: HttpClient, front: FrontProxy) -> None:
        self._client = client
        self._front = front

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            return await self._route(request)
        except ApiError as error:
            return refusal(error)
        except AtollError as error:
            return refusal(ServerError(f"the hub can't be reached: {error}", code=503, reason="ServiceUnavailable"))

    async def _route(self, request: HttpRequest) -> HttpResponse:
        user = self.identify(request)
        if request.path in ("/healthz", "/livez", "/readyz"):
            return HttpResponse(200, [("Content-Type", "text/plain")], b"ok")
        if request.path == f"/apis/{shown.SHOWN}":
            return _json(shown.resource_list())
        if request.path == "/openapi/v3":
            return _json(shown.openapi_index())
        if request.path == f"/openapi/v3/apis/{shown.SHOWN}":
            answer = await self._client.raw("GET", f"/openapi/v3/apis/{shown.STORED}")
            return HttpResponse(answer.status, [("Content-Type", "application/json")], shown.openapi(answer.body))
        path = paths.parse(request.path)
        if path is None or (path.group, path.version, path.plural) != (
            CLUSTERS.group, CLUSTERS.version, CLUSTERS.plural,
        ):  # fmt: skip
            raise problems.no_such_path()
        watched = request.method == "GET" and not path.name and _asks_watch(request.query)
        verb = _VERBS.get(request.method, request.method.lower())
        if not path.name and verb in ("get", "delete"):
            verb = "watch" if watched else {"get": "list", "delete": "deletecollection"}[verb]
        await self.authorize(user, verb, path.subresource, path.name)
        return await self._pass_on(request, watched)

    def identify(self, request: HttpRequest) -> User:
        """The user whom the front proxy names. Raises Unauthorized for anyone else's request."""
        front, headers = self._front, request.headers
        if request.peer_certificate is None:
            raise Unauthorized("Unauthorized")
        if front.allowed and user_of_certificate(request.peer_certificate).name not in front.allowed:
            raise Unauthorized("Unauthorized")
        name = next((headers[key] for key in front.user_headers if headers.get(key)), "")
        if not name:
            raise Unauthorized("Unauthorized")
        groups = [item for key in front.group_headers for item in request.values(key)]
        extra = {
            unquote(key.removeprefix(prefix)): tuple(request.values(key))
            for prefix in front.extra_prefixes
            for key in headers
            if key.startswith(prefix)
        }
        return User(name, tuple(item for item in groups if item), extra=extra)

    async def authorize(self, user: User, verb: str, subresource: str, name: str) -> None:
        """Ask the hub. Raises Forbidden."""
        attributes = {"verb": verb, "group": CLUSTERS.group, "version": CLUSTERS.version, "resource": CLUSTERS.plural,
                      "subresource": subresource, "name": name}  # fmt: skip
        spec = {"user": user.name, "groups": list(user.groups), "resourceAttributes": attributes,
                "extra": {key: list(values) for key, values in user.extra.items()}}  # fmt: skip
        review = await self._client.create(
            _REVIEWS, {"apiVersion": _REVIEWS.api_version, "kind": _REVIEWS.kind, "spec": spec}
        )
        status = review.get("status") or {}
        if not status.get("allowed"):
            asked = Attributes(user, verb, CLUSTERS.group, CLUSTERS.version, CLUSTERS.plural, subresource, "", name)
            raise problems.denied(asked, status.get("reason") or "")

    async def person(self, request: HttpRequest, cluster: str) -> Person:
        """Who asks for a cluster's proxy. Raises Unauthorized, Forbidden."""
        user = self.identify(request)
        verb = _VERBS.get(request.method, request.method.lower())
        await self.authorize(user, verb, "proxy", cluster)
        return Person(user.name, user.groups, user.extra)

    async def reach(self, cluster: str) -> Access:
        """Raises NotFound."""
        try:
            obj = await self._client.get(STORED_CLUSTERS, cluster)
        except ApiError as error:
            raise _shown_error(error) from None
        reference = (obj.get("spec") or {}).get("secretRef") or {}
        secret = None
        if reference.get("name"):
            secret = await self._client.get(SECRETS, reference["name"], reference.get("namespace"))
        return access_of(obj, secret)

    async def _pass_on(self, request: HttpRequest, watched: bool) -> HttpResponse:
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        status, answered, chunks = await self._client.stream(
            request.method, shown.stored_path(request.path), query=request.query, body=_body(request), headers=headers
        )
        kept = [(name, value) for name, value in answered.items() if name.lower() in _KEPT]
        if watched and status == 200:
            return HttpResponse(status, kept, stream=_events(chunks))
        whole = b"".join([chunk async for chunk in chunks])
        with suppress(orjson.JSONDecodeError):
            whole = orjson.dumps(shown.to_shown(orjson.loads(whole)))
        return HttpResponse(status, kept, whole)


def _asks_watch(query: str) -> bool:
    return any(part in ("watch=true", "watch=1", "watch") for part in query.split("&"))


def _body(request: HttpRequest) -> bytes:
    """What was sent, under the group that stores it. Raises BadRequest."""
    if not request.body:
        return b""
    if request.headers.get("content-type", "").startswith("application/vnd.kubernetes.protobuf"):
        return request.body  # DeleteOptions: the same in every group
    try:
        value = orjson.loads(request.body)
    except orjson.JSONDecodeError:
        try:
            value = yaml.safe_load(request.body)
        except yaml.YAMLError as error:
            raise BadRequest(f"the body is neither JSON nor YAML: {error}") from None
    return orjson.dumps(shown.to_stored(value))


async def _events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        done = b"".join(shown.shown_event(line) for line in lines if line)
        if done:
            yield done


def _json(value: Object) -> HttpResponse:
    return HttpResponse(200, [("Content-Type", "application/json")], orjson.dumps(value))


def _shown_error(error: ApiError) -> ApiError:
    status = shown.to_shown(error.to_status())
    error.message, error.details = status["message"], status.get("details") or {}
    return error


def _refused(error: Exception) -> HttpResponse:
    if isinstance(error, ApiError):
        return refusal(error)
    log.error("clusters/proxy", exc_info=error)
    return refusal(ServerError("Internal error occurred: see the hub's log"))
