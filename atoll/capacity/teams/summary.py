"""What people are told of teams, from Nodes, pods and the settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atoll.capacity.nodes import is_over, is_ready, work_on
from atoll.capacity.teams.admission import team_of
from atoll.capacity.teams.plan import Object, amounts, is_out, owner_of
from atoll.capacity.teams.settings import TeamSettings
from atoll.objects.meta import namespace


@dataclass(frozen=True, slots=True)
class Line:
    """One team. `have`: nodes that are not out for repair; `usable`: those of them that are Ready; `borrowed`: pods
    of others on its nodes; `own`: its pods anywhere; `waiting`: those without a node."""

    name: str
    selector: str
    wanted: int
    have: int
    usable: int
    own: int
    borrowed: int
    waiting: int


def lines(
    settings: TeamSettings, nodes: Iterable[Object], pods: Iterable[Object], spaces: Mapping[str, Object]
) -> list[Line]:
    """In the order of precedence."""
    owners = {node["metadata"]["name"]: node for node in nodes}
    work = [pod for pod in work_on(pods) if not is_over(pod)]
    teams = [team_of(pod, spaces.get(namespace(pod) or "")) for pod in work]
    places = [(pod.get("spec") or {}).get("nodeName") or "" for pod in work]
    found, wanted = [], amounts(owners.values(), settings)
    for team in settings.teams:
        own = {name for name, node in owners.items() if owner_of(node) == team.name}
        serving = [name for name in own if not is_out(owners[name])]
        usable = [name for name in serving if is_ready(owners[name])]
        found.append(
            Line(
                team.name,
                ",".join(f"{key}={value}" for key, value in sorted(team.selector.items())) or "<all>",
                wanted[team.name],
                len(serving),
                len(usable),
                sum(it == team.name for it in teams),
                sum(place in own and it != team.name for it, place in zip(teams, places, strict=True)),
                sum(it == team.name and not place for it, place in zip(teams, places, strict=True)),
            )
        )
    return found
