"""Run a batch of tests in one process of the e2e binary, and read its output as it comes.

The results come from what ginkgo prints, so that a test that hangs, or a binary that dies, costs that test and not the
batch: the test that ran then is failed, those that were not begun are given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from suite import Test, focus_pattern

_RULE = "-" * 30
_OUTCOME = re.compile(r"^(?:•|S|P)\s*(?:\[([A-Z ]+)\])?\s*(?:\[([0-9.]+) seconds\])?")
_CLEAN_SECONDS = 75.0
_START_SECONDS = 180.0
REASON_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Result:
    """How one test ended."""

    test: str
    sig: str
    passed: bool
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Target:
    """A cluster to judge."""

    kubeconfig: Path
    logs: Path
    arguments: tuple[str, ...] = ()


@dataclass
class _Reader:
    """Turns lines into results. `started` and `current` tell the watchdog what runs now."""

    tests: Sequence[Test]
    tell: Callable[[Result], None]
    results: dict[str, Result] = field(default_factory=dict)
    current: Test | None = None
    after_rule: bool = False
    failed: tuple[Test, float] | None = None
    lines: list[str] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)

    def line(self, line: str) -> bool:
        """One line of output. True when another test began or the present one ended."""
        self.tail = [*self.tail[-39:], line]
        if line.startswith(_RULE):
            self._close_failure()
            self.after_rule = True
            return False
        if self.after_rule and line.startswith("["):
            self.after_rule = False
            found = self._named(line)
            if found is not None and found.name not in self.results:
                self.current = found
                return True
        self.after_rule = False
        if self.failed is not None:
            self.lines.append(line)
            return False
        return self._outcome(line)

    @property
    def between(self) -> bool:
        """A test has ended, all of it is read, and none is running."""
        return bool(self.results) and self.current is None and self.failed is None

    def _named(self, line: str) -> Test | None:
        matching = [test for test in self.tests if line.startswith(test.name)]
        return max(matching, key=lambda test: len(test.name), default=None)

    def _outcome(self, line: str) -> bool:
        if self.current is None or not line.startswith(("• ", "•[", "S [", "P [")):
            return False
        found = _OUTCOME.match(line)
        word, seconds = (found.group(1), float(found.group(2) or 0)) if found else (None, 0.0)
        if word is None:
            self._record(self.current, True, "", seconds)
        elif line.startswith("•"):
            self.failed, self.lines = (self.current, seconds), [f"[{word}]"]
        else:
            self._record(self.current, False, word.lower(), seconds)
            self.failed, self.lines = None, []
        self.current = None
        return True

    def _close_failure(self) -> None:
        if self.failed is not None:
            test, seconds = self.failed
            self.failed = None
            self._record(test, False, _reason(self.lines), seconds)

    def _record(self, test: Test, passed: bool, reason: str, seconds: float) -> None:
        result = Result(test.name, test.sig, passed, reason[:REASON_LENGTH], round(seconds, 1))
        self.results[test.name] = result
        self.tell(result)

    def end(self, why: str) -> None:
        """The process is gone: what ran then has failed."""
        self._close_failure()
        if self.current is not None:
            self._record(self.current, False, why, 0.0)
            self.current = None


def _reason(lines: Sequence[str]) -> str:
    """From the first "[FAILED] …" (or such) that stands alone, without the places in the source."""
    text: list[str] = []
    begun = False
    for line in lines[1:]:
        stripped = line.strip()
        if not begun and re.match(r"^\[(FAILED|PANICKED|TIMEDOUT|INTERRUPTED|ABORTED)\]", stripped):
            begun = True
        if begun:
            if stripped.startswith(("In [", "Full Stack Trace", "There were additional failures")):
                break
            if stripped:
                text.append(stripped)
    return " ".join(text) or " ".join(line.strip() for line in lines)[:REASON_LENGTH]


async def run_batch(
    binary: Path,
    target: Target,
    tests: Sequence[Test],
    name: str,
    seconds: float,
    tell: Callable[[Result], None],
    until: float = float("inf"),
) -> list[Test]:
    """Run them one after another; `tell` hears each result. Returns those that were not begun (run them anew).

    `until`: a moment of the loop's clock after which no further one begins.
    """
    log = target.logs / f"{name}.log"
    command = [
        str(binary), f"--kubeconfig={target.kubeconfig}", "--provider=skeleton", "--ginkgo.v", "--ginkgo.no-color",
        "--ginkgo.timeout=24h", "--disable-log-dump", "--dump-logs-on-failure=false", *target.arguments,
        *(f"--ginkgo.focus={focus_pattern(test)}" for test in tests),
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, cwd=target.logs, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL, limit=1 << 24,
    )  # fmt: skip
    reader = _Reader(tests, tell)
    try:
        why = await _follow(process, reader, log, seconds, until)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    reader.end(why)
    left = [test for test in tests if test.name not in reader.results]
    if left and len(left) == len(tests):  # it never got as far as a test
        for test in tests:
            tell(Result(test.name, test.sig, False, f"the suite did not start: {' '.join(reader.tail)[-500:]}", 0.0))
        return []
    return left


async def _follow(process: asyncio.subprocess.Process, reader: _Reader, log: Path, seconds: float, until: float) -> str:
    """Read until the end; a test that takes longer than `seconds` is interrupted. Returns why, for what was running."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _START_SECONDS
    interrupted = False
    assert process.stdout is not None
    with log.open("a", buffering=1) as out:
        while True:
            try:
                raw = await asyncio.wait_for(process.stdout.readline(), max(deadline - clock(), 0.01))
            except TimeoutError:
                if interrupted:
                    return f"still running after {seconds:.0f} s, and did not stop when interrupted"
                interrupted = True
                deadline = clock() + _CLEAN_SECONDS
                process.send_signal(signal.SIGINT)
                continue
            if not raw:
                await process.wait()
                return f"the test binary ended with {process.returncode}: {' '.join(reader.tail)[-400:]}"
            line = raw.decode(errors="replace").rstrip("\n")
            out.write(line + "\n")
            if reader.line(line) and not interrupted:
                deadline = clock() + seconds
            if reader.between and clock() > until:
                return "the time was up"
