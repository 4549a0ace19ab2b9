"""The client's contract suite holds on the real kube-apiserver: so the suite itself is proved."""

from __future__ import annotations

import itertools
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import ControlPlane, available, control_plane

from atoll.base.clock import SystemClock
from atoll.client.http import HttpClient
from atoll.client.kubeconfig import Access
from atoll.client.port import Client
from atoll.kinds.builtin import NAMESPACES, SERVICE_ACCOUNTS
from atoll.testing.contracts.client import ClientContract

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available(), reason="the real Kubernetes programs are not built"),
]


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with control_plane() as running:
        yield running


class TestRealApiServer(ClientContract):
    _numbers = itertools.count()

    @pytest.fixture(autouse=True)
    def _plane(self, plane: ControlPlane) -> None:
        self.plane = plane

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Client, str]]:
        access = Access(
            server=self.plane.server,
            ca_pem=self.plane.ca_pem.encode(),
            certificate_pem=self.plane.admin.certificate_pem,
            key_pem=self.plane.admin.key_pem,
        )
        client = HttpClient(access, clock=SystemClock())
        namespace = f"contract-{next(self._numbers)}"
        try:
            await client.create(NAMESPACES, {"metadata": {"name": namespace}})
            await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace)
            yield client, namespace
        finally:
            await client.close()
