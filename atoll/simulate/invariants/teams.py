"""Team taints are equal to the allotment within 30 seconds of any change, in which the API server answers.

Equal is: every node with the taint `atoll.dev/team` is of a team that the ConfigMap names, is as that team's selector
says, and has the label of the same value; no team has more nodes in service (without the taint `atoll.dev/unhealthy`)
than its amount; and none has fewer while one in service that it could have belongs to nobody. An amount in GPUs is that
of whole nodes, by the smallest that the selector names. A change is one of the ConfigMap, of a node's labels or taints,
or a node that comes or goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from atoll.cluster.store.port import Key, Store
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Node, Pod, node_of

Object = dict[str, Any]
_SECONDS = 30.0
_TEAM = "atoll.dev/team"
_OUT = "atoll.dev/unhealthy"
_CONFIG = ("atoll-system", "atoll-teams", "teams.yaml")


@dataclass(frozen=True, slots=True)
class _Team:
    selector: dict[str, str]
    amount: int
    in_gpus: bool

    def names(self, node: Node) -> bool:
        """Whether the team may have the node."""
        selected = all(node.labels.get(key) == value for key, value in self.selector.items())
        return selected and (node.advertised > 0 or not self.in_gpus)

    def nodes(self, could: list[Node]) -> int:
        """How many, of those that it may have."""
        if not self.in_gpus:
            return self.amount
        return math.ceil(self.amount / min((node.advertised for node in could), default=1))


class Teams(Invariant):
    name = "teams"
    resources = ("configmaps",)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._store = store
        self._tell = tell
        self._teams: dict[str, _Team] = {}
        self._tainted: dict[str, Node] = {}  # nodes that belong to somebody
        self._due = math.inf  # when taints have to be equal

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        metadata = (new or old or {})["metadata"]
        if (metadata.get("namespace"), metadata["name"]) == _CONFIG[:2] and new is not None:
            if self._is_due(now):
                self._look(now)
            self._teams = _read((new.get("data") or {}).get(_CONFIG[2], ""), self._teams)
            self._due = now + _SECONDS

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if self._is_due(now):
            self._look(now)

    def on_node(self, old: Node | None, new: Node | None, now: float) -> None:
        if self._is_due(now):  # as it was until this commit: it may be the one that comes too late
            before = [node for node in self._ledger.nodes.values() if new is None or node.name != new.name]
            self._look(now, before if old is None else [*before, old])
        if new is not None and _team(new):
            self._tainted[new.name] = new
        elif old is not None:
            self._tainted.pop(old.name, None)
        if old is None or new is None or (old.labels, old.taints) != (new.labels, new.taints):
            self._due = now + _SECONDS

    def full(self, now: float) -> None:
        """By what the store has; not within half a minute of a change that is known of."""
        if self._due != math.inf and not self._is_due(now):
            return
        record = self._store.get(Key("configmaps", *_CONFIG[:2]))
        if record is not None:
            self._teams = _read((record.object.get("data") or {}).get(_CONFIG[2], ""), self._teams)
        nodes = [node_of(found.object) for found in self._store.scan("nodes")]
        self._tainted = {node.name: node for node in nodes if _team(node)}
        self._look(now, nodes)

    def _is_due(self, now: float) -> bool:
        """While the API server does not answer nobody can act."""
        return now >= max(self._due, self._ledger.answers_since + _SECONDS)

    def _look(self, now: float, nodes: Sequence[Node] | None = None) -> None:
        """`nodes`: all of them, where they are not those of the ledger."""
        self._due = math.inf
        everyone = self._ledger.nodes.values() if nodes is None else nodes
        have = dict.fromkeys(self._teams, 0)
        for node in self._tainted.values():
            team = _team(node)
            if team not in self._teams:
                self._tell(f"node {node.name} belongs to {team}, which is no team", now)
            elif node.labels.get(_TEAM) != team:
                self._tell(f"node {node.name} is tainted for {team} and labelled {node.labels.get(_TEAM)!r}", now)
            elif not self._teams[team].names(node):
                self._tell(f"node {node.name} belongs to {team}, whose selector does not name it", now)
            elif not _is_out(node):
                have[team] += 1
        for name, wanted in self._teams.items():
            could = [node for node in everyone if wanted.names(node)]
            amount = wanted.nodes(could)
            idle = [node.name for node in could if node.name not in self._tainted and not _is_out(node)]
            if have[name] > amount or (have[name] < amount and idle):
                more = f", and {idle[0]} belongs to nobody" if have[name] < amount else ""
                self._tell(f"team {name} has {have[name]} of {amount} nodes{more}", now)


def _team(node: Node) -> str:
    return next((str(taint.get("value", "")) for taint in node.taints if taint.get("key") == _TEAM), "")


def _is_out(node: Node) -> bool:
    return any(taint.get("key") == _OUT for taint in node.taints)


def _read(text: str, before: dict[str, _Team]) -> dict[str, _Team]:
    """A ConfigMap with a mistake changes nothing."""
    try:
        return {
            team["name"]: _Team(
                dict(team["selector"]), int(team["gpus" if "gpus" in team else "amount"]), "gpus" in team
            )
            for team in yaml.safe_load(text)["teams"]
        }
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return before
