"""Bearer tokens that a webhook knows (TokenReview): asked once, then remembered for a while.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#webhook-token-authentication
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from atoll.base.clock import Clock
from atoll.cluster.apiserver.access.outside import ReviewClient, ReviewFailed, Shared
from atoll.cluster.apiserver.access.tokens import Known, TokenRefused
from atoll.cluster.apiserver.ports import MustWait, User

Object = dict[str, Any]
CACHE_SECONDS = 120.0
_KEPT = 4096
_Answer = Known | TokenRefused | None


class TokenWebhook:
    """Implements `tokens.TokenAuthenticator`. `version` of the TokenReview: v1 or v1beta1."""

    agnostic = False

    def __init__(
        self,
        client: ReviewClient,
        clock: Clock,
        *,
        own_audiences: Sequence[str],
        version: str = "v1",
        cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        self._client = client
        self._clock = clock
        self._own_audiences = tuple(own_audiences)
        self._version = version
        self._cache_seconds = cache_seconds
        self._answers: dict[tuple[bytes, tuple[str, ...]], tuple[float, _Answer]] = {}
        self._shared = Shared()

    def authenticate(self, token: str, audiences: Sequence[str]) -> Known | None:
        wanted = tuple(audiences) or self._own_audiences
        key = (hashlib.sha256(token.encode()).digest(), wanted)
        held = self._answers.get(key)
        if held is not None and self._clock.monotonic() < held[0]:
            return _given(held[1])
        raise MustWait(partial(self._ask, key, token))

    async def _ask(self, key: tuple[bytes, tuple[str, ...]], token: str) -> Known | None:
        answer: _Answer = await self._shared.run(key, partial(self._review, key, token))
        return _given(answer)

    async def _review(self, key: tuple[bytes, tuple[str, ...]], token: str) -> _Answer:
        """What failed is not remembered."""
        wanted = key[1]
        review = {
            "kind": "TokenReview", "apiVersion": f"authentication.k8s.io/{self._version}",
            "metadata": {}, "spec": {"token": token, "audiences": list(wanted)}, "status": {"user": {}},
        }  # fmt: skip
        try:
            status = await self._client.review(review)
        except ReviewFailed as error:
            return TokenRefused(str(error))
        answer = _answer(status, wanted, self._own_audiences)
        if len(self._answers) >= _KEPT:
            self._answers.clear()
        self._answers[key] = (self._clock.monotonic() + self._cache_seconds, answer)
        return answer


def _given(answer: _Answer) -> Known | None:
    if isinstance(answer, TokenRefused):
        raise TokenRefused(str(answer))
    return answer


def _answer(status: Object, wanted: Sequence[str], own: Sequence[str]) -> _Answer:
    got = status.get("audiences") or own
    matching = tuple(audience for audience in wanted if audience in got)
    if wanted and not matching:
        return None
    if not status.get("authenticated"):
        error = status.get("error")
        return TokenRefused(str(error)) if error else None
    user = status.get("user") or {}
    extra = {str(key): tuple(map(str, values or ())) for key, values in (user.get("extra") or {}).items()}
    groups = tuple(map(str, user.get("groups") or ()))
    return Known(User(str(user.get("username") or ""), groups, str(user.get("uid") or ""), extra), matching)
