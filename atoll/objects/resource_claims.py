"""How pods and ResourceClaims (resource.k8s.io/v1) belong together: names, owners, reservations, in upstream's words
(dynamic-resource-allocation/resourceclaim)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Object = dict[str, Any]
DeviceId = tuple[str, str, str]  # driver, pool, device

FINALIZER = "resource.kubernetes.io/delete-protection"
POD_CLAIM_NAME = "resource.kubernetes.io/pod-claim-name"
"""Annotation of a claim that was made for a pod: which of the pod's claims it is."""
EXTENDED_RESOURCE_CLAIM = "resource.kubernetes.io/extended-resource-claim"
"""Annotation of a claim that stands for a pod's extended resources."""
MOST_USERS = 256


class ClaimProblem(Exception):
    """A pod's claim is not there or not its own (yet)."""


def pod_claims(pod: Object) -> list[Object]:
    found: list[Object] = (pod.get("spec") or {}).get("resourceClaims") or []
    return found


def claim_name(pod: Object, entry: Object) -> tuple[str | None, bool]:
    """(the name of the ResourceClaim, whether the pod must own it); no name: none is needed.

    Raises ClaimProblem while it has not been made yet.
    """
    if entry.get("resourceClaimName") is not None:
        return entry["resourceClaimName"], False
    for status in (pod.get("status") or {}).get("resourceClaimStatuses") or ():
        if status.get("name") == entry.get("name"):
            return status.get("resourceClaimName"), True
    metadata = pod["metadata"]
    raise ClaimProblem(f'pod "{metadata.get("namespace")}/{metadata["name"]}": ResourceClaim not created yet')


def to_use(pod: Object) -> list[tuple[str, bool]]:
    """All claims that a pod needs to start: names, and whether the pod must own them.

    Raises ClaimProblem while one has not been made.
    """
    named = [claim_name(pod, entry) for entry in pod_claims(pod)]
    found = [(name, owned) for name, owned in named if name is not None]
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    if extended.get("resourceClaimName"):
        found.append((extended["resourceClaimName"], True))
    return found


def known_names(pod: Object) -> Iterator[str]:
    """The claims that a pod uses, as far as they have been made; those for its extended resources too."""
    for entry in pod_claims(pod):
        try:
            name, _ = claim_name(pod, entry)
        except ClaimProblem:
            continue
        if name:
            yield name
    extended = (pod.get("status") or {}).get("extendedResourceClaimStatus") or {}
    if extended.get("resourceClaimName"):
        yield extended["resourceClaimName"]


def controller_uid(obj: Object) -> str:
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner.get("uid") or "")
    return ""


def check_owner(pod: Object, claim: Object) -> None:
    """Raises ClaimProblem where a claim was not made for the pod."""
    if controller_uid(claim) != pod["metadata"].get("uid"):
        name = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}"
        told = f"{claim['metadata'].get('namespace')}/{claim['metadata']['name']}"
        raise ClaimProblem(f"ResourceClaim {told} was not created for Pod {name} (Pod is not owner)")


def allocation(claim: Mapping[str, Any]) -> Object | None:
    found: Object | None = (claim.get("status") or {}).get("allocation")
    return found


def users(claim: Object) -> list[Object]:
    found: list[Object] = (claim.get("status") or {}).get("reservedFor") or []
    return found


def is_reserved_for(claim: Object, pod: Object) -> bool:
    uid = pod["metadata"].get("uid")
    return any(user.get("uid") == uid for user in users(claim))


def can_be_reserved(claim: Object) -> bool:
    return len(users(claim)) < MOST_USERS


def reference(pod: Object) -> Object:
    """A pod as one of a claim's users."""
    return {"resource": "pods", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}


def results(claim: Mapping[str, Any]) -> list[Object]:
    """The devices that a claim has."""
    found: list[Object] = ((allocation(claim) or {}).get("devices") or {}).get("results") or []
    return found


def device_id(result: Object) -> DeviceId:
    return result["driver"], result["pool"], result["device"]


def is_ready_for(claim: Object, pod: Object) -> bool:
    """Whether a node may start the pod, as far as this claim goes."""
    return allocation(claim) is not None and is_reserved_for(claim, pod)


def is_done(pod: Object) -> bool:
    """It will not run any more: it has ended, or was deleted before it had a node."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return True
    return "deletionTimestamp" in pod["metadata"] and not (pod.get("spec") or {}).get("nodeName")
