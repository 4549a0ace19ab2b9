"""Our API answers as the real kube-apiserver 1.36.3 did, request by request.

known_differences.json lists what is not equal yet, with the reason: a ratchet. A listed step that has become equal
fails the test (take it off the list), and so does an unlisted one that differs. Run replay.py to see differences.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from replay import known_differences, recordings, replay

KNOWN = known_differences()


@pytest.mark.parametrize("name", recordings())
def test_answers_as_recorded(name: str) -> None:
    found = replay(name)
    wrong = {step: lines for step, lines in found.items() if lines and step not in KNOWN}
    repaired = [step for step, lines in found.items() if not lines and step in KNOWN]
    assert not wrong, "\n".join(f"{step}\n    " + "\n    ".join(lines[:8]) for step, lines in wrong.items())
    assert not repaired, f"equal now, take them off known_differences.json: {repaired}"


def test_known_differences_name_recorded_steps() -> None:
    names = set(recordings())
    assert all(step.partition("/")[0] in names for step in KNOWN)
    assert all(reason.strip() for reason in KNOWN.values())
