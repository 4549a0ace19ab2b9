"""Real processes under the checker: random clients over HTTPS, `kill -9`, SIGSTOP, bad disks, clock jumps.

    python -m atoll.testing.robustness.kills --kills 1000

Kills come in rounds. In each, a server on a fresh disk is written to by several clients and watched by others; after
some answers it is made to suffer, killed, and started again on what is left. At the end of a round every watcher must
have seen the last write, and `check` judges the whole history, with the log itself as a witness.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.testing.robustness import report
from atoll.testing.robustness.check import check
from atoll.testing.robustness.history import History
from atoll.testing.robustness.traffic import Traffic, Workload
from atoll.testing.robustness.truth import Change, Violation

_KILLS_A_ROUND = 20
_WORKLOAD = Workload(clients=5, watchers=5, operations=1_000_000, pause_seconds=0.01)
_ANSWER_SECONDS = 60.0


class Server(Protocol):
    """What is killed: ours (`processes.AtollServer`) or the real thing."""

    @property
    def access(self) -> Access: ...

    async def start(self) -> None: ...

    async def kill(self) -> None: ...

    def pause(self) -> None: ...

    def go_on(self) -> None: ...

    def fault(self, **message: Any) -> None: ...

    def changes(self) -> list[Change]: ...


@dataclass(slots=True)
class Round:
    """What one gave."""

    seed: int
    kills: int = 0
    pauses: int = 0
    disk_faults: int = 0
    clock_jumps: int = 0
    operations: int = 0
    events: int = 0
    violations: list[Violation] = field(default_factory=list)


COUNTED = ("kills", "pauses", "disk_faults", "clock_jumps", "operations", "events")


async def play_round(server: Server, seed: int, kills: int, *, faults: bool, expired_ok: bool) -> Round:
    """One round. `faults`: the server's disk and clock are ours to break."""
    chance = Chance(seed, "kills")
    done = Round(seed)
    history = History()
    await server.start()
    clock = SystemClock()
    traffic = Traffic(
        history,
        chance.stream("traffic"),
        lambda: HttpClient(server.access, clock=clock, timeout_seconds=5.0),
        _WORKLOAD,
    )
    jumps = faults and seed % 4 == 0
    try:
        await traffic.start_watchers()
        clients = asyncio.ensure_future(traffic.run_clients())
        for _ in range(kills):
            await _answers(traffic, chance.integer(5, 60))
            await _make_suffer(server, chance, done, faults, jumps, traffic)
            await server.kill()
            done.kills += 1
            await server.start()
        await _answers(traffic, 30)
        traffic.over = True
        await clients
        late = await traffic.settle()
    finally:
        await traffic.close()
        await server.kill()
    done.violations = [Violation("watch: it comes", text) for text in late]
    done.violations += check(history, dump=server.changes(), expired_ok=expired_ok or jumps)
    done.operations = len(history.operations)
    done.events = sum(len(stream.delivered) for stream in history.streams)
    return done


async def _answers(traffic: Traffic, count: int) -> None:
    goal = traffic.answered + count
    waited = 0.0
    while traffic.answered < goal:
        await asyncio.sleep(0.005)
        waited += 0.005
        if waited > _ANSWER_SECONDS:
            raise RuntimeError("the server answers nobody any more")


async def _make_suffer(
    server: Server, chance: Chance, done: Round, faults: bool, jumps: bool, traffic: Traffic
) -> None:
    if chance.random() < 0.3:
        server.pause()
        done.pauses += 1
        await asyncio.sleep(chance.uniform(0.01, 0.15))
        if chance.random() < 0.5:  # else it is killed where it stands
            server.go_on()
            await asyncio.sleep(chance.uniform(0.0, 0.05))
    if not faults:
        return
    if jumps and chance.random() < 0.3:
        server.fault(jump=chance.choice([-86_400.0, -60.0, 60.0, 86_400.0]))
        done.clock_jumps += 1
    if chance.random() < 0.4:
        done.disk_faults += 1
        what = chance.choice(["fail", "full", "slow", "deaf"])
        amount = chance.uniform(0.01, 0.1) if what == "slow" else chance.integer(1, 4)
        server.fault(**{what: amount})
        await asyncio.sleep(chance.uniform(0.0, 0.1))


def told(figures: report.Figures) -> str:
    return (
        f"{figures['kills']:,.0f} kills, {figures['violations']:.0f} violations: "
        f"{figures['operations']:,.0f} operations, {figures['events']:,.0f} events, "
        f"{figures['pauses']:,.0f} pauses (SIGSTOP), "
        f"{figures['disk_faults']:,.0f} disk faults, {figures['clock_jumps']:,.0f} clock jumps"
    )


def parser(program: str, text: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog=program, description=text)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    made.add_argument("--seed", type=int, default=None, help="of the first round (default: by chance)")
    made.add_argument("--tally", type=Path, help="add the figures to those in this file")
    made.add_argument("--write", type=Path, help="write the figures into this document")
    return made


def run_rounds(options: argparse.Namespace, play: Callable[[int, int], Round], command: str, mark: str) -> int:
    """`play(seed, kills)` until there were enough; 1 if anything was found."""
    seed = secrets.randbelow(1 << 32) if options.seed is None else options.seed
    left = options.kills
    totals: report.Figures = dict.fromkeys((*COUNTED, "violations"), 0)
    while left > 0:
        done = play(seed, min(left, _KILLS_A_ROUND))
        for name in COUNTED:
            totals[name] += getattr(done, name)
        totals["violations"] += len(done.violations)
        for violation in done.violations[:20]:
            sys.stdout.write(f"seed {seed}: {str(violation)[:600]}\n")
        left -= done.kills
        seed += 1
    figures = report.add_up(options.tally, totals)
    sys.stdout.write(told(figures) + "\n")
    if options.write:
        happened = told(figures).partition(": ")[2]
        cells = [command, f"{figures['kills']:,.0f} kills", happened, f"{figures['violations']:.0f}"]
        report.write_row(options.write, mark, cells, datetime.date.today())
    return 1 if totals["violations"] else 0


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if anything was found."""
    options = parser("python -m atoll.testing.robustness.kills", __doc__).parse_args(arguments)
    from atoll.testing.robustness.processes import AtollServer, Nursery

    nursery = Nursery()

    def play(seed: int, kills: int) -> Round:
        folder = Path(tempfile.mkdtemp(prefix="atoll-kills-"))
        try:
            server = AtollServer(nursery, folder)
            return asyncio.run(play_round(server, seed, kills, faults=True, expired_ok=False))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    try:
        return run_rounds(options, play, "`make robustness`", "kills")
    finally:
        nursery.close()


if __name__ == "__main__":
    sys.exit(main())
