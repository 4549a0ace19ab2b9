"""Run the figures and print a table.

python -m bench [NAME …] [--write FILE]
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
import traceback
from pathlib import Path

from bench.figure import Figure

ROWS = ("start", "creates", "watchers", "gets", "lists", "applies", "memory", "informers", "replicas", "fleet")
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="NAME", help=f"one of: {', '.join(ROWS)}; all by default")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the table in this Markdown file")
    arguments = parser.parse_args()
    unknown = set(arguments.rows) - set(ROWS)
    if unknown:
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    broken = []
    for name in arguments.rows or ROWS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        try:
            figures += importlib.import_module(f"bench.{name}").run()
        except Exception:
            traceback.print_exc()
            broken.append(name)
    text = table(figures)
    print(text)
    if arguments.write is not None:
        replace(arguments.write, text)
    if broken:
        print(f"not measured: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def table(figures: list[Figure]) -> str:
    lines = [
        f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores ({platform.machine()}), "
        f"Linux {platform.release()}, Python {platform.python_version()}, load average at the end "
        f"{os.getloadavg()[0]:.1f}; both sides in the same run where the basis does not say otherwise.",
        "",
        "| what | real Kubernetes 1.36 | Atoll | factor | reach | |",
        "|---|---|---|---|---|---|",
    ]
    for figure in figures:
        factor = "" if figure.factor is None else f"{figure.factor:.1f}×"
        verdict = {True: "reached", False: "missed", None: "no peer"}[figure.reached]
        lines.append(f"| {figure.what} | {figure.real} | {figure.ours} | {factor} | {figure.reach} | {verdict} |")
    lines.append("")
    lines += [f"- *{figure.what}*: {figure.basis}." for figure in figures]
    return "\n".join(lines)


def replace(path: Path, text: str) -> None:
    """Put the table between the marks of the file, or at its end."""
    old = path.read_text() if path.exists() else "# Performance\n"
    block = f"{BEGIN}\n{text}\n{END}"
    if BEGIN in old and END in old:
        head, rest = old.split(BEGIN, 1)
        new = head + block + rest.split(END, 1)[1]
    else:
        new = old.rstrip() + "\n\n" + block + "\n"
    path.write_text(new)


if __name__ == "__main__":
    sys.exit(main())
