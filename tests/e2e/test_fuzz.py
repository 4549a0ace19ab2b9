"""A few thousand fuzzed requests over pipelined connections; `make fuzz` sends a million."""

from __future__ import annotations

import subprocess
import sys

from atoll.testing.fuzz.requests import Maker


def test_three_thousand_requests() -> None:
    """In a process of its own: the server is forked."""
    command = [sys.executable, "-m", "atoll.testing.fuzz.run", "--requests", "3000", "--seed", "36"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("3,000 requests, 0 faults")


def test_a_seed_and_a_number_make_a_request_again() -> None:
    first, second = Maker(5), Maker(5)
    for _ in range(50):
        second.make(0)
    assert [first.make(number) for number in range(200)] == [second.make(number) for number in range(200)]
    methods = {request.method for request in map(first.make, range(400))}
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= methods
    types = {dict(request.headers).get("Content-Type") for request in map(first.make, range(400))}
    assert {"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"} <= types
