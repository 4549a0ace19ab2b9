"""A provider's signing keys: found by discovery, kept, and fetched anew when a token names one that is not known.

Nothing is fetched before a token asks for it; a provider that does not answer is asked again after ten seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from atoll.base.clock import Clock
from atoll.base.errors import Unreachable
from atoll.cluster.apiserver.access.jwt.model import Issuer
from atoll.cluster.apiserver.access.outside import Endpoint, Outside, Shared

Object = dict[str, Any]
_TIMEOUT_SECONDS = 30.0
_RETRY_SECONDS = 10.0  # upstream polls a provider that it could not discover
_REFRESH_SECONDS = 1.0  # between fetches for unknown keys


class KeysUnavailable(Exception):
    """The text says why."""


class ProviderKeys:
    """`current` is what is known now, None before the first fetch."""

    def __init__(self, issuer: Issuer, outside: Outside, clock: Clock) -> None:
        self._issuer = issuer
        self._outside = outside
        self._clock = clock
        self._shared = Shared()
        self._jwks_uri = ""
        self._fetched = float("-inf")
        self._failed = float("-inf")
        self.current: tuple[Object, ...] | None = None

    def may_refresh(self) -> bool:
        now = self._clock.monotonic()
        if self.current is None:
            return now - self._failed >= _RETRY_SECONDS
        return now - self._fetched >= _REFRESH_SECONDS

    async def refresh(self) -> None:
        """Raises KeysUnavailable."""
        await self._shared.run("keys", self._fetch)

    async def _fetch(self) -> None:
        try:
            if not self._jwks_uri:
                self._jwks_uri = await self._discover()
            found = await self._get(self._jwks_uri, "get keys failed")
            keys = found.get("keys")
            if not isinstance(keys, list):
                raise KeysUnavailable("oidc: get keys failed: no keys in the key set")
        except KeysUnavailable:
            self._failed = self._clock.monotonic()
            raise
        self.current = tuple(key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig")
        self._fetched = self._clock.monotonic()

    async def _discover(self) -> str:
        document = await self._get(self._issuer.discovery_url, "discovery failed")
        issuer, uri = document.get("issuer"), document.get("jwks_uri")
        if issuer != self._issuer.url:
            why = f'expected "{self._issuer.url}" got "{issuer}"'
            raise KeysUnavailable(f"oidc: issuer did not match the issuer returned by provider, {why}")
        if not isinstance(uri, str) or not uri.startswith("https://"):
            raise KeysUnavailable("provider did not return JWKS URL")
        return uri

    async def _get(self, url: str, what: str) -> Object:
        endpoint = Endpoint(url, self._issuer.ca_pem)
        try:
            status, body = await self._outside(endpoint, "GET", b"", {"Accept": "application/json"}, _TIMEOUT_SECONDS)
        except Unreachable as error:
            raise KeysUnavailable(f'oidc: {what}: Get "{url}": {error.message}') from None
        if status != 200:
            raise KeysUnavailable(f'oidc: {what}: Get "{url}": status {status}')
        try:
            found = orjson.loads(body)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise KeysUnavailable(f'oidc: {what}: Get "{url}": no JSON object')
        return found


def candidates(keys: Sequence[Object], key_id: str | None) -> list[Object]:
    """The keys that may have signed: those of the id, or all where none is named."""
    return [key for key in keys if not key_id or key.get("kid") == key_id]
