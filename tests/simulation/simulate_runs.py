"""Runs of `atoll simulate`, by its command in a fresh interpreter, and what they tell."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from atoll.simulate.summary import RunResult

ATOLL = (sys.executable, "-c", "import sys; from atoll.cli.main import run; sys.exit(run(sys.argv[1:]))")


def command(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [*ATOLL, "simulate", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def events(result: RunResult, *kinds: str) -> list[Any]:
    return [row for row in result.rows if row.event in kinds]
