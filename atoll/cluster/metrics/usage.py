"""Usage from two looks at counters: the text of a kubelet's /metrics/resource, and the rates between two of them. Pure.

A container that began after the last look is measured from its start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct, field

_LINE = re.compile(r"^(\w+)(?:\{([^}]*)\})?\s+(\S+)(?:\s+(\d+))?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_CPU, _MEMORY, _START = (
    "container_cpu_usage_seconds_total", "container_memory_working_set_bytes", "container_start_time_seconds",
)  # fmt: skip
_NODE_CPU, _NODE_MEMORY = "node_cpu_usage_seconds_total", "node_memory_working_set_bytes"
Container = tuple[str, str, str]  # namespace, pod, container


class Point(Struct):
    """Counters at a moment."""

    timestamp: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    started: float = 0.0


class Look(Struct):
    """One reading of one node."""

    node: Point = field(default_factory=Point)
    containers: dict[Container, Point] = {}


class Usage(Struct, frozen=True):
    """`window`: the seconds over which the CPU was measured."""

    timestamp: float
    window: float
    cpu_nano: int
    memory_bytes: int


def parse(text: str, now: float) -> Look:
    """What is not known is passed over; `now` where a line has no time."""
    look = Look()
    for name, labels, value, stamp in _lines(text):
        at = stamp / 1000 if stamp else now
        if name in (_NODE_CPU, _NODE_MEMORY):
            _set(look.node, name == _NODE_CPU, value, at)
        elif name in (_CPU, _MEMORY, _START):
            key = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("container", ""))
            point = look.containers.setdefault(key, Point())
            if name == _START:
                point.started = value
            else:
                _set(point, name == _CPU, value, at)
    look.containers = {key: point for key, point in look.containers.items() if point.timestamp}
    return look


def _set(point: Point, cpu: bool, value: float, at: float) -> None:
    if cpu:
        point.cpu_seconds, point.timestamp = value, at
    else:
        point.memory_bytes = int(value)


def _lines(text: str) -> Iterator[tuple[str, dict[str, str], float, int]]:
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        yield match[1], dict(_LABEL.findall(match[2] or "")), value, int(match[4] or 0)


def between(old: Point | None, new: Point) -> Usage | None:
    """None where nothing can be said yet."""
    before, since = 0.0, new.started
    if old is not None and old.timestamp < new.timestamp and old.started == new.started:
        before, since = old.cpu_seconds, old.timestamp
    window = new.timestamp - since
    if not since or window <= 0 or new.cpu_seconds < before:
        return None
    cpu = int((new.cpu_seconds - before) / window * 1e9)
    return Usage(new.timestamp, window, cpu, new.memory_bytes)
