"""Turns of the virtual loop: what is killed before a certain one, and started again a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from atoll.runtime.virtual import VirtualLoop


@dataclass
class Turns:
    """Since the block began."""

    count: int = 0
    killed: bool = False


@contextmanager
def killed_before(number: int | None, kill: Callable[[], object], start: Callable[[], object]) -> Iterator[Turns]:
    """Counts turns; `kill` before turn `number` of them (None: never), `start` 0.05 s later."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    turns = Turns()

    def turn() -> None:
        turns.count += 1
        if turns.count == number:
            turns.killed = True
            kill()
            loop.call_later(0.05, start)

    loop.on_turn = turn
    try:
        yield turns
    finally:
        loop.on_turn = None
