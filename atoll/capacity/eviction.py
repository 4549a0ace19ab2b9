"""Eviction by the API that honours PodDisruptionBudgets, the only way in which capacity lets work leave a node."""

from __future__ import annotations

from typing import Any, Literal

from atoll.base.errors import NotFound, TooManyRequests
from atoll.client.port import Client
from atoll.kinds.builtin import PODS

Object = dict[str, Any]
Outcome = Literal["evicted", "blocked", "gone"]


async def evict(client: Client, pod: Object) -> Outcome:
    """`blocked`: a budget does not allow it now; ask again later. Raises AtollError."""
    metadata = pod["metadata"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
        "deleteOptions": {"preconditions": {"uid": metadata["uid"]}},
    }
    try:
        await client.create(PODS, eviction, metadata["namespace"], name=metadata["name"], subresource="eviction")
    except NotFound:
        return "gone"
    except TooManyRequests:
        return "blocked"
    return "evicted"
