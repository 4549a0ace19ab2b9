"""Where a fleet's state lies."""

import os
from pathlib import Path

import pytest

from atoll.app.state import fleet_state


def test_a_control_sockets_path_fits_whatever_the_runtime_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ("s" * 200)))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert fleet_state("a").control_socket.is_relative_to("/run/user/7")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/" + "r" * 100)
    path = fleet_state("a").control_socket
    assert len(os.fsencode(path)) < 108 and path != fleet_state("b").control_socket
