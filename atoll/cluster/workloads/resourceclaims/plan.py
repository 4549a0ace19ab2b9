"""What the ResourceClaims of pods should be: pure (upstream's pkg/controller/resourceclaim).

A claim that a pod has through a template is made for that pod and goes with it. A claim whose last user has gone is
deallocated, so that its next user may get other devices; its finalizer goes with the allocation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from atoll.objects import meta
from atoll.objects.resource_claims import (
    FINALIZER,
    POD_CLAIM_NAME,
    ClaimProblem,
    allocation,
    can_be_reserved,
    check_owner,
    claim_name,
    is_done,
    is_reserved_for,
    pod_claims,
    users,
)

Object = dict[str, Any]
_MOST_BASE = 57  # of a generated name, which has 63 characters at most

FindClaim = Callable[[str], Object | None]  # by name, in the pod's namespace


@dataclass(frozen=True, slots=True)
class Entry:
    """One of a pod's claims that has no ResourceClaim yet: which, from which template, and what the pod says it has
    (which the cache may only not have seen yet)."""

    name: str
    template: str
    told: str = ""


def entries_to_make(pod: Object, find: FindClaim) -> list[Entry]:
    """The pod's claims for which a ResourceClaim is missing, or was made for another pod."""
    found = []
    for entry in pod_claims(pod):
        template = entry.get("resourceClaimTemplateName")
        if template is None:
            continue
        try:
            name, owned = claim_name(pod, entry)
        except ClaimProblem:
            found.append(Entry(entry["name"], template))
            continue
        if name is None:
            continue
        claim = find(name)
        if claim is None or (owned and not _is_own(pod, claim)):
            found.append(Entry(entry["name"], template, name if claim is None else ""))
    return found


def _is_own(pod: Object, claim: Object) -> bool:
    try:
        check_owner(pod, claim)
    except ClaimProblem:
        return False
    return True


def orphan(entry: Entry, own: Iterable[Object]) -> Object | None:
    """A claim that was made for the entry without the pod being told of it. `own`: the claims that the pod owns.

    Of several (an answer was lost, and another one made) always the same.
    """
    found = [claim for claim in own if meta.annotations(claim).get(POD_CLAIM_NAME) == entry.name]
    return min(found, key=lambda claim: (claim["metadata"].get("creationTimestamp"), meta.name(claim)), default=None)


def new_claim(pod: Object, entry: Entry, template: Object) -> Object:
    """The ResourceClaim of a pod's entry, to be created under a generated name."""
    given = template["spec"].get("metadata") or {}
    owner = {"apiVersion": "v1", "kind": "Pod", "metadata": pod["metadata"]}
    metadata: Object = {
        "generateName": _base(pod["metadata"]["name"], entry.name),
        "namespace": pod["metadata"]["namespace"],
        "annotations": {**(given.get("annotations") or {}), POD_CLAIM_NAME: entry.name},
        "ownerReferences": [meta.owner_reference(owner, block=False)],
    }
    if given.get("labels"):
        metadata["labels"] = given["labels"]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": metadata,
        "spec": template["spec"]["spec"],
    }


def _base(pod: str, entry: str) -> str:
    """Both names, each shortened by its share where they are too long together."""
    base = f"{pod}-{entry}-"
    if len(base) <= _MOST_BASE:
        return base
    return f"{pod[: len(pod) * _MOST_BASE // len(base)]}-{entry[: len(entry) * _MOST_BASE // len(base)]}"


def claims_to_reserve(pod: Object, find: FindClaim) -> list[Object]:
    """Allocated claims of a pod that has a node without the scheduler having reserved them for it."""
    found: list[Object] = []
    if not (pod.get("spec") or {}).get("nodeName"):
        return found
    for entry in pod_claims(pod):
        try:
            name, owned = claim_name(pod, entry)
        except ClaimProblem:
            continue
        claim = find(name) if name is not None else None
        if claim is None or (owned and not _is_own(pod, claim)):
            continue
        if allocation(claim) is not None and not is_reserved_for(claim, pod) and can_be_reserved(claim):
            found.append(claim)
    return found


def uses_claim(user: Object, pod: Object | None) -> bool:
    """Whether one of a claim's users, a pod, still is there and may run. `pod`: of that name, None: there is none."""
    return pod is not None and pod["metadata"].get("uid") == user.get("uid") and not is_done(pod)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a claim: `status` to be written (None: as it is), then without its finalizer, then deleted."""

    status: Object | None = None
    unprotect: bool = False
    delete: bool = False


def settle(claim: Object, remaining: list[Object], owner: Object | None) -> Settlement:
    """`remaining`: the users that still use it; `owner`: the pod that it was made for, if that is known."""
    protected = FINALIZER in (claim["metadata"].get("finalizers") or ())
    status: Object | None = None
    unprotect = False
    if len(remaining) < len(users(claim)):
        status = _without(claim, remaining, deallocate=protected and not remaining)
        unprotect = protected and "allocation" not in status
    elif protected and meta.is_deleting(claim) and not remaining:
        status = _without(claim, [], deallocate=True) if allocation(claim) is not None else None
        unprotect = True
    delete = not remaining and owner is not None and is_done(owner) and not meta.is_deleting(claim)
    return Settlement(status, unprotect, delete)


def _without(claim: Object, remaining: list[Object], *, deallocate: bool) -> Object:
    status = dict(claim.get("status") or {})
    if remaining:
        status["reservedFor"] = remaining
    else:
        status.pop("reservedFor", None)
    if deallocate:
        status.pop("allocation", None)
    return status
