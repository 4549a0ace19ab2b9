"""The committed recordings are what a real kube-apiserver says: recorded anew, they come out the same."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "differential")]

from control_plane import available, control_plane  # noqa: E402
from exchange import differences, normalise  # noqa: E402

pytestmark = [pytest.mark.real, pytest.mark.skipif(not available(), reason="run tests/real/build.py first")]


def _recorder():
    spec = importlib.util.spec_from_file_location("atoll_recorder", HERE / "record" / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_recorded_anew_they_are_the_same() -> None:
    recorder = _recorder()
    wrong: list[str] = []
    for arguments, scenarios in recorder.grouped(recorder.scenarios()):
        with control_plane(*arguments) as plane:
            for scenario in scenarios:
                committed = json.loads((recorder.RECORDINGS / f"{scenario.name}.json").read_text())
                fresh = recorder.record(plane, scenario)
                assert [step["id"] for step in fresh["steps"]] == [step["id"] for step in committed["steps"]]
                for new, old in zip(fresh["steps"], committed["steps"], strict=True):
                    lines = differences(normalise(old["response"]), normalise(new["response"]))
                    wrong += [f"{new['id']} {line[:300]}" for line in lines[:3]]
    assert not wrong, "\n".join(wrong)
