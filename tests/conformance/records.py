"""What is kept of a run: a line of JSON a test, and the ratchet of tests that ever passed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from binary import Result

RATCHET = Path(__file__).resolve().parent / "ratchet.txt"


class Records:
    """Results by test, kept in a file of JSON lines; several runs may share the file: the latest result counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, result: Result) -> None:
        """Append one, whole or not at all."""
        line = (json.dumps(asdict(result)) + "\n").encode()
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            os.write(file, line)
        finally:
            os.close(file)

    def latest(self) -> dict[str, Result]:
        """By test."""
        if not self._path.exists():
            return {}
        return {result.test: result for result in map(_result, self._path.read_text().splitlines())}


def _result(line: str) -> Result:
    return Result(**json.loads(line))


def ratchet() -> set[str]:
    """The tests that ever passed: these must pass."""
    return set(RATCHET.read_text().splitlines()) if RATCHET.exists() else set()


def broken(results: Iterable[Result], held: set[str]) -> list[Result]:
    """Results that fail what the ratchet holds."""
    return [result for result in results if not result.passed and result.test in held]


def add_to_ratchet(results: Mapping[str, Result]) -> int:
    """Write the ratchet with what passed now and was not in it. Returns how many that were."""
    held = ratchet()
    new = {name for name, result in results.items() if result.passed} - held
    RATCHET.write_text("".join(f"{name}\n" for name in sorted(held | new)))
    return len(new)
