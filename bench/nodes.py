"""Nodes as a row needs them before its time begins: Ready, or settled, when no controller has work with them."""

from __future__ import annotations

import asyncio

from atoll.client.http import HttpClient
from atoll.kinds.builtin import LEASES, NODES
from atoll.objects.meta import condition

_POLL_SECONDS = 0.5
_REST_SECONDS = 3.0  # what is left to do at leisure is done


async def ready(client: HttpClient, count: int) -> None:
    """Wait until so many are."""
    while True:
        found = (await client.list(NODES)).items
        if sum((condition(node, "Ready") or {}).get("status") == "True" for node in found) >= count:
            return
        await asyncio.sleep(_POLL_SECONDS)


async def settled(client: HttpClient, count: int) -> None:
    """Wait until so many are, and no others: without a taint, and with a lease each; and a little more."""
    while True:
        leases = await client.list(LEASES, "kube-node-lease", limit=1)
        if len(leases.items) + (leases.remaining or 0) == count:  # the nodes of a large cluster are not asked for often
            found = (await client.list(NODES)).items
            if sum(not (node.get("spec") or {}).get("taints") for node in found) == len(found) == count:
                await asyncio.sleep(_REST_SECONDS)
                return
        await asyncio.sleep(_POLL_SECONDS)
