"""Many writes at once, carefully: 1, 2, 4 … at a time, so that a failure that all share is found by few."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from atoll.base.errors import AtollError

T = TypeVar("T")


async def slow_start(
    items: Sequence[T], act: Callable[[T], Awaitable[object]], *, first: int = 1
) -> tuple[int, AtollError | None]:
    """Call `act` for each item in batches that double; stop after the batch in which one failed.

    Returns how many succeeded and the first error.
    """

    async def together(batch: Sequence[T]) -> Sequence[object]:
        return await asyncio.gather(*(act(item) for item in batch), return_exceptions=True)

    return await slow_batches(items, together, first=first)


async def slow_batches(
    items: Sequence[T], act: Callable[[Sequence[T]], Awaitable[Sequence[object]]], *, first: int = 1
) -> tuple[int, AtollError | None]:
    """The same where `act` takes a batch, and gives what came of each: an exception where it failed."""
    done = succeeded = 0
    size = first
    while done < len(items):
        batch = items[done : done + size]
        results = await act(batch)
        done += len(batch)
        failures = [result for result in results if isinstance(result, BaseException)]
        succeeded += len(batch) - len(failures)
        for failure in failures:
            if not isinstance(failure, AtollError):
                raise failure
        if failures:
            error = failures[0]
            assert isinstance(error, AtollError)
            return succeeded, error
        size *= 2
    return succeeded, None


async def all_of(items: Sequence[T], act: Callable[[T], Awaitable[object]]) -> AtollError | None:
    """Call `act` for all items at once; the first error."""
    results = await asyncio.gather(*(act(item) for item in items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AtollError):
            raise result
    return next((result for result in results if isinstance(result, AtollError)), None)
