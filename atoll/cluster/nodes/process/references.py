"""ConfigMaps, Secrets and tokens that this node's pods refer to, read when needed and kept for a few seconds."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import Clock, parse_rfc3339
from atoll.base.errors import NotFound
from atoll.client.port import Client
from atoll.cluster.nodes.process.volumes import token_key, token_request
from atoll.kinds.builtin import CONFIGMAPS, SECRETS, SERVICE_ACCOUNTS
from atoll.kinds.resource import Resource

Object = dict[str, Any]
_FRESH_SECONDS = 1.0


class ReferenceCache:
    """Shared by a pod's containers and volumes. Methods raise AtollError when the API can't be asked."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._objects: dict[tuple[str, str | None, str], tuple[float, Object | None]] = {}
        self._tokens: dict[str, tuple[float, str]] = {}

    async def config_maps(self, namespace: str, names: set[str]) -> dict[str, Object | None]:
        return {name: await self._get(CONFIGMAPS, namespace, name) for name in sorted(names)}

    async def secrets(self, namespace: str, names: set[str]) -> dict[str, Object | None]:
        return {name: await self._get(SECRETS, namespace, name) for name in sorted(names)}

    async def _get(self, resource: Resource, namespace: str, name: str) -> Object | None:
        key = (resource.plural, namespace, name)
        now = self._clock.monotonic()
        held = self._objects.get(key)
        if held is not None and now - held[0] < _FRESH_SECONDS:
            return held[1]
        try:
            obj: Object | None = await self._client.get(resource, name, namespace)
        except NotFound:
            obj = None
        if obj is not None and "kind" not in obj:
            obj = {**obj, "kind": resource.kind}
        self._objects[key] = (now, obj)
        return obj

    async def token(self, source: Object, pod: Object) -> str:
        """A projected service account token, renewed at 80 % of its life as kubelet does."""
        key = token_key(source, pod)
        held = self._tokens.get(key)
        now = self._clock.wall()
        if held is not None and now < held[0]:
            return held[1]
        answer = await self._client.create(
            SERVICE_ACCOUNTS, token_request(source, pod), pod["metadata"]["namespace"],
            name=pod["spec"].get("serviceAccountName") or "default", subresource="token",
        )  # fmt: skip
        status = answer["status"]
        life = parse_rfc3339(status["expirationTimestamp"]) - now
        self._tokens[key] = (now + life * 0.8, status["token"])
        token: str = status["token"]
        return token
