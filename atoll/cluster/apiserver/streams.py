"""Streams of an answer's pieces that say when they end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable


class Ending:
    """`ended` is called once, when the stream is closed."""

    def __init__(self, stream: AsyncIterator[bytes], ended: Callable[[], None] | None) -> None:
        self._stream = stream
        self._ended = ended

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._stream.__anext__()

    async def aclose(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        closing = getattr(self._stream, "aclose", None)
        if closing is not None:
            await closing()
