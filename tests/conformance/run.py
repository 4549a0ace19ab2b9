"""Kubernetes' own conformance suite against a cluster of ours (or, with --real, against the real control plane)."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import time
from collections import Counter, deque
from contextlib import AbstractContextManager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import programs
import records
from binary import Result, Target, run_batch
from suite import Test, all_tests, batches, rotated, select

EXAMPLES = """examples:
  python tests/conformance/run.py --focus "Secrets"                 the tests whose name matches, and why they failed
  python tests/conformance/run.py --sig apps --procs 8
  python tests/conformance/run.py --shard 2/5 --results /tmp/r.jsonl
  python tests/conformance/run.py --sig node --real                 our nodes under the real control plane
  python tests/conformance/run.py --failed --results /tmp/r.jsonl   again what failed last time
  python tests/conformance/run.py --kubeconfig FILE --focus X       a cluster that you started

Each process's whole output is in the --logs folder. A test's output there starts with a line of 30 dashes and its name.
"""
OUT = Path(__file__).resolve().parents[2] / "out" / "conformance"
BATCH = 8
BUDGET_BATCH = 6  # each costs the binary's start, three seconds of a core
LONG_SECONDS = 45.0  # last time: such a test is a batch by itself, and begins early
PARALLEL_SHARE = 0.75  # of the budget; the rest is for those that run alone


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 when all that the ratchet holds passed (and, with --strict, when all passed)."""
    options = parse(arguments)
    if programs.build():
        return 2
    results = records.Records(options.results)
    tests = choose(options, results)
    if options.list:
        print("\n".join(test.name for test in tests))
        return 0
    if not tests:
        print("no test matches", file=sys.stderr)
        return 2
    shutil.rmtree(options.logs, ignore_errors=True)
    options.logs.mkdir(parents=True)
    with cluster(options) as kubeconfig:
        run = Run(options, Target(kubeconfig, options.logs, suite_arguments()), tests, results)
        asyncio.run(run.all())
    return conclude(options, run.results)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sig", action="append", default=[], help="only this SIG's tests (apps, node, …); may be repeated")
    add("--focus", action="append", default=[], metavar="REGEX", help="only tests whose name it finds; repeatable")
    add("--skip", action="append", default=[], metavar="REGEX", help="not these; repeatable")
    add("--shard", default=(1, 1), type=shard, metavar="I/N", help="every N-th of them, from the I-th")
    add("--procs", default=8, type=int, help="processes of the test binary at once (8); [Serial] tests run alone after")
    add("--serial", choices=("also", "only", "no"), default="also", help="the [Serial] tests: also (after), only, no")
    add("--ratcheted", action="store_true", help="only tests that the ratchet holds")
    add("--failed", action="store_true", help="only tests whose last result in --results is a failure")
    add("--missing", action="store_true", help="only tests without a result in --results")
    add("--timeout", default=900.0, type=float, help="seconds for one test, then it is interrupted and failed (900)")
    add("--budget", default=0.0, type=float, help="begin no test after so many seconds (0: no limit)")
    add("--rotate", metavar="KEY", help="begin at a place that KEY decides (a commit): with --budget, a part each time")
    add("--nodes", default=2, type=int, help="process nodes (2)")
    add("--real", action="store_true", help="the real control plane with our process nodes")
    add("--kubeconfig", type=Path, help="a running cluster, instead of making one")
    add("--results", type=Path, help="JSON lines, appended (out/conformance/{ours,real}.jsonl)")
    add("--logs", type=Path, help="the test binary's output (out/conformance/logs-PID)")
    add("--list", action="store_true", help="print the tests' names and run nothing")
    add("--strict", action="store_true", help="exit 1 when any test failed, not only one that the ratchet holds")
    add("--update-ratchet", action="store_true", help="add the tests that passed to ratchet.txt")
    add("--quiet", action="store_true", help="print failures and every tenth test only")
    options = parser.parse_args(arguments)
    options.results = options.results or OUT / ("real.jsonl" if options.real else "ours.jsonl")
    options.logs = (options.logs or OUT / f"logs-{os.getpid()}").resolve()
    return options


def shard(text: str) -> tuple[int, int]:
    """2/5 → (2, 5)."""
    found = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if not found or int(found[1]) > int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 1 to N")
    return int(found[1]), int(found[2])


