"""What the terminal shows: kubectl's kind of tables, -o json|yaml|wide, colours only on a terminal."""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
_GOOD = ("Ready", "Running", "True", "Healthy", "Active", "ready", "Succeeded", "Completed")
_BAD = ("NotReady", "Failed", "False", "Unhealthy", "Unreachable", "killed", "stopped", "failed", "exited", "Degraded")


def output_option(*formats: str) -> Callable[[F], F]:
    """The -o option; None is the table."""
    return click.option(
        "-o", "--output", type=click.Choice(formats or ("json", "yaml", "wide")), default=None, help="Output format."
    )


def colour_wanted() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def age(seconds: float) -> str:
    """kubectl's short durations: 5s, 3m2s, 2h, 4d."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes = whole // 60
    if minutes < 10:
        rest = whole % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = whole // 3600
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{hours // 24}d"


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, out: Any = None) -> None:
    """An aligned table; cells that don't fit the terminal are shortened in the last column."""
    cells = [[str(value) for value in row] for row in rows]
    widths = [
        max(len(title), *(len(row[i]) for row in cells)) if cells else len(title) for i, title in enumerate(header)
    ]
    terminal = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 10_000
    used = sum(widths[:-1]) + 3 * (len(widths) - 1)
    last = max(8, terminal - used)
    for row in [list(header), *cells]:
        shown = [value.ljust(width) for value, width in zip(row[:-1], widths[:-1], strict=True)]
        end = row[-1] if len(row[-1]) <= last else row[-1][: last - 1] + "…"
        click.echo("   ".join([*map(_coloured, shown), _coloured(end)]).rstrip(), file=out)


def _coloured(cell: str) -> str:
    if not colour_wanted():
        return cell
    word = cell.strip()
    if word in _GOOD:
        return click.style(cell, fg="green")
    if word in _BAD or word.startswith("NotReady"):
        return click.style(cell, fg="red")
    return cell


def structured(value: object, output: str | None) -> bool:
    """Print as JSON or YAML if that is asked for; False if it is not."""
    if output == "json":
        import orjson

        click.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())
        return True
    if output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(value, sort_keys=False), nl=False)
        return True
    return False


class Progress:
    """One line that changes on a terminal; one line a step elsewhere, `apart` seconds at least. Written to stderr."""

    def __init__(self, apart: float = 0.0) -> None:
        self._live = sys.stderr.isatty()
        self._last = ""
        self._apart = apart
        self._told = -math.inf
        self._kept = ""  # what was not told for that

    def say(self, text: str) -> None:
        now = time.monotonic()
        self._kept = text if not self._live and now - self._told < self._apart else ""
        if text == self._last or self._kept:
            return
        self._last, self._told = text, now
        if self._live:
            width = shutil.get_terminal_size((120, 24)).columns - 1
            click.echo("\r\033[K" + text[:width], nl=False, err=True)
        else:
            click.echo(text, err=True)

    def done(self, text: str = "") -> None:
        if self._kept:
            click.echo(self._kept, err=True)
        if self._live and self._last:
            click.echo("\r\033[K", nl=False, err=True)
        if text:
            click.echo(text, err=True)
        self._last = ""
