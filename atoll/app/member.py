"""All that runs on a member cluster's API in its process; imported only where it runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from atoll.app.assembly import Assembly
from atoll.app.controllers import Running, running_cluster
from atoll.app.fleetspec import ClusterSpec
from atoll.app.pki import ClusterKeys
from atoll.app.process_nodes import start_process_nodes
from atoll.app.scraping import kubelet_scrape


@asynccontextmanager
async def running_member(
    assembly: Assembly, spec: ClusterSpec, images: Sequence[dict[str, Any]], folder: Path, keys: ClusterKeys, port: int
) -> AsyncIterator[Running]:
    """Controllers, scheduler, nodes and network. `port`: the API server's."""
    root_ca = keys.ca_pem.decode()

    def sign(request: bytes, usages: Sequence[str], seconds: float) -> bytes:
        return keys.authority().sign_request(request, usages, seconds)

    async with running_cluster(assembly, spec, root_ca, sign, kubelet_scrape(keys)) as running:
        if spec.process_node_count:
            await start_process_nodes(assembly, running.informers, running.tasks, spec, images, folder, keys, port)
        yield running
