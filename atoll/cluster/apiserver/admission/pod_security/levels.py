"""What a namespace's `pod-security.kubernetes.io/*` labels ask for, and what is wrong with them (api/helpers.go)."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from msgspec import Struct

from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value

PREFIX = "pod-security.kubernetes.io/"
LATEST = 10_000
"""As a minor version: newer than all."""
_ORDER = {"privileged": 0, "baseline": 1, "restricted": 2}
_VERSION = re.compile(r"v1\.([0-9]|[1-9][0-9]*)")


class Level(Struct, frozen=True):
    level: str = "privileged"
    minor: int = LATEST

    def __str__(self) -> str:
        return f"{self.level}:{'latest' if self.minor == LATEST else f'v1.{self.minor}'}"

    def stricter_than(self, other: Level) -> bool:
        return _ORDER[self.level] > _ORDER[other.level]


class Levels(Struct, frozen=True):
    enforce: Level = Level()
    audit: Level = Level()
    warn: Level = Level()
    errors: tuple[Cause, ...] = ()

    @property
    def privileged(self) -> bool:
        return all(item.level == "privileged" for item in (self.enforce, self.audit, self.warn))


NOTHING = Levels()


def levels_of(labels: Mapping[str, str]) -> Levels:
    """What can't be read is `restricted` where it is enforced, `privileged` where it only tells."""
    for key in labels:
        if key.startswith(PREFIX):
            return _read(tuple(sorted(item for item in labels.items() if item[0].startswith(PREFIX))))
    return NOTHING


@functools.lru_cache(512)
def _read(asked: tuple[tuple[str, str], ...]) -> Levels:
    labels = dict(asked)
    errors: list[Cause] = []
    modes = {mode: _mode(labels, mode, errors) for mode in ("enforce", "audit", "warn")}
    enforce, warn = modes["enforce"], modes["warn"]
    written = labels.get(PREFIX + "enforce") in _ORDER
    if PREFIX + "warn" not in labels and written and enforce.stricter_than(warn):
        minor = warn.minor if PREFIX + "warn-version" in labels else enforce.minor
        warn = Level(enforce.level, minor)
    return Levels(enforce, modes["audit"], warn, tuple(errors))


def _mode(labels: Mapping[str, str], mode: str, errors: list[Cause]) -> Level:
    level, minor = "privileged", LATEST
    label = PREFIX + mode
    if label in labels:
        level = labels[label]
        if level not in _ORDER:
            why = "must be one of privileged, baseline, restricted"
            errors.append(bad_value(f"metadata.labels[{label}]", level, why))
            level = "restricted" if mode == "enforce" else "privileged"
    label += "-version"
    if label in labels:
        match = _VERSION.fullmatch(labels[label])
        if match is not None:
            minor = int(match[1])
        elif labels[label] != "latest":
            errors.append(bad_value(f"metadata.labels[{label}]", labels[label], 'must be "latest" or "v1.x"'))
    return Level(level, minor)
