"""A few kills of the real kube-apiserver and etcd pass the history checker; tests/real/kills.py does fifty."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import available
from kills import main

pytestmark = [pytest.mark.real, pytest.mark.skipif(not available(), reason="the real programs are not built")]


def test_three_kills_of_the_real_thing() -> None:
    assert main(["--kills", "3", "--seed", "7"]) == 0
