"""Asking a fleet's supervisor over its control socket: one JSON request a connection, answered by JSON lines.

Only the user who owns the folder reaches it (mode 0700).
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from atoll.base.errors import UserError

Message = dict[str, Any]


def ask(path: Path, request: Message, timeout_seconds: float = 120.0) -> Iterator[Message]:
    """Send one request, yield the answers. Raises UserError for an error answer or no supervisor."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(str(path))
            connection.sendall(orjson.dumps(request) + b"\n")
            with connection.makefile("rb") as lines:
                for line in lines:
                    answer = orjson.loads(line)
                    if "error" in answer:
                        raise UserError(str(answer["error"]), hint=answer.get("hint"))
                    yield answer
    except TimeoutError:
        raise UserError(
            "the fleet's supervisor does not answer", hint="look at its log: atoll logs supervisor"
        ) from None
    except OSError:
        raise UserError("this fleet is not running", hint="start it: atoll up") from None


def answers(path: Path) -> bool:
    """Whether a supervisor listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True


def ask_one(path: Path, request: Message, timeout_seconds: float = 120.0) -> Message:
    """The last answer of a request."""
    last: Message = {}
    for answer in ask(path, request, timeout_seconds):
        last = answer
    return last
