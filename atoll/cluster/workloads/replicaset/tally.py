"""What is to be known of an owner's many pods, kept up to date by their changes instead of counted at each look.

After any changes the counts are those of counting all pods anew (`tests/property/test_replica_tallies.py`). It counts
only what no clock decides: where pods must be ready for a while to be available, the caller looks at each.
"""

from __future__ import annotations

from collections.abc import Iterable

from atoll.cluster.workloads.common import pods
from atoll.cluster.workloads.common.selectors import Matcher
from atoll.cluster.workloads.replicaset.plan import Counts
from atoll.objects.meta import Object, labels

_ACTIVE, _LEAVING, _FULLY, _READY, _STRANGE = (1 << place for place in range(5))


class Tally:
    """Of the pods that one owner controls. `basis`: the selector and template labels that they are judged by."""

    __slots__ = ("_matches", "_pairs", "_seen", "active", "basis", "fully", "leaving", "ready", "strangers")

    def __init__(self, basis: tuple[Object, Object], matches: Matcher, controlled: Iterable[Object]) -> None:
        self.basis = basis
        self._matches = matches
        self._pairs = basis[1].items()
        self.active = self.fully = self.ready = 0
        self.leaving = 0  # that match, on their way out
        self.strangers = 0  # active ones that do not match: to be released
        self._seen: dict[str, int] = {}  # what each pod counts as, by its uid
        for pod in controlled:
            self.change(None, pod)

    @property
    def counts(self) -> Counts:
        """Of those that are active and match, where all active ones do and none must wait to be available."""
        return Counts(self.active, self.fully, self.ready, self.ready)

    def change(self, old: Object | None, new: Object | None) -> None:
        """One of the pods has changed, has come (no old) or gone (no new)."""
        uid = (new or old or {})["metadata"]["uid"]
        before = self._seen.pop(uid, 0)
        after = self._judge(new) if new is not None else 0
        if after:
            self._seen[uid] = after
        if before != after:
            self._count(before, -1)
            self._count(after, 1)

    def _count(self, seen: int, one: int) -> None:
        self.active += one * bool(seen & _ACTIVE)
        self.leaving += one * bool(seen & _LEAVING)
        self.fully += one * bool(seen & _FULLY)
        self.ready += one * bool(seen & _READY)
        self.strangers += one * bool(seen & _STRANGE)

    def _judge(self, pod: Object) -> int:
        if pods.is_finished(pod):
            return 0
        own = labels(pod)
        if not self._matches(own):
            return 0 if "deletionTimestamp" in pod["metadata"] else _STRANGE
        if "deletionTimestamp" in pod["metadata"]:
            return _LEAVING
        seen = _ACTIVE
        if self._pairs <= own.items():
            seen |= _FULLY
        if pods.is_ready(pod):
            seen |= _READY
        return seen
