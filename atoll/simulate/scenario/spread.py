"""Numbers that a scenario leaves to chance: constants and distributions, drawn from a seeded stream."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from atoll.base.chance import Chance

_DRAWS = 200
Kind = Literal["constant", "choice", "uniform", "exponential", "lognormal"]


@dataclass(frozen=True, slots=True)
class Spread:
    """`numbers`: the value; the values; least and most; the mean; median and sigma (of the logarithm)."""

    kind: Kind
    numbers: tuple[float, ...]
    weights: tuple[float, ...] = ()  # of a choice
    least: float = 0.0
    most: float = math.inf

    def draw(self, chance: Chance) -> float:
        """One value, within `least` and `most`."""
        return min(self.most, max(self.least, self._draw(chance)))

    def _draw(self, chance: Chance) -> float:
        numbers = self.numbers
        if self.kind == "constant":
            return numbers[0]
        if self.kind == "uniform":
            return chance.uniform(numbers[0], numbers[1])
        if self.kind == "exponential":
            return -numbers[0] * math.log(1.0 - chance.random())
        if self.kind == "lognormal":
            radius = math.sqrt(-2.0 * math.log(1.0 - chance.random()))  # Box and Muller's way to a normal variate
            return numbers[0] * math.exp(numbers[1] * radius * math.cos(2 * math.pi * chance.random()))
        point = chance.random() * sum(self.weights)
        for value, weight in zip(numbers, self.weights, strict=True):
            point -= weight
            if point < 0:
                return value
        return numbers[-1]

    @property
    def mean(self) -> float:
        """About: of so many draws."""
        chance = Chance(0, "mean")
        return math.fsum(self.draw(chance) for _ in range(_DRAWS)) / _DRAWS

    @property
    def largest(self) -> float:
        """No draw is above it."""
        return min(self.most, max(self.numbers) if self.kind in ("constant", "choice", "uniform") else math.inf)


def constant(value: float) -> Spread:
    return Spread("constant", (value,))
