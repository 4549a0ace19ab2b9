"""What Kueue's webhooks refuse of Jobs and JobSets: what labels and annotations can't mean, changes under quota. Pure.

Upstream's pkg/controller/jobframework/validation.go and the Job's webhook.
"""

from __future__ import annotations

from collections.abc import Iterator

from atoll.capacity.queueing.model import Object
from atoll.kinds import kueue
from atoll.objects import meta
from atoll.objects.labels import is_subdomain
from atoll.objects.meta import labels
from atoll.scheduling.groups.owned import pods_at_once

Problem = tuple[str, str]
"""(field, why)."""
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


def is_synced(job: Object) -> bool:
    """Whether as many completions as pods beside each other are meant, also where fewer are admitted."""
    return meta.annotations(job).get(kueue.COMPLETIONS_EQUAL) in _TRUE


def grows(old: Object, job: Object) -> bool:
    """Whether a Job that runs with quota is to run more pods than it has quota for."""
    stops = old["spec"].get("suspend") or job["spec"].get("suspend")
    over = any((meta.condition(old, kind) or {}).get("status") == "True" for kind in ("Complete", "Failed"))
    if stops or over or not labels(job).get(kueue.QUEUE_LABEL):
        return False
    return pods_at_once(job["spec"]) > pods_at_once(old["spec"])


def job_problems(job: Object, old: Object | None) -> list[Problem]:
    """Of one that names a queue, or did. `old`: as it was, where it is changed."""
    if not any(labels(it).get(kueue.QUEUE_LABEL) for it in (job, old) if it is not None):
        return []
    found = list(_name_problems(job))
    if job["kind"] == "Job":
        found += _size_problems(job, old)
    return found + (list(_change_problems(job, old)) if old is not None else [])


def _name_problems(job: Object) -> Iterator[Problem]:
    for name in (kueue.QUEUE_LABEL, kueue.PREBUILT_LABEL):
        value = labels(job).get(name)
        if value and not is_subdomain(value):
            yield _label(name), f"{value!r} is no name: lower case letters, digits, '-' and '.'"
    seconds = labels(job).get(kueue.MAX_EXEC_LABEL)
    if seconds is not None and not (seconds.isdigit() and int(seconds) > 0):
        yield _label(kueue.MAX_EXEC_LABEL), f"must be a number of seconds, 1 or more, not {seconds!r}"


def _size_problems(job: Object, old: Object | None) -> Iterator[Problem]:
    spec, notes = job["spec"], meta.annotations(job)
    parallelism = int(spec.get("parallelism", 1))
    least = notes.get(kueue.MIN_PARALLELISM)
    if least is not None and (old is None or meta.annotations(old).get(kueue.MIN_PARALLELISM) != least):
        most = pods_at_once(spec) - 1
        if not least.isdigit() or not 1 <= int(least) <= most:
            yield _note(kueue.MIN_PARALLELISM), f"must be from 1 to {most}, fewer than the job's pods, not {least!r}"
    said = notes.get(kueue.COMPLETIONS_EQUAL)
    if said is not None and said not in _TRUE + _FALSE:
        yield _note(kueue.COMPLETIONS_EQUAL), f"must be true or false, not {said!r}"
    if said in _TRUE and spec.get("completionMode") != "Indexed":
        yield _note(kueue.COMPLETIONS_EQUAL), "needs completionMode Indexed: of other jobs completions are fixed"
    if said in _TRUE and spec.get("completions") != parallelism:
        yield (
            "spec.completions",
            f"must be equal to parallelism, {parallelism}, since {kueue.COMPLETIONS_EQUAL} is true",
        )


def _change_problems(job: Object, old: Object) -> Iterator[Problem]:
    was, now = labels(old), labels(job)
    runs = not old["spec"].get("suspend")
    if runs and was.get(kueue.QUEUE_LABEL) and was[kueue.QUEUE_LABEL] != now.get(kueue.QUEUE_LABEL):
        yield _label(kueue.QUEUE_LABEL), "is immutable while the job runs: suspend it first"
    if was.get(kueue.PREBUILT_LABEL) != now.get(kueue.PREBUILT_LABEL):
        yield _label(kueue.PREBUILT_LABEL), "is immutable"
    if was.get(kueue.PRIORITY_CLASS_LABEL) and not now.get(kueue.PRIORITY_CLASS_LABEL):
        yield _label(kueue.PRIORITY_CLASS_LABEL), "can't be removed: name another WorkloadPriorityClass"
    if runs and was.get(kueue.MAX_EXEC_LABEL) != now.get(kueue.MAX_EXEC_LABEL):
        yield _label(kueue.MAX_EXEC_LABEL), "is immutable while the job runs: suspend it first"
    bound = kueue.MIN_PARALLELISM in meta.annotations(old) or kueue.PREBUILT_LABEL in was
    if runs and bound and old["spec"].get("parallelism") != job["spec"].get("parallelism"):
        why = "with partial admission or a prebuilt Workload it is immutable while the job runs: suspend it first"
        yield "spec.parallelism", why


def _label(name: str) -> str:
    return f"metadata.labels[{name}]"


def _note(name: str) -> str:
    return f"metadata.annotations[{name}]"
