"""Where a node looks for a job's checkpoint file, and where it does not."""

from __future__ import annotations

import os
from pathlib import Path

from atoll.cluster.nodes.process.checkpoints import newest, written_at


def test_the_time_of_the_last_write_counts(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    file = tmp_path / "a" / "b" / "latest"
    assert written_at(str(tmp_path), "/a/b/latest") is None
    file.write_text("x")
    os.utime(file, (1, 1_700_000_000.5))
    assert written_at(str(tmp_path), "/a/./b//latest") == 1_700_000_000.5
    assert newest([os.getpid(), 2**22 + 5], str(file)) == 1_700_000_000.5, "a process that is gone is passed over"


def test_nothing_else_is_looked_at(tmp_path: Path) -> None:
    inside = tmp_path / "root"
    inside.mkdir()
    (tmp_path / "secret").write_text("x")
    (inside / "link").symlink_to(tmp_path / "secret")
    (inside / "out").symlink_to(tmp_path)
    (inside / "folder").mkdir()
    os.mkfifo(inside / "pipe")
    for path in ("/link", "/out/secret", "/../secret", "/folder", "/pipe", "/", "/none/x"):
        assert written_at(str(inside), path) is None, path
