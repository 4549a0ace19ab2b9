"""Write docs/conformance.md from the results: totals by SIG, ours and with the real control plane, and every failure.

A failure's reason is what a person wrote in reasons.yaml (a pattern of names, one line), else the suite's own message.
Results in JSON lines: out/conformance/ours.jsonl and real.jsonl, or the files named.
"""

from __future__ import annotations

import argparse
import datetime
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from binary import Result  # noqa: E402
from records import Records  # noqa: E402
from suite import Test, all_tests  # noqa: E402

ROOT = HERE.parents[1]
OUT = ROOT / "out" / "conformance"
REASONS = HERE / "reasons.yaml"
_LENGTH = 220
_HEAD = """# Conformance
Kubernetes 1.36.3's own end-to-end suite, all {count} tests that are labelled `[Conformance]`, against a sandbox cluster
with two process nodes. Written by `tests/conformance/report.py` on {date} from runs of `make conformance`, on a machine
with two cores. How to run it: `docs/hacking.md`.

The column *real* is the same suite on the real kube-apiserver, etcd, controller manager and scheduler with our process
nodes joined to it: what passes there and fails with ours is our control plane's fault, what fails in both is the node's
(or the machine's). A dash is a test that was not run.
"""


def document(
    tests: Sequence[Test], ours: Mapping[str, Result], real: Mapping[str, Result], reasons: Mapping[str, str], date: str
) -> str:
    """The whole text: pure."""
    parts = [_HEAD.format(count=len(tests), date=date), *_totals(tests, ours, real)]
    failed = [test for test in tests if test.name in ours and not ours[test.name].passed]
    parts += ["", f"## The {len(failed)} that fail" if failed else "## None fails"]
    for sig in sorted({test.sig for test in failed}):
        parts += ["", f"### {sig}", "| test | real | why |", "|---|---|---|"]
        for test in failed:
            if test.sig == sig:
                why = _why(ours[test.name], reasons)
                parts.append(f"| {_cell(_title(test))} | {_mark(real.get(test.name))} | {_cell(why)} |")
    only = [test for test in tests if _failed(real, test) and not _failed(ours, test) and test.name in ours]
    if only:
        parts += ["", "## Fail on the real control plane and pass with ours", "| test | why |", "|---|---|"]
        parts += [f"| {_cell(test.name)} | {_cell(_why(real[test.name], reasons))} |" for test in only]
    missing = [test for test in tests if test.name not in ours]
    if missing:
        parts += ["", f"## The {len(missing)} without a result", *(f"- {_cell(test.name)}" for test in missing)]
    return "\n".join(parts) + "\n"


def _totals(tests: Sequence[Test], ours: Mapping[str, Result], real: Mapping[str, Result]) -> list[str]:
    rows = [
        "| SIG | tests | passed | failed | not run | real: passed | real: failed |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    groups = [(sig, [test for test in tests if test.sig == sig]) for sig in sorted({test.sig for test in tests})]
    for title, members in [*groups, ("all", list(tests))]:
        counts = []
        for results in (ours, real):
            run = [results[test.name] for test in members if test.name in results]
            passed = sum(result.passed for result in run)
            counts.append((passed, len(run) - passed, len(members) - len(run)))
        (passed, failed, left), (real_passed, real_failed, _) = counts
        rows.append(f"| {title} | {len(members)} | {passed} | {failed} | {left} | {real_passed} | {real_failed} |")
    return rows


def _why(result: Result, reasons: Mapping[str, str]) -> str:
    for pattern, reason in reasons.items():
        if re.search(pattern, result.test):
            return reason
    text = re.sub(r"^\[FAILED\] ", "", result.reason)
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…"


def _failed(results: Mapping[str, Result], test: Test) -> bool:
    return test.name in results and not results[test.name].passed


def _mark(result: Result | None) -> str:
    return "–" if result is None else "passes" if result.passed else "fails"


def _title(test: Test) -> str:
    return re.sub(
        r"^\[sig-[a-z-]+\] | ?\[(Conformance|NodeConformance|LinuxOnly|Privileged:ClusterAdmin)\]", "", test.name
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, default=OUT / "ours.jsonl")
    parser.add_argument("--real", type=Path, default=OUT / "real.jsonl")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "conformance.md")
    options = parser.parse_args()
    reasons = yaml.safe_load(REASONS.read_text()) if REASONS.exists() else {}
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    ours, real = Records(options.ours).latest(), Records(options.real).latest()
    options.output.write_text(document(all_tests(), ours, real, reasons or {}, today))
    return 0


if __name__ == "__main__":
    sys.exit(main())
