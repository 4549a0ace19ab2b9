"""Finds the resource of a kind: built in, or by discovery of what the API server serves."""

from __future__ import annotations

from atoll.base.errors import AtollError
from atoll.client.port import Client
from atoll.cluster.workloads.common.discovery import served_resources
from atoll.kinds.catalog import catalog
from atoll.kinds.resource import Resource


class KindFinder:
    """Call it with (apiVersion, kind); None where that is not served. Custom kinds are looked up anew each time."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def __call__(self, api_version: str, kind: str) -> Resource | None:
        group, _, version = api_version.rpartition("/")
        known = catalog().by_kind(group, version, kind)
        if known is not None:
            return known.resource
        try:
            served = await served_resources(self._client)
        except AtollError:
            return None
        for item in served:
            if (item.resource.group, item.resource.version, item.resource.kind) == (group, version, kind):
                return item.resource
        return None
