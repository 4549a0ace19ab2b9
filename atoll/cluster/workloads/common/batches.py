"""Many writes at once, carefully: 1, 2, 4 … at a time, so that a failure that all share is found by few."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from atoll.base.errors import AtollError

T = TypeVar("T")
AT_ONCE = 500
"""Writes under way of one owner."""


def most_of_a_pass(there: int) -> int:
    """How many pods a pass over all `there` pods of an owner makes or deletes.

    500, as upstream; of more than 4,000 an eighth, as each pass looks at all of them.
    """
    return max(AT_ONCE, there // 8)


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
        size = min(2 * size, max(first, AT_ONCE))
    return succeeded, None


async def all_of(items: Sequence[T], act: Callable[[T], Awaitable[object]]) -> AtollError | None:
    """Call `act` for all items, many at once; the first error."""
    results: list[object] = []
    for start in range(0, len(items), AT_ONCE):
        some = items[start : start + AT_ONCE]
        results += await asyncio.gather(*(act(item) for item in some), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, AtollError):
            raise result
    return next((result for result in results if isinstance(result, AtollError)), None)
