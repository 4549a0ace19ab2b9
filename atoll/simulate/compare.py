"""Many runs: seeds × policies, each in a process of its own that was started for it, as many at once as asked.

A run's process is spawned, never forked, so that it starts as a fresh interpreter: what a run gives may depend on
nothing but the scenario, the policy and the seed.
"""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.base.errors import AtollError, UserError
from atoll.runtime.virtual import run_virtual
from atoll.simulate.scenario.model import Scenario
from atoll.simulate.scenario.read import load
from atoll.simulate.summary import RunResult, result_of
from atoll.simulate.world import play

_POLL_SECONDS = 0.5
_shared: Any = None  # in a worker: virtual seconds done, by run


@dataclass(frozen=True, slots=True)
class Task:
    """One run: which scenario, policy and seed."""

    path: Path
    policy: str
    seed: int

    @property
    def line(self) -> str:
        """The command that plays it again."""
        return f"atoll simulate {self.path} --seeds {self.seed} --compare '{self.policy}'"


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


def run_all(tasks: Sequence[Task], seconds: float, at_once: int, report: Report) -> list[RunResult]:
    """Each of `seconds` of virtual time, in the order of the tasks. Raises the first UserError."""
    context = multiprocessing.get_context("spawn")
    done = context.Array("d", len(tasks), lock=False)
    started = time.monotonic()
    with concurrent.futures.ProcessPoolExecutor(
        at_once, mp_context=context, initializer=_share, initargs=(done,), max_tasks_per_child=1
    ) as pool:
        futures = [pool.submit(_work, task, slot) for slot, task in enumerate(tasks)]
        waiting = set(futures)
        try:
            while waiting:
                finished, waiting = concurrent.futures.wait(waiting, _POLL_SECONDS, concurrent.futures.FIRST_EXCEPTION)
                for future in finished:
                    future.result()
                share = sum(1.0 if future.done() else done[slot] / seconds for slot, future in enumerate(futures))
                report(len(tasks) - len(waiting), share / len(tasks), time.monotonic() - started)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


def _share(done: Any) -> None:
    global _shared
    _shared = done


def _work(task: Task, slot: int) -> RunResult:
    def progress(seconds: float) -> None:
        _shared[slot] = seconds

    try:
        return simulate(load(task.path, task.policy), task.seed, progress)
    except UserError as error:
        raise _portable(error) from None


def _portable(error: AtollError) -> UserError:
    """Exceptions cross processes by their arguments alone."""
    hint = f"\n  next: {error.hint}" if error.hint else ""
    return UserError(f"{error.message}{hint}")
