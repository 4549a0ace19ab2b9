"""`atoll cluster create` beside a running cluster: forked from that one's supervisor, which has imported everything.

This side only asks and waits. It imports next to nothing, since it is most of the way from exec to a cluster.
"""

from __future__ import annotations

import os
import signal
import socket
from array import array
from types import FrameType

from atoll.app import forks

_PATIENCE_SECONDS = 1.0
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Unanswered(Exception):
    """Nobody forks for us; the message says why, "" where nobody is there to ask."""


def run(arguments: list[str]) -> int:
    """The exit status of the command, carried out by a fork. Raises Unanswered before anything has been done."""
    why = ""
    folder = f"{forks.state_home()}/fleets"
    try:
        fleets = sorted(os.listdir(folder))
    except OSError:
        raise Unanswered(why) from None
    for fleet in fleets:
        path = f"{folder}/{fleet}"
        try:
            return _ask(path, arguments)
        except FileNotFoundError:
            continue
        except TimeoutError:
            raise Unanswered(f"the supervisor of {fleet} did not answer") from None
        except OSError as error:
            why = f"the supervisor of {fleet}: {error.strerror or error}"
        except Unanswered as error:
            why = f"the supervisor of {fleet}: {error}"
    raise Unanswered(why)


def _ask(folder: str, arguments: list[str]) -> int:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.settimeout(_PATIENCE_SECONDS)
        where = os.open(folder, os.O_PATH)
        try:
            connection.connect(
                f"/proc/self/fd/{where}/{forks.SOCKET}"
            )  # a socket's path is short, a folder's may not be
        finally:
            os.close(where)
        connection.send(forks.Request.of_this_process(arguments).encode())
        word, _, rest = connection.recv(4096).decode().partition(" ")
        if word != "pid":
            raise Unanswered(rest or "it ended")
        pid = int(rest)
        before = {number: signal.signal(number, _forward(pid)) for number in _FORWARDED}
        # not before: a supervisor that hangs would keep them open, and whoever reads from us would wait for it
        streams = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [0, 1, 2]))
        connection.sendmsg([b"go"], [streams])
        connection.settimeout(None)
        word, _, rest = connection.recv(4096).decode().partition(" ")
        for number, handler in before.items():
            signal.signal(number, handler)
        if word == "exit":
            return int(rest)
        os.write(2, b"error: the process that carried out the command was killed\n")
        return 1


def _forward(pid: int) -> signal._HANDLER:
    def forward(number: int, _: FrameType | None) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return

    return forward
