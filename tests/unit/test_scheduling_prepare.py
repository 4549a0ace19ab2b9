"""numpy is loaded for a cluster of many nodes before its first pod, and for one of a single node not at all."""

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from atoll.base.chance import Chance
from atoll.scheduling.plan import Planner
planner = Planner(Chance(1))
for number in range(int(sys.argv[1])):
    planner.state.set_node({"metadata": {"name": f"n{number}"}, "status": {"allocatable": {"cpu": "1", "pods": "9"}}})
planner.prepare()
print("numpy.linalg" in sys.modules)
"""


@pytest.mark.parametrize(("nodes", "loaded"), [(1, False), (100, True)])
def test_when_numpy_is_loaded(nodes: int, loaded: bool) -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, str(nodes)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(loaded)]
