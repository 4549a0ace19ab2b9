"""The history checker in virtual time: sound servers pass, each planted fault is found, a seed replays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from atoll.testing.robustness.check import check
from atoll.testing.robustness.explore import explore, main
from atoll.testing.robustness.history import NOT_SENT, UNKNOWN, History, Operation, Seen, Stream
from atoll.testing.robustness.planted import PLANTS

SEEDS = 120
_MOST_SEEDS = 60  # within which a planted fault must show


def test_seeds_find_nothing_in_the_sound_server() -> None:
    outcomes = [explore(seed) for seed in range(SEEDS)]
    assert [str(violation) for outcome in outcomes for violation in outcome.violations] == []
    assert sum(outcome.crashes for outcome in outcomes) > SEEDS // 2
    assert sum(outcome.disk_faults for outcome in outcomes) > 20 and sum(o.clock_jumps for o in outcomes) > 10


RULES = {
    "early-publish": "one version, one change",
    "early-answer": "linearizability",
    "lost-compare-and-swap": "compare-and-swap",
    "reused-version": "one version, one change",
    "lost-write": "no gap",
    "resurrection": "no resurrection",
    "stale-list": "linearizability",
    "stale-get": "linearizability",
    "dropped-event": "watch: no gap",
    "doubled-event": "watch: no duplicate",
    "reordered-events": "watch: no gap",
    "early-bookmark": "linearizability",
    "skipping-resume": "watch: no gap",
}


@pytest.mark.parametrize("name", list(PLANTS))
def test_each_planted_fault_is_found(name: str) -> None:
    """By the rule that it breaks, among others."""
    found: set[str] = set()
    for seed in range(_MOST_SEEDS):
        found |= {violation.rule for violation in explore(seed, PLANTS[name]).violations}
        if RULES[name] in found:
            return
    raise AssertionError(f"found only {found}")


def test_a_seed_gives_the_same_history_in_fresh_interpreters() -> None:
    seed = next(seed for seed in range(100) if explore(seed).crashes >= 2)
    digests = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-m", "atoll.testing.robustness.explore", "--seed", str(seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        digests |= {line for line in done.stdout.splitlines() if line.startswith("digest")}
    assert digests == {f"digest {explore(seed).digest}"}


def test_a_failing_seed_is_one_line_that_plays_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seeds", "10", "--plant", "dropped-event"]) == 1
    line = capsys.readouterr().out.splitlines()[0]
    command, _, why = line.partition("  # ")
    assert command.startswith("python -m atoll.testing.robustness.explore --seed ") and why
    assert main([*command.split()[3:]]) == 1


# -- the rules, one by one, on histories written by hand

A = ("configmaps", "x", "a")


def version(number: int, value: str = "v", uid: str = "u") -> Seen:
    return Seen(*A, uid, number, value)


class Written:
    """A history by hand."""

    def __init__(self) -> None:
        self.history = History()

    def did(self, verb: str, **answer: object) -> Operation:
        return self.end(self.begin(verb, str(answer.pop("value", "")), int(answer.pop("precondition", 0))), **answer)

    def begin(self, verb: str, value: str = "", precondition: int = 0) -> Operation:
        return self.history.call(Operation("c", verb, *A, value=value, precondition=precondition))

    def end(self, operation: Operation, **answer: object) -> Operation:
        return self.history.done(operation, **answer)

    def created(self, number: int, value: str) -> None:
        self.did("create", value=value, found=(version(number, value),), version=number)

    def watched(self, since: int, *events: tuple[str, int, str]) -> Stream:
        stream = self.history.stream(Stream("w", "configmaps", "", since))
        for kind, number, value in events:
            self.history.deliver(stream, kind, number, version(number, value) if value else None)
        return stream

    def rules(self) -> set[str]:
        return {violation.rule for violation in check(self.history)}


def test_a_write_whose_answer_was_lost_may_happen_or_not_but_not_before_it_was_sent() -> None:
    for events in ([("ADDED", 1, "one")], [("ADDED", 1, "one"), ("MODIFIED", 2, "two")]):
        written = Written()
        written.created(1, "one")
        written.did("patch", value="two", error=UNKNOWN)
        written.watched(0, *events)
        assert written.rules() == set()
    late = Written()
    late.created(1, "one")
    late.watched(0, ("ADDED", 1, "one"), ("MODIFIED", 2, "two"))
    late.did("patch", value="two", error=UNKNOWN)
    assert late.rules() == {"linearizability"}


def test_what_was_certainly_not_sent_must_not_happen() -> None:
    written = Written()
    written.created(1, "one")
    written.did("patch", value="two", error=NOT_SENT)
    written.watched(0, ("ADDED", 1, "one"), ("MODIFIED", 2, "two"))
    assert "a refused write does nothing" in written.rules()


def test_a_read_of_the_past_is_one_only_after_a_newer_answer() -> None:
    written = Written()
    written.created(1, "one")
    read = written.begin("get")
    written.did("patch", value="two", found=(version(2, "two"),), version=2)
    written.end(read, found=(version(1, "one"),), version=1)
    assert written.rules() == set(), "they overlapped"
    written.did("get", found=(version(1, "one"),), version=1)
    assert written.rules() == {"linearizability"}


def test_a_refusal_needs_a_state_that_refuses() -> None:
    written = Written()
    written.did("create", value="none", error="AlreadyExists")
    assert written.rules() == {"linearizability"}
    stale = Written()
    stale.created(1, "one")
    stale.did("update", value="two", precondition=1, error="Conflict")
    assert stale.rules() == {"linearizability"}


def test_watches() -> None:
    def rules(*events: tuple[str, int, str], since: int = 0) -> set[str]:
        written = Written()
        written.created(1, "one")
        written.did("patch", value="two", found=(version(2, "two"),), version=2)
        written.did("patch", value="three", found=(version(3, "three"),), version=3)
        written.watched(since, *events)
        return written.rules()

    one, two, three = ("ADDED", 1, "one"), ("MODIFIED", 2, "two"), ("MODIFIED", 3, "three")
    assert rules(one, two, three) == rules(two, three, since=1) == rules(one, ("BOOKMARK", 1, ""), two) == set()
    assert rules(one, three) == rules(three, since=1) == {"watch: no gap"}
    assert rules(one, two, two) == {"watch: no duplicate"}
    assert rules(one, three, two) == {"watch: no gap"}
    assert rules(one, ("BOOKMARK", 2, ""), two) == {"watch: a bookmark is not ahead"}
    assert rules(one, two, three, ("MODIFIED", 4, "two")) == {"a write happens once"}
    assert "nothing from nowhere" in rules(one, two, three, ("MODIFIED", 4, "four"))
    written = Written()
    written.watched(0).ended = "Expired"
    assert written.rules() == {"resume"}
