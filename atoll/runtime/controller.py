"""A reconcile loop: keys in, `reconcile(key)` until it holds. Level, not edge: it may be killed at any await.

`reconcile` returns None, or seconds after which the key is looked at again. An AtollError means again after a
back-off (a Conflict or a retryable one silently); any other exception is a fault of ours: logged with its
traceback, and tried again all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from atoll.base.backoff import Backoff
from atoll.base.errors import AtollError, Conflict
from atoll.runtime.informer import Informer
from atoll.runtime.queue import WorkQueue

K = TypeVar("K", bound=Hashable)
log = logging.getLogger(__name__)


class Controller(Generic[K]):
    """name, the reconcile function, and how many keys may be in work at once."""

    def __init__(
        self,
        name: str,
        reconcile: Callable[[K], Awaitable[float | None]],
        *,
        workers: int = 1,
        backoff: Backoff | None = None,
        wait_for: tuple[Informer, ...] = (),
    ) -> None:
        self.name = name
        self.queue: WorkQueue[K] = WorkQueue(backoff)
        self._reconcile = reconcile
        self._workers = workers
        self._wait_for = wait_for

    async def run(self) -> None:
        """Wait for the informers' first sync, then work until cancelled."""
        for informer in self._wait_for:
            await informer.synced.wait()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self._workers):
                    group.create_task(self._work(), name=f"{self.name}-{number}")
        finally:
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                await self.reconcile_once(key)
            finally:
                self.queue.done(key)

    async def reconcile_once(self, key: K) -> None:
        """One pass, errors turned into a later pass."""
        try:
            again = await self._reconcile(key)
        except AtollError as error:
            expected = isinstance(error, Conflict) or error.retryable
            log.log(logging.DEBUG if expected else logging.WARNING, "%s %s: %s", self.name, key, error)
            self.queue.add_rate_limited(key)
        except Exception:
            log.exception("%s %s", self.name, key)
            self.queue.add_rate_limited(key)
        else:
            self.queue.forget(key)
            if again is not None:
                self.queue.add_after(key, again)
