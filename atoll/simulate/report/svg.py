"""Plots as SVG text: lines over time with bands, bars with whiskers, dots in rows. Pure.

Colours are Okabe and Ito's (told apart by the colour-blind too), named as CSS variables so that one style serves light
and dark. Every mark has a <title>: browsers show it when pointed at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
_LABEL_ROOM = 16  # half of a tick's label
_COLOURS = 6
_MOST_WHISKER = 3.0  # times the highest bar: a wide interval of few seeds must not flatten the bars
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Line:
    """Values over x, and the band between the least and the most of several runs."""

    name: str
    points: Points
    band: Sequence[tuple[float, float, float]] = field(default=())  # (x, least, most)
    stepped: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A time at which something happened."""

    x: float
    width: float
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A value, with half of its interval where there is one."""

    group: str
    name: str
    value: float
    half: float | None


def lines(series: Sequence[Line], marks: Sequence[Mark], x_most: float, x_label: Callable[[float], str]) -> str:
    """Over 0 to `x_most`."""
    tops = [value for line in series for _, value in line.points] + [most for line in series for *_, most in line.band]
    frame = _Frame(x_most or 1.0, _top(tops))
    parts = [frame.axes([(x, x_label(x)) for x in _ticks(x_most, 6, _TIME_STEPS)])]
    for mark in marks:
        x, width = frame.x(mark.x), max(1.5, frame.x(mark.x + mark.width) - frame.x(mark.x))
        box = f'x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
        parts.append(f'<rect class="fault" {box}><title>{escape(mark.title)}</title></rect>')
    for number, line in enumerate(series):
        colour = f"c{number % _COLOURS}"
        if line.band:
            there = [f"{frame.x(x):.1f},{frame.y(most):.1f}" for x, _, most in line.band]
            back = [f"{frame.x(x):.1f},{frame.y(least):.1f}" for x, least, _ in reversed(line.band)]
            parts.append(f'<polygon class="band {colour}" points="{" ".join(there + back)}"/>')
        path = _path(frame, line)
        parts.append(f'<path class="line {colour}" d="{path}"><title>{escape(line.name)}</title></path>')
    return _svg(parts)


def bars(values: Sequence[Bar], unit: str) -> str:
    """Groups side by side, a bar a name in each."""
    groups = list(dict.fromkeys(bar.group for bar in values))
    names = list(dict.fromkeys(bar.name for bar in values))
    highest = max([bar.value for bar in values] or [0.0])
    top = max([min(bar.value + (bar.half or 0.0), _MOST_WHISKER * highest) for bar in values] or [0.0])
    tops = [highest, top]
    frame = _Frame(max(1.0, float(len(groups))), _top(tops))
    parts = [frame.axes([(index + 0.5, group) for index, group in enumerate(groups)], ticked=False)]
    width = 0.8 / max(1, len(names))
    for bar in values:
        left = groups.index(bar.group) + 0.1 + names.index(bar.name) * width
        x, y = frame.x(left), frame.y(max(0.0, bar.value))
        wide = frame.x(left + width * 0.92) - x
        half = "" if bar.half is None else f" ± {bar.half:,.1f}"
        title = f"{bar.group}, {bar.name}: {bar.value:,.1f}{half} {unit}"
        colour = f"c{names.index(bar.name) % _COLOURS}"
        box = f'x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(0.0, frame.y(0) - y):.1f}"'
        parts.append(f'<rect class="bar {colour}" {box}><title>{escape(title)}</title></rect>')
        if bar.half:
            middle = x + wide / 2
            low, high = frame.y(max(0.0, bar.value - bar.half)), max(float(_TOP), frame.y(bar.value + bar.half))
            ends = f"M{middle - 4:.1f},{low:.1f}h8" + (f"M{middle - 4:.1f},{high:.1f}h8" if high > _TOP else "")
            parts.append(f'<path class="whisker" d="M{middle:.1f},{low:.1f}V{high:.1f}{ends}"/>')
    return _svg(parts)


def _top(values: Sequence[float]) -> float:
    """Of an axis; where all is 0 it still has a length."""
    return max([*values, 0.0]) or 1.0


def dots(rows: Sequence[tuple[str, Sequence[tuple[float, str]]]]) -> str:
    """A row a name, a dot a value."""
    most = max([value for _, values in rows for value, _ in values] or [1.0])
    frame = _Frame(most * 1.03 or 1.0, float(max(1, len(rows))))
    parts = [frame.axes([(x, f"{x:g}") for x in _ticks(most, 6)], y_ticks=False)]
    for number, (name, values) in enumerate(rows):
        middle = len(rows) - number - 0.5
        parts.append(f'<text class="row" x="{_LEFT + 4}" y="{frame.y(middle + 0.42):.1f}">{escape(name)}</text>')
        for index, (value, title) in enumerate(values):
            spread = ((index * 7) % 11 - 5) / 11 * 0.5  # beside each other where values are alike
            place = f'cx="{frame.x(value):.1f}" cy="{frame.y(middle + spread * 0.6 - 0.1):.1f}" r="4"'
            parts.append(f'<circle class="dot c{number % _COLOURS}" {place}><title>{escape(title)}</title></circle>')
    return _svg(parts)


_TIME_STEPS = (1 / 60, 1 / 12, 1 / 6, 0.25, 0.5, 1, 2, 3, 4, 6, 12, 24, 48, 72, 168)  # hours


class _Frame:
    """Where values are on the picture."""

    def __init__(self, x_most: float, y_most: float) -> None:
        self._x_most = x_most
        self._y_ticks = _ticks(y_most, 4)
        self._y_most = max(y_most * 1.05, self._y_ticks[-1])

    def x(self, value: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(1.0, max(0.0, value / self._x_most))

    def y(self, value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / self._y_most

    def axes(self, labels: Sequence[tuple[float, str]], *, ticked: bool = True, y_ticks: bool = True) -> str:
        parts = []
        for value in self._y_ticks if y_ticks else ():
            y = self.y(value)
            parts.append(f'<path class="grid" d="M{_LEFT},{y:.1f}H{WIDTH - _RIGHT}"/>')
            label = f"{value:,.4g}"
            parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
        for value, text in labels:
            x = self.x(value)
            anchor = "end" if x > WIDTH - _RIGHT - _LABEL_ROOM and ticked else "middle"
            if ticked:
                parts.append(f'<path class="grid" d="M{x:.1f},{HEIGHT - _BOTTOM}v4"/>')
            parts.append(
                f'<text class="tick" x="{x + (_RIGHT if anchor == "end" else 0):.1f}" y="{HEIGHT - _BOTTOM + 18}" '
                f'text-anchor="{anchor}">{escape(text)}</text>'
            )
        parts.append(f'<path class="axis" d="M{_LEFT},{HEIGHT - _BOTTOM}H{WIDTH - _RIGHT}"/>')
        return "".join(parts)


def _path(frame: _Frame, line: Line) -> str:
    parts: list[str] = []
    for index, (x, value) in enumerate(line.points):
        at = f"{frame.x(x):.1f}"
        if not index:
            parts.append(f"M{at},{frame.y(value):.1f}")
        elif line.stepped:
            parts.append(f"H{at}V{frame.y(value):.1f}")
        else:
            parts.append(f"L{at},{frame.y(value):.1f}")
    return "".join(parts)


def _ticks(most: float, wanted: int, steps: Sequence[float] = ()) -> list[float]:
    """From 0 up to `most`, in round steps."""
    if most <= 0:
        return [0.0]
    rough = most / wanted
    step = next((step for step in steps if step >= rough), 0.0)
    if not step:
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [number * step for number in range(int(most / step + 1e-9) + 1)]


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" preserveAspectRatio="xMidYMid meet">{"".join(parts)}</svg>'
