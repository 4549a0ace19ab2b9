"""The conformance harness reads the suite's output, selects tests and keeps the ratchet: without a cluster."""

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "conformance"))
import binary
import records
import report
from binary import Result
from suite import Test as Spec
from suite import batches, focus_pattern, rotated, select

LONG = Spec("[sig-node] Pods should run twice [Serial] [Conformance]")
SHORT = Spec("[sig-node] Pods should run [Conformance]")
APPS = Spec("[sig-apps] Job (v1) runs. [Conformance]")
RULE = "-" * 30
OUTPUT = f"""
{RULE}
{SHORT.name} [sig-node, Conformance]
/src/pods.go:3
  STEP: creating
• [3.250 seconds]
{RULE}
{APPS.name} [sig-apps, Conformance]
  STEP: creating
• [FAILED] [61.500 seconds]
{APPS.name} [It] the same again
/src/job.go:9

  [FAILED] timed out waiting
  for the condition
  In [It] at: /src/job.go:9 @ 11/28/26
{RULE}
{LONG.name} [sig-node, Conformance, Serial]
  STEP: creating
"""


def read(text, tests):
    heard = []
    reader = binary._Reader(tests, heard.append)
    began_or_ended = [line for line in text.splitlines() if reader.line(line)]
    return reader, heard, began_or_ended


def test_results_are_read_from_the_output_as_it_comes():
    reader, heard, moments = read(OUTPUT, [SHORT, APPS, LONG])
    assert heard == [
        Result(SHORT.name, "sig-node", True, "", 3.2),
        Result(APPS.name, "sig-apps", False, "[FAILED] timed out waiting for the condition", 61.5),
    ]
    assert reader.current == LONG
    assert len(moments) == 5  # three began, two ended


def test_what_ran_when_the_binary_died_has_failed():
    reader, heard, _ = read(OUTPUT, [SHORT, APPS, LONG])
    reader.end("killed")
    assert heard[-1] == Result(LONG.name, "sig-node", False, "killed", 0.0)


def test_a_failure_is_told_when_the_output_ends_within_it():
    text = OUTPUT.partition("  In [It]")[0]
    reader, heard, _ = read(text, [SHORT, APPS])
    reader.end("ended")
    assert heard[-1].reason == "[FAILED] timed out waiting for the condition"


def test_selecting():
    tests = [SHORT, LONG, APPS]
    assert select(tests, sigs=["node"]) == [SHORT, LONG]
    assert select(tests, focus=["Job", "twice"], skip=["Serial"]) == [APPS]
    assert select(tests, shard=(2, 2)) == [LONG]
    assert [test.serial for test in tests] == [False, True, False]


def test_rotating_begins_elsewhere_for_another_commit_and_leaves_none_out():
    tests = [Spec(f"[sig-apps] {number}") for number in range(50)]
    orders = [rotated(tests, commit) for commit in ("1f", "2e", "3d")]
    assert all(sorted(order, key=lambda t: t.name) == sorted(tests, key=lambda t: t.name) for order in orders)
    assert len({order[0] for order in orders}) > 1
    assert rotated(tests, "1f") == orders[0]
    assert rotated([], "1f") == []


def test_a_focus_pattern_is_exact():
    assert focus_pattern(APPS) == r"\[sig-apps\] Job \(v1\) runs\. \[Conformance\]$"


def test_the_latest_result_counts_and_the_ratchet_only_grows(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RATCHET", tmp_path / "ratchet.txt")
    kept = records.Records(tmp_path / "r.jsonl")
    kept.add(Result("b", "sig-x", False, "no", 1.0))
    kept.add(Result("b", "sig-x", True, "", 1.0))
    kept.add(Result("a", "sig-x", True, "", 1.0))
    assert records.add_to_ratchet(kept.latest()) == 2
    assert (tmp_path / "ratchet.txt").read_text() == "a\nb\n"
    kept.add(Result("a", "sig-x", False, "flake", 1.0))
    assert records.add_to_ratchet(kept.latest()) == 0
    assert [result.test for result in records.broken(kept.latest().values(), records.ratchet())] == ["a"]


@pytest.mark.parametrize(
    ("reasons", "why"), [({}, "it \\| broke"), ({r"Job \(v1\)": "needs cgroups"}, "needs cgroups")]
)
def test_the_document_says_why(reasons, why):
    ours = {
        APPS.name: Result(APPS.name, APPS.sig, False, "[FAILED] it | broke", 1.0),
        SHORT.name: Result(SHORT.name, SHORT.sig, True, "", 1.0),
    }
    real = {APPS.name: Result(APPS.name, APPS.sig, True, "", 1.0)}
    text = report.document([APPS, SHORT, LONG], ours, real, reasons, "2026-01-02")
    assert f"| Job (v1) runs. | passes | {why} |" in text
    assert "| all | 3 | 1 | 1 | 1 | 1 | 0 |" in text
    assert "## The 1 without a result" in text


def test_long_tests_are_batches_by_themselves():
    tests = [Spec(name) for name in ("a", "b", "c", "d [Slow]", "e")]
    names = [[test.name for test in batch] for batch in batches(tests, 2, {"b"})]
    assert names == [["b"], ["d [Slow]"], ["a", "c"], ["e"]]
    in_order = [[test.name for test in batch] for batch in batches(tests, 2, {"b"}, in_order=True)]
    assert in_order == [["a", "c"], ["b"], ["d [Slow]"], ["e"]]


@pytest.mark.parametrize(("until", "left"), [(0.0, [APPS]), (float("inf"), [])])
def test_when_the_time_is_up_no_further_test_begins(tmp_path, until, left):
    suite = tmp_path / "suite"
    suite.write_text(f"#!/bin/sh\ncat <<'END'\n{OUTPUT}\nEND\n[ {until} = inf ] || exec sleep 600\n")
    suite.chmod(0o755)
    heard = []
    target = binary.Target(tmp_path / "kubeconfig", tmp_path, ())
    batch = binary.run_batch(suite, target, [SHORT, APPS], "b", 600.0, heard.append, until)
    assert asyncio.run(batch) == left
    assert [result.test for result in heard] == [test.name for test in (SHORT, APPS) if test not in left]
