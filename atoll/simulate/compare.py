"""Many runs: seeds × policies, each in a process of its own that was started for it, as many at once as asked.

A run's process is spawned, never forked, so that it starts as a fresh interpreter: what a run gives may depend on
nothing but the scenario, the policy and the seed.
"""

from __future__ import annotations

import gc
import math
import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path
from shlex import quote

from atoll.base.errors import InternalError, UserError
from atoll.runtime.virtual import run_virtual
from atoll.simulate.explore import explored
from atoll.simulate.scenario.model import Scenario
from atoll.simulate.summary import RunResult, result_of
from atoll.simulate.world import play

_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Task:
    """One run: which scenario (None: the one that the seed makes), policy and seed. `scenario`: as it was read, as the
    file may be another one by the time that the last run begins."""

    path: Path | None
    policy: str
    seed: int
    scenario: Scenario | None = None

    @property
    def line(self) -> str:
        """The command that plays it again."""
        if self.path is None:
            return f"atoll simulate --explore 1 --seeds {self.seed}"
        return f"atoll simulate {quote(str(self.path))} --seeds {self.seed} --compare {quote(self.policy)}"


Report = Callable[[int, float, float], None]
"""(runs that are done, share of all virtual time that is, seconds since the start)"""


def simulate(scenario: Scenario, seed: int, progress: Callable[[float], None] | None = None) -> RunResult:
    """One run in this process. Raises UserError."""
    started = time.process_time()
    try:
        outcome = run_virtual(play(scenario, seed, progress))
    finally:
        gc.unfreeze()
    return result_of(scenario.policy, seed, outcome, time.process_time() - started)


def run_all(tasks: Sequence[Task], seconds: float | None, at_once: int, report: Report) -> list[RunResult]:
    """Each of `seconds` of virtual time (None: they differ), in the order of the tasks. Raises the first UserError."""
    whole = seconds or math.inf
    done = [0.0] * len(tasks)
    results: dict[int, RunResult] = {}
    running: dict[Connection, _Worker] = {}
    context = multiprocessing.get_context("spawn")
    started = time.monotonic()
    todo = deque(enumerate(tasks))
    try:
        while todo or running:
            while todo and len(running) < at_once:
                worker = _Worker(context, *todo.popleft())
                running[worker.answers] = worker
            for answers in wait(list(running), _POLL_SECONDS):
                assert isinstance(answers, Connection)
                slot, news = running[answers].slot, running[answers].news()
                if isinstance(news, float):
                    done[slot] = news / whole
                    continue
                results[slot], done[slot] = news, 1.0
                running.pop(answers).process.join()
            report(len(results), sum(done) / len(tasks), time.monotonic() - started)
    finally:
        for worker in running.values():
            worker.process.kill()
            worker.process.join()
    return [results[slot] for slot in range(len(tasks))]


class _Worker:
    """A process that plays one task, and the pipe on which it tells of it."""

    def __init__(self, context: SpawnContext, slot: int, task: Task) -> None:
        self.slot = slot
        self.task = task
        self.answers, own = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(task, own))
        self.process.start()
        own.close()

    def news(self) -> float | RunResult:
        """Virtual seconds that are done, or the result. Raises UserError, InternalError."""
        try:
            news = self.answers.recv()
        except EOFError:
            self.process.join()
            raise InternalError(f"{self.task.line}: its process ended ({self.process.exitcode})") from None
        if isinstance(news, _Refused):
            raise UserError(news.message, hint=news.hint)
        if isinstance(news, float | RunResult):
            return news
        raise InternalError(f"{self.task.line}: {news}")


@dataclass(frozen=True, slots=True)
class _Refused:
    """A UserError on its way to the parent."""

    message: str
    hint: str | None


def _work(task: Task, answers: Connection) -> None:
    told = -math.inf

    def progress(seconds: float) -> None:
        nonlocal told
        if time.monotonic() - told > _POLL_SECONDS:
            told = time.monotonic()
            answers.send(seconds)

    try:
        answers.send(simulate(task.scenario or explored(task.seed), task.seed, progress))
    except UserError as error:
        answers.send(_Refused(error.message, error.hint))
    except Exception:
        answers.send(traceback.format_exc())
