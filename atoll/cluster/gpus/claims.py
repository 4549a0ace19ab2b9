"""Which devices a pod's containers have by ResourceClaims (DRA), in the words of the rest. Pure.

A partition that a claim has exists for as long as the claim: the driver makes it then (its DynamicMIG gate).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from atoll.cluster.gpus.model import Gpu, MigDevice
from atoll.cluster.gpus.slices import DRIVER
from atoll.objects.resource_claims import results

Object = dict[str, Any]
ClaimedDevices = Mapping[str, Mapping[str, Sequence[Gpu | MigDevice]]]
"""Pod's uid → container → devices."""

_NAME = re.compile(r"gpu-(?P<minor>\d+)(?:-mig-.+-(?P<profile>\d+)-(?P<start>\d+))?$")


def claimed_devices(
    gpus: Sequence[Gpu], node: str, pods: Iterable[Mapping[str, Any]], claims: Iterable[Mapping[str, Any]]
) -> ClaimedDevices:
    """Of the pods of one node; `claims`: those that have devices of its pool."""
    by_name = {(claim["metadata"].get("namespace"), claim["metadata"]["name"]): claim for claim in claims}
    out: dict[str, dict[str, list[Gpu | MigDevice]]] = {}
    for pod in pods if by_name else ():
        names = claims_of(pod)
        for container in pod["spec"]["containers"]:
            for wanted in (container.get("resources") or {}).get("claims") or ():
                claim = by_name.get((pod["metadata"].get("namespace"), names.get(wanted["name"], "")))
                found = _devices(gpus, node, claim, wanted.get("request")) if claim is not None else []
                if found:
                    out.setdefault(pod["metadata"]["uid"], {}).setdefault(container["name"], []).extend(found)
    return out


def device_of(gpus: Sequence[Gpu], name: str) -> Gpu | MigDevice | None:
    """gpu-3, gpu-3-mig-1g10gb-19-0."""
    match = _NAME.match(name)
    gpu = next((gpu for gpu in gpus if match is not None and gpu.minor == int(match["minor"])), None)
    if match is None or gpu is None or match["profile"] is None:
        return gpu
    profile = next((item for item in gpu.type.mig if item.id == int(match["profile"])), None)
    return MigDevice(gpu, profile, int(match["start"])) if profile is not None else None


def claims_of(pod: Mapping[str, Any]) -> dict[str, str]:
    """The pod's names of its claims → the claims' own."""
    made = {
        item["name"]: item.get("resourceClaimName") or ""
        for item in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    }
    return {
        item["name"]: item.get("resourceClaimName") or made.get(item["name"], "")
        for item in pod["spec"].get("resourceClaims") or ()
    }


def _devices(gpus: Sequence[Gpu], node: str, claim: Mapping[str, Any], request: str | None) -> list[Gpu | MigDevice]:
    found = [
        device_of(gpus, result["device"])
        for result in results(claim)
        if result.get("driver") == DRIVER
        and result.get("pool") == node
        and (request is None or result.get("request", "").partition("/")[0] == request)
    ]
    return [device for device in found if device is not None]
