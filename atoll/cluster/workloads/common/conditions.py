"""Lists of status conditions, changed by copy."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.objects.meta import Object


def find(conditions: Iterable[Object] | None, kind: str) -> Object | None:
    return next((item for item in conditions or () if item["type"] == kind), None)


def is_true(conditions: Iterable[Object] | None, kind: str) -> bool:
    found = find(conditions, kind)
    return found is not None and found["status"] == "True"


def without(conditions: Iterable[Object] | None, kind: str) -> list[Object]:
    return [item for item in conditions or () if item["type"] != kind]


def with_condition(conditions: Iterable[Object] | None, new: Object) -> list[Object]:
    """`new` at the end in place of one of its type; the old one stays where status and reason are the same.

    lastTransitionTime is kept where the status is the same.
    """
    present = list(conditions or ())
    old = find(present, new["type"])
    if old is not None and old["status"] == new["status"]:
        if old.get("reason") == new.get("reason"):
            return present
        if old.get("lastTransitionTime"):
            new = {**new, "lastTransitionTime": old["lastTransitionTime"]}
    return [*without(present, new["type"]), new]
