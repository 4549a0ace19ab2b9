"""The order of a gang's members: neighbours in rank get neighbours in the network.

Ranks are told by the labels that controllers give: the index of a JobSet's job and of a pod in its Job, a worker's in
its group, a task's in Volcano, a pod's in its StatefulSet or pod group; else the name, numbers compared as numbers.
"""

from __future__ import annotations

import re
from typing import Any, Final

from atoll.kinds import batch
from atoll.objects import meta
from atoll.objects.meta import Object, labels

_INDICES: Final = (
    batch.JOB_GLOBAL_INDEX,
    batch.LWS_WORKER,
    batch.VOLCANO_INDEX,
    "batch.kubernetes.io/job-completion-index",
    "apps.kubernetes.io/pod-index",
    "kueue.x-k8s.io/pod-group-pod-index",
)
_DIGITS = re.compile(r"(\d+)")


def rank(pod: Object) -> tuple[Any, ...]:
    """A key to sort by: indices that the pod has, then its name."""
    has, also = labels(pod), meta.annotations(pod)
    found = []
    for name in _INDICES:
        text = has.get(name) or also.get(name) or ""
        found.append(int(text) if text.isdigit() else -1)
    return (*found, natural(str(pod["metadata"]["name"])))


def index(pod: Object) -> int | None:
    """Which one of its fellows it is; None where nothing says so, or it is one of several Jobs' pods."""
    job, *others = rank(pod)[:-1]
    return None if job >= 0 else next((number for number in others if number >= 0), None)


def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """`w-10` after `w-9`."""
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in _DIGITS.split(text))
