"""Values of autoscaling: machines, and what is to be done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from atoll.capacity import names
from atoll.capacity.nodes import annotation

Object = dict[str, Any]
Why = Literal["idle", "age", "underused"]


class Machine(msgspec.Struct, frozen=True):
    """What a provider has made: its name is its node's. `replaces`: the node for which it came."""

    name: str
    pool: str
    created: float
    replaces: str = ""


class Leaving(msgspec.Struct, frozen=True):
    """The annotation atoll.dev/leaving: why a node is about to go, and since when."""

    why: Why
    since: str


def leaving_of(node: Object) -> Leaving | None:
    text = annotation(node, names.LEAVING)
    try:
        return msgspec.json.decode(text, type=Leaving) if text else None
    except (msgspec.DecodeError, ValueError):
        return None


@dataclass(frozen=True, slots=True)
class Create:
    """Ask the provider for a machine."""

    pool: str
    replaces: str = ""


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the node for work."""

    node: Object
    why: Why


@dataclass(frozen=True, slots=True)
class Stay:
    """Work has come after all: open it again."""

    node: Object


@dataclass(frozen=True, slots=True)
class Empty:
    """Evict what may go from a node that leaves for its age, or for what it costs."""

    node: Object
    pods: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Remove:
    """The machine goes, if the node is without work still."""

    name: str
    why: str


Step = Create | Leave | Stay | Empty | Remove


@dataclass(frozen=True, slots=True)
class Plan:
    """`unplaced`: pods that no pool can serve, and why; `again_seconds`: when time alone changes the plan."""

    steps: tuple[Step, ...]
    unplaced: dict[str, str]
    again_seconds: float | None = None
