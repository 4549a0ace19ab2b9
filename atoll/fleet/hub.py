"""All of a hub's controllers, on any Kubernetes API that serves the hub's kinds."""

from __future__ import annotations

import asyncio
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.continuity.budget import Budget, Limits
from atoll.fleet.continuity.guard import Guard
from atoll.fleet.options import HubOptions
from atoll.fleet.propagation.bindings import Bindings
from atoll.fleet.propagation.execution import Execution
from atoll.fleet.propagation.namespaces import NamespaceSync
from atoll.fleet.propagation.rebalance import Rebalancers
from atoll.fleet.propagation.reflection import Reflection
from atoll.fleet.propagation.view import View, work_template
from atoll.fleet.propagation.works import Works
from atoll.fleet.registry.clusters import Clusters, Connect
from atoll.fleet.registry.members import Member, Members
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]


class Hub:
    """`connect(cluster, secret)` makes the client of a member; nothing else reaches one.

    `client` is the hub's own API. `run` works until it is cancelled; it may be killed and started again at any time.
    """

    def __init__(
        self, client: Client, clock: Clock, chance: Chance, connect: Connect, options: HubOptions | None = None
    ) -> None:
        options = options or HubOptions()
        self.options = options
        self.informers = Informers(client)
        self.members = Members()
        self.recorder = EventRecorder(client, "atoll-hub", clock, chance.stream("hub"))
        limits = Limits(options.destroy_percent, options.destroy_at_least, options.destroy_window_seconds)
        self._guard = Guard(client, self.informers, limits)
        self.budget = Budget(clock, limits, self._copies_of, self._guard.changed)
        self._guard.budget = self.budget
        self.clusters = Clusters(client, self.informers, clock, options, connect, self.members, self._observe)
        self.view = View(
            client, self.informers, clock, options, self.clusters, self.members, self.recorder, self.budget
        )
        self.view.works.add_index("kind", _kinds_of)
        self.view.works.add_index("space", lambda work: [work["metadata"].get("namespace")])
        self.clusters.works_in = self._works_in
        self.bindings = Bindings(self.view)
        self.works = Works(self.view)
        self.execution = Execution(self.view)
        self.reflection = Reflection(self.view, self.execution)
        self.rebalancers = Rebalancers(self.view)
        self.namespaces = NamespaceSync(self.view) if options.namespaces else None
        self._guard.on_confirmed.append(self._wake)

    async def run(self) -> None:
        """All controllers, until cancelled."""
        self.informers.start()
        parts: list[Any] = [
            self.clusters, self._guard, self.bindings, self.works, self.execution, self.reflection, self.rebalancers,
        ]  # fmt: skip
        if self.namespaces is not None:
            parts.append(self.namespaces)
        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(part.run(), name=type(part).__name__)
        finally:
            await self.informers.stop()

    async def wait_synced(self) -> None:
        """Until the hub has read all that it decides from."""
        await self.informers.wait_synced()

    def _observe(self, member: Member, resource: Resource, old: Object | None, new: Object | None) -> None:
        self.execution.observe(member, resource, old, new)
        self.reflection.observe(member, resource, old, new)

    def _works_in(self, cluster: str) -> list[str]:
        works = self.view.works.by_index("space", names.execution_namespace(cluster))
        return sorted(str(work_template(work) or work["metadata"]["name"]) for work in works)

    def _copies_of(self, kind: str) -> int:
        works = self.view.works.by_index("kind", kind)
        return sum(1 for work in works if "deletionTimestamp" not in work["metadata"])

    def _wake(self, kind: str) -> None:
        """A person confirmed deletions of the kind: whoever held them looks again."""
        for work in self.view.works.by_index("kind", kind):
            key = work_template(work)
            if key is not None:
                self.works.controller.queue.add(key)
                self.bindings.controller.queue.add(key)
                if self.namespaces is not None and key.kind == "Namespace":
                    self.namespaces.controller.queue.add(key.name)


def _kinds_of(work: Object) -> list[str]:
    key = work_template(work)
    return [key.kind] if key is not None else []
