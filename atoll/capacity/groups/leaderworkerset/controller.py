"""Carries out plans for LeaderWorkerSets. Killed at any await it takes up from what is stored.

The leader StatefulSet is written by server-side apply, so that scaling and updates are one idempotent write; everything
else has a name that follows from the set, and is made once.
"""

from __future__ import annotations

from contextlib import suppress

from atoll.base.errors import AlreadyExists, NotFound
from atoll.capacity.groups.leaderworkerset import model
from atoll.capacity.groups.leaderworkerset.model import Object, Plan
from atoll.capacity.groups.leaderworkerset.plan import plan_set
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.client.port import DeleteOptions
from atoll.kinds.batch import LEADER_WORKER_SETS
from atoll.kinds.builtin import CONTROLLER_REVISIONS, PODS, SERVICES, STATEFUL_SETS
from atoll.objects.meta import controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key

_INDEX = "leader-worker-set"
_RESOURCES = {it.kind: it for it in (CONTROLLER_REVISIONS, SERVICES, STATEFUL_SETS)}


class LeaderWorkerSets:
    """One key a LeaderWorkerSet."""

    def __init__(self, parts: Parts) -> None:
        self.name = "leader-worker-sets"
        self._parts = parts
        of = parts.informers.of
        self._sets, self._pods = of(LEADER_WORKER_SETS), of(PODS)
        self._stateful, self._services, self._revisions = of(STATEFUL_SETS), of(SERVICES), of(CONTROLLER_REVISIONS)
        owned = (self._pods, self._stateful, self._revisions)
        waits = (self._sets, *owned, self._services)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        self._sets.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        for informer in owned:
            informer.add_index(_INDEX, lambda obj: [found] if (found := _set_of(obj)) is not None else [])
            informer.add_handler(self._owned_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _owned_changed(self, old: Object | None, new: Object | None) -> None:
        found = _set_of(new or old or {})
        if found is not None:
            self.loop.queue.add(found)

    async def _reconcile(self, name: Key) -> float | None:
        lws = self._sets.by_key(name)
        if lws is None or is_deleting(lws) or not self._parts.on():
            return None
        stateful = {obj["metadata"]["name"]: obj for obj in self._stateful.by_index(_INDEX, name)}
        leaders = stateful.pop(lws["metadata"]["name"], None)
        pods = sorted(self._pods.by_index(_INDEX, name), key=lambda pod: str(pod["metadata"]["name"]))
        uid = lws["metadata"]["uid"]  # the StatefulSets have revisions of their own, with these labels too
        revisions = [it for it in self._revisions.by_index(_INDEX, name) if (controller_of(it) or {}).get("uid") == uid]
        plan = plan_set(lws, leaders, stateful, pods, revisions, self._parts.clock.wall())
        await self._carry_out(lws, leaders, plan)
        return None

    async def _carry_out(self, lws: Object, leaders: Object | None, plan: Plan) -> None:
        client = self._parts.client
        for obj in plan.create:
            await self._ensure(obj)
        for obj in plan.apply:
            if leaders is None or not _is_so(obj, leaders):
                await client.apply(STATEFUL_SETS, obj, force=True)
        for leader in plan.restart:
            metadata = leader["metadata"]
            options = DeleteOptions(uid=metadata["uid"], propagation="Foreground")
            with suppress(NotFound):
                await client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
            group = labels(leader)[model.GROUP_INDEX]
            self._parts.events.event(lws, NORMAL, "RecreateGroupOnPodRestart", f"Group {group} is recreated")
        await write_status(client, LEADER_WORKER_SETS, lws, {**lws, "status": plan.status})
        for kind, reason, message in plan.events:
            self._parts.events.event(lws, kind, reason, message)
        for revision in plan.forget:
            with suppress(NotFound):
                metadata = revision["metadata"]
                await client.delete(CONTROLLER_REVISIONS, metadata["name"], metadata["namespace"])

    async def _ensure(self, wanted: Object) -> None:
        metadata, resource = wanted["metadata"], _RESOURCES[wanted["kind"]]
        informer = self._parts.informers.of(resource)
        if informer.get(metadata["name"], metadata["namespace"]) is None:
            with suppress(AlreadyExists):
                await self._parts.client.create(resource, wanted, metadata["namespace"])


def _set_of(obj: Object) -> Key | None:
    name = labels(obj).get(model.NAME)
    return (obj["metadata"].get("namespace"), name) if name else None


def _is_so(wanted: Object, there: Object) -> bool:
    """Whether an apply would change nothing that we own: revision, replicas and partition say all."""
    old, new = there["spec"], wanted["spec"]
    partition = ((old.get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0
    return (
        labels(there).get(model.REVISION) == labels(wanted)[model.REVISION]
        and old.get("replicas") == new["replicas"]
        and partition == new["updateStrategy"]["rollingUpdate"]["partition"]
    )
