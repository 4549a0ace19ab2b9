"""Decisions of one turn, bound in one call: for most pods nothing is to be done but to bind them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from atoll.base.errors import AtollError
from atoll.cluster.scheduler.binding import Binder
from atoll.cluster.scheduler.queue import Waiting
from atoll.scheduling.groups.model import GroupKey
from atoll.scheduling.plan import Decision

log = logging.getLogger(__name__)

_Entry = tuple[Waiting, Decision, GroupKey | None]


class BoundTogether:
    """`begin` binds what was added since, so many in a call and so many at a time; the others wait."""

    def __init__(
        self,
        binder: Binder,
        parallel: int,
        batch: int,
        start: Callable[[Coroutine[Any, Any, None]], None],
        bound: Callable[[Waiting, GroupKey | None], None],
        failed: Callable[[Waiting, Decision, AtollError], None],
    ) -> None:
        """`start` runs a call as a task; of each pod it is told whether it was `bound` or has `failed` to be."""
        self.under_way = 0
        self._binder = binder
        self._batch = batch
        self._start = start
        self._bound = bound
        self._failed = failed
        self._slots = asyncio.Semaphore(parallel // batch)
        self._added: list[_Entry] = []

    def add(self, waiting: Waiting, decision: Decision, gang: GroupKey | None) -> bool:
        """False: something is to be bound before the pod, or there is no node."""
        volumes = decision.volumes
        if decision.node is None or decision.devices is not None:
            return False
        if volumes is not None and (volumes.bindings or volumes.provisions):
            return False
        self._added.append((waiting, decision, gang))
        return True

    def begin(self) -> None:
        added, self._added = self._added, []
        for first in range(0, len(added), self._batch):
            entries = added[first : first + self._batch]
            self.under_way += len(entries)
            self._start(self._bind(entries))

    async def _bind(self, entries: Sequence[_Entry]) -> None:
        results: Sequence[AtollError | None]
        try:
            async with self._slots:
                results = await self._binder.bind_all(
                    [(waiting.pod, decision.node or "") for waiting, decision, _ in entries]
                )
        except Exception as fault:  # of ours, or of them all: each is tried again, but those found bound meanwhile
            log.exception("binding %d pods", len(entries))
            results = [AtollError(f"binding: {fault}")] * len(entries)
        finally:
            self.under_way -= len(entries)
        for (waiting, decision, gang), error in zip(entries, results, strict=True):
            if error is None:
                self._bound(waiting, gang)
            else:
                self._failed(waiting, decision, error)
