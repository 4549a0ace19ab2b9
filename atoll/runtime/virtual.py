"""An event loop whose clock jumps to the next timer.

In it sockets, subprocesses and executors raise: a simulation that touches the outside is a fault. Time starts at
a fixed wall time, so that the same seed gives the same timestamps.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
START_WALL_SECONDS = 1_700_000_000.0


class _NoSelector(selectors.BaseSelector):
    """Never waits; only the loop's own self-pipe is registered."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._map: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = selectors.SelectorKey(fileobj, fileobj if isinstance(fileobj, int) else fileobj.fileno(), events, data)
        self._map[fileobj] = key
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._map.pop(fileobj)

    def get_map(self) -> Any:
        return self._map

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("virtual time stands still: nothing is ready and no timer is set")
        if timeout > 0:
            self._loop.advance(timeout)
        if self._loop.on_turn is not None:
            self._loop.on_turn()
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """asyncio with virtual time: `loop.time()`, `asyncio.sleep` and timers.

    `on_turn`, if set, is called before each turn's callbacks are run: where a simulated crash may fall.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self.on_turn: Callable[[], None] | None = None
        super().__init__(_NoSelector(self))

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> NoReturn:
        raise RuntimeError("no threads in virtual time")

    async def create_connection(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no sockets in virtual time")

    async def create_server(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no sockets in virtual time")

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no subprocesses in virtual time")

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("no subprocesses in virtual time")


class LoopClock:
    """A Clock that reads a (virtual) event loop's time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start_wall: float = START_WALL_SECONDS) -> None:
        self._loop = loop
        self._start = start_wall

    def wall(self) -> float:
        return self._start + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a fresh VirtualLoop."""
    thresholds = gc.get_threshold()
    gc.set_threshold(1_000_000, 50, 1000)  # objects are many and rarely cyclic
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(main)
    finally:
        gc.set_threshold(*thresholds)
