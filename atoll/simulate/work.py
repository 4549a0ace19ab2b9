"""The work that pods do: how much is done, saved by checkpoints, and lost when a pod ends before its time. Pure.

A Job that declares `atoll.dev/checkpoint-every` (seconds) saves its progress that often while it runs; what runs
anew begins at the last checkpoint. Without the annotation a pod that is stopped has lost all it did. Work stops when
the machine does, not when the API server hears of it.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.nodes.simulated.fast import HOLD_ANNOTATION
from atoll.objects import meta
from atoll.simulate.arrivals import CHECKPOINT_ANNOTATION
from atoll.simulate.ledger import Pod

Object = dict[str, Any]
JobKey = tuple[str, str]
_ROUNDING_SECONDS = 0.001  # who stops a pod right at its checkpoint reads wall time, which is rounded more coarsely


@dataclass(slots=True)
class Job:
    """A Job, and where it stands. Seconds are of the run; `None`: not yet."""

    key: JobKey
    team: str
    arrived: float
    pods: int
    gpus: float  # of a pod
    run_seconds: float
    checkpoint_seconds: float
    running: int = 0  # pods that work now
    ended: int = 0  # pods that have done their work
    started: float | None = None  # all of them worked at once for the first time
    finished: float | None = None
    interrupted: int = 0
    lost_seconds: float = 0.0  # of one pod each, added up
    lost_gpu_seconds: float = 0.0
    saved: deque[float] = field(default_factory=deque)  # progress that the next pods take up

    @property
    def whole(self) -> bool:
        return self.finished is not None or self.running + self.ended >= self.pods


@dataclass(slots=True)
class _Shift:
    """A pod at work."""

    began: float
    had: float  # progress that it began with


@dataclass(frozen=True, slots=True)
class Loss:
    """What an interruption took, in seconds of one pod."""

    job: Job
    pod: Pod
    seconds: float


def job_of(obj: Object, team: str, gpus: float, now: float) -> Job:
    """A batch/v1 Job as it arrives. Annotations that are no numbers count as absent."""
    spec, metadata = obj["spec"], obj["metadata"]
    notes = meta.annotations(spec["template"])
    return Job(
        (metadata["namespace"], metadata["name"]), team, now, spec.get("parallelism", 1), gpus,
        _number(notes.get(HOLD_ANNOTATION)), _number(meta.annotations(obj).get(CHECKPOINT_ANNOTATION)),
    )  # fmt: skip


class Work:
    """Who works since when; `began` and `stopped` are told by those who know."""

    def __init__(self) -> None:
        self.jobs: dict[JobKey, Job] = {}
        self._shifts: dict[str, _Shift] = {}
        self._taken: dict[str, float] = {}  # pod uid → saved progress that it was given

    def resume(self, pod: Pod) -> float:
        """Seconds of work that a new pod need not do, by its Job's checkpoints; they are its own from now on."""
        job = self.jobs.get((pod.key[0], pod.job))
        if job is None or not job.saved:
            return 0.0
        had = job.saved.popleft()
        self._taken[pod.uid] = had
        return had

    def began(self, pod: Pod, now: float) -> Job | None:
        """The pod works from now on. Returns its Job where that is now at work as a whole for the first time."""
        job = self.jobs.get((pod.key[0], pod.job))
        if job is None or pod.uid in self._shifts:
            return None
        self._shifts[pod.uid] = _Shift(now, self._taken.pop(pod.uid, 0.0))
        job.running += 1
        if job.started is None and job.whole:
            job.started = now
            return job
        return None

    def ended(self, pod: Pod) -> None:
        """The pod has done its work."""
        job = self._leave(pod)
        if job is not None:
            job.ended += 1

    def stopped(self, pod: Pod, now: float) -> Loss | None:
        """The pod was stopped before its time; None where it did not work."""
        shift = self._shifts.get(pod.uid)
        job = self._leave(pod)
        if job is None or shift is None:
            unused = self._taken.pop(pod.uid, 0.0)
            owner = self.jobs.get((pod.key[0], pod.job))
            if unused and owner is not None:
                owner.saved.append(unused)  # it never began: the next one takes it up
            return None
        done = now - shift.began
        every = job.checkpoint_seconds
        kept = math.floor((done + _ROUNDING_SECONDS) / every) * every if every else 0.0
        if shift.had + kept:
            job.saved.append(shift.had + kept)
        job.interrupted += 1
        lost = max(0.0, done - kept)
        job.lost_seconds += lost
        job.lost_gpu_seconds += lost * pod.gpus
        return Loss(job, pod, lost)

    def _leave(self, pod: Pod) -> Job | None:
        if self._shifts.pop(pod.uid, None) is None:
            return None
        job = self.jobs[pod.key[0], pod.job]
        job.running -= 1
        return job


def _number(text: str | None) -> float:
    try:
        value = float(text or 0)
    except ValueError:
        return 0.0
    return value if 0 < value < math.inf else 0.0
