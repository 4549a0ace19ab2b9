"""The cheapest full allotment of nodes that are alike to teams: a min-cost flow. Pure.

Nodes of one class match the same teams and have the same team now, so it is counts that flow: 7,500 nodes are a few
dozen classes. Keeping a node where it is costs nothing, each change of a team costs one. The method: successive
shortest paths (Ahuja, Magnanti, Orlin: Network Flows, chapter 9), team by team, so that a team that comes first never
loses a node to one that comes later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NodeClass:
    """Nodes that are alike: the teams that they may go to, and whose they are ("" for nobody's)."""

    eligible: frozenset[str]
    owner: str


def allot(classes: Mapping[NodeClass, int], amounts: Sequence[tuple[str, int]]) -> dict[tuple[NodeClass, str], int]:
    """(class, team) → how many; what can't be had is left out. `amounts` in the order of precedence."""
    names = sorted(classes, key=lambda it: (it.owner, sorted(it.eligible)))
    flow: dict[tuple[NodeClass, str], int] = {}
    free = dict(classes)
    for team, amount in amounts:
        wanted = amount
        while wanted > 0:
            path = _cheapest(names, free, flow, team)
            if not path:
                break
            wanted -= _push(path, free, flow, wanted)
    return {key: count for key, count in flow.items() if count}


def _cost(kind: NodeClass, team: str) -> int:
    """Against giving the node up: that is one change for an owned node, none for a free one."""
    if kind.owner == team:
        return -1
    return 0 if kind.owner else 1


Path = list[tuple[NodeClass, str]]  # free nodes of the first class go to its team, whose nodes of the next one go on …


def _cheapest(
    names: Sequence[NodeClass], free: Mapping[NodeClass, int], flow: Mapping[tuple[NodeClass, str], int], team: str
) -> Path:
    """Backwards from the team: a class gives it a node, a free one or one of another team, which gets another in turn.

    Bellman-Ford: costs may be negative.
    """
    best: dict[str, tuple[int, Path]] = {team: (0, [])}
    queue = [team]
    found: tuple[int, Path] | None = None
    while queue:
        current = queue.pop(0)
        cost, path = best[current]
        taken = {kind for kind, _ in path}
        for kind in names:
            if current not in kind.eligible or kind in taken:
                continue
            step = cost + _cost(kind, current)
            extended = [(kind, current), *path]
            if free[kind] > 0 and (found is None or step < found[0]):
                found = (step, extended)
            for (other, holder), count in flow.items():
                if other != kind or holder == current or not count:
                    continue
                total = step - _cost(kind, holder)
                if holder not in best or total < best[holder][0]:
                    best[holder] = (total, extended)
                    if holder not in queue:
                        queue.append(holder)
    return found[1] if found is not None else []


def _push(path: Path, free: dict[NodeClass, int], flow: dict[tuple[NodeClass, str], int], wanted: int) -> int:
    """As many as the whole path carries; how many that were."""
    first = path[0][0]
    held = [flow[(kind, path[index - 1][1])] for index, (kind, _) in enumerate(path) if index]
    count = min(wanted, free[first], *held) if held else min(wanted, free[first])
    free[first] -= count
    for index, (kind, team) in enumerate(path):
        if index:
            flow[(kind, path[index - 1][1])] -= count
        flow[(kind, team)] = flow.get((kind, team), 0) + count
    return count
