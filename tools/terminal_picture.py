"""Draw docs/images/demo.svg and gpu-top.svg: what the documentation's commands print, from real runs on this machine.

.venv/bin/python tools/terminal_picture.py demo [APP_MANIFEST]
.venv/bin/python tools/terminal_picture.py gpu-top
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
COLUMNS = 124
Run = Callable[..., str]  # (program, arguments…) → what it printed


def main() -> None:
    """Run what the picture shows in a home of its own, and draw what was printed."""
    name, *rest = sys.argv[1:] or ["demo"]
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "XDG_STATE_HOME": f"{home}/state", "KUBECONFIG": f"{home}/config"}

        def run(program: str, *args: str) -> str:
            command = [str(BIN / program), *args]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout

        console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))  # noqa: SIM115
        {"demo": _demo, "gpu-top": _gpu_top}[name](console, run, rest)
    target = ROOT / "docs" / "images" / f"{name}.svg"
    target.parent.mkdir(exist_ok=True)
    target.write_text(console.export_svg(title="atoll", theme=MONOKAI))
    print(f"wrote {target}")


def _demo(console: Console, run: Run, app: list[str]) -> None:
    """A fleet with an application, and a plan."""
    try:
        _show(console, "make up", run("atoll", "demo", *(["--app", app[0]] if app else [])))
        plan = str(ROOT / "examples/03-overrides")
        _show(console, "atoll plan -f examples/03-overrides", run("atoll", "plan", "-f", plan))
    finally:
        run("atoll", "down", "--purge")


def _gpu_top(console: Console, run: Run, _: list[str]) -> None:
    """Example 15 with a bad GPU."""
    example = ROOT / "examples/15-mig-and-time-slicing"
    kubectl = ("kubectl", "--context", "atoll-shared")
    try:
        run(
            "atoll",
            "gpu",
            "up",
            "--name",
            "shared",
            "--gpus",
            "a100-40gb:4",
            "--config-values",
            f"{example}/workers.yaml",
        )
        run(*kubectl, "apply", "-f", f"{example}/operator.yaml")
        run(*kubectl, "label", "node", "shared-worker", "nvidia.com/device-plugin.config=mig",
            "nvidia.com/mig.config=all-balanced")  # fmt: skip
        run(*kubectl, "label", "node", "shared-worker2", "nvidia.com/device-plugin.config=slices")
        run(*kubectl, "apply", "-f", f"{example}/partitions.yaml", "-f", f"{example}/slices.yaml")
        for name in ("notebook", "chat"):
            run(*kubectl, "rollout", "status", f"deployment/{name}", "--timeout=60s")
        run("atoll", "gpu", "fault", "shared-worker2", "--xid", "63", "--gpu", "1", "--name", "shared")
        for options in ([], ["--devices"]):
            shown = " ".join(["atoll gpu top", *options, "--name shared"])
            _show(console, shown, run("atoll", "gpu", "top", *options, "--name", "shared"))
    finally:
        run("atoll", "gpu", "down", "shared")


def _show(console: Console, command: str, output: str) -> None:
    console.print(Text(f"$ {command}", style="bold green"))
    for line in output.rstrip().splitlines():
        console.print(Text(line[:COLUMNS]), soft_wrap=True)
    console.print()


if __name__ == "__main__":
    main()
