"""Seeds in virtual time: random clients on a server that crashes between any two turns, whose disk and clock misbehave.

    python -m atoll.testing.robustness.explore --seeds 10000

A seed is everything: how many clients, how slow the disk, when it fails, fills or is torn, when the clock jumps, when
the process dies. The same seed gives the same history, told by its digest, in any interpreter. One that fails is
printed as one line that plays it again.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import logging
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from atoll.base.chance import Chance
from atoll.client.port import Client
from atoll.cluster.store.history import HistoryLimits
from atoll.runtime.virtual import LoopClock, VirtualLoop
from atoll.testing.robustness import report
from atoll.testing.robustness.check import check
from atoll.testing.robustness.faults import FAILURES, JumpingClock
from atoll.testing.robustness.history import History
from atoll.testing.robustness.planted import PLANTS, Plant
from atoll.testing.robustness.simulated import CrashingClient, SimulatedServer
from atoll.testing.robustness.traffic import Traffic, Workload
from atoll.testing.robustness.truth import Violation

_COUNTED = ("operations", "events", "crashes", "disk_faults", "clock_jumps")
_SEVERAL = ("left", "right")


@dataclass(slots=True)
class Outcome:
    """What one seed gave."""

    seed: int
    violations: list[Violation]
    digest: str
    operations: int = 0
    events: int = 0
    crashes: int = 0
    disk_faults: int = 0
    clock_jumps: int = 0
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides before it begins."""

    workload: Workload
    limits: HistoryLimits
    crash_gaps: tuple[int, ...]  # turns between crashes
    disk_faults: int
    clock_jumps: int
    latency_seconds: float

    @property
    def expired_ok(self) -> bool:
        """History may be too short for a watcher: it is small, or the wall clock jumped over it."""
        return self.limits.events < 1000 or self.clock_jumps > 0


def plan_of(chance: Chance) -> Plan:
    slow = chance.random() < 0.25  # minutes instead of moments, so that bookmarks come
    workload = Workload(
        clients=chance.integer(1, 5),
        watchers=chance.integer(2, 5),
        operations=chance.integer(5, 40),
        names=("a", "b", "c")[: chance.integer(1, 3)],
        pause_seconds=20.0 if slow else chance.choice([0.0, 0.005, 0.02]),
    )
    limits = HistoryLimits(seconds=36_000.0)
    if chance.random() < 0.2:
        limits = replace(limits, events=chance.integer(5, 30))
    crashes = chance.integer(0, 4)
    return Plan(
        workload=workload,
        limits=limits,
        crash_gaps=tuple(chance.integer(1, chance.choice([30, 200, 800])) for _ in range(crashes)),
        disk_faults=chance.integer(0, 3) if chance.random() < 0.5 else 0,
        clock_jumps=chance.integer(1, 3) if chance.random() < 0.2 else 0,
        latency_seconds=chance.choice([0.0, 0.001, 0.02]),
    )


