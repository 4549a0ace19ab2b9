"""Everything of all runs as one tidy table: a row an event or a gauge's value. For Parquet, and whoever reads that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from atoll.simulate.parquet import Kind, write_table
from atoll.simulate.summary import RunResult

COLUMNS: tuple[tuple[str, Kind], ...] = (
    ("policy", "text"), ("seed", "int64"), ("seconds", "double"), ("event", "text"), ("subject", "text"),
    ("team", "text"), ("gpus", "double"), ("value", "double"), ("detail", "text"),
)  # fmt: skip


def write_results(path: Path, results: Sequence[RunResult]) -> None:
    """Raises OSError."""
    write_table(path, COLUMNS, list(_rows(results)))


def _rows(results: Sequence[RunResult]) -> Iterator[tuple[Any, ...]]:
    for result in results:
        for name, value in result.measures.items():
            yield result.policy, result.seed, result.seconds, "measure", name, "", 0.0, value, result.digest
        for row in result.rows:
            yield result.policy, result.seed, *row
        for broken in result.violations:
            yield result.policy, result.seed, broken.at, "violation", broken.invariant, "", 0.0, 0.0, broken.what
