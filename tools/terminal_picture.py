"""Draw docs/images/demo.svg: what the README's commands print, from a real run on this machine.

.venv/bin/python tools/terminal_picture.py [APP_MANIFEST]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
COLUMNS = 124


def main() -> None:
    """Run the demo in a home of its own, lose a cluster, and draw what was printed."""
    app = sys.argv[1:]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "XDG_STATE_HOME": f"{home}/state", "KUBECONFIG": f"{home}/config"}
        run = lambda *args: (
            subprocess.run(
                [str(BIN / "atoll"), *args], env=environment, capture_output=True, text=True, check=False
            ).stdout
        )
        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
        try:
            _show(console, "make up", run("demo", *(["--app", app[0]] if app else [])))
            _show(
                console, "atoll plan -f examples/03-overrides", run("plan", "-f", str(ROOT / "examples/03-overrides"))
            )
        finally:
            run("down", "--purge")
    target = ROOT / "docs" / "images" / "demo.svg"
    target.parent.mkdir(exist_ok=True)
    target.write_text(console.export_svg(title="atoll", theme=MONOKAI))
    print(f"wrote {target}")


def _show(console: Console, command: str, output: str) -> None:
    console.print(Text(f"$ {command}", style="bold green"))
    for line in output.rstrip().splitlines():
        console.print(Text(line[:COLUMNS]), soft_wrap=True)
    console.print()


if __name__ == "__main__":
    main()
