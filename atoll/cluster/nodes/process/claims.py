"""A pod's ResourceClaims before it starts: each allocated, and reserved for it (kubelet's cm/dra, without a driver: a
process sees the devices of its machine)."""

from __future__ import annotations

from typing import Any

from atoll.base.errors import AtollError
from atoll.client.port import Client
from atoll.kinds.builtin import RESOURCE_CLAIMS
from atoll.objects.resource_claims import ClaimProblem, allocation, check_owner, is_reserved_for, to_use

Object = dict[str, Any]


class ClaimsNotReady(AtollError):
    """A claim that the pod uses is not allocated, or not reserved for it."""


async def check_claims(client: Client, pod: Object) -> None:
    """Raises ClaimsNotReady, in kubelet's words; AtollError: it can't be known."""
    metadata = pod["metadata"]
    try:
        names = to_use(pod)
    except ClaimProblem as problem:
        raise ClaimsNotReady(str(problem)) from None
    for name, owned in names:
        claim = await client.get(RESOURCE_CLAIMS, name, metadata["namespace"])
        try:
            if owned:
                check_owner(pod, claim)
        except ClaimProblem as problem:
            raise ClaimsNotReady(str(problem)) from None
        if allocation(claim) is None:
            raise ClaimsNotReady(f"ResourceClaim {name} is not allocated")
        if not is_reserved_for(claim, pod):
            raise ClaimsNotReady(
                f"pod {metadata['name']} ({metadata.get('uid')}) is not allowed to use ResourceClaim {name}"
                f" ({claim['metadata'].get('uid')})"
            )
