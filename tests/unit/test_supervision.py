"""Who supervises a fleet is known by a lock: not by a program's name, not by a pid that was left over."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from atoll.app import supervision
from atoll.app.supervision import Supervision, supervisor_of


@contextmanager
def other_process(work) -> Iterator[int]:
    """A process that does `work`, then waits to be killed; its pid, once it did."""
    done, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(tell, b"1")
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    assert os.read(done, 1) == b"1"
    os.close(done)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "supervisor.pid"


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "_PATIENCE_SECONDS", 0.0)


def test_a_supervisor_is_known_as_long_as_it_lives(file):
    assert supervisor_of(file) is None
    with other_process(lambda: Supervision.take(file)) as pid:
        assert supervisor_of(file) == pid
    assert file.read_text().split()[0] == str(pid)  # what is left over says nothing
    assert supervisor_of(file) is None


def test_only_one_supervises(file, no_patience):
    with other_process(lambda: Supervision.take(file)) as pid:
        assert Supervision.take(file) is None
        assert supervisor_of(file) == pid
    mine = Supervision.take(file)
    assert mine is not None
    assert supervisor_of(file) == os.getpid()
    mine.end()
    assert supervisor_of(file) is None


def test_the_pid_of_an_earlier_one_is_not_believed_before_the_present_one_wrote(file, no_patience):
    left_over = f"{os.getpid()}\n1\n"  # this pid, but of a process that began at another time

    def lock_and_not_write() -> None:
        Supervision.take(file)
        file.write_text(left_over)

    with other_process(lock_and_not_write):
        assert supervisor_of(file) is None


def test_a_live_process_that_a_crashed_fleet_named_is_no_supervisor(file):
    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    file.write_text(f"{os.getpid()}\n{started}\n")
    assert supervisor_of(file) is None
