"""The port of scheduling plugins: a filter or a score for one pod shape, over many nodes at a time.

The core asks a plugin once per *shape* (pods that can't be told apart by placement share one) for a `Filter`, a
`Score`, both or neither; None means that it has nothing to say about such pods. Both answer for rows of a `Snapshot`:
for all at first, later for those that have changed, so an answer may depend on nothing but the shape and that row.
The core remembers answers, adds up scores, and breaks ties. Plugins whose answer for a node depends on other nodes
are an `Around`: it catches up with the snapshot's journal by itself, and is asked for all rows at each decision.

Everything here is pure and synchronous; an exception fails the pod's attempt, not the scheduler.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

from atoll.scheduling.arrays import Bools, Ints, Rows, np
from atoll.scheduling.shape import Shape
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Status

MAX = 100  # of a score, before its weight
UNLIMITED = 1 << 40


class Filter(Protocol):
    """Where pods of one shape may go."""

    static: bool = False
    """True: the answer does not depend on the pods on the node."""
    amounts: Mapping[str, int] | None = None
    """All that it asks, where that is so much free of these resources (a pod is one of `pods`)."""
    costly: bool = False
    """True, of a static one: it is asked only for rows that those before it allow."""
    passing: bool = False
    """True, of a static one: its answer is another once pods have given back devices."""

    @abstractmethod
    def allowed(self, rows: Rows) -> Bools:
        """One answer per row."""
        ...

    @abstractmethod
    def why(self, node: NodeState) -> Status | None:
        """The reason against one node; `node` may be a variant that is only thought of. None: allowed."""
        ...

    def allows(self, row: int) -> bool:
        """As `allowed` for one row, and just the same; worth writing where numpy's price a call is felt."""
        return bool(self.allowed(np.array((row,), np.intp))[0])

    def room(self, rows: Rows) -> Ints:
        """How many more pods of the shape each row takes (gangs); without limit unless a plugin knows better."""
        return np.where(self.allowed(rows), UNLIMITED, 0)


class Score(Protocol):
    """How good each node is for pods of one shape."""

    weight: int = 1
    static: bool = False
    """True: the answer does not depend on the pods on the node."""
    parts: int = 1
    """Values are in parts of a point: 0 to MAX times this (a power of two)."""

    @abstractmethod
    def values(self, rows: Rows) -> Ints:
        """One value per row: 0 to MAX; any, if `normalised`."""
        ...

    def value(self, row: int) -> int:
        """As `values` for one row, and just the same."""
        return int(self.values(np.array((row,), np.intp))[0])

    normalised: bool = False
    """True: at each decision `normal` makes the values of the feasible nodes 0 to MAX."""

    def normal(self, values: Ints) -> Ints:
        return values


class Around(Protocol):
    """A filter and score in one that looks at other nodes too."""

    weight: int = 1
    refuses: bool
    """Whether it may refuse nodes at all: `allowed` and `why` are asked only then."""

    @abstractmethod
    def sync(self) -> None:
        """Catch up: `nodes.placed` is the journal of rows that have changed, with the kind of pod that came or went."""
        ...

    @abstractmethod
    def allowed(self) -> Bools:
        """One answer for each of the snapshot's rows, as long as its arrays."""
        ...

    @abstractmethod
    def scores(self, feasible: Rows) -> Ints | None:
        """0 to MAX for each of these rows; None: all alike."""
        ...

    def rescored(self, places: Sequence[int]) -> list[int] | None:
        """What `scores` would say now at these places of the rows that it was asked for last.

        None: it may say something else at other places too, so it is to be asked again.
        """
        return None

    def leave(self, places: Sequence[int]) -> bool:
        """These places are not feasible any more. False: that may change what `scores` says at others."""
        return False

    @abstractmethod
    def why(self, node: NodeState) -> Status | None:
        """As Filter's; where `node` is a variant, all others are as they are."""
        ...


class Many:
    """What filter and score of one plugin say about several shapes on one node, in one answer: see `Board`."""

    weight: int = 1
    parts: int = 1
    filters: bool = False
    scores: bool = False
    """Whether `allowed` and `values` have answers."""

    def allowed(self, row: int) -> Bools:
        """One answer per shape."""
        raise NotImplementedError

    def values(self, row: int) -> Ints:
        """As Score's, one per shape."""
        raise NotImplementedError


class Devices(Protocol):
    """Which of a node's own devices (GPUs by number) a pod of one shape is given."""

    @abstractmethod
    def of(self, row: int) -> tuple[int, ...]:
        """On this node, which the pod fits."""
        ...


class Plugin(Protocol):
    """Registered under the entry-point group `atoll.scheduling.plugins`: an object, or a class without arguments."""

    name: str
    packs: bool = False
    """True: nodes of equal score are taken in their order. Else the one with the fewest pods comes first."""

    def filter(self, shape: Shape, nodes: Snapshot) -> Filter | None:
        return None

    def score(self, shape: Shape, nodes: Snapshot) -> Score | None:
        return None

    def around(self, shape: Shape, nodes: Snapshot) -> Around | None:
        return None

    def devices(self, shape: Shape, nodes: Snapshot) -> Devices | None:
        """The last plugin that has something to say decides."""
        return None

    def many(self, shapes: Sequence[Shape], nodes: Snapshot) -> Many | None:
        """For speed alone; None: the filters and scores of these shapes are asked one by one."""
        return None
