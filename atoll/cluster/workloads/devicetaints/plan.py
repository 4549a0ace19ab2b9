"""When a claim's users must leave its devices: pure (KEP-5055; upstream's pkg/controller/devicetainteviction).

A taint with the effect NoExecute, a driver's or a DeviceTaintRule's, ends the use of a device at once, or
`tolerationSeconds` after it was added where the allocation has a toleration for it; one without that time is for ever.
The first taint that is due decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.objects import meta
from atoll.objects.resource_claims import DeviceId, device_id, results, users
from atoll.scheduling.dra.allocate import tolerates
from atoll.scheduling.dra.taint_rules import selects

Object = dict[str, Any]
NO_EXECUTE = "NoExecute"


@dataclass(frozen=True, slots=True)
class Eviction:
    """From which wall time on nobody may use a claim's devices, and by which rules (uids) among others."""

    at: float
    rules: frozenset[str]


Cause = tuple[Object, str]
"""A taint, and the uid of the rule that it comes from: "" for a driver's."""


def causes(slices: Iterable[Object], rules: Iterable[Object], device: DeviceId) -> list[Cause]:
    """The evicting taints of a device: by the newest of its pool's `slices`, and by rules."""
    published = [(taint, "") for taint in _published(list(slices), device)]
    ruled = [(rule["spec"]["taint"], meta.uid(rule)) for rule in rules if selects(rule, device)]
    return [cause for cause in (*published, *ruled) if cause[0].get("effect") == NO_EXECUTE]


def _published(known: list[Object], device: DeviceId) -> Iterable[Object]:
    newest = max((generation(each) for each in known), default=0)
    for each in known:
        if generation(each) == newest:
            for item in each["spec"].get("devices") or ():
                if item["name"] == device[2]:
                    yield from item.get("taints") or ()


def generation(found: Object) -> int:
    """Of a ResourceSlice's pool."""
    return int(found["spec"]["pool"].get("generation") or 0)


def eviction(claim: Object, causes_of: Callable[[DeviceId], Iterable[Cause]]) -> Eviction | None:
    """When a claim's devices may not be used any more; None: no taint ends that."""
    found = [
        (when, rule)
        for result in results(claim)
        for taint, rule in causes_of(device_id(result))
        if (when := _ends(taint, result.get("tolerations") or ())) is not None
    ]
    if not found:
        return None
    return Eviction(min(when for when, _ in found), frozenset(rule for _, rule in found if rule))


def _ends(taint: Object, tolerations: Iterable[Object]) -> float | None:
    added = parse_rfc3339(taint["timeAdded"]) if taint.get("timeAdded") else 0.0
    covering = [item for item in tolerations if item.get("effect") == NO_EXECUTE and tolerates(item, taint)]
    if not covering:
        return added
    if any(item.get("tolerationSeconds") is None for item in covering):
        return None
    least: float = min(item["tolerationSeconds"] for item in covering)
    return added + max(0.0, least)


def leaving(claim: Object, pod_of: Callable[[str], Object | None]) -> list[Object]:
    """The pods that use a claim and have a node. `pod_of`: by name, in the claim's namespace."""
    found = []
    for user in users(claim):
        pod = pod_of(user["name"]) if user.get("resource") == "pods" and not user.get("apiGroup") else None
        if pod is None or pod["metadata"].get("uid") != user.get("uid") or "deletionTimestamp" in pod["metadata"]:
            continue
        if (pod.get("spec") or {}).get("nodeName"):
            found.append(pod)
    return found
