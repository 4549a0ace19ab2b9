"""Figures of long runs: added up over slices in a file, and written into a table of a document.

A document's row is found by its mark, `<!-- NAME -->` at its end, so that only commands write figures into it.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path

Figures = dict[str, float]


def add_up(tally: Path | None, figures: Figures) -> Figures:
    """These and what the slices before gave; `max_…` figures are the largest."""
    total: Figures = {}
    if tally is not None and tally.exists():
        total = json.loads(tally.read_text())
    for name, value in figures.items():
        before = total.get(name, 0)
        total[name] = max(before, value) if name.startswith("max_") else before + value
    if tally is not None:
        tally.parent.mkdir(parents=True, exist_ok=True)
        tally.write_text(json.dumps(total))
    return total


def write_row(document: Path, mark: str, cells: list[str], today: datetime.date) -> None:
    """Replace the row with that mark. Raises ValueError where there is none."""
    lines = document.read_text().splitlines()
    end = f"<!-- {mark} -->"
    for index, line in enumerate(lines):
        if line.endswith(end):
            lines[index] = "| " + " | ".join([*cells, today.isoformat()]) + f" | {end}"
            document.write_text("\n".join(lines) + "\n")
            return
    raise ValueError(f"{document} has no row {mark}")
