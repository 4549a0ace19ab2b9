"""Counters, gauges and histograms in Prometheus' text format, in one object that is handed to who counts.

    metrics = Metrics()
    refused = metrics.counter("things_refused_total", "Things that were refused.", ("reason",))
    cell = refused.of("too-big")     # once, where the labels are known
    cell.value += 1                  # each time: an attribute, no call
    metrics.on_scrape(lambda: depth.of().set(len(queue)))    # what is only worth knowing when somebody asks

There is no global registry: whoever makes a part gives it the Metrics, or none. A family that is asked for again is the
same one, if it is of the same type and labels. Not thread-safe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from math import inf

from atoll.base.belongings import at_end

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
Labels = tuple[str, ...]


class Cell:
    """One number of a family."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        self.value = value


class Buckets:
    """One histogram of a family. `counts` are not cumulative; the last is what lies above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Numbers:
    """A counter or gauge with labels; `of` gives the cell of label values, in the order of the names."""

    def __init__(self, kind: str, name: str, text: str, labels: Labels) -> None:
        self.kind = kind
        self.name = name
        self.text = text
        self.labels = labels
        self._cells: dict[Labels, Cell] = {}

    def of(self, *values: str) -> Cell:
        cell = self._cells.get(values)
        if cell is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, not {values}")
            cell = self._cells[values] = Cell()
        return cell

    def clear(self) -> None:
        """Forget all cells: for what is counted anew at each scrape."""
        self._cells.clear()

    def lines(self) -> Iterator[str]:
        for values, cell in sorted(self._cells.items()):
            yield f"{self.name}{_labels(self.labels, values)} {number(cell.value)}\n"


class Histograms:
    """Histograms with labels and common bounds."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.bounds = tuple(bounds)
        self._cells: dict[Labels, Buckets] = {}

    def of(self, *values: str) -> Buckets:
        cell = self._cells.get(values)
        if cell is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, not {values}")
            cell = self._cells[values] = Buckets(self.bounds)
        return cell

    def lines(self) -> Iterator[str]:
        names = (*self.labels, "le")
        for values, cell in sorted(self._cells.items()):
            total = 0
            for bound, count in zip((*self.bounds, inf), cell.counts, strict=True):
                total += count
                yield f"{self.name}_bucket{_labels(names, (*values, number(bound)))} {total}\n"
            labels = _labels(self.labels, values)
            yield f"{self.name}_sum{labels} {number(cell.sum)}\n"
            yield f"{self.name}_count{labels} {total}\n"


Family = Numbers | Histograms


class Metrics:
    """See the module."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}
        self._before: list[Callable[[], None]] = []

    def counter(self, name: str, text: str, labels: Labels = ()) -> Numbers:
        return self._numbers("counter", name, text, labels)

    def gauge(self, name: str, text: str, labels: Labels = ()) -> Numbers:
        return self._numbers("gauge", name, text, labels)

    def histogram(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> Histograms:
        found = self._families.get(name)
        if found is None:
            found = self._families[name] = Histograms(name, text, bounds, labels)
        if not isinstance(found, Histograms) or found.labels != labels:
            raise ValueError(f"{name} is known as another family")
        return found

    def _numbers(self, kind: str, name: str, text: str, labels: Labels) -> Numbers:
        found = self._families.get(name)
        if found is None:
            found = self._families[name] = Numbers(kind, name, text, labels)
        if not isinstance(found, Numbers) or found.kind != kind or found.labels != labels:
            raise ValueError(f"{name} is known as another family")
        return found

    def on_scrape(self, refresh: Callable[[], None]) -> None:
        """Call this before each scrape, as long as the part that asks for it lives (`atoll.base.belongings`)."""
        self._before.append(refresh)
        at_end(lambda: self._before.remove(refresh))

    def text(self) -> str:
        """All families that have anything to tell, by name."""
        for refresh in self._before:
            refresh()
        parts: list[str] = []
        for name, family in sorted(self._families.items()):
            lines = list(family.lines())
            if lines:
                parts.append(f"# HELP {name} {_escaped(family.text)}\n# TYPE {name} {family.kind}\n")
                parts += lines
        return "".join(parts)


def number(value: float) -> str:
    """As Go's strconv writes a float in its shortest form."""
    if value == inf:
        return "+Inf"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    sign, digits, exponent = Decimal(repr(float(value))).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    power = len(text) + exponent - 1
    text = text.rstrip("0")
    if -5 < power < 6:
        return format(Decimal(repr(float(value))), "f")
    mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def exponential(start: float, factor: float, count: int) -> tuple[float, ...]:
    """Bounds that grow by a factor (multiplied up, as Prometheus' client does: the last digits are seen)."""
    bounds = [start]
    while len(bounds) < count:
        bounds.append(bounds[-1] * factor)
    return tuple(bounds)


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = sorted(zip(names, values, strict=True))
    pairs.sort(key=lambda pair: pair[0] == "le")
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in pairs) + "}"


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
