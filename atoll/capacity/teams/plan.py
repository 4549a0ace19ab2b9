"""Which node is whose: the nodes' taints made equal to the allotment by as few changes as can be. Pure.

A node that is out for repair (the taint atoll.dev/unhealthy) counts for nobody: its team gets another one, and gives
one up when it is back, most likely the one that has come back, as it is empty. Until then it keeps its taint, so that
what drains from it is its own team's still: one change when it goes and one when it returns, the fewest there can be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.nodes import gpu_count, has_taint, is_leaving, taints, with_taint, without_taint
from atoll.capacity.teams.flow import NodeClass, allot
from atoll.capacity.teams.settings import Team, TeamSettings
from atoll.objects.meta import labels

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Allotment:
    """Node → team, for every node that has or gets one ("": none any more); team → nodes that it is to have; team →
    nodes that are lacking."""

    teams: dict[str, str]
    wanted: dict[str, int]
    short: dict[str, int]


def owner_of(node: Object) -> str:
    """The team that the taint names; "" for none."""
    return next((taint.get("value") or "" for taint in taints(node) if taint["key"] == names.TEAM), "")


def eligible(node: Object, settings: TeamSettings) -> frozenset[str]:
    """The teams whose selectors the node matches."""
    return frozenset(team.name for team in settings.teams if _may_have(team, node))


def _may_have(team: Team, node: Object) -> bool:
    """A team that counts GPUs has nodes with GPUs only."""
    own = labels(node)
    selected = all(own.get(key) == value for key, value in team.selector.items())
    return selected and (team.gpus is None or gpu_count(node) > 0)


def is_out(node: Object) -> bool:
    return has_taint(node, names.UNHEALTHY_TAINT)


def amounts(nodes: Iterable[Object], settings: TeamSettings) -> dict[str, int]:
    """Team → nodes. GPUs are rounded up to whole nodes, by the fewest that a node of its selector has: it never has
    less than it was promised."""
    known = list(nodes) if any(team.gpus for team in settings.teams) else []
    found = {}
    for team in settings.teams:
        if team.gpus is None:
            found[team.name] = team.amount or 0
        else:
            sizes = {gpu_count(node) for node in known if _may_have(team, node)}
            found[team.name] = -(-team.gpus // min(sizes)) if sizes else min(team.gpus, 1)  # no node yet: lacking
    return found


def plan_teams(nodes: Iterable[Object], settings: TeamSettings, work: Mapping[str, Counter[str]]) -> Allotment:
    """`work`: node → team ("" for none) → pods there. Of nodes that are alike those move that hold up least work."""
    known = [node for node in nodes if not is_leaving(node)]
    wanted = amounts(known, settings)
    members: dict[NodeClass, list[Object]] = {}
    out: dict[str, str] = {}
    for node in known:
        kind = NodeClass(eligible(node, settings), owner_of(node))
        if is_out(node):
            if kind.owner:
                out[node["metadata"]["name"]] = kind.owner if kind.owner in kind.eligible else ""
        elif kind.eligible or kind.owner:
            members.setdefault(kind, []).append(node)
    flow = allot({kind: len(found) for kind, found in members.items()}, list(wanted.items()))
    teams: dict[str, str] = {}
    for kind, found in members.items():
        counts = {team: count for (other, team), count in flow.items() if other == kind}
        teams |= _choose(kind, found, counts, work)
    have = Counter(team for team in teams.values() if team)
    short = {team: count - have[team] for team, count in wanted.items() if have[team] < count}
    return Allotment(out | teams, wanted, short)


def _choose(
    kind: NodeClass, found: list[Object], counts: Mapping[str, int], work: Mapping[str, Counter[str]]
) -> dict[str, str]:
    """Which of them: the owner keeps those with most of its work; another gets those with least of others'."""
    left = sorted(found, key=lambda it: it["metadata"]["name"])
    chosen: dict[str, str] = {}
    order = sorted(counts, key=lambda team: (team != kind.owner, team))
    for team in order:

        def burden(node: Object, team: str = team) -> tuple[int, int]:
            here = work.get(node["metadata"]["name"], Counter())
            return (sum(here.values()) - here[team], -here[team])

        def attachment(node: Object, team: str = team) -> int:
            return -work.get(node["metadata"]["name"], Counter())[team]

        left.sort(key=attachment if team == kind.owner else burden)
        for node in left[: counts[team]]:
            chosen[node["metadata"]["name"]] = team
        left = left[counts[team] :]
    if kind.owner:
        chosen |= {node["metadata"]["name"]: "" for node in left}
    return chosen


def change(node: Object, team: str, now: float) -> Object | None:
    """A patch that gives the node to a team, or ("") to nobody; None where taint and label say so already."""
    label = labels(node).get(names.TEAM)
    tainted = [taint for taint in taints(node) if taint["key"] == names.TEAM]
    exact = len(tainted) == 1 and tainted[0].get("value") == team and tainted[0].get("effect") == "NoSchedule"
    if (exact and label == team) if team else (not tainted and label is None):
        return None
    changed = with_taint(node, names.TEAM, team, rfc3339(now)) if team else without_taint(node, names.TEAM)
    return {
        "metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "labels": {names.TEAM: team or None},
            "annotations": {names.TEAM_SINCE: rfc3339(now) if team else None},
        },
        "spec": {"taints": changed},
    }


def foreign(node: Object, pods: Iterable[Object]) -> list[Object]:
    """Pods that would not be let onto the node as it is now."""
    team = owner_of(node)
    return [pod for pod in pods if team and not may_stay(pod, team)]


def may_stay(pod: Object, team: str) -> bool:
    """Whether it tolerates the team's taint."""
    for item in (pod.get("spec") or {}).get("tolerations") or ():
        if item.get("effect") not in (None, "", "NoSchedule"):
            continue
        key, operator = item.get("key") or "", item.get("operator") or "Equal"
        if operator == "Exists" and key in ("", names.TEAM):
            return True
        if key == names.TEAM and item.get("value") == team:
            return True
    return False
