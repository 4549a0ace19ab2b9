"""One cluster's heart: probes with a deadline of their own, and a watch whose end means a probe at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from atoll.base.clock import Clock
from atoll.base.errors import AtollError
from atoll.client.port import Client
from atoll.fleet.options import HubOptions
from atoll.kinds.builtin import NAMESPACES

Object = dict[str, Any]
log = logging.getLogger(__name__)
_AGAIN_SECONDS = 0.1  # between a refusal and the next probe


@dataclass(frozen=True, slots=True)
class Beat:
    """The outcome of one probe."""

    ok: bool
    began: float
    took: float
    message: str = ""
    timed_out: bool = False


class Monitor:
    """Calls `beat` for each probe. Nothing is concluded here."""

    def __init__(
        self, client: Client, clock: Clock, options: HubOptions, beat: Callable[[Beat], bool],
        interval: Callable[[], float],
    ) -> None:  # fmt: skip
        self._client = client
        self._clock = clock
        self._options = options
        self._beat = beat  # answers whether the cluster is settled: else the next probe comes at once
        self._interval = interval
        self._poke = asyncio.Event()

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            while True:
                self._poke.clear()
                settled = self._beat(await self._probe())
                pause = self._interval() if settled else _AGAIN_SECONDS
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._poke.wait()

    def poke(self) -> None:
        """Probe now."""
        self._poke.set()

    async def _probe(self) -> Beat:
        began = self._clock.monotonic()
        deadline = self._options.probe_deadline_seconds
        try:
            async with asyncio.timeout(deadline):
                answer = await self._client.raw("GET", "/readyz")
        except TimeoutError:
            message = f"no answer within {deadline:g} s"
            return Beat(False, began, self._clock.monotonic() - began, message, timed_out=True)
        except AtollError as error:
            return Beat(False, began, self._clock.monotonic() - began, error.message)
        took = self._clock.monotonic() - began
        if answer.status == 200:
            return Beat(True, began, took)
        text = answer.body.decode(errors="replace").strip()[:200]
        return Beat(False, began, took, f"/readyz answered {answer.status}: {text}")

    async def _listen(self) -> None:
        """A watch that carries nothing: when it breaks, the server may be gone."""
        while True:
            try:
                page = await self._client.list(NAMESPACES, limit=1)
                events = self._client.watch(NAMESPACES, resource_version=page.resource_version)
                async for _ in events:
                    pass
            except AtollError as error:
                log.debug("listening: %s", error)
            self._poke.set()
            await asyncio.sleep(1.0)


async def read_version(client: Client) -> str:
    """The server's gitVersion; "" where it does not say."""
    answer = await client.raw("GET", "/version")
    if answer.status != 200:
        return ""
    return str(orjson.loads(answer.body).get("gitVersion") or "")


async def read_enablements(client: Client) -> list[Object]:
    """What the server serves, as Cluster.status.apiEnablements: by aggregated discovery, or group by group."""
    aggregated = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    found: dict[str, list[Object]] = {}
    for root in ("/api", "/apis"):
        answer = await client.raw("GET", root, headers={"Accept": f"{aggregated},application/json"})
        if answer.status != 200:
            continue
        body = orjson.loads(answer.body)
        if body.get("kind") == "APIGroupDiscoveryList":
            _from_aggregated(body, found)
        else:
            await _from_legacy(client, body, found)
    return [{"groupVersion": version, "resources": found[version]} for version in sorted(found) if found[version]]


def _from_aggregated(body: Object, found: dict[str, list[Object]]) -> None:
    for group in body.get("items") or ():
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or ():
            if version.get("freshness") == "Stale":
                continue
            key = f"{name}/{version['version']}" if name else version["version"]
            found[key] = [
                {"name": item["resource"], "kind": item["responseKind"]["kind"]}
                for item in version.get("resources") or ()
                if (item.get("responseKind") or {}).get("kind")
            ]


async def _from_legacy(client: Client, body: Object, found: dict[str, list[Object]]) -> None:
    versions = [(f"/api/{one}", one) for one in body.get("versions") or ()]
    for group in body.get("groups") or ():
        versions += [(f"/apis/{one['groupVersion']}", one["groupVersion"]) for one in group.get("versions") or ()]
    for path, version in versions:
        answer = await client.raw("GET", path)
        if answer.status == 200:
            resources = orjson.loads(answer.body).get("resources") or ()
            found[version] = [
                {"name": item["name"], "kind": item["kind"]} for item in resources if "/" not in item["name"]
            ]
