"""Scenarios in virtual time: YAML in, YAML out. `--update-goldens` writes what is seen as what is expected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from scenario_runner import play

HERE = Path(__file__).parent
SCENARIOS = sorted((HERE / "scenarios").glob("*.yaml"))
GOLDENS = HERE / "goldens"

TWICE = """
import sys, yaml
from pathlib import Path
from scenario_runner import play
print(play(yaml.safe_load(Path(sys.argv[1]).read_text()))[1])
"""


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path, update_goldens: bool) -> None:
    shown, _ = play(yaml.safe_load(path.read_text()))
    golden = GOLDENS / path.name
    text = yaml.safe_dump(shown, sort_keys=False, width=120)
    if update_goldens:
        GOLDENS.mkdir(exist_ok=True)
        golden.write_text(text)
    assert yaml.safe_load(text) == yaml.safe_load(golden.read_text())


def test_the_same_seed_gives_the_same_event_log_in_two_interpreters() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", TWICE, str(HERE / "scenarios" / "everything.yaml")],
            cwd=HERE,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert digests.pop().strip()
