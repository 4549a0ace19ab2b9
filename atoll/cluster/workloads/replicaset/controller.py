"""The loop of ReplicaSets and of ReplicationControllers, which differ in group, selector and names only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atoll.base.errors import AtollError, Forbidden, NotFound
from atoll.client.port import DeleteOptions, Object, create_all
from atoll.cluster.workloads.common import batches, owners, pods
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.expectations import Expectations
from atoll.cluster.workloads.common.selectors import Matcher, compile_map, compile_selector
from atoll.cluster.workloads.replicaset.plan import (
    Scale,
    calculate_status,
    count,
    min_ready_seconds,
    plan_growth,
    plan_scale,
    survey,
    template_labels,
    wanted,
)
from atoll.cluster.workloads.replicaset.tally import Tally
from atoll.kinds.builtin import PODS, REPLICA_SETS, REPLICATION_CONTROLLERS
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

# A pass reads all pods of its owner, so an owner of many waits a little for more changes: 20 ms for 500 pods. One whose
# pods are tallied waits no longer than that: then a pass is a write of its status, and what follows from that.
_PODS_PER_SECOND = 25_000
_MOST_DELAY_SECONDS = 0.25
_MOST_TALLIED_DELAY_SECONDS = 0.04
_FEW_PODS = 64


@dataclass(frozen=True, slots=True)
class Flavour:
    """What tells the two kinds apart."""

    name: str
    resource: Resource
    plain_selector: bool
    counts_terminating: bool


REPLICA_SET = Flavour("replicaset-controller", REPLICA_SETS, plain_selector=False, counts_terminating=True)
REPLICATION_CONTROLLER = Flavour(
    "replication-controller", REPLICATION_CONTROLLERS, plain_selector=True, counts_terminating=False
)


class ReplicaSetController:
    """Guarantees: never acts while a pod that it created or deleted is not yet in its cache."""

    def __init__(self, context: Context, flavour: Flavour = REPLICA_SET) -> None:
        self.name = flavour.name
        self._flavour = flavour
        self._client = context.client(flavour.name)
        self._events = context.recorder(flavour.name)
        self._clock = context.clock
        self._owners = context.informers.of(flavour.resource)
        self._pods = context.pod_events.pods
        owners.index_by_controller(self._owners)
        self._owners.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self._expectations = Expectations()
        self._matchers: dict[str, tuple[Object, Matcher]] = {}
        self._tallies: dict[str, Tally] = {}  # of owners of many, by their uids
        self.loop: Controller[Key] = Controller(
            flavour.name,
            self._reconcile,
            workers=context.options.workers,
            wait_for=(self._owners, self._pods),
        )
        self._owners.add_handler(self._owner_changed)
        context.pod_events.follow(flavour.resource.kind, self._pod_changed, self._wake_adopters)

    async def run(self) -> None:
        await self.loop.run()

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        if new is None or (old is not None and old["metadata"]["uid"] != new["metadata"]["uid"]):
            self._expectations.forget(key(obj))
            for uid in {each["metadata"]["uid"] for each in (old, new) if each is not None}:
                self._matchers.pop(uid, None)
                self._tallies.pop(uid, None)
        self.loop.queue.add(key(obj))

    def _pod_changed(self, old: Object | None, new: Object | None, reference: Object) -> None:
        pod = new or old or {}
        tally = self._tallies.get(reference["uid"])
        if tally is not None:
            tally.change(old, new)
        owner_key = (pod["metadata"].get("namespace"), reference["name"])
        if new is None or is_deleting(new):
            self._expectations.deletion_observed(owner_key, pod["metadata"]["uid"])
        elif old is None:
            self._expectations.creation_observed(owner_key)
            if self._expectations.outstanding(owner_key) == 0:
                self.loop.queue.add(owner_key)
        self._wake(owner_key, reference["uid"])

    def _wake(self, owner_key: Key, uid: str) -> None:
        owner = self._owners.by_key(owner_key)
        if owner is None or owner["metadata"]["uid"] != uid:
            return
        count = self._pods.index_size(owners.CONTROLLER_INDEX, uid)
        if count <= _FEW_PODS:
            self.loop.queue.add(owner_key)
        else:
            most = _MOST_TALLIED_DELAY_SECONDS if uid in self._tallies else _MOST_DELAY_SECONDS
            self.loop.queue.add_after(owner_key, min(count / _PODS_PER_SECOND, most))

    def _wake_adopters(self, pod: Object) -> None:
        own = labels(pod)
        if not own:
            return
        for owner in self._owners.by_index("namespace", pod["metadata"].get("namespace")):
            if self._matcher(owner)(own):
                self.loop.queue.add(key(owner))

    def _matcher(self, owner: Object) -> Matcher:
        selector = owner["spec"].get("selector")
        known = self._matchers.get(owner["metadata"]["uid"])
        if known is not None and (known[0] is selector or known[0] == selector):
            return known[1]
        made = compile_map(selector) if self._flavour.plain_selector else compile_selector(selector)
        self._matchers[owner["metadata"]["uid"]] = (selector, made)
        return made

    async def _reconcile(self, owner_key: Key) -> float | None:
        owner = self._owners.by_key(owner_key)
        if owner is None:
            self._expectations.forget(owner_key)
            return None
        may_act = self._expectations.satisfied(owner_key, self._clock.monotonic())
        matches = self._matcher(owner)
        tally = self._tally(owner, matches)
        if tally is not None and tally.active <= wanted(owner):
            counts, leaving, scale = tally.counts, tally.leaving, plan_growth(owner, tally.active)
        else:
            present, leaving = survey(owners.children(self._pods, owner), matches)
            free = owners.orphans(self._pods, owner["metadata"].get("namespace"))
            claim = owners.plan_claim(owner, matches, present, filter(pods.is_active, free))
            active = await owners.apply_claim(self._client, owner, self._flavour.resource, claim, PODS)
            counts = count(owner, active, self._clock.wall())
            scale = plan_scale(owner, active, lambda: self._related(owner), self._clock.wall()) if may_act else Scale()
        error = await self._apply(owner_key, owner, scale) if may_act else None
        terminating = leaving if self._flavour.counts_terminating else None
        status = calculate_status(owner, counts, terminating, error, self._clock.wall())
        if status != (owner.get("status") or {}):
            await self._client.update(self._flavour.resource, {**owner, "status": status}, subresource="status")
        if error is not None:
            raise error
        return counts.again

    def _tally(self, owner: Object, matches: Matcher) -> Tally | None:
        """What is known of its pods without looking at each; None where they are few, or some are to be claimed."""
        uid = owner["metadata"]["uid"]
        if min_ready_seconds(owner) or self._pods.index_size(owners.CONTROLLER_INDEX, uid) <= _FEW_PODS:
            self._tallies.pop(uid, None)
            return None
        basis = owner["spec"].get("selector") or {}, template_labels(owner)
        tally = self._tallies.get(uid)
        if tally is None or tally.basis != basis:
            tally = self._tallies[uid] = Tally(basis, matches, owners.children(self._pods, owner))
        free = owners.orphans(self._pods, owner["metadata"].get("namespace"))
        claims = tally.strangers or any(pods.is_active(pod) and matches(labels(pod)) for pod in free)
        return None if claims else tally

    def _related(self, owner: Object) -> Iterable[Object]:
        """The pods of all replica sets of the same Deployment."""
        reference = controller_of(owner)
        if reference is None:
            return owners.children(self._pods, owner)
        siblings = self._owners.by_index(owners.CONTROLLER_INDEX, reference["uid"])
        return [pod for sibling in siblings for pod in owners.children(self._pods, sibling)]

    async def _apply(self, owner_key: Key, owner: Object, scale: Scale) -> AtollError | None:
        if scale.create:
            return await self._create(owner_key, owner, scale.create)
        if scale.delete:
            return await self._delete(owner_key, owner, scale.delete)
        return None

    async def _create(self, owner_key: Key, owner: Object, count: int) -> AtollError | None:
        self._expectations.expect_creations(owner_key, count, self._clock.monotonic())
        pod = pods.pod_from_template(owner["spec"]["template"], owner)
        namespace = owner["metadata"].get("namespace")

        async def create(batch: Sequence[int]) -> list[object]:
            made = await create_all(self._client, PODS, [pod] * len(batch), namespace)
            return [self._told(owner, result) for result in made]

        succeeded, error = await batches.slow_batches(range(count), create)
        if succeeded < count:
            self._expectations.creation_observed(owner_key, count - succeeded)
        return error

    def _told(self, owner: Object, made: str | AtollError) -> object:
        """What a create has come to, told in an Event."""
        if isinstance(made, str):
            self._events.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {made}")
        elif namespace_terminates(made):
            return None
        else:
            self._events.event(owner, WARNING, "FailedCreate", f"Error creating: {made.message}")
        return made

    async def _delete(self, owner_key: Key, owner: Object, doomed: list[Object]) -> AtollError | None:
        uids = [pod["metadata"]["uid"] for pod in doomed]
        self._expectations.expect_deletions(owner_key, uids, self._clock.monotonic())

        async def delete(pod: Object) -> None:
            metadata = pod["metadata"]
            name = metadata["name"]
            try:
                await self._client.delete(
                    PODS, name, metadata.get("namespace"), options=DeleteOptions(uid=metadata["uid"])
                )
            except AtollError as error:
                self._expectations.deletion_observed(owner_key, metadata["uid"])
                if not isinstance(error, NotFound):
                    self._events.event(owner, WARNING, "FailedDelete", f"Error deleting: {error.message}")
                    raise
            else:
                self._events.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {name}")

        return await batches.all_of(doomed, delete)


def namespace_terminates(error: AtollError) -> bool:
    """The create failed only because the namespace is being deleted (cause NamespaceTerminating)."""
    if not isinstance(error, Forbidden):
        return False
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
