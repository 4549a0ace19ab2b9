"""What LeaderWorkerSet's webhook checks, as admission. Its defaults are the schema's."""

from __future__ import annotations

import re
from collections.abc import Iterator

from atoll.capacity.groups.checks import Problem
from atoll.capacity.groups.leaderworkerset import model
from atoll.capacity.groups.leaderworkerset.model import Object

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def problems_of(lws: Object) -> Iterator[Problem]:
    """(field, why)."""
    spec, name = lws["spec"], str(lws["metadata"].get("name") or "x")
    size, replicas = model.size(model.template_of(lws)), model.replicas(lws)
    if not _LABEL.fullmatch(name) or len(name) > 63:
        yield "metadata.name", f"{name!r} must be a DNS label of at most 63 characters: pods are reached by it"
    if size < 1:
        yield "spec.leaderWorkerTemplate.size", "must be 1 or more"
    if size * replicas > 2**31 - 1:
        yield "spec.replicas", "replicas times size must not exceed 2147483647"
    at = "spec.rolloutStrategy.rollingUpdateConfiguration"
    config = (spec.get("rolloutStrategy") or {}).get("rollingUpdateConfiguration") or {}
    if _is_none(config.get("maxUnavailable", 1)) and _is_none(config.get("maxSurge", 0)):
        yield f"{at}.maxUnavailable", "must not be 0 when maxSurge is 0: nothing could be updated"
    policy = spec["leaderWorkerTemplate"].get("subGroupPolicy")
    if policy is not None:
        yield from _subgroup_problems(policy, size)


def _is_none(value: int | str) -> bool:
    return str(value).rstrip("%") == "0"


def _subgroup_problems(policy: Object, size: int) -> Iterator[Problem]:
    at, part = "spec.leaderWorkerTemplate.subGroupPolicy.subGroupSize", int(policy.get("subGroupSize") or 0)
    if part < 1:
        yield at, "must be 1 or more"
    elif part > size:
        yield at, f"{part} is more than the size, {size}"
    elif policy.get("subGroupPolicyType") == "LeaderExcluded":
        if (size - 1) % part:
            yield at, f"the {size - 1} workers must divide evenly by it"
    elif size % part and (size - 1) % part:
        yield at, f"size ({size}) or size - 1 must divide evenly by it"


def changes_of(new: Object, old: Object) -> Iterator[Problem]:
    """(field, why) of a change."""
    yield from problems_of(new)
    before, after = (lws["spec"]["leaderWorkerTemplate"].get("subGroupPolicy") for lws in (old, new))
    if before != after:
        yield "spec.leaderWorkerTemplate.subGroupPolicy", "field is immutable"
