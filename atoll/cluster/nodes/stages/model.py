"""What a stage decides: when it applies, how long after, and the steps to take. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from atoll.base.chance import Chance

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventStep:
    """Tell an Event about the object."""

    type: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DeleteStep:
    """Delete the object, without grace."""


@dataclass(frozen=True, slots=True)
class PatchStep:
    """Patch the object."""

    content_type: str
    data: Any
    subresource: str = ""
    user: str = ""  # whom to impersonate


@dataclass(frozen=True, slots=True)
class ApplyStep:
    """Create or patch another object."""

    content_type: str
    data: Object
    subresource: str = ""
    user: str = ""


Step = EventStep | DeleteStep | PatchStep | ApplyStep


class Functions(Protocol):
    """What templates may ask of the surroundings."""

    def table(self, obj: Object) -> Mapping[str, Any]:
        """Names to callables, for rendering templates about `obj`."""


class Stage(Protocol):
    """One stage, ready to use."""

    @property
    def name(self) -> str: ...

    @property
    def immediate(self) -> bool:
        """Whether the next stage is looked for at once, without waiting for the watch."""

    def matches(self, obj: Object) -> bool: ...

    def weight(self, obj: Object) -> int | None:
        """Its share among the stages that match; None when it can't be told."""

    def delay(self, obj: Object, wall: float) -> tuple[float, float] | None:
        """(least, most) seconds to wait; None for none."""

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        """What to do, in order. Raises StageError."""


def possible(stages: Sequence[Stage], obj: Object) -> list[Stage]:
    """The stages that may come next."""
    matching = [stage for stage in stages if stage.matches(obj)]
    if len(matching) < 2:
        return matching
    weighted = [(stage, stage.weight(obj)) for stage in matching]
    known = [(stage, weight) for stage, weight in weighted if weight is not None]
    if not known:
        return matching
    if sum(weight for _, weight in known) == 0:
        return [stage for stage, _ in known]
    return [stage for stage, weight in known if weight > 0]


def choose(stages: Sequence[Stage], obj: Object, chance: Chance) -> Stage | None:
    """The stage that comes next: drawn by weight among those possible."""
    candidates = possible(stages, obj)
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    weights = [stage.weight(obj) or 0 for stage in candidates]
    total = sum(weights)
    if total <= 0:
        return chance.choice(candidates)
    offset = chance.random() * total
    for stage, weight in zip(candidates, weights, strict=True):
        offset -= weight
        if offset < 0:
            return stage
    return candidates[-1]
