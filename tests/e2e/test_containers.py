"""Single containers under bubblewrap: roots, users, terminals, signals, logs; as root and as anyone else."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from atoll.base.clock import SystemClock
from atoll.cluster.nodes.process.container import Container, ContainerPlan
from atoll.cluster.nodes.process.doctor import diagnose
from atoll.cluster.nodes.process.logs import LogOptions, read_logs
from atoll.cluster.nodes.process.sandbox import Mount, Sandbox

DIAGNOSIS = diagnose()
pytestmark = pytest.mark.skipif(DIAGNOSIS.mode == "none", reason=f"no containers here: {DIAGNOSIS.reason}")
ROOT_USER = None if os.geteuid() == 0 else (0, 0)


def plan(folder, *argv, tty=False, stdin=False, root=None, **sandbox):
    sandbox.setdefault("user", ROOT_USER)
    closed = Sandbox(hostname="box", root=root, overlays=DIAGNOSIS.overlays, **sandbox)
    env = {"PATH": "/usr/bin:/bin", "GREETING": "hello"}
    return ContainerPlan("c", "process://1", list(argv), env, closed, folder / "0.log", stdin=stdin, tty=tty)


def start(what):
    return Container.start(what, SystemClock(), log_bytes=1 << 20, log_files=2)


async def log_of(container):
    return b"".join([chunk async for chunk in read_logs(container.plan.log, LogOptions())]).decode()


def run(what):
    """(exit code, log) of a container run to its end."""

    async def scenario():
        container = start(what)
        code = await asyncio.wait_for(container.ended, 20)
        return code, await log_of(container), container.start_error

    return asyncio.run(scenario())


def test_it_sees_itself_alone(tmp_path):
    script = "echo $GREETING; hostname; ls /home /root; ps -e -o comm= 2>/dev/null || echo sh; exit 3"
    code, log, _ = run(plan(tmp_path, "sh", "-c", script))
    assert code == 3
    assert log.splitlines()[:2] == ["hello", "box"]
    assert "pytest" not in log


def test_its_root_is_writable_and_forgotten(tmp_path):
    if not DIAGNOSIS.overlays:
        pytest.skip("no overlay mounts here")
    script = "test ! -e /usr/mark && touch /usr/mark /etc/mark /var/log/mark /mark && echo written"
    for _ in range(2):
        assert run(plan(tmp_path, "sh", "-c", script))[:2] == (0, "written\n")
        (tmp_path / "0.log").unlink()
    assert not Path("/usr/mark").exists()


def test_mounts_read_only_and_not(tmp_path):
    (tmp_path / "rw").mkdir()
    (tmp_path / "ro").mkdir()
    mounts = [Mount(str(tmp_path / "rw"), "/data/deep/rw"), Mount(str(tmp_path / "ro"), "/data/ro", True)]
    # Output and errors are two pipes whose order no one promises: the last lines are looked for in one of them.
    script = "exec 2>&1; echo kept > /data/deep/rw/f; echo lost > /data/ro/f || echo refused; pwd"
    code, log, _ = run(plan(tmp_path, "sh", "-c", script, mounts=mounts, working_dir="/made/for/it"))
    assert code == 0
    assert log.splitlines()[-2:] == ["refused", "/made/for/it"]
    assert (tmp_path / "rw" / "f").read_text() == "kept\n"
    assert not list((tmp_path / "ro").iterdir())


def test_another_user(tmp_path):
    code, log, _ = run(plan(tmp_path, "sh", "-c", "id -u; id -g", user=(1234, 2345)))
    assert (code, log.split()) == (0, ["1234", "2345"])


def test_a_program_that_is_not_there(tmp_path):
    code, _, error = run(plan(tmp_path, "no-such-program"))
    assert code == 128
    assert "no-such-program" in error


def unpacked(folder, *programs):
    """A root folder with these programs of the host and the libraries that they need."""
    for program in programs:
        found = shutil.which(program)
        wanted = [found]
        listed = subprocess.run(["ldd", found], capture_output=True, text=True).stdout
        wanted += [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
        for source in wanted:
            target = folder / ("bin/" + program if source == found else source.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


def test_an_unpacked_root(tmp_path):
    root = unpacked(tmp_path / "root", "sh", "ls", "cat")
    script = "echo new > /made; cat /made; ls /"
    code, log, _ = run(plan(tmp_path, "sh", "-c", script, root=str(root)))
    assert code == 0
    names = log.split()
    assert names[0] == "new"
    assert "usr" not in names or "usr" in os.listdir(root)
    assert "made" not in os.listdir(root)


def test_exec_shares_all_but_the_streams(tmp_path):
    async def scenario():
        container = start(plan(tmp_path, "sh", "-c", "echo first > /tmp/f; sleep 1000"))
        assert await container.entered()
        child = container.exec(["sh", "-c", "cat /tmp/f; hostname; cat; exit 5"], stdin=True)
        await child.stdin.write(b"given\n")
        child.stdin.close()
        output = b""
        while data := await child.stdout.read():
            output += data
        code = await child.wait()
        child.close()
        missing = container.exec(["no-such-program"])
        message = await missing.stderr.read()
        missing_code = await missing.wait()
        missing.close()
        assert await container.stop(5) == 143
        return output, code, message, missing_code

    output, code, message, missing_code = asyncio.run(scenario())
    assert output in (b"first\nbox\ngiven\n", b"box\ngiven\n")
    assert (code, missing_code) == (5, 127)
    assert b"executable file not found in $PATH" in message


def test_a_terminal_has_a_size_and_takes_interrupts(tmp_path):
    async def scenario():
        container = start(plan(tmp_path, "sh", "-c", "read go; stty size; cat", tty=True, stdin=True))
        assert await container.entered()
        container.child.resize(99, 33)
        await container.write_stdin(b"go\n")
        seen = bytearray()
        container.attach(lambda _, data: seen.extend(data))
        while b"33 99" not in seen and container.running:
            await asyncio.sleep(0.01)
        await container.write_stdin(b"\x03")
        return await asyncio.wait_for(container.ended, 10)

    assert asyncio.run(scenario()) == 130


def test_one_that_ignores_the_signal_is_killed(tmp_path):
    async def scenario():
        container = start(plan(tmp_path, "sh", "-c", "trap '' TERM; echo deaf; while true; do sleep 0.05; done"))
        while "deaf" not in await log_of(container):
            await asyncio.sleep(0.01)
        return await container.stop(0.2)

    assert asyncio.run(scenario()) == 137
