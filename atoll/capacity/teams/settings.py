"""Who has how many nodes: the key teams.yaml of the ConfigMap atoll-system/atoll-teams."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

from msgspec import Meta, Struct

CONFIG_MAP: Final = "atoll-teams"
KEY: Final = "teams.yaml"
_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"


class Team(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`amount` of the nodes whose labels are as `selector` says, or as many whole ones as have at least `gpus` GPUs.

    Pods are a team's by the label atoll.dev/team; with `namespaces`, only pods of these may be.
    """

    name: Annotated[str, Meta(pattern=_NAME)]
    selector: dict[str, str]
    amount: Annotated[int, Meta(ge=0)] | None = None
    gpus: Annotated[int, Meta(ge=0)] | None = None
    namespaces: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if (self.amount is None) == (self.gpus is None):
            raise ValueError(f"the team {self.name!r} has either an amount (of nodes) or gpus")

    def admits(self, namespace: str) -> bool:
        """Whether pods of that namespace may be its."""
        return self.namespaces is None or namespace in self.namespaces


class TeamSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """Where nodes are short, the team that is named first has its own first.

    A pod may borrow from any team when its priority is at most `borrow_at_most`.
    """

    teams: tuple[Team, ...] = ()
    borrow_at_most: int = -1
    evict_foreign: bool = True  # work that a node's new team does not know leaves, at its next checkpoint

    def team(self, name: str) -> Team | None:
        return next((team for team in self.teams if team.name == name), None)

    def __post_init__(self) -> None:
        twice = [name for name, count in Counter(team.name for team in self.teams).items() if count > 1]
        if twice:
            raise ValueError(f"the team {twice[0]!r} is named twice")
