"""Which tests there are, and which of them a run takes.

The list comes from the e2e binary itself (a dry run), so it is that version's suite and nobody's copy. Selecting is
pure: by SIG, by regular expression, by shard.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from programs import cache_folder, program

_SIG = re.compile(r"^\[(sig-[a-z-]+)\]")
_UNSAFE = re.compile(r"([\\.+*?()|\[\]{}^$])")
_LIST_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Test:
    """One conformance test by its full name."""

    name: str

    @property
    def sig(self) -> str:
        found = _SIG.match(self.name)
        return found.group(1) if found else "none"

    @property
    def serial(self) -> bool:
        """Whether it must run alone: it says so of itself."""
        return "[Serial]" in self.name


def all_tests() -> list[Test]:
    """Every test of the built binary that is labelled Conformance, sorted by name; listed once, then cached."""
    cached = cache_folder() / "tests.json"
    if not cached.exists():
        names = sorted(_dry_run())
        draft = cached.with_suffix(".tmp")
        draft.write_text(json.dumps(names, indent=0))
        draft.replace(cached)
    return [Test(name) for name in json.loads(cached.read_text())]


def _dry_run() -> set[str]:
    binary = program("e2e.test")
    if binary is None:
        raise FileNotFoundError("e2e.test is not built: python tests/conformance/programs.py")
    with tempfile.TemporaryDirectory(prefix="atoll-conformance-") as folder:
        report = Path(folder) / "report.json"
        subprocess.run(
            [binary, "--ginkgo.dry-run", r"--ginkgo.focus=\[Conformance\]", f"--ginkgo.json-report={report}"],
            cwd=folder, check=True, capture_output=True, timeout=_LIST_SECONDS,
        )  # fmt: skip
        suites = json.loads(report.read_text())
    return {
        " ".join([*(spec["ContainerHierarchyTexts"] or []), spec["LeafNodeText"]])
        for suite in suites
        for spec in suite["SpecReports"]
        if spec["LeafNodeType"] == "It" and spec["State"] == "passed"
    }


def select(
    tests: Iterable[Test],
    *,
    sigs: Sequence[str] = (),
    focus: Sequence[str] = (),
    skip: Sequence[str] = (),
    shard: tuple[int, int] = (1, 1),
) -> list[Test]:
    """Those of any of the SIGs, that match any `focus` and no `skip`; of these, shard i of n (every n-th)."""
    wanted = {sig if sig.startswith("sig-") else f"sig-{sig}" for sig in sigs}
    kept = [
        test
        for test in tests
        if (not wanted or test.sig in wanted)
        and (not focus or any(re.search(pattern, test.name) for pattern in focus))
        and not any(re.search(pattern, test.name) for pattern in skip)
    ]
    index, count = shard
    return kept[index - 1 :: count]


def rotated(tests: Sequence[Test], key: str) -> list[Test]:
    """The same ones, beginning at a place that `key` decides: with a budget, each key reaches others."""
    if not tests:
        return []
    start = int(hashlib.sha256(key.encode()).hexdigest(), 16) % len(tests)
    return [*tests[start:], *tests[:start]]


def batches(tests: Sequence[Test], size: int, long: Set[str], *, in_order: bool = False) -> list[list[Test]]:
    """What one process of the binary runs, each: those that take long alone and first (or where they stand, with
    `in_order`), the others by `size`."""
    alone = [[test] for test in tests if test.name in long or "[Slow]" in test.name]
    slow = {batch[0].name for batch in alone}
    rest = [test for test in tests if test.name not in slow]
    together = [rest[start : start + size] for start in range(0, len(rest), size)]
    if not in_order:
        return [*alone, *together]
    place = {test.name: index for index, test in enumerate(tests)}
    return sorted([*alone, *together], key=lambda batch: place[batch[0].name])


def focus_pattern(test: Test) -> str:
    """A Go regular expression that only this test matches (ginkgo matches it against its text with a prefix)."""
    return _UNSAFE.sub(r"\\\1", test.name) + "$"
