"""Who may use the kubelet's port: client certificates of the cluster's CA, or bearer tokens that the API server knows.

Denied by default. The API server's own client certificate is let in; any other identity is asked about by a
SubjectAccessReview on nodes, as a kubelet in webhook mode does.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID

from atoll.base.clock import Clock
from atoll.base.errors import AtollError
from atoll.client.port import Client
from atoll.kinds.resource import Resource
from atoll.wire.messages import HttpRequest

_TOKEN_REVIEWS = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False)
_ACCESS_REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False)
_SUBRESOURCES = {"stats": "stats", "metrics": "metrics", "logs": "log", "spec": "spec", "checkpoint": "checkpoint"}
_ALLOWED_SECONDS, _DENIED_SECONDS = 300.0, 30.0
API_SERVER_CLIENT = "kube-apiserver-kubelet-client"
Identity = tuple[str, tuple[str, ...]]


class KubeletAccess:
    """`allowed(request)` is 200, 401 or 403 with the user's name."""

    def __init__(self, client: Client, node: str, clock: Clock) -> None:
        self._client = client
        self._node = node
        self._clock = clock
        self._decisions: dict[tuple[Identity, str, str], tuple[float, bool]] = {}
        self._tokens: dict[str, tuple[float, Identity]] = {}

    async def allowed(self, request: HttpRequest) -> tuple[int, str]:
        identity = await self._identity(request)
        if identity is None:
            return 401, ""
        name, groups = identity
        if name == API_SERVER_CLIENT or "system:masters" in groups:
            return 200, name
        return (200 if await self._authorized(identity, request) else 403), name

    async def _identity(self, request: HttpRequest) -> Identity | None:
        if request.peer_certificate is not None:
            subject = x509.load_der_x509_certificate(request.peer_certificate).subject
            names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            groups = subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
            if names:
                return str(names[0].value), tuple(str(group.value) for group in groups)
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return None
        return await self._review(token.strip())

    async def _review(self, token: str) -> Identity | None:
        now = self._clock.monotonic()
        held = self._tokens.get(token)
        if held is not None and held[0] > now:
            return held[1]
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "metadata": {},
            "spec": {"token": token},
        }
        try:
            answer = await self._client.create(_TOKEN_REVIEWS, body)
        except AtollError:
            return None
        status = answer.get("status") or {}
        if not status.get("authenticated"):
            return None
        user = status.get("user") or {}
        identity = (str(user.get("username", "")), tuple(user.get("groups") or ()))
        self._tokens = {key: value for key, value in self._tokens.items() if value[0] > now}
        self._tokens[token] = (now + 120.0, identity)
        return identity

    async def _authorized(self, identity: Identity, request: HttpRequest) -> bool:
        verb = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}.get(request.method, "get")
        subresource = _SUBRESOURCES.get(request.path.strip("/").partition("/")[0], "proxy")
        key = (identity, verb, subresource)
        now = self._clock.monotonic()
        held = self._decisions.get(key)
        if held is not None and held[0] > now:
            return held[1]
        attributes = {
            "verb": verb,
            "version": "v1",
            "resource": "nodes",
            "subresource": subresource,
            "name": self._node,
        }
        spec: dict[str, Any] = {"user": identity[0], "groups": list(identity[1]), "resourceAttributes": attributes}
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": spec}
        try:
            answer = await self._client.create(_ACCESS_REVIEWS, body)
        except AtollError:
            return False
        allowed = bool((answer.get("status") or {}).get("allowed"))
        if len(self._decisions) > 1000:
            self._decisions.clear()
        self._decisions[key] = (now + (_ALLOWED_SECONDS if allowed else _DENIED_SECONDS), allowed)
        return allowed
