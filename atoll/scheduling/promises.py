"""Where room is promised to others (by preemption), remembered between decisions."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.scheduling.pod import PodInfo
from atoll.scheduling.snapshot import Snapshot


class Promised:
    """Rows that pods of one shape fit, had others of their priority or above not been promised the room.

    A burst of pods that preempt leaves thousands of such nodes, all of them among the best for the next pod. What is
    known of a row holds until the node, or what is promised there, changes.
    """

    __slots__ = ("_dropped", "_nodes", "_position", "rows")

    def __init__(self, nodes: Snapshot) -> None:
        self._nodes = nodes
        self.rows: set[int] = set()
        self._dropped: set[int] = set()
        self._position = nodes.state.promises.end

    def known(self, pod: PodInfo) -> set[int]:
        """Those known so far, for a pod of the shape: add to it. A pod that has a promise itself begins anew."""
        promises = self._nodes.state.promises
        if self._nodes.state.nomination(pod.uid) is not None:
            return set()
        if self._position != promises.end:
            changed, rows = promises.since(self._position), self._nodes.rows
            self._position = promises.end
            if changed is None:
                self._drop(list(self.rows))
            else:
                self._drop([rows[name] for name in changed if name in rows])
        return self.rows

    def _drop(self, rows: Iterable[int]) -> None:
        for row in rows:
            self.discard(row)

    def discard(self, row: int) -> None:
        """The node is not what it was."""
        if row in self.rows:
            self.rows.remove(row)
            self._dropped.add(row)

    def dropped(self) -> list[int]:
        """Those not known any more since this was asked last."""
        found = list(self._dropped)
        self._dropped.clear()
        return found
