"""Team taints are equal to the allotment within 30 seconds of any change.

Equal is: every node with the taint `atoll.dev/team` is of a team that the ConfigMap names, is as that team's selector
says, and has the label of the same value; no team has more nodes than its amount; and none has fewer while a node that
it could have belongs to nobody. A change is one of the ConfigMap, of a node's labels or taints, or a node that comes
or goes.
"""

from __future__ import annotations

import math
from typing import Any

import yaml

from atoll.cluster.store.port import Store
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Node

Object = dict[str, Any]
_SECONDS = 30.0
_TEAM = "atoll.dev/team"
_CONFIG = ("atoll-system", "atoll-teams", "teams.yaml")


class Teams(Invariant):
    name = "teams"
    resources = ("configmaps",)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._tell = tell
        self._teams: dict[str, tuple[dict[str, str], int]] = {}
        self._tainted: dict[str, Node] = {}  # nodes that belong to somebody
        self._due = math.inf  # when taints have to be equal

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        metadata = (new or old or {})["metadata"]
        if (metadata.get("namespace"), metadata["name"]) == _CONFIG[:2] and new is not None:
            self._teams = _read((new.get("data") or {}).get(_CONFIG[2], ""), self._teams)
            self._due = now + _SECONDS

    def on_node(self, old: Node | None, new: Node | None, now: float) -> None:
        if new is not None and _team(new):
            self._tainted[new.name] = new
        elif old is not None:
            self._tainted.pop(old.name, None)
        if now >= self._due:
            self._look(now)
        if old is None or new is None or (old.labels, old.taints) != (new.labels, new.taints):
            self._due = now + _SECONDS

    def full(self, now: float) -> None:
        if now >= self._due:
            self._look(now)

    def _look(self, now: float) -> None:
        self._due = math.inf
        have = dict.fromkeys(self._teams, 0)
        for node in self._tainted.values():
            team = _team(node)
            if team not in self._teams:
                self._tell(f"node {node.name} belongs to {team}, which is no team", now)
            elif node.labels.get(_TEAM) != team:
                self._tell(f"node {node.name} is tainted for {team} and labelled {node.labels.get(_TEAM)!r}", now)
            elif not _selected(node, self._teams[team][0]):
                self._tell(f"node {node.name} belongs to {team}, whose selector does not name it", now)
            else:
                have[team] += 1
        for team, (selector, amount) in self._teams.items():
            idle = self._idle(selector) if have[team] < amount else ""
            if have[team] > amount or idle:
                could = f", and {idle} belongs to nobody" if idle else ""
                self._tell(f"team {team} has {have[team]} of {amount} nodes{could}", now)

    def _idle(self, selector: dict[str, str]) -> str:
        """A node that the selector names and that belongs to nobody; "" where there is none."""
        nodes = self._ledger.nodes.values()
        return next((node.name for node in nodes if node.name not in self._tainted and _selected(node, selector)), "")


def _team(node: Node) -> str:
    return next((str(taint.get("value", "")) for taint in node.taints if taint.get("key") == _TEAM), "")


def _selected(node: Node, selector: dict[str, str]) -> bool:
    return all(node.labels.get(key) == value for key, value in selector.items())


def _read(text: str, before: dict[str, tuple[dict[str, str], int]]) -> dict[str, tuple[dict[str, str], int]]:
    """A ConfigMap with a mistake changes nothing."""
    try:
        return {team["name"]: (dict(team["selector"]), int(team["amount"])) for team in yaml.safe_load(text)["teams"]}
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return before
