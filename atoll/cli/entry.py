"""Where the atoll command begins: asks for a fork where one would be faster, else imports and runs.

It ends without taking the interpreter apart, which would free at length what the system frees at once.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point of the console script."""
    arguments = sys.argv[1:]
    why_cold = ""
    if arguments[:2] == ["cluster", "create"] and sys.platform == "linux":
        from atoll.cli import forked

        try:
            os._exit(forked.run(arguments))
        except forked.Unanswered as error:
            why_cold = str(error)
    from atoll.cli.main import run

    os._exit(run(arguments, why_cold))
