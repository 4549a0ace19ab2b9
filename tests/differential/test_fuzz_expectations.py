"""The fuzzer expects an answer of 500 or above only where the real kube-apiserver was recorded giving it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from atoll.testing.fuzz.run import RECORDED


def _faults() -> list[tuple[int, str]]:
    found = []
    for path in sorted((Path(__file__).parent / "recordings").glob("*.json")):
        for step in json.loads(path.read_text())["steps"]:
            response: dict[str, Any] = step["response"]
            if response["status"] >= 500 and isinstance(response["body"], dict):
                found.append((response["status"], str(response["body"].get("message"))))
    return found


FAULTS = _faults()


@pytest.mark.parametrize(("status", "words"), RECORDED)
def test_the_real_server_gives_it(status: int, words: str) -> None:
    assert any(status == given and re.search(words, message) for given, message in FAULTS)