class _Run:
    """One seed in a running virtual loop."""

    def __init__(self, seed: int, loop: VirtualLoop, folder: Path, plant: Plant | None) -> None:
        chance = Chance(seed, "explore")
        self._chance = chance
        self.plan = plan_of(chance.stream("plan"))
        self._clock = JumpingClock(LoopClock(loop))
        self._loop = loop
        self.history = History()
        delays = chance.stream("latency")
        more = {} if plant is None else plant.server(chance.stream("plant"))
        self._server = SimulatedServer(
            folder, self._clock, chance.stream("server"), self.plan.limits,
            lambda: delays.uniform(0.0, self.plan.latency_seconds), **more,
        )  # fmt: skip
        self._gaps = list(self.plan.crash_gaps)
        self._until_crash = self._gaps.pop(0) if self._gaps else -1
        self.outcome = Outcome(seed, [], "")
        self._restarts: set[asyncio.Task[None]] = set()

    async def play(self) -> Outcome:
        await self._server.start(_SEVERAL)
        traffic = Traffic(self.history, self._chance.stream("traffic"), self._connect, self.plan.workload)
        self._loop.on_turn = self._turn
        faults = asyncio.ensure_future(self._misbehave(self._chance.stream("faults")))
        try:
            await traffic.start_watchers()
            await traffic.run_clients()
            self._loop.on_turn = None
            faults.cancel()
            await asyncio.gather(faults, *self._restarts, return_exceptions=True)
            await self._heal()
            late = await traffic.settle()
        finally:
            await traffic.close()
        await self._server.stop()
        found = [Violation("watch: it comes", text) for text in late]
        expired_ok = self.plan.expired_ok or self._server.compactions > 0
        found += check(self.history, dump=self._server.changes(), expired_ok=expired_ok)
        outcome = self.outcome
        outcome.violations = found
        outcome.digest = self.history.digest()
        outcome.operations = len(self.history.operations)
        outcome.events = sum(len(stream.delivered) for stream in self.history.streams)
        return outcome

    def _connect(self) -> Client:
        return CrashingClient(self._server)

    def _turn(self) -> None:
        """Called before each turn of the loop."""
        self.outcome.turns += 1
        if self._until_crash < 0 or self._server.store is None:
            return
        self._until_crash -= 1
        if self._until_crash < 0:
            self._server.crash()
            self.outcome.crashes += 1
            self._until_crash = self._gaps.pop(0) if self._gaps else -1
            task = asyncio.ensure_future(self._restart(), loop=self._loop)
            self._restarts.add(task)

    async def _restart(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, 0.05))
        await self._server.start(_SEVERAL)

    async def _misbehave(self, chance: Chance) -> None:
        """Disk faults and clock jumps, spread over the run."""
        longest = max(0.05, self.plan.workload.pause_seconds * self.plan.workload.operations / 2)
        acts = ["disk"] * self.plan.disk_faults + ["clock"] * self.plan.clock_jumps
        chance.shuffle(acts)
        for act in acts:
            await asyncio.sleep(chance.uniform(0.0, longest / len(acts)))
            if act == "clock":
                self._clock.jump(chance.choice([-86_400.0, -30.0, 30.0, 3_600.0]))
                self.outcome.clock_jumps += 1
            elif self._server.store is not None:
                self._break_disk(chance)
                self.outcome.disk_faults += 1

    def _break_disk(self, chance: Chance) -> None:
        assert self._server.store is not None
        log = self._server.store.log
        if log.deaf:
            return
        what = chance.choice(["fail", "full", "slow", "deaf"])
        if what == "slow":
            log.delay_seconds = chance.uniform(0.001, 0.5)
        elif what == "deaf":  # written, and reported as failed: only a restart heals it
            log.deaf = True
            self._until_crash = chance.integer(1, 60)
        else:
            log.failure = FAILURES[what == "full"]
            log.failing = chance.integer(1, 5)

    async def _heal(self) -> None:
        assert self._server.store is not None
        if self._server.store.log.deaf:
            self._server.crash()
            self.outcome.crashes += 1
            await self._server.start(_SEVERAL)
        log = self._server.store.log
        log.failing, log.delay_seconds = 0, 0.0


def explore(seed: int, plant: Plant | None = None) -> Outcome:
    """Play one seed in a fresh virtual loop."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="atoll-explore-", dir=shared if shared.is_dir() else None))
    loop = VirtualLoop()
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(_Run(seed, loop, folder, plant).play())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _told(figures: report.Figures) -> str:
    return (
        f"{figures['seeds']:,.0f} seeds, {figures['failed']:.0f} failed: {figures['operations']:,.0f} operations, "
        f"{figures['events']:,.0f} events, {figures['crashes']:,.0f} crashes, "
        f"{figures['disk_faults']:,.0f} disk faults, {figures['clock_jumps']:,.0f} clock jumps"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m atoll.testing.robustness.explore", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seeds", type=int, default=200, help="how many (default: 200)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--seed", type=int, help="play only this one, and say what it did")
    parser.add_argument("--tally", type=Path, help="add the figures to those in this file")
    parser.add_argument("--write", type=Path, help="write the figures into this document")
    parser.add_argument("--plant", choices=sorted(PLANTS), help="with this fault in the server")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command; 1 if a seed failed."""
    options = _parser().parse_args(arguments)
    logging.getLogger("atoll").setLevel(logging.ERROR)  # that writes fail is what is wanted
    plant = PLANTS[options.plant] if options.plant else None
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    failed = 0
    totals = Outcome(0, [], "")
    for seed in seeds:
        outcome = explore(seed, plant)
        for name in _COUNTED:
            setattr(totals, name, getattr(totals, name) + getattr(outcome, name))
        if outcome.violations:
            failed += 1
            again = f"python -m atoll.testing.robustness.explore --seed {seed}"
            again += f" --plant {options.plant}" if options.plant else ""
            sys.stdout.write(f"{again}  # {str(outcome.violations[0])[:300]}\n")
        if options.seed is not None:
            sys.stdout.write("".join(f"  {violation}\n" for violation in outcome.violations))
            sys.stdout.write(f"digest {outcome.digest}\n")
    figures = report.add_up(
        options.tally,
        {"seeds": len(seeds), "failed": failed} | {name: getattr(totals, name) for name in _COUNTED},
    )
    text = _told(figures)
    sys.stdout.write(text + "\n")
    if options.write:
        cells = [
            "`make explore`",
            f"{figures['seeds']:,.0f} seeds",
            text.partition(": ")[2],
            f"{figures['failed']:.0f}",
        ]
        report.write_row(options.write, "explore", cells, datetime.date.today())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
