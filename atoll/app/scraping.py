"""How the metrics server reaches a node: at its kubelet's HTTPS port, as the API server."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from atoll.app.pki import ClusterKeys
from atoll.base.errors import ServerError, Unreachable
from atoll.cluster.apiserver.dialing import Target, send
from atoll.cluster.metrics.server import Scrape
from atoll.wire.tls import client_context

Object = dict[str, Any]
_SECONDS = 10.0
_MOST_BYTES = 16 << 20


def kubelet_scrape(keys: ClusterKeys) -> Scrape:
    """The client certificate is made when a node is first asked."""
    tls: ssl.SSLContext | None = None

    async def scrape(node: Object) -> str:
        nonlocal tls
        if tls is None:
            own = keys.kubelet_client()
            tls = client_context(ca_pem=keys.ca_pem, certificate_pem=own.certificate_pem, key_pem=own.key_pem)
        status = node.get("status") or {}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port")
        addresses = {item.get("type"): item.get("address") for item in status.get("addresses") or ()}
        address = addresses.get("InternalIP") or addresses.get("Hostname")
        if not port or not address:
            raise Unreachable("the node has no kubelet port")
        try:
            async with asyncio.timeout(_SECONDS):
                answer = await send(Target(address, port, tls), "GET", "/metrics/resource")
                body = await answer.whole(_MOST_BYTES)
        except TimeoutError:
            raise Unreachable(f"{address}:{port} did not answer within {_SECONDS:g} s") from None
        if answer.status != 200:
            raise ServerError(f"/metrics/resource answered {answer.status}", code=answer.status)
        return body.decode(errors="replace")

    return scrape
