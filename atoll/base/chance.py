"""Randomness as a parameter: each component owns a stream derived from one seed and its name.

A seed replays a whole fleet. In production the seed comes from the system (`Chance.from_system`).
"""

from __future__ import annotations

import random
import secrets
from typing import TypeVar

_T = TypeVar("_T")

# Kubernetes' generateName alphabet: no vowels and no look-alikes (k8s.io/apimachinery util/rand).
_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


class Chance:
    """A named stream of randomness. Not for secrets: those use `secrets` at the edge."""

    def __init__(self, seed: int, name: str = "") -> None:
        self._seed = seed
        self._name = name
        self._random = random.Random(f"{seed}/{name}")

    @classmethod
    def from_system(cls) -> Chance:
        return cls(secrets.randbits(64))

    def stream(self, name: str) -> Chance:
        """An independent stream: the same (seed, name) always gives the same numbers."""
        return Chance(self._seed, f"{self._name}/{name}")

    def uuid(self) -> str:
        """A random UUID (version 4); formatted here, as uuid.UUID takes ten times as long."""
        bits = self._random.getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (4 << 76) | (2 << 62)
        text = f"{bits:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def name_suffix(self, length: int = 5) -> str:
        """The suffix that the API server appends to generateName."""
        return "".join(self._random.choices(_NAME_ALPHABET, k=length))

    def name_suffixes(self, count: int) -> list[str]:
        """As many calls of `name_suffix` would give, at a quarter of the cost each."""
        length = 5
        text = "".join(self._random.choices(_NAME_ALPHABET, k=length * count))
        return [text[at : at + length] for at in range(0, len(text), length)]

    def random(self) -> float:
        return self._random.random()

    def uniform(self, low: float, high: float) -> float:
        return self._random.uniform(low, high)

    def integer(self, low: int, high: int) -> int:
        """Uniform in [low, high]."""
        return self._random.randint(low, high)

    def choice(self, items: list[_T]) -> _T:
        return self._random.choice(items)

    def shuffle(self, items: list[_T]) -> None:
        self._random.shuffle(items)
