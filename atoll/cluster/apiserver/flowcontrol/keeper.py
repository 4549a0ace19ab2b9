"""Keeps the configuration: makes the default objects, follows all of them, and says in each FlowSchema's status whether
its level exists.

Changes act as soon as they are durable (a follower of the writes); what is to be written is done by `run`, again every
minute. Writes are those of kube-apiserver's: the same field managers, at most six of one status a minute.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AlreadyExists, ApiError, Conflict, NotFound
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.flowcontrol import ensure
from atoll.cluster.apiserver.flowcontrol.levels import BORROWING_SECONDS, Levels
from atoll.cluster.apiserver.flowcontrol.model import read_level, read_schema
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.apiserver.ports import User
from atoll.cluster.store.port import Key, Record
from atoll.kinds.resource import Resource

log = logging.getLogger("atoll.flowcontrol")
Object = dict[str, Any]
GROUP = "flowcontrol.apiserver.k8s.io"
FLOW_SCHEMAS = Resource(GROUP, "v1", "flowschemas", "FlowSchema", False)
LEVELS = Resource(GROUP, "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", False)
PRODUCER = "api-priority-and-fairness-config-producer-v1"
CONSUMER = "api-priority-and-fairness-config-consumer-v1"
ENSURE_SECONDS = 60.0
_MOST_UPDATES = 6  # of one status in a minute
_RESOURCES = {"FlowSchema": FLOW_SCHEMAS, "PriorityLevelConfiguration": LEVELS}


def dangling(schema: Object, levels: frozenset[str], now: float) -> Object | None:
    """The condition to write into a FlowSchema's status; None where it says that already."""
    name = schema["spec"]["priorityLevelConfiguration"]["name"]
    about = f'This FlowSchema references the PriorityLevelConfiguration object named "{name}"'
    if name in levels:
        wanted = {"status": "False", "reason": "Found", "message": f"{about} and it exists"}
    else:
        wanted = {"status": "True", "reason": "NotFound", "message": f"{about} but there is no such object"}
    for found in (schema.get("status") or {}).get("conditions") or ():
        if found.get("type") == "Dangling" and all(found.get(key) == value for key, value in wanted.items()):
            return None
    return {"type": "Dangling", "lastTransitionTime": rfc3339(now), **wanted}


class Keeper:
    """See the module."""

    def __init__(self, api: Api, levels: Levels, clock: Clock) -> None:
        self.ready = asyncio.Event()  # the defaults are there, and their status says so
        self._api = api
        self._levels = levels
        self._clock = clock
        self._client = LocalClient(api, User("system:apiserver", ("system:masters",)), PRODUCER)
        self._dirty = asyncio.Event()
        self._digesting = self._ensured = False
        self._updates: dict[str, list[float]] = {}
        for resource in (FLOW_SCHEMAS, LEVELS):
            api.followers[resource.group_resource] = self._changed
        self.digest()

    async def _changed(self, _key: Key, _record: Record | None) -> None:
        if not self._digesting:
            self._digesting = True
            asyncio.get_running_loop().call_soon(self.digest)

    def digest(self) -> None:
        """Read all that is stored."""
        self._digesting = False
        levels = [level for obj in self._stored(LEVELS) if (level := read_level(obj)) is not None]
        schemas = [read_schema(obj) for obj in self._stored(FLOW_SCHEMAS)]
        self._levels.digest(self._clock.monotonic(), levels, schemas)
        self._dirty.set()

    def _stored(self, resource: Resource) -> list[Object]:
        return [record.object for record in self._api.store.scan(resource.group_resource, None)]

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(ENSURE_SECONDS, self.ensure))
            group.create_task(self._every(BORROWING_SECONDS, self._borrow))
            group.create_task(self._write_statuses())

    async def _every(self, seconds: float, act: Any) -> None:
        while True:
            try:
                await act()
            except ApiError as error:
                log.warning("default flow schemas: %s", error)
            await asyncio.sleep(seconds)

    async def _borrow(self) -> None:
        self._levels.borrow(self._clock.monotonic())

    async def ensure(self) -> None:
        """Make and mend the default objects, remove those that are ours no more."""
        await asyncio.gather(*(self._ensure(default) for default in ensure.DEFAULTS))
        for obj in ensure.unwanted([*self._stored(FLOW_SCHEMAS), *self._stored(LEVELS)]):
            try:
                await self._client.delete(_RESOURCES[obj["kind"]], obj["metadata"]["name"])
            except NotFound:
                continue
        self._ensured = True
        self._dirty.set()

    async def _ensure(self, default: Object) -> None:
        resource = _RESOURCES[default["kind"]]
        served = self._api.registry.of(resource)
        assert served is not None
        record = self._api.store.get(served.key("", default["metadata"]["name"]))
        try:
            if record is None:
                await self._client.create(resource, default)
            elif (changed := ensure.revised(served.present(record), default)) is not None:
                await self._client.update(resource, changed)
        except (AlreadyExists, Conflict):
            return  # somebody was first: look again in a minute

    async def _write_statuses(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            names = frozenset(obj["metadata"]["name"] for obj in self._stored(LEVELS) if read_level(obj) is not None)
            due = [
                (obj["metadata"]["name"], condition)
                for obj in self._stored(FLOW_SCHEMAS)
                if (condition := dangling(obj, names, self._clock.wall())) is not None
            ]
            await asyncio.gather(*(self._write_status(name, condition) for name, condition in due))
            if self._ensured:
                self.ready.set()

    async def _write_status(self, name: str, condition: Object) -> None:
        now = self._clock.monotonic()
        recent = [when for when in self._updates.get(name, ()) if when > now - 60.0]
        if len(recent) >= _MOST_UPDATES:  # somebody writes the opposite: not a fight without end
            asyncio.get_running_loop().call_later(recent[0] + 60.0 - now, self._dirty.set)
            return
        self._updates[name] = [*recent, now]
        wanted = {
            "apiVersion": FLOW_SCHEMAS.api_version,
            "kind": "FlowSchema",
            "metadata": {"name": name},
            "status": {"conditions": [condition]},
        }
        try:
            await self._client.apply(FLOW_SCHEMAS, wanted, subresource="status", field_manager=CONSUMER)
        except NotFound:
            return
        except ApiError as error:
            log.warning("status of the FlowSchema %s: %s", name, error)
