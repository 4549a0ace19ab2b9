"""The port to programs outside that know more about access: OIDC providers and webhooks, by HTTPS.

`atoll.app` wires an implementation (`atoll.client.calls`); in virtual time there is none, and none of it configured.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from atoll.base.errors import Unreachable

Object = dict[str, Any]
_RETRIES = 4
_FIRST_SECONDS = 0.5
_FACTOR = 1.5
_RETRIED = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to call and how to be known there. No `ca_pem`: the system's CAs."""

    url: str
    ca_pem: bytes | None = None
    insecure: bool = False
    server_name: str | None = None
    certificate_pem: bytes | None = field(default=None, repr=False)
    key_pem: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


class Outside(Protocol):
    async def __call__(
        self, endpoint: Endpoint, method: str, body: bytes, headers: Mapping[str, str], timeout_seconds: float
    ) -> tuple[int, bytes]:
        """(status, body). Raises Unreachable."""


class ReviewFailed(Exception):
    """A webhook did not answer with a review."""


class ReviewClient:
    """POSTs a review to a webhook, again with back-off where the fault may pass (client-go's webhook package)."""

    def __init__(self, outside: Outside, endpoint: Endpoint, timeout_seconds: float) -> None:
        self._outside = outside
        self._endpoint = endpoint
        self._timeout = timeout_seconds

    async def review(self, obj: Object) -> Object:
        """The answer's status. Raises ReviewFailed."""
        body = orjson.dumps(obj)
        delay = _FIRST_SECONDS
        for left in range(_RETRIES, -1, -1):
            try:
                status, answer = await self._outside(
                    self._endpoint, "POST", body, {"Content-Type": "application/json"}, self._timeout
                )
            except Unreachable as error:
                why = f'Post "{self._endpoint.url}": {error.message}'
                if error.message == "context deadline exceeded" or not left:
                    raise ReviewFailed(why) from None
            else:
                if status < 300:
                    return _status(answer)
                why = f"the server answered {status}"
                if status not in _RETRIED or not left:
                    raise ReviewFailed(why)
            await asyncio.sleep(delay)
            delay *= _FACTOR
        raise AssertionError("unreachable")


def _status(answer: bytes) -> Object:
    try:
        found = orjson.loads(answer)
        status = found.get("status") or {}
    except (orjson.JSONDecodeError, AttributeError):
        raise ReviewFailed("the answer is no review") from None
    if not isinstance(status, dict):
        raise ReviewFailed("the answer is no review")
    return status


class Shared:
    """One flight for all who want the same at once."""

    def __init__(self) -> None:
        self._flights: dict[Any, asyncio.Future[Any]] = {}

    async def run(self, key: Any, work: Callable[[], Awaitable[Any]]) -> Any:
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.ensure_future(work())
            self._flights[key] = flight
            flight.add_done_callback(lambda _: self._flights.pop(key, None))
        return await asyncio.shield(flight)
