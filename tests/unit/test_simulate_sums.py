"""Work that is saved and lost, and what many runs say together."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.base.errors import UserError
from atoll.cli.simulate import parse_seeds
from atoll.simulate.ledger import Pod
from atoll.simulate.record import Row
from atoll.simulate.summary import Reason, RunResult, by_policy, differences, estimate, percentile, why_unstarted
from atoll.simulate.waiting import reasons
from atoll.simulate.work import Job, Work


def pod(name: str, job: str = "j") -> Pod:
    return Pod(("default", name), f"u-{name}", job, "t", {}, {}, "n", "Running", True, False, "", ())


def work(checkpoint: float, pods: int = 1) -> tuple[Work, Job]:
    made = Work()
    job = made.jobs["default", "j"] = Job(("default", "j"), "t", 0.0, pods, 8, 1000.0, checkpoint)
    return made, job


def test_without_checkpoints_all_is_lost() -> None:
    made, job = work(0.0)
    assert made.began(pod("a"), 10.0) is job and job.started == 10.0
    loss = made.stopped(pod("a"), 250.0)
    assert loss is not None and loss.seconds == 240.0
    assert made.resume(pod("b")) == 0.0
    assert made.began(pod("b"), 300.0) is None  # it has started before
    made.ended(pod("b"))
    assert (job.lost_seconds, job.interrupted, job.ended, job.running) == (240.0, 1, 1, 0)


def test_a_stop_at_the_checkpoint_loses_nothing_whatever_a_clock_rounds() -> None:
    made, _ = work(600.0)
    made.began(pod("a"), 65.0)
    loss = made.stopped(pod("a"), 2464.999999885559)
    assert loss is not None and loss.seconds == 0.0 and made.resume(pod("b")) == 2400.0


def test_at_most_one_interval_is_lost_and_progress_adds_up() -> None:
    made, job = work(100.0)
    made.began(pod("a"), 0.0)
    loss = made.stopped(pod("a"), 250.0)
    assert loss is not None and loss.seconds == 50.0
    assert made.resume(pod("b")) == 200.0
    made.began(pod("b"), 400.0)
    made.stopped(pod("b"), 530.0)
    assert job.lost_seconds == 80.0
    assert made.resume(pod("c")) == 300.0


def test_a_checkpoint_that_was_not_taken_up_is_kept_for_the_next() -> None:
    made, _ = work(100.0)
    made.began(pod("a"), 0.0)
    made.stopped(pod("a"), 250.0)
    assert made.resume(pod("b")) == 200.0
    assert made.stopped(pod("b"), 300.0) is None  # it was deleted before it ran
    assert made.resume(pod("c")) == 200.0
    assert made.resume(pod("d")) == 0.0  # one checkpoint, one pod


def test_a_job_has_started_when_all_of_it_runs() -> None:
    made, job = work(0.0, pods=2)
    assert made.began(pod("a"), 1.0) is None and not job.whole
    assert made.began(pod("b"), 5.0) is job
    made.ended(pod("a"))
    assert job.whole
    made.stopped(pod("b"), 9.0)
    assert not job.whole


def result(policy: str, seed: int, value: float) -> RunResult:
    return RunResult(policy, seed, "", 0, 0.0, 0.0, {"wait": value}, (), ())


def test_estimates_are_students() -> None:
    assert estimate([4.0]).half is None and not estimate([4.0]).decided
    found = estimate([9.0, 10.0, 11.0])
    assert found.mean == 10.0 and found.half == pytest.approx(4.303 / 3**0.5, rel=1e-3)
    assert found.decided and not estimate([-1.0, 1.0, 0.5]).decided
    assert estimate([float(value % 2) for value in range(100)]).half == pytest.approx(0.0997, rel=0.01)


def test_policies_are_compared_seed_by_seed() -> None:
    noise = [10.0, 50.0, 90.0]
    results = [result("a", seed, noise[seed]) for seed in range(3)]
    results += [result("b", seed, noise[seed] + 1.0 + 0.01 * seed) for seed in range(3)]
    apart = differences(results, "wait", "a")["b"]
    assert apart.mean == pytest.approx(1.01) and apart.decided
    assert by_policy(results, "wait")["a"].mean == 50.0 and not (by_policy(results, "wait")["a"].decided)


def told(job: str, kind: str, message: str, status: str = "False") -> dict[str, Any]:
    owner = {"kind": "Job", "name": job, "controller": True}
    conditions = [{"type": kind, "status": status, "message": message}]
    return {"metadata": {"namespace": "default", "ownerReferences": [owner]}, "status": {"conditions": conditions}}


def test_why_a_job_waits_is_told_by_its_pods_before_its_workload() -> None:
    objects = [
        told("a", "PodScheduled", "no room"),
        told("a", "QuotaReserved", "as before"),
        told("b", "QuotaReserved", "no quota"),
        told("c", "QuotaReserved", "yes", status="True"),
        told("d", "QuotaReserved", "somebody else's"),
    ]
    waiting = [("default", name) for name in "abc"]
    assert reasons(waiting, objects) == dict(zip(waiting, ("no room", "no quota", ""), strict=True))


def test_reasons_that_differ_in_numbers_are_one() -> None:
    lacks = ("8 of 16Gi", "9 of 1Ti", "", "other")
    rows = [Row(9.0, "job-waiting", f"j{at}", "t", 1.0, 1.0, why) for at, why in enumerate(lacks)]
    found = RunResult("p", 1, "", 0, 0.0, 0.0, {}, rows, ())
    assert why_unstarted([found], "q") == []
    assert why_unstarted([found], "p", most=2) == [
        Reason(2, "j0", "8 of 16Gi"),
        Reason(1, "j2", "nobody has looked at it yet"),
    ]


def test_percentiles_of_little() -> None:
    assert percentile([], 0.95) == 0.0 and percentile([3.0], 0.95) == 3.0
    assert percentile([float(value) for value in range(100)], 0.95) == 95.0


def test_seeds() -> None:
    assert parse_seeds("7") == [7] and parse_seeds("1..3,2,9") == [1, 2, 3, 9]
    for text in ("", "a", "3..1", "1-3"):
        with pytest.raises(UserError, match="not seeds"):
            parse_seeds(text)