def choose(options: argparse.Namespace, results: records.Records) -> list[Test]:
    """The tests that the options ask for."""
    tests = all_tests()
    if options.serial != "also":
        tests = [test for test in tests if test.serial == (options.serial == "only")]
    if options.ratcheted:
        held = records.ratchet()
        tests = [test for test in tests if test.name in held]
    known = results.latest() if options.failed or options.missing else {}
    if options.failed:
        tests = [test for test in tests if test.name in known and not known[test.name].passed]
    if options.missing:
        tests = [test for test in tests if test.name not in known]
    chosen = select(tests, sigs=options.sig, focus=options.focus, skip=options.skip, shard=options.shard)
    return rotated(chosen, options.rotate) if options.rotate else chosen


def suite_arguments() -> tuple[str, ...]:
    kubectl = Path(sys.executable).parent / "kubectl"
    return (f"--kubectl-path={kubectl}", f"--repo-root={programs.source_folder()}")


def cluster(options: argparse.Namespace) -> AbstractContextManager[Path]:
    """The cluster to judge, as a context that gives its kubeconfig."""
    from contextlib import nullcontext

    if options.kubeconfig:
        return nullcontext(options.kubeconfig.resolve())
    if options.real:
        from real_plane import real_cluster

        return real_cluster(options.nodes, options.logs)
    from ours import our_cluster

    return our_cluster(options.nodes)


class Run:
    """Spreads tests over processes of the binary, tells how it goes."""

    def __init__(
        self, options: argparse.Namespace, target: Target, tests: list[Test], records_: records.Records
    ) -> None:
        self._options = options
        self._target = target
        self._tests = tests
        self._records = records_
        self._long = {name for name, result in records_.latest().items() if result.seconds > LONG_SECONDS}
        self._started = time.monotonic()
        self._batches = 0
        self.results: dict[str, Result] = {}

    async def all(self) -> None:
        """Those that may run beside others first, then the serial ones alone."""
        budget = self._options.budget
        for tests, procs, share in (
            ([test for test in self._tests if not test.serial], self._options.procs, PARALLEL_SHARE),
            ([test for test in self._tests if test.serial], 1, 1.0),
        ):
            size = max(1, min(BUDGET_BATCH if budget else BATCH, -(-len(tests) // procs)))
            queue = deque(batches(tests, size, self._long, in_order=bool(budget)))
            until = budget * share if budget else float("inf")
            await asyncio.gather(*(self._work(queue, until) for _ in range(min(procs, len(queue)))))

    async def _work(self, queue: deque[list[Test]], until: float) -> None:
        """`until`: seconds after the start; no test begins later."""
        binary = programs.program("e2e.test")
        assert binary is not None
        while queue and time.monotonic() - self._started < until:
            batch = queue.popleft()
            self._batches += 1
            name = f"batch-{self._batches:03}"
            timeout, end = self._options.timeout, self._started + until
            left = await run_batch(binary, self._target, batch, name, timeout, self._tell, end)
            if left:
                queue.append(left)

    def _tell(self, result: Result) -> None:
        self.results[result.test] = result
        self._records.add(result)
        done, all_ = len(self.results), len(self._tests)
        spent = time.monotonic() - self._started
        left = spent / done * (all_ - done)
        if result.passed and self._options.quiet and done % 10:
            return
        passed = sum(item.passed for item in self.results.values())
        print(
            f"[{done}/{all_}] {passed} passed, {spent / 60:.1f} min, about {left / 60:.1f} left: "
            f"{'ok  ' if result.passed else 'FAIL'} {result.seconds:.0f} s {result.test}",
            flush=True,
        )
        if not result.passed:
            print(f"    {result.reason}", flush=True)


def conclude(options: argparse.Namespace, results: dict[str, Result]) -> int:
    """Print totals by SIG, keep the ratchet."""
    totals, passed = Counter(r.sig for r in results.values()), Counter(r.sig for r in results.values() if r.passed)
    for sig in sorted(totals):
        print(f"{sig:<24} {passed[sig]:>4} of {totals[sig]}")
    print(f"{'all':<24} {sum(passed.values()):>4} of {len(results)}   output: {options.logs}")
    if options.update_ratchet and not options.real:
        print(f"{records.add_to_ratchet(results)} new tests in the ratchet")
    broken = records.broken(results.values(), set() if options.real else records.ratchet())
    for result in broken:
        print(f"passed before, failed now: {result.test}\n    {result.reason}")
    return 1 if broken or (options.strict and sum(passed.values()) < len(results)) else 0


if __name__ == "__main__":
    sys.exit(main())
