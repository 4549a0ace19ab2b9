"""The port of invariants. One looks at the ledger's changes as they are committed, and at everything when asked.

`full` counts anew from what the store holds, without what the looks before have remembered: a mistake in the
incremental count is found by it too. An invariant never changes anything and never waits.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from atoll.cluster.store.port import Store
from atoll.simulate.ledger import Ledger, Listener


@dataclass(frozen=True, slots=True)
class Violation:
    """What does not hold, and since when (virtual seconds of the run)."""

    invariant: str
    at: float
    what: str


Tell = Callable[[str, float], None]
"""(what does not hold, now)"""


class Invariant(Listener, Protocol):
    """Made anew for each run: `make(ledger, store, tell)`."""

    name: str

    @abstractmethod
    def full(self, now: float) -> None:
        """Look at everything."""
        ...


Make = Callable[[Ledger, Store, Tell], Invariant]
