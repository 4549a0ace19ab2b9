"""The loop of DaemonSets."""

from __future__ import annotations

from atoll.base.backoff import Backoff
from atoll.base.errors import AtollError, NotFound
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common import batches, history, owners
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.expectations import Expectations
from atoll.cluster.workloads.common.selectors import compile_selector, is_empty
from atoll.cluster.workloads.daemonset import placement
from atoll.cluster.workloads.daemonset.placement import Fit, compile_fit
from atoll.cluster.workloads.daemonset.plan import Plan, Snapshot, by_node, calculate_status, plan_pods, plan_update
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from atoll.objects.meta import is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "daemonset-controller"  # as upstream's reportingComponent
_FAILED_BACKOFF = Backoff(first_seconds=1.0, factor=2.0, most_seconds=900.0, jitter=0.0)
_BATCH_SECONDS = 0.05


class DaemonSetController:
    """Failed daemons are replaced after a delay that grows, node by node."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client("daemon-set-controller")
        self._events = context.recorder(NAME)
        self._clock = context.clock
        self._sets = context.informers.of(DAEMON_SETS)
        self._pods = context.pod_events.pods
        self._nodes = context.informers.of(NODES)
        self._revisions = context.informers.of(CONTROLLER_REVISIONS)
        owners.index_by_controller(self._revisions)
        self._sets.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self._expectations = Expectations()
        self._failures: dict[tuple[str, str], tuple[int, float]] = {}
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=2, wait_for=(self._sets, self._pods, self._nodes, self._revisions)
        )
        self._sets.add_handler(self._set_changed)
        context.pod_events.follow("DaemonSet", self._pod_changed, self._orphaned)
        self._nodes.add_handler(self._node_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._expectations.forget(key(old))
            uid = old["metadata"]["uid"]
            self._failures = {name: value for name, value in self._failures.items() if name[0] != uid}
        self.loop.queue.add(key(new or old or {}))

    def _orphaned(self, pod: Object) -> None:
        for owner in self._sets.by_index("namespace", pod["metadata"].get("namespace")):
            if compile_selector(owner["spec"].get("selector"))(labels(pod)):
                self.loop.queue.add(key(owner))

    def _pod_changed(self, old: Object | None, new: Object | None, reference: Object) -> None:
        pod = new or old or {}
        name = (pod["metadata"].get("namespace"), reference["name"])
        if new is None or is_deleting(new):
            self._expectations.deletion_observed(name, pod["metadata"]["uid"])
        elif old is None:
            self._expectations.creation_observed(name)
        if self._pods.index_size(owners.CONTROLLER_INDEX, reference["uid"]) > 64:
            self.loop.queue.add_after(name, _BATCH_SECONDS)
        else:
            self.loop.queue.add(name)

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            same_taints = (old.get("spec") or {}).get("taints") == (new.get("spec") or {}).get("taints")
            if same_taints and labels(old) == labels(new):
                return
        for owner in self._sets:
            self.loop.queue.add_after(key(owner), _BATCH_SECONDS)

    async def _reconcile(self, name: Key) -> float | None:
        owner = self._sets.by_key(name)
        if owner is None:
            self._expectations.forget(name)
            return None
        if is_empty(owner["spec"].get("selector")):
            message = "This daemon set is selecting all pods. A non-empty selector is required."
            self._events.event(owner, WARNING, "SelectingAll", message)
            return None
        if is_deleting(owner):
            return None
        old_revisions, current, collisions = await self._history(owner)
        revision_hash = history.hash_of(current)
        if collisions != int((owner.get("status") or {}).get("collisionCount") or 0):
            owner = {**owner, "status": {**(owner.get("status") or {}), "collisionCount": collisions}}
        may_act = self._expectations.satisfied(name, self._clock.monotonic())
        pods = await self._claim(owner)
        snapshot = self._snapshot(owner, pods, revision_hash)
        error: AtollError | None = None
        if may_act:
            error = await self._apply(name, owner, plan_pods(snapshot), revision_hash)
            strategy = (owner["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate")
            settled = self._expectations.satisfied(name, self._clock.monotonic())
            if error is None and settled and strategy == "RollingUpdate":
                error = await self._apply(name, owner, plan_update(snapshot), revision_hash)
            live = {labels(pod).get(placement.HASH_LABEL, "") for pod in pods}
            names = {item["metadata"]["name"] for item in old_revisions if history.hash_of(item) in live}
            doomed = history.superfluous(old_revisions, names, owner["spec"].get("revisionHistoryLimit"))
            await history.remove(self._client, doomed)
        status, again = calculate_status(snapshot, observed=may_act)
        stored = self._sets.by_key(name)
        if stored is not None and status != (stored.get("status") or {}):
            await self._client.update(DAEMON_SETS, {**stored, "status": status}, subresource="status")
        if error is not None:
            raise error
        return self._again(owner, again)

    async def _history(self, owner: Object) -> tuple[list[Object], Object, int]:
        claim = owners.plan_claim(
            owner,
            compile_selector(owner["spec"].get("selector")),
            owners.children(self._revisions, owner),
            owners.orphans(self._revisions, owner["metadata"]["namespace"]),
        )
        revisions = history.in_order(
            await owners.apply_claim(self._client, owner, DAEMON_SETS, claim, CONTROLLER_REVISIONS)
        )
        planned = history.plan_history(owner, revisions, hash_label=history.HASH_LABEL)
        current, collisions = await history.apply_history(self._client, owner, planned, hash_label=history.HASH_LABEL)
        old = [item for item in revisions if item["metadata"]["name"] != current["metadata"]["name"]]
        return old, current, collisions

    async def _claim(self, owner: Object) -> list[Object]:
        claim = owners.plan_claim(
            owner,
            compile_selector(owner["spec"].get("selector")),
            owners.children(self._pods, owner),
            owners.orphans(self._pods, owner["metadata"]["namespace"]),
        )
        return await owners.apply_claim(self._client, owner, DAEMON_SETS, claim, PODS)

    def _snapshot(self, owner: Object, pods: list[Object], revision_hash: str) -> Snapshot:
        fit = compile_fit(owner)
        fits: dict[str, Fit] = {node["metadata"]["name"]: fit(node) for node in self._nodes}
        uid = owner["metadata"]["uid"]
        return Snapshot(
            owner, fits, by_node(pods), revision_hash, self._clock.wall(), lambda node: self._backs_off(uid, node)
        )

    def _backs_off(self, uid: str, node: str) -> bool:
        count, until = self._failures.get((uid, node), (0, 0.0))
        return count > 0 and self._clock.monotonic() < until

    def _again(self, owner: Object, again: float | None) -> float | None:
        uid, now = owner["metadata"]["uid"], self._clock.monotonic()
        waits = [until - now for (of, _), (_, until) in self._failures.items() if of == uid and until > now]
        return min([*waits, *([again] if again is not None else [])], default=None)

    async def _apply(self, name: Key, owner: Object, plan: Plan, revision_hash: str) -> AtollError | None:
        for kind, reason, message in plan.told:
            self._events.event(owner, kind, reason, message)
        for node in plan.failed_nodes:
            failure = (owner["metadata"]["uid"], node)
            count, _ = self._failures.get(failure, (0, 0.0))
            self._failures[failure] = (count + 1, self._clock.monotonic() + _FAILED_BACKOFF.delay(count))
        if not plan.create and not plan.delete:
            return None
        doomed = [pod["metadata"]["uid"] for pod in plan.delete]
        self._expectations.expect(name, len(plan.create), doomed, self._clock.monotonic())
        succeeded, error = await batches.slow_start(plan.create, lambda node: self._create(owner, node, revision_hash))
        if succeeded < len(plan.create):
            self._expectations.creation_observed(name, len(plan.create) - succeeded)
        return await batches.all_of(plan.delete, lambda pod: self._delete(name, owner, pod)) or error

    async def _create(self, owner: Object, node: str, revision_hash: str) -> None:
        pod = placement.new_pod(owner, revision_hash, node)
        try:
            made = await self._client.create(PODS, pod, owner["metadata"]["namespace"])
        except AtollError as error:
            if not namespace_terminates(error):
                self._events.event(owner, WARNING, "FailedCreate", f"Error creating: {error.message}")
            raise
        self._events.event(owner, NORMAL, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")

    async def _delete(self, name: Key, owner: Object, pod: Object) -> None:
        metadata = pod["metadata"]
        options = DeleteOptions(uid=metadata["uid"])
        try:
            await self._client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
        except AtollError as error:
            self._expectations.deletion_observed(name, metadata["uid"])
            if not isinstance(error, NotFound):
                self._events.event(owner, WARNING, "FailedDelete", f"Error deleting: {error.message}")
                raise
        else:
            self._events.event(owner, NORMAL, "SuccessfulDelete", f"Deleted pod: {metadata['name']}")
