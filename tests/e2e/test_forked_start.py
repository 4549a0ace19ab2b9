"""`atoll cluster create` beside a running cluster is forked from its supervisor, and is as good as a cold start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, Shell, environment, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="starts are forked on Linux only")


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    home = tmp_path / "home"
    (home / "run").mkdir(mode=0o700, parents=True)
    shell = Shell(environment(home))
    yield shell
    shell.atoll("down", "--all", "--purge")


def log_of(shell: Shell, cluster: str) -> str:
    folder = Path(shell.env["XDG_STATE_HOME"]) / "atoll" / "fleets" / f"cluster-{cluster}"
    return (folder / "logs" / "supervisor.log").read_text()


def clusters(shell: Shell) -> dict[str, int | None]:
    """Name → the supervisor's pid, None where it does not run."""
    return {row["name"]: row["pid"] for row in json.loads(shell.atoll("cluster", "list", "-o", "json").stdout)}


def serves(shell: Shell, cluster: str) -> bool:
    return "kube-system" in shell.kubectl("get", "namespaces", context=f"atoll-{cluster}").stdout


def create(shell: Shell, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    return shell.atoll("cluster", "create", name, "--api-only", *more)


def status(pid: int, field: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(field + ":"))


def test_the_fork_is_what_its_caller_is(shell: Shell, tmp_path: Path) -> None:
    create(shell, "one", "--kubeconfig", "/dev/null")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = replace(shell, env={**shell.env, "KUBECONFIG": str(elsewhere / "config"), "SECRET_OF_TWO": "x"})
    script = f"cd {elsewhere}; umask 027; ulimit -n 700; exec atoll cluster create two --api-only </dev/null"
    done = other.run("bash", "-c", script)
    assert "cluster two ready" in done.stdout
    assert "starting 1 cluster(s)" in done.stderr
    assert "carries out atoll cluster create two --api-only" in log_of(shell, "one")
    assert "started cold" not in log_of(shell, "two")
    assert serves(other, "two")  # by the caller's KUBECONFIG
    first, second = clusters(shell)["one"], clusters(shell)["two"]
    assert first is not None
    assert second is not None
    assert os.getsid(second) == second
    assert status(second, "Umask") == "0027"
    assert status(second, "PPid") != str(first)
    assert Path(f"/proc/{second}/cwd").resolve() == elsewhere
    limits = Path(f"/proc/{second}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max open files")).split()[3] == "700"
    assert b"two" in Path(f"/proc/{second}/cmdline").read_bytes()
    assert b"XDG_" not in Path(f"/proc/{second}/environ").read_bytes()  # the first caller's variables are gone
    streams = {os.readlink(f"/proc/{second}/fd/{number}") for number in (1, 2)}
    assert [Path(item).parts[-3] for item in streams] == ["cluster-two"]
    held = [os.readlink(item) for item in Path(f"/proc/{second}/fd").iterdir() if item.exists()]
    assert not any("cluster-one" in item for item in held)


def test_errors_reach_the_caller(shell: Shell) -> None:
    create(shell, "one")
    again = shell.atoll("cluster", "create", "one", check=False)
    assert again.returncode == 1
    assert "the cluster 'one' exists already" in again.stderr
    wrong = shell.atoll("cluster", "create", "two", "--nodes", "many", check=False)
    assert wrong.returncode == 2
    assert "Usage: atoll cluster create" in wrong.stderr
    assert clusters(shell).keys() == {"one"}


def test_a_fork_outlives_the_cluster_that_it_came_from(shell: Shell) -> None:
    create(shell, "one")
    create(shell, "two")
    shell.atoll("cluster", "delete", "one")
    assert serves(shell, "two")
    create(shell, "zulu")
    assert "carries out atoll cluster create zulu" in log_of(shell, "two")
    second = clusters(shell)["two"]
    assert second is not None
    os.kill(second, signal.SIGKILL)
    until(lambda: clusters(shell)["two"] is None, "the supervisor has gone")
    assert serves(shell, "zulu")
    create(shell, "four")  # what is left of the second one's socket is passed over
    assert "carries out atoll cluster create four" in log_of(shell, "zulu")
    create(shell, "two")  # its state is taken up again
    assert serves(shell, "two")
    pids = [pid for pid in clusters(shell).values() if pid]
    assert len(pids) == 3
    for name in ("two", "zulu", "four"):
        shell.atoll("cluster", "delete", name)
    assert clusters(shell) == {}
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "their processes have gone")


def test_a_supervisor_that_does_not_answer_is_not_waited_for(shell: Shell) -> None:
    create(shell, "one")
    first = clusters(shell)["one"]
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    try:
        done = create(shell, "two")
    finally:
        os.kill(first, signal.SIGCONT)
    assert "did not answer" not in done.stdout + done.stderr
    assert "started cold: the supervisor of cluster-one did not answer" in log_of(shell, "two")
    assert serves(shell, "two")
    create(shell, "three")  # what it finds in its queue when it goes on is no start: nobody waits for it
    assert clusters(shell).keys() == {"one", "two", "three"}


def test_another_version_starts_cold(shell: Shell, tmp_path: Path) -> None:
    """A copy of the program is another program; so is one whose source has changed since it was loaded."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "atoll", copy / "atoll")
    script = copy / "script.py"
    script.write_text("from atoll.cli.entry import main\nmain()\n")
    other = replace(shell, env={**shell.env, "PYTHONDONTWRITEBYTECODE": "1"})
    entry = (sys.executable, str(script))
    create(shell, "one")
    other.run(*entry, "cluster", "create", "two", "--api-only")
    assert "started cold: the supervisor of cluster-one: the caller's program" in log_of(shell, "two")
    shell.atoll("cluster", "delete", "one")
    other.run(*entry, "cluster", "create", "zulu", "--api-only")
    assert "started cold" not in log_of(shell, "zulu")
    source = copy / "atoll" / "app" / "pki.py"
    source.write_text(source.read_text() + "\n")
    other.run(*entry, "cluster", "create", "four", "--api-only")
    assert "its program has changed since it was loaded" in log_of(shell, "four")
    assert serves(shell, "four")
