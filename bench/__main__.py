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

ROWS = (
    "start",
    "creates",
    "watchers",
    "gets",
    "lists",
    "applies",
    "memory",
    "informers",
    "replicas",
    "live",
    "fleet",
    "scheduling",
    "devices",
    "openb",
    "scheduler_perf",
    "gangs",
    "queueing",
    "simulate",
)
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="NAME", help=f"one of: {', '.join(ROWS)}; all by default")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the rows into the table of this Markdown file")
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
    print(table(figures))
    if arguments.write is not None:
        replace(arguments.write, figures)
    if broken:
        print(f"not measured: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def table(figures: list[Figure]) -> str:
    head = (
        f"Measured {time.strftime('%Y-%m-%d')} on {os.cpu_count()} cores ({platform.machine()}), "
        f"Linux {platform.release()}, Python {platform.python_version()}, load average at the end "
        f"{os.getloadavg()[0]:.1f}; both sides in the same run where the basis does not say otherwise."
    )
    rows = {figure.what: row(figure) for figure in figures}
    return laid_out(head, rows, {figure.what: f"- *{figure.what}*: {figure.basis}." for figure in figures})


def row(figure: Figure) -> str:
    factor = "" if figure.factor is None else f"{figure.factor:.1f}×"
    verdict = {True: "reached", False: "missed", None: "no peer"}[figure.reached]
    return f"| {figure.what} | {figure.real} | {figure.ours} | {factor} | {figure.reach} | {verdict} |"


def laid_out(head: str, rows: dict[str, str], bases: dict[str, str]) -> str:
    titles = ["| what | real Kubernetes 1.36 | Atoll | factor | reach | |", "|---|---|---|---|---|---|"]
    return "\n".join([head, "", *titles, *rows.values(), "", *bases.values()])


def replace(path: Path, figures: list[Figure]) -> None:
    """Put the rows into the table between the marks of the file; rows that were not measured now stay as they are.

    The line above the table tells of the machine. It stays too where any row does, and new rows' bases say when they
    were measured.
    """
    old = path.read_text() if path.exists() else "# Performance\n"
    if BEGIN not in old or END not in old:
        path.write_text(f"{old.rstrip()}\n\n{BEGIN}\n{table(figures)}\n{END}\n")
        return
    before, rest = old.split(BEGIN, 1)
    block, after = rest.split(END, 1)
    lines = block.strip().splitlines()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in lines if line.startswith("| ")}
    del rows["what"]
    bases = {line[3:].split("*:", 1)[0]: line for line in lines if line.startswith("- *")}
    if rows.keys() <= {figure.what for figure in figures}:
        text = table(figures)
    else:
        load = f"measured {time.strftime('%Y-%m-%d')}, load average at the end {os.getloadavg()[0]:.1f}"
        rows |= {figure.what: row(figure) for figure in figures}
        bases |= {figure.what: f"- *{figure.what}*: {figure.basis}; {load}." for figure in figures}
        text = laid_out(lines[0], rows, bases)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


if __name__ == "__main__":
    sys.exit(main())
