"""The mix of pods to expect: distinct (CPU, GPU milli, GPU count, models) with how often each was seen.

Weng et al., "Beware of Fragmentation" (USENIX ATC 2023), take the most frequent until 95 % of all pods are covered;
memory does not distinguish types there. Counts are kept as they are (not as shares), so that sums are exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from atoll.scheduling.devices.model import Request


@dataclass(frozen=True, slots=True)
class Mix:
    """Types, memory left out, most frequent first; `total` is the sum of their counts."""

    types: tuple[Request, ...]
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        return sum(self.counts)


def typical(requests: Iterable[Request], percent: int = 95) -> Mix:
    """The most frequent types that together reach `percent` of all requests."""
    seen = Counter(
        Request(item.cpu_milli, 0, item.count, item.milli, item.models if item.count else frozenset())
        for item in requests
    )
    types, counts = [], []
    covered, everything = 0, seen.total()
    for kind, count in seen.most_common():
        types.append(kind)
        counts.append(count)
        covered += count
        if 100 * covered >= percent * everything:
            break
    return Mix(tuple(types), tuple(counts))
