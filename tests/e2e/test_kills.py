"""Twenty kills of real server processes under the history checker; `make robustness` does a thousand."""

from __future__ import annotations

import subprocess
import sys


def test_twenty_kills() -> None:
    """In a process of its own: servers are forked, which must happen before any thread is."""
    command = [sys.executable, "-m", "atoll.testing.robustness.kills", "--kills", "20", "--seed", "4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("20 kills, 0 violations")
