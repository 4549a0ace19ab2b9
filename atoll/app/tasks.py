"""The long-running parts of a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from atoll.base.backoff import Backoff
from atoll.base.belongings import belongings

log = logging.getLogger("atoll")
_FORGIVEN_SECONDS = 600.0  # as kubelet's: what ran that long begins with the shortest wait again


class Tasks:
    """Long-running parts, each a task by name; one that falls is told, not hidden."""

    def __init__(self, backoff: Backoff | None = None) -> None:
        self.fallen: list[str] = []  # those that are down now
        self._backoff = backoff or Backoff(first_seconds=1.0, most_seconds=300.0, jitter=0.0)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Something that can't be begun again: if it falls, that is told for good."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def keep(self, name: str, life: Callable[[], Awaitable[None]]) -> None:
        """Something that is begun anew after a fault, as a process of its own would be, after a wait that grows."""
        self.start(name, self._kept(name, life))

    async def _kept(self, name: str, life: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                with belongings():
                    await life()
                return
            except Exception as error:
                failures = 0 if loop.time() - began >= _FORGIVEN_SECONDS else failures
                seconds = self._backoff.delay(failures)
                failures += 1
                log.error("%s ended; it is started again in %g s", name, seconds, exc_info=error)
            self.fallen.append(name)
            await asyncio.sleep(seconds)
            self.fallen.remove(name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.fallen.append(task.get_name())
            log.error("%s ended", task.get_name(), exc_info=task.exception())

    async def stop(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
