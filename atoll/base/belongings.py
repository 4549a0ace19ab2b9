"""What a part hangs into things that outlive it (handlers of shared informers, refreshers of metrics) goes when it
ends, so that it can be made and started anew in the same process.

    with belongings():
        part = Part(shared)      # calls at_end(undo) wherever it, or what it uses, hangs something up
        await part.run()         # and in all tasks that are started in here

Outside of any `belongings` nothing is remembered: what is hung up stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context

Undo = Callable[[], None]
_undos: ContextVar[list[Undo] | None] = ContextVar("undos", default=None)


def at_end(undo: Undo) -> None:
    """`undo` is called when the part that is being made, or runs, ends."""
    undos = _undos.get()
    if undos is not None:
        undos.append(undo)


def outside() -> Context:
    """For a task that outlives the part which happens to start it."""
    context = copy_context()
    context.run(_undos.set, None)
    return context


@contextmanager
def belongings() -> Iterator[None]:
    """One life of a part."""
    undos: list[Undo] = []
    token = _undos.set(undos)
    try:
        yield
    finally:
        _undos.reset(token)
        while undos:
            undos.pop()()
