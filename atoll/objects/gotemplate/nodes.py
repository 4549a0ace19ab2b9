"""The parsed template: small values that `execute.py` walks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Constant:
    value: Any


@dataclass(slots=True)
class Dot:
    pass


@dataclass(slots=True)
class Nil:
    pass


@dataclass(slots=True)
class Field:
    """.a.b"""

    names: list[str]


@dataclass(slots=True)
class Variable:
    """$x.a.b"""

    name: str
    names: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Function:
    name: str


@dataclass(slots=True)
class Chain:
    """(pipeline).a.b"""

    base: Any
    names: list[str]


@dataclass(slots=True)
class Command:
    operands: list[Any]
    line: int


@dataclass(slots=True)
class Pipeline:
    """`declared`: variables set by it; `assign`: = rather than :=."""

    commands: list[Command]
    declared: list[str]
    assign: bool
    line: int


@dataclass(slots=True)
class Text:
    text: str


@dataclass(slots=True)
class Action:
    pipeline: Pipeline


@dataclass(slots=True)
class Branch:
    """if, with or range."""

    keyword: str
    pipeline: Pipeline
    body: list[Any]
    otherwise: list[Any] | None


@dataclass(slots=True)
class Jump:
    """break or continue."""

    keyword: str


@dataclass(slots=True)
class Call:
    """template NAME PIPELINE (block too)."""

    name: str
    pipeline: Pipeline | None
    line: int
