"""The layers of docs/architecture.md hold, and every folder has its place in them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_imports_point_down_only() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_nothing_below_app_reads_the_clock_or_chance() -> None:
    """Rule 2: clock and chance are parameters."""
    allowed = {"atoll/base/clock.py", "atoll/base/chance.py"}
    above = ("atoll/app/", "atoll/cli/", "atoll/testing/", "atoll/simulate/")
    words = ("time.time(", "time.monotonic(", "datetime.now(", "uuid.uuid4(", "random.random(", "random.choice(")
    found = []
    for path in sorted((ROOT / "atoll").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name in allowed or name.startswith(above):
            continue
        text = path.read_text()
        found += [f"{name}: {word}" for word in words if word in text]
    assert not found


def test_test_files_have_names_of_their_own() -> None:
    """pytest imports them by their names alone: of two that are alike one can't be collected."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]
