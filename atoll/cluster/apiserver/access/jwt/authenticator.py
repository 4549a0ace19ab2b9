"""Verifies the tokens of one issuer: signature, issuer, audience, times; then its rules make a user of the claims.

A token that has been verified is known for ten seconds (by its digest), as upstream caches it, so the next request with
it needs no waiting and no cryptography.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from atoll.base.clock import Clock, rfc3339
from atoll.cluster.apiserver.access.jwt.keys import KeysUnavailable, ProviderKeys, candidates
from atoll.cluster.apiserver.access.jwt.model import JwtConfig
from atoll.cluster.apiserver.access.outside import Outside
from atoll.cluster.apiserver.access.tokens import Known, TokenRefused
from atoll.cluster.apiserver.ports import MustWait

Object = dict[str, Any]
ALGORITHMS = ("RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512")
_GOOGLE = "https://accounts.google.com"
_KEPT_SECONDS = 10.0
_KEPT = 4096
_LEEWAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Held:
    known: Known
    until: float  # monotonic


@dataclass(frozen=True, slots=True)
class _Parts:
    header: Object
    claims: Object


class JwtAuthenticator:
    """Implements `tokens.TokenAuthenticator`."""

    agnostic = True

    def __init__(self, config: JwtConfig, outside: Outside, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._keys = ProviderKeys(config.issuer, outside, clock)
        self._held: dict[bytes, _Held] = {}

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        parts = _take_apart(token)
        if parts is None or _issuer(parts.claims) != self._config.issuer.url:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        held = self._held.get(digest)
        if held is not None and self._clock.monotonic() < held.until:
            self._check_times(parts.claims)
            return held.known
        keys = self._keys
        if keys.current is None:
            if not keys.may_refresh():
                raise TokenRefused("oidc: authenticator not initialized")
            raise MustWait(lambda: self._after_refresh(token, parts, digest))
        try:
            return self._verified(token, parts, digest)
        except _UnknownKey:
            if keys.may_refresh():
                raise MustWait(lambda: self._after_refresh(token, parts, digest)) from None
            raise TokenRefused(_NO_KEY) from None

    async def _after_refresh(self, token: str, parts: _Parts, digest: bytes) -> Known:
        try:
            await self._keys.refresh()
        except KeysUnavailable as error:
            raise TokenRefused(f"oidc: verify token: failed to verify signature: fetching keys {error}") from None
        try:
            return self._verified(token, parts, digest)
        except _UnknownKey:
            raise TokenRefused(_NO_KEY) from None

    def _verified(self, token: str, parts: _Parts, digest: bytes) -> Known:
        """Raises TokenRefused, _UnknownKey."""
        algorithm = parts.header.get("alg")
        if algorithm not in ALGORITHMS:
            expected = "[" + " ".join(f'"{name}"' for name in sorted(ALGORITHMS)) + "]"
            why = f'id token signed with unsupported algorithm, expected {expected} got "{algorithm}"'
            raise TokenRefused(f"oidc: verify token: oidc: {why}")
        _verify_signature(token, str(algorithm), candidates(self._keys.current or (), parts.header.get("kid")))
        subject = parts.claims.get("sub")
        if subject is not None and not isinstance(subject, str):
            kinds = {bool: "bool", int: "number", float: "number", list: "array", dict: "object"}
            why = f"json: cannot unmarshal {kinds[type(subject)]} into Go struct field idToken.sub of type string"
            raise TokenRefused(f"oidc: verify token: oidc: failed to unmarshal claims: {why}")
        self._check_audience(parts.claims)
        self._check_times(parts.claims)
        known = Known(self._config.rules.user_of(parts.claims))
        if len(self._held) >= _KEPT:
            self._held.clear()
        self._held[digest] = _Held(known, self._clock.monotonic() + _KEPT_SECONDS)
        return known

    def _check_audience(self, claims: Object) -> None:
        given = claims.get("aud")
        got = [given] if isinstance(given, str) else [item for item in given or () if isinstance(item, str)]
        wanted = self._config.issuer.audiences
        if set(wanted).isdisjoint(got):
            shown = "[" + " ".join(f'"{item}"' for item in got) + "]"
            expected = f'"{wanted[0]}"'
            if len(wanted) > 1:
                expected = "in [" + " ".join(f'"{item}"' for item in sorted(wanted)) + "]"
            raise TokenRefused(f"oidc: verify token: oidc: expected audience {expected} got {shown}")

    def _check_times(self, claims: Object) -> None:
        now = self._clock.wall()
        ends, begins = claims.get("exp"), claims.get("nbf")
        if not isinstance(ends, (int, float)) or ends < now:
            shown = rfc3339(float(ends)) if isinstance(ends, (int, float)) else "none"
            raise TokenRefused(f"oidc: verify token: oidc: token is expired (Token Expiry: {shown})")
        if isinstance(begins, (int, float)) and now + _LEEWAY_SECONDS < begins:
            why = f"current time {rfc3339(now)} before the nbf (not before) time: {rfc3339(float(begins))}"
            raise TokenRefused(f"oidc: verify token: oidc: {why}")


_NO_KEY = "oidc: verify token: failed to verify signature: failed to verify id token signature"


class _UnknownKey(Exception):
    """No key of those known has signed it."""


def _verify_signature(token: str, algorithm: str, keys: Sequence[Object]) -> None:
    """Raises _UnknownKey."""
    from joserfc import jws
    from joserfc.errors import JoseError
    from joserfc.jwk import JWKRegistry

    for key in keys:
        try:
            jws.deserialize_compact(token, JWKRegistry.import_key(key), algorithms=[algorithm])
        except (JoseError, ValueError, TypeError):
            continue
        return
    raise _UnknownKey


def _take_apart(token: str) -> _Parts | None:
    """Header and claims, not yet verified; None for what is no JWT."""
    pieces = token.split(".")
    if len(pieces) != 3:
        return None
    try:
        header, claims = (orjson.loads(base64.urlsafe_b64decode(item + "=" * (-len(item) % 4))) for item in pieces[:2])
    except (binascii.Error, ValueError):
        return None
    return _Parts(header, claims) if isinstance(header, dict) and isinstance(claims, dict) else None


def _issuer(claims: Object) -> str:
    issuer = claims.get("iss")
    return _GOOGLE if issuer == "accounts.google.com" else str(issuer or "")
