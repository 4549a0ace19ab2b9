"""The members as the hub holds them: a client each, what is cached from them, and whether they can be asked.

A member is `ready` while its probes are answered, and `known` once its caches are true since then. What is not
known is never taken for gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from atoll.base.errors import Unreachable
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.kindmap import KindMap
from atoll.fleet.model import NodeRoom
from atoll.fleet.registry.ledger import Ledger
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, HORIZONTAL_POD_AUTOSCALERS
from atoll.kinds.resource import Resource
from atoll.runtime.informer import Informer, Informers

Object = dict[str, Any]
T = TypeVar("T")
Observer = Callable[["Member", Resource, Object | None, Object | None], None]


def _slim_definition(crd: Object) -> Object:
    """A CRD without its schemas."""
    metadata, spec = crd["metadata"], crd["spec"]
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return {
        "metadata": {"name": metadata["name"], "resourceVersion": metadata["resourceVersion"]},
        "spec": {"names": spec["names"], "versions": [(item["name"], item["served"]) for item in spec["versions"]]},
        "established": any(item["type"] == "Established" and item["status"] == "True" for item in conditions),
    }


class Member:
    """One cluster of the fleet, reached through the one client port."""

    def __init__(self, name: str, client: Client, request_seconds: float, observer: Observer) -> None:
        self.name = name
        self.client = client
        self.kinds = KindMap(client)
        self.ready = False
        self.known = False
        self.known_since = 0.0  # the loop's time
        self._heard = -1.0  # when a watch last brought something
        self.not_ready_since: float | None = None  # monotonic: when the first of the failed probes began
        self.reason = "has not been probed yet"
        self.changed: Callable[[], None] = lambda: None  # room in the cluster changed
        self.kinds_changed: Callable[[], None] = lambda: None  # the cluster serves other kinds
        self._request_seconds = request_seconds
        self._observer = observer
        self._informers: Informers | None = None
        self._managed: dict[Resource, Informer] = {}
        self._wanted: dict[Resource, None] = {}  # in the order of asking, so that a seed replays
        self._ledger: Ledger | None = None
        self._in_flight: dict[asyncio.Timeout, None] = {}
        self._syncing: asyncio.Task[None] | None = None

    async def call(self, request: Awaitable[T]) -> T:
        """A request with a deadline of its own, given up at once when the cluster is found not ready.

        Raises Unreachable for the deadline, and what the client raises.
        """
        try:
            async with asyncio.timeout(self._request_seconds) as timeout:
                self._in_flight[timeout] = None
                try:
                    return await request
                finally:
                    self._in_flight.pop(timeout, None)
        except TimeoutError as error:
            raise Unreachable(f"cluster {self.name} gave no answer in time") from error

    def connect(self, on_known: Callable[[], None]) -> None:
        """The cluster answers: read what is managed there afresh, and say once all of it is known."""
        self.ready = True
        self.known = False
        informers = self._informers = Informers(self.client)
        self._managed = {}
        self._ledger = Ledger(informers, self._on_room)
        informers.of(HORIZONTAL_POD_AUTOSCALERS)
        for resource in self._wanted:
            self._watch(resource)
        definitions = informers.of(CUSTOM_RESOURCE_DEFINITIONS, transform=_slim_definition)
        definitions.add_handler(self._on_definition)
        informers.start()
        self._syncing = asyncio.get_running_loop().create_task(self._sync(informers, on_known))

    def _on_room(self) -> None:
        self._heard = asyncio.get_running_loop().time()
        self.changed()

    def heard_since(self, moment: float) -> bool:
        """Whether a watch brought something after that moment (monotonic, as the loop's)."""
        return self.ready and self._heard > moment

    def _on_definition(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or old["spec"] != new["spec"] or old["established"] != new["established"]:
            self.kinds_changed()

    async def _sync(self, informers: Informers, on_known: Callable[[], None]) -> None:
        for informer in list(self._managed.values()):
            await informer.answered.wait()  # a kind that is not served (any more) keeps nothing waiting
        if self._informers is informers:
            self.known = True
            self.known_since = asyncio.get_running_loop().time()
            on_known()

    async def disconnect(self) -> None:
        """The cluster does not answer: drop connections; nothing about it is known any more."""
        self.ready = False
        self.known = False
        informers, self._informers = self._informers, None
        now = asyncio.get_running_loop().time()
        for timeout in list(self._in_flight):
            timeout.reschedule(now)
        if self._syncing is not None:
            self._syncing.cancel()
        if informers is not None:
            await informers.stop()

    def watch(self, resource: Resource) -> None:
        """Objects of the resource that the hub manages are watched from now on."""
        if resource not in self._wanted:
            self._wanted[resource] = None
            if self._informers is not None:
                self._watch(resource)

    def _watch(self, resource: Resource) -> None:
        assert self._informers is not None
        informer = self._informers.of(resource, label_selector=names.MANAGED_SELECTOR)
        self._managed[resource] = informer

        def tell(old: Object | None, new: Object | None) -> None:
            self._heard = asyncio.get_running_loop().time()
            self._observer(self, resource, old, new)

        informer.add_handler(tell)

    def managed(self, resource: Resource, name: str, namespace: str | None) -> Object | None:
        """The live object as last seen."""
        informer = self._managed.get(resource)
        return informer.get(name, namespace) if informer is not None else None

    def is_synced(self, resource: Resource) -> bool:
        informer = self._managed.get(resource)
        return self.known and informer is not None and informer.synced.is_set()

    def autoscaled(self, api_version: str, kind: str, namespace: str | None, name: str) -> bool:
        """Whether an autoscaler in the member owns the object's replicas."""
        if self._informers is None:
            return False
        group = api_version.rpartition("/")[0]
        for scaler in self._informers.of(HORIZONTAL_POD_AUTOSCALERS):
            if scaler["metadata"].get("namespace") != namespace:
                continue
            target = scaler["spec"]["scaleTargetRef"]
            same_group = (target.get("apiVersion") or "").rpartition("/")[0] == group
            if target["kind"] == kind and target["name"] == name and same_group:
                return True
        return False

    def rooms(self) -> tuple[NodeRoom, ...] | None:
        """Free room per node; None where it is not known."""
        return self._ledger.rooms() if self._ledger is not None else None

    def waiting(self) -> dict[str, int]:
        """What pods without a node ask for, their number included."""
        return self._ledger.waiting() if self._ledger is not None else {}

    def summaries(self) -> tuple[Object, Object] | None:
        """nodeSummary and resourceSummary; None till known."""
        if self._ledger is None or not self._ledger.synced:
            return None
        return self._ledger.node_summary(), self._ledger.resource_summary()


class Members:
    """All members by name."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}

    def get(self, name: str) -> Member | None:
        return self._members.get(name)

    def add(self, member: Member) -> None:
        self._members[member.name] = member

    def remove(self, name: str) -> None:
        self._members.pop(name, None)

    def all(self) -> list[Member]:
        return list(self._members.values())

    def is_known(self, name: str) -> bool:
        member = self._members.get(name)
        return member is not None and member.known
