"""Runs of `atoll simulate`, by its command in a fresh interpreter, and what they tell."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from atoll.simulate.compare import simulate
from atoll.simulate.scenario.read import parse
from atoll.simulate.summary import RunResult

SMALL = """
apiVersion: simulate.atoll.dev/v1alpha1
kind: Scenario
metadata: {name: small}
spec:
  duration: 2h
  fleet: {pools: [{name: h, nodes: 4, gpu: H100, gpus: 8, rack: 2}]}
"""
ATOLL = (sys.executable, "-c", "import sys; from atoll.cli.main import run; sys.exit(run(sys.argv[1:]))")


def command(*arguments: str, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    return subprocess.run(
        [*ATOLL, "simulate", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def small(text: str, seed: int = 1) -> RunResult:
    """The small fleet lived through, with what the text adds to it."""
    return simulate(parse(SMALL + text, "small.yaml"), seed)


def events(result: RunResult, *kinds: str) -> list[Any]:
    return [row for row in result.rows if row.event in kinds]
