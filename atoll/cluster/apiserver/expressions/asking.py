"""Expressions that ask an authorizer which must ask others (an authorization webhook).

Evaluation is pure and never waits. Where an answer is not at hand it is broken off, the answer waited for, and the
expression evaluated again with it: as often as it asks something new.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from atoll.cluster.apiserver.ports import Attributes, Authorizer, Decision, MustWait

T = TypeVar("T")


class Answers:
    """An authorizer for one request's expressions: what it once said, it says again."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._known: list[tuple[Attributes, Decision]] = []  # an expression asks once or twice

    def authorize(self, attributes: Attributes) -> Decision:
        for asked, decision in self._known:
            if asked == attributes:
                return decision
        try:
            return self._authorizer.authorize(attributes)
        except MustWait as waiting:
            raise MustWait(partial(self._learn, attributes, waiting)) from None

    async def _learn(self, attributes: Attributes, waiting: MustWait) -> Decision:
        decision: Decision = await waiting.finish()
        self._known.append((attributes, decision))
        return decision


async def settled(evaluate: Callable[[], T]) -> T:
    """What `evaluate` gives once all that it asks is known."""
    while True:
        try:
            return evaluate()
        except MustWait as waiting:
            await waiting.finish()
