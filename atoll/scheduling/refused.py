"""Why nodes refuse a pod, as numbers: tens of thousands of nodes have the same few reasons.

Reasons are counted, and the nodes that preemption might help picked, without a look at each node by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from atoll.scheduling.arrays import Bools, Ids, Rows, grown, np
from atoll.scheduling.snapshot import Snapshot
from atoll.scheduling.state import NodeState
from atoll.scheduling.status import Reasons, Status, Statuses

_UNKNOWN = -1
_NOWHERE = -1
_MOST_KINDS = 4096  # of reasons that are remembered, before all are asked for anew


class Refused(Statuses):
    """By name, in the order of `rows`: the reason against the node in `rows[i]` is `kinds[codes[i]]`.

    True until the snapshot changes.
    """

    def __init__(self, nodes: Snapshot, rows: Rows, codes: Ids, kinds: list[Status]) -> None:
        self._nodes = nodes
        self._rows = rows
        self._codes = codes
        self._kinds = kinds
        self._places: Rows = np.full(len(nodes.present), _NOWHERE, np.intp)  # by row
        self._places[rows] = np.arange(len(rows))

    def __getitem__(self, name: str) -> Status:
        place = self._places.item(self._nodes.rows[name])
        if place == _NOWHERE:
            raise KeyError(name)
        return self._kinds[self._codes.item(place)]

    def __contains__(self, name: object) -> bool:
        row = self._nodes.rows.get(name)  # type: ignore[call-overload]
        return row is not None and self._places.item(row) != _NOWHERE

    def __iter__(self) -> Iterator[str]:
        return map(self._nodes.names.__getitem__, self._rows.tolist())

    def __len__(self) -> int:
        return len(self._rows)

    def counted(self) -> Counter[Reasons]:
        found = Counter[Reasons]()
        counts = np.bincount(self._codes, minlength=len(self._kinds)).tolist()
        for kind, count in zip(self._kinds, counts, strict=True):
            if count:
                found[kind.reasons] += count
        return found

    def resolvable(self) -> Rows:
        """The rows of those that might take the pod if others went."""
        helps = np.array([kind.resolvable for kind in self._kinds], np.bool_)
        found: Rows = self._rows[helps[self._codes]]
        return found

    def but(self, others: Mapping[int, Status]) -> Refused:
        """With these reasons, by row; rows that were not refused come last."""
        if not others:
            return self
        numbers = {kind: code for code, kind in enumerate(self._kinds)}
        new: Rows = np.fromiter(others, np.intp, len(others))
        given = np.array([numbers.setdefault(why, len(numbers)) for why in others.values()], np.int32)
        codes, places = self._codes.copy(), self._places[new]
        there: Bools = places != _NOWHERE
        codes[places[there]] = given[there]
        rows, codes = np.concatenate([self._rows, new[~there]]), np.concatenate([codes, given[~there]])
        return Refused(self._nodes, rows, codes, list(numbers))


class KnownReasons:
    """Why rows are refused, remembered until they change."""

    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes
        self._forget()

    def _forget(self) -> None:
        self._codes: Ids = np.full(len(self._nodes.present), _UNKNOWN, np.int32)
        self._numbers: dict[Status, int] = {}

    def grow(self, size: int) -> None:
        self._codes = grown(self._codes, size, _UNKNOWN)

    def discard(self, rows: Rows | int) -> None:
        """The nodes are not what they were."""
        self._codes[rows] = _UNKNOWN

    def of(self, rows: Rows, theirs: Bools, why: Callable[[NodeState], Status | None]) -> Refused:
        """Of these rows; those that nothing is said against are left out. `theirs`: by row, whether it is by what the
        node is and has alone. Other reasons may be others with the next change anywhere.
        """
        if len(self._numbers) > _MOST_KINDS:
            self._forget()
        numbers, nodes = self._numbers, self._nodes.nodes
        codes: Ids = self._codes[rows]
        for place in (codes == _UNKNOWN).nonzero()[0].tolist():
            row = rows.item(place)
            node = nodes[row]
            found = None if node is None else why(node)
            if found is not None:
                codes[place] = code = numbers.setdefault(found, len(numbers))
                if theirs[row]:
                    self._codes[row] = code
        told = codes != _UNKNOWN
        return Refused(self._nodes, rows[told], codes[told], list(numbers))
