"""The hub's tests with the hub on a real kube-apiserver, over two real members beside a sandbox cluster of ours.

The stories are those of tests/simulation, run as they are written; real_lab.py puts real clusters under them.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import available
from real_lab import World, real_lab, world

import test_failover
import test_propagation
import test_registry

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available(), reason="the real programs are not built (tests/real/build.py)"),
]

STORIES: list[tuple[ModuleType, str, tuple[Any, ...]]] = [
    (test_propagation, "test_divided_over_three_members_with_status_back", ()),
    (test_propagation, "test_karmadas_own_example_works_as_written", ()),
    (test_propagation, "test_drift_is_repaired_and_what_others_own_is_left", ()),
]


def _name(value: Any) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "").removeprefix("test_")


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.mark.parametrize(("module", "name", "arguments"), STORIES, ids=_name)
def test_story(
    module: ModuleType, name: str, arguments: tuple[Any, ...], there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fleet_lab", lambda **options: real_lab(there, **options))
    monkeypatch.setattr(module, "run_virtual", asyncio.run)
    getattr(module, name)(*arguments)
