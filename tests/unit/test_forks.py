"""What goes from a command to the supervisor that forks it, and when the fork is refused."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from atoll.app.fork_server import is_current
from atoll.app.forks import Request, surroundings

LIMITS = [(number, 2 * number) for number in range(16)]


def test_a_request_comes_as_it_was_sent() -> None:
    sent = Request(
        b"here\nand there", ["cluster", "create", "ci", ""], "/tmp/a b", 0o027, LIMITS, {b"A": b"1=2", b"EMPTY": b""}
    )
    got = Request.decode(sent.encode())
    assert vars(got) == vars(sent)


def test_what_is_not_a_request_is_refused() -> None:
    good = Request(b"here", ["cluster"], "/", 0o022, LIMITS, {b"A": b"1"}).encode()
    fields = good.split(b"\0")
    for bad in (
        b"",
        b"here",
        b"\0".join([*fields[:2], b"9", *fields[3:]]),  # not octal
        b"\0".join([*fields[:3], b"1,1 2,2", *fields[4:]]),  # too few limits
        b"\0".join([*fields[:4], b"40", *fields[5:]]),  # more arguments than there are
        b"\0".join([*fields[:4], b"-1", *fields[5:]]),
        good + b"\0no variable",
    ):
        with pytest.raises(ValueError, match=r".+"):
            Request.decode(bad)


def test_variables_that_are_read_at_the_start_belong_to_the_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = surroundings()
    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    assert surroundings() == before
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert surroundings() != before


def test_a_program_that_has_changed_is_not_current(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    source = tmp_path / "inner" / "part.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    loaded_at = time.time() + 1
    assert is_current(tmp_path, loaded_at)
    earlier = source.stat().st_ctime - 1
    assert not is_current(tmp_path, earlier)
    os.utime(source, (0, 0))  # as what restores times does
    assert not is_current(tmp_path, earlier)


def test_compiled_files_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [])
    (tmp_path / "__pycache__").mkdir()
    loaded_at = tmp_path.stat().st_ctime
    while time.time() <= loaded_at + 0.01:
        pass
    (tmp_path / "__pycache__" / "part.pyc").write_bytes(b"")
    assert is_current(tmp_path, loaded_at)
