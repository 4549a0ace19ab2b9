"""A program that embeds Atoll, under a name of its own: its fleet is known to live, and is stopped whole."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import environment

PROGRAM = """
import sys
from atoll.app import launch
from atoll.app.fleetspec import ClusterSpec, FleetSpec
from atoll.app.state import fleet_state

state = fleet_state("inside")
launch.start(state, FleetSpec("inside", (ClusterSpec("one", api_only=True),), hub=False), lambda _: None)
print(state.supervisor_pid(), flush=True)
sys.stdin.readline()
print(launch.stop(state, purge=True), state.supervisor_pid(), flush=True)
sys.stdin.readline()
"""


def test_a_fleet_is_stopped_by_the_program_that_embeds_it(tmp_path):
    (tmp_path / "run").mkdir(mode=0o700)
    env = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    program = subprocess.Popen(
        ["program", "-c", PROGRAM], executable=sys.executable, env=env, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert program.stdin is not None and program.stdout is not None
    try:
        supervisor = int(program.stdout.readline())
        children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
        assert len(children) == 1
        assert _is_no_pipe_of(program.pid, supervisor)
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "True None\n"
        assert [pid for pid in children if Path(f"/proc/{pid}").exists()] == []
        assert Path(f"/proc/{supervisor}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    finally:
        program.communicate("\n", timeout=30)


def _is_no_pipe_of(program: int, supervisor: int) -> bool:
    """Whether the supervisor holds none of the program's own pipes."""
    pipes = {os.readlink(f"/proc/{program}/fd/{number}") for number in (0, 1)}
    return pipes.isdisjoint(os.readlink(item) for item in Path(f"/proc/{supervisor}/fd").iterdir())
