"""Completion indexes as status.completedIndexes writes them: "0-3,5,7". Pure."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.objects import meta
from atoll.objects.meta import Object

INDEX = "batch.kubernetes.io/job-completion-index"
FAILURES = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


def parse(text: str | None, completions: int) -> set[int]:
    """Indexes below `completions`; what can't be read is left out."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first.isdigit() and (not last or last.isdigit()):
            found.update(range(int(first), min(int(last or first), completions - 1) + 1))
    return found


def write(found: Iterable[int]) -> str:
    """Runs of three and more as a range, of two as a list: as upstream."""
    runs: list[list[int]] = []
    for index in sorted(found):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    texts = []
    for first, last in runs:
        if first == last:
            texts.append(str(first))
        else:
            texts.append(f"{first},{last}" if last == first + 1 else f"{first}-{last}")
    return ",".join(texts)


def of_pod(pod: Object) -> int | None:
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdigit() else None


def failures(pod: Object) -> int:
    """How often this index had failed before this pod, as far as it counts."""
    text = meta.annotations(pod).get(FAILURES, "")
    return int(text) if text.isdigit() else 0


def ignored_failures(pod: Object) -> int:
    text = meta.annotations(pod).get(IGNORED_FAILURES, "")
    return int(text) if text.isdigit() else 0
