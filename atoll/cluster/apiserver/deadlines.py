"""A request that is not long-running is answered within a minute, or within what its `timeout` parameter asks if that
is less; else it is told 504 (apiserver's request deadline and timeout filters).

Most requests have the same deadline, so one sweep a second looks at the oldest: a request costs two dictionary
operations. What a request had begun to write may still become durable: its outcome is unknown to its client.
"""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any, Protocol

from atoll.base.errors import ApiError, BadRequest
from atoll.cluster.apiserver.request import parse_query

Task = asyncio.Task[Any]


class Expiring(Protocol):
    """A request that runs: its task, or what promises its answer."""

    def cancel(self) -> Any:
        """Its time is up."""


MOST_SECONDS = 60.0
_SWEEP_SECONDS = 1.0
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]+)")
_LONG_VERBS = frozenset({"watch", "proxy"})
_LONG_SUBRESOURCES = frozenset({"attach", "exec", "proxy", "log", "portforward"})


def is_long_running(verb: str, subresource: str) -> bool:
    """Watches and connections: they have no deadline."""
    return verb in _LONG_VERBS or subresource in _LONG_SUBRESOURCES


def timed_out() -> ApiError:
    message = "Timeout: request did not complete within the allotted timeout"
    return ApiError(message, code=504, reason="Timeout", details={})


@functools.lru_cache(256)
def allotted_seconds(query: str) -> float:
    """Of a request with this query. Raises BadRequest."""
    if "timeout=" not in query:
        return MOST_SECONDS
    text = (parse_query(query).get("timeout") or [""])[0]
    if not text:
        return MOST_SECONDS
    seconds = _duration(text)
    return seconds if 0 < seconds < MOST_SECONDS else MOST_SECONDS


def _duration(text: str) -> float:
    """Go's time.ParseDuration. Raises BadRequest."""

    def fault(what: str) -> BadRequest:
        return BadRequest(f"invalid timeout specified in the request URL - time: {what}")

    rest = text[1:] if text[:1] in ("-", "+") else text
    sign = -1.0 if text.startswith("-") else 1.0
    if rest == "0":
        return 0.0
    seconds, at = 0.0, 0
    while at < len(rest):
        part = _PART.match(rest, at)
        if part is None:
            missing = re.fullmatch(r"\d+\.?\d*|\.\d+", rest[at:])
            raise fault(f'missing unit in duration "{text}"' if missing else f'invalid duration "{text}"')
        if part[2] not in _UNITS:
            raise fault(f'unknown unit "{part[2]}" in duration "{text}"')
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    if not rest:
        raise fault(f'invalid duration "{text}"')
    return sign * seconds


class Deadlines:
    """Of the requests that run in a server: `begin` in a request's task, `end`, and ask whether it `has_expired`.

    What promises an answer is handed to `begin`, and is only told by `cancel`.
    """

    def __init__(self) -> None:
        self._running: dict[Expiring, int] = {}
        self._timers: dict[Expiring, asyncio.TimerHandle] = {}
        self._expired: set[Expiring] = set()
        self._sweeps = 0
        self._armed = False

    def begin(self, seconds: float = MOST_SECONDS) -> Task:
        """The current task is cancelled after that long, unless it ends before."""
        task = asyncio.current_task()
        assert task is not None
        if seconds < MOST_SECONDS:
            self._timers[task] = asyncio.get_running_loop().call_later(seconds, self._expire, task)
        else:
            self.begin_promised(task)
        return task

    def begin_promised(self, running: Expiring) -> None:
        """It is cancelled after a minute, unless it ends before."""
        self._running[running] = self._sweeps
        if not self._armed:
            self._armed = True
            asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def end(self, running: Expiring) -> None:
        self._running.pop(running, None)
        if self._timers:
            timer = self._timers.pop(running, None)
            if timer is not None:
                timer.cancel()

    def has_expired(self, running: Expiring) -> bool:
        """Whether the CancelledError that the task just got is ours, and no other's."""
        if running not in self._expired:
            return False
        self._expired.discard(running)
        return isinstance(running, asyncio.Task) and not running.uncancel()

    def _expire(self, running: Expiring) -> None:
        self._timers.pop(running, None)
        self._running.pop(running, None)
        if isinstance(running, asyncio.Task):
            self._expired.add(running)
        running.cancel()

    def _sweep(self) -> None:
        self._sweeps += 1
        oldest = self._sweeps - MOST_SECONDS / _SWEEP_SECONDS
        due = []
        for running, begun in self._running.items():
            if begun >= oldest:
                break
            due.append(running)
        for running in due:
            self._expire(running)
        self._armed = bool(self._running)
        if self._armed:
            asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
