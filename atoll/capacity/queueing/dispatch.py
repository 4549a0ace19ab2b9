"""To which worker clusters a workload of MultiKueue is offered: Kueue's two dispatchers, and those of others. Pure.

KEP 693. A dispatcher that is neither of Kueue's is a controller of its own, which writes status.nominatedClusterNames.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from atoll.kinds import kueue

ALL_AT_ONCE: Final = f"{kueue.MULTIKUEUE}-dispatcher-all-at-once"
INCREMENTAL: Final = f"{kueue.MULTIKUEUE}-dispatcher-incremental"
ROUND_SECONDS: Final = 300.0
_STEP = 3  # clusters that join each round


def nominated(
    dispatcher: str, names: Sequence[str], before: Sequence[str], reachable: Iterable[str], round_over: bool
) -> list[str]:
    """The clusters that it is offered to now. `names`: the config's; `before`: those of the status.

    `round_over`: those that were nominated have had their time.
    """
    if dispatcher == ALL_AT_ONCE:
        able = set(reachable)
        return [name for name in names if name in able]
    if dispatcher != INCREMENTAL or (before and not round_over):
        return list(before)
    return [*before, *sorted(set(names) - set(before))[:_STEP]]
