"""When a claim's users must leave its devices: pure (KEP-5055; upstream's pkg/controller/devicetainteviction).

A taint with the effect NoExecute ends the use of a device at once, or `tolerationSeconds` after it was added where the
allocation has a toleration for it; one without that time is for ever. The first taint that is due decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.objects.resource_claims import DeviceId, device_id, results, users
from atoll.scheduling.dra.allocate import tolerates

Object = dict[str, Any]
NO_EXECUTE = "NoExecute"


def taints_of(slices: Iterable[Object], device: DeviceId) -> list[Object]:
    """The evicting taints of a device, by the newest of its pool's `slices`."""
    known = list(slices)
    newest = max((each["spec"]["pool"].get("generation") or 0 for each in known), default=0)
    return [
        taint
        for each in known
        if (each["spec"]["pool"].get("generation") or 0) == newest
        for item in each["spec"].get("devices") or ()
        if item["name"] == device[2]
        for taint in item.get("taints") or ()
        if taint.get("effect") == NO_EXECUTE
    ]


def due_at(claim: Object, taints: Callable[[DeviceId], Sequence[Object]]) -> float | None:
    """The wall time from which on nobody may use a claim's devices; None: no taint ends that."""
    times = [
        when
        for result in results(claim)
        for taint in taints(device_id(result))
        if (when := _ends(taint, result.get("tolerations") or ())) is not None
    ]
    return min(times, default=None)


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
