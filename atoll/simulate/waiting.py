"""Why Jobs have not started by the end of a run: what their pods or Workloads are told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from atoll.objects.meta import condition, controller_of
from atoll.simulate.work import JobKey

Object = dict[str, Any]
_TOLD = (("QuotaReserved", "False"), ("Admitted", "False"), ("PodScheduled", "False"))  # the later one says more


def reasons(waiting: Collection[JobKey], objects: Iterable[Object]) -> dict[JobKey, str]:
    """`objects`: Workloads and pods. "" where nobody has looked at the Job yet."""
    found: dict[JobKey, tuple[int, str]] = {}
    for obj in objects:
        owner = controller_of(obj)
        key = (obj["metadata"]["namespace"], owner["name"] if owner is not None else "")
        if key not in waiting:
            continue
        for rank, (kind, status) in enumerate(_TOLD, 1):
            told = condition(obj, kind) or {}
            if told.get("status") == status and told.get("message") and rank >= found.get(key, (0, ""))[0]:
                found[key] = rank, str(told["message"])
    return {key: found.get(key, (0, ""))[1] for key in waiting}
