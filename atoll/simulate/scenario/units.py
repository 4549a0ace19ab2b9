"""Durations and distributions as a scenario writes them."""

from __future__ import annotations

import re
from collections.abc import Callable

import yaml

from atoll.base.yamlfile import YamlReader
from atoll.cluster.apiserver.names import NameCheck, dns_label, label_value
from atoll.simulate.scenario.spread import Kind, Spread, constant

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_CLOCK = re.compile(r"(\d+):([0-5]\d)(?::([0-5]\d))?")
_MOST_SECONDS = 10 * 365 * 86400.0


def seconds_of(text: str) -> float | None:
    """`90s`, `1h30m`, `2d`, `03:30` (hours and minutes); None for anything else."""
    clock = _CLOCK.fullmatch(text)
    if clock is not None:
        return int(clock[1]) * 3600.0 + int(clock[2]) * 60.0 + int(clock[3] or 0)
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


class UnitReader(YamlReader):
    """Reads the values that scenarios have and other files have not."""

    def name(self, node: yaml.Node, key: str, check: NameCheck = dns_label) -> str:
        """What Kubernetes takes as a name: `check` says why not."""
        text = self.text(node, key)
        problems = check(text)
        if problems:
            raise self.fail(node, key, f"{text[:80]!r}: {problems[0]}")
        return text

    def label(self, node: yaml.Node, key: str) -> str:
        """What may be a label's value."""
        return self.name(node, key, label_value)

    def one_of(self, node: yaml.Node, key: str, known: tuple[str, ...]) -> str:
        text = self.text(node, key)
        if text not in known:
            raise self.fail(node, key, f"{text!r} is none of {', '.join(known)}")
        return text

    def duration(self, node: yaml.Node, key: str) -> float:
        """Seconds."""
        text = self.text(node, key)
        seconds = seconds_of(text)
        if seconds is None:
            raise self.fail(node, key, f"{text!r} is not a duration such as 90s, 15m, 1h30m, 2d or 03:30")
        if seconds > _MOST_SECONDS:
            raise self.fail(node, key, f"{text[:40]!r} is longer than ten years")
        return seconds

    def some_time(self, node: yaml.Node, key: str) -> float:
        """Seconds, more than none."""
        seconds = self.duration(node, key)
        if not seconds:
            raise self.fail(node, key, "must be more than 0")
        return seconds

    def durations(self, node: yaml.Node, key: str) -> tuple[float, ...]:
        """One, or a list."""
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.items(node, key, self.duration))
        return (self.duration(node, key),)

    def real(self, node: yaml.Node, key: str) -> float:
        text = self.text(node, key)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e12:
            raise self.fail(node, key, f"must be a number of 0 or more, not {text!r}")
        return value

    def spread(self, node: yaml.Node, key: str) -> Spread:
        """A distribution of durations."""
        return self._spread(node, key, self.duration)

    def amount_spread(self, node: yaml.Node, key: str) -> Spread:
        """A distribution of numbers."""
        return self._spread(node, key, self.real)

    def _spread(self, node: yaml.Node, key: str, value: Callable[[yaml.Node, str], float]) -> Spread:
        if isinstance(node, yaml.ScalarNode):
            return constant(value(node, key))
        kinds: tuple[Kind, ...] = ("choice", "uniform", "exponential", "lognormal")
        given = {
            "choice": lambda n, k: self.items(n, k, value),
            "weights": lambda n, k: self.items(n, k, self.real),
            "uniform": lambda n, k: self.items(n, k, value),
            "exponential": value,
            "lognormal": lambda n, k: self.mapping(n, k, {"median": value, "sigma": self.real}),
            "least": value,
            "most": value,
        }
        found = self.mapping(node, key, given)
        named = [kind for kind in kinds if kind in found]
        if len(named) != 1:
            raise self.fail(node, key, f"must be a value or name one of {', '.join(kinds)}")
        bounds = {name: found[name] for name in ("least", "most") if name in found}
        if bounds.get("least", 0.0) > bounds.get("most", bounds.get("least", 0.0)):
            raise self.fail(node, f"{key}.least", "is above most")
        kind = named[0]
        if kind == "exponential":
            return Spread(kind, (found[kind],), **bounds)
        if kind == "lognormal":
            if set(found[kind]) != {"median", "sigma"}:
                raise self.fail(node, f"{key}.{kind}", "needs median and sigma")
            return Spread(kind, (found[kind]["median"], found[kind]["sigma"]), **bounds)
        numbers, weights = tuple(found[kind]), tuple(found.get("weights") or ())
        if kind == "uniform" and (len(numbers) != 2 or numbers[0] > numbers[1]):
            raise self.fail(node, f"{key}.{kind}", "must be [least, most]")
        if not numbers or (weights and (len(weights) != len(numbers) or sum(weights) <= 0)):
            raise self.fail(node, f"{key}.{kind}", "must be a list, and weights, if any, as long and not all 0")
        return Spread(kind, numbers, weights or (1.0,) * len(numbers), **bounds)
