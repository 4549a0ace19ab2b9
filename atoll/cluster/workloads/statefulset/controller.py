"""The loop of StatefulSets."""

from __future__ import annotations

from collections.abc import Awaitable

from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.client.port import DeleteOptions, Object
from atoll.cluster.workloads.common import batches, history, owners
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.selectors import compile_selector, is_empty
from atoll.cluster.workloads.statefulset import identity
from atoll.cluster.workloads.statefulset.plan import (
    CreateClaims,
    CreatePod,
    DeletePod,
    Plan,
    Revisions,
    Step,
    UpdateClaim,
    UpdatePod,
    plan_stateful_set,
)
from atoll.kinds.builtin import CONTROLLER_REVISIONS, PERSISTENT_VOLUME_CLAIMS, PODS, STATEFUL_SETS
from atoll.objects.meta import is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "statefulset-controller"
_HASH_LABEL = "controller.kubernetes.io/hash"


class StatefulSetController:
    """Names are fixed, so what a stale cache makes it do twice fails harmlessly (AlreadyExists, uid precondition)."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder(NAME)
        self._clock = context.clock
        self._sets = context.informers.of(STATEFUL_SETS)
        self._pods = context.pod_events.pods
        self._revisions = context.informers.of(CONTROLLER_REVISIONS)
        self._claims = context.informers.of(PERSISTENT_VOLUME_CLAIMS)
        owners.index_by_controller(self._revisions)
        self._sets.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self.loop: Controller[Key] = Controller(
            NAME,
            self._reconcile,
            workers=context.options.workers,
            wait_for=(self._sets, self._pods, self._revisions, self._claims),
        )
        self._sets.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        context.pod_events.follow("StatefulSet", self._pod_changed, self._orphaned)
        self._claims.add_handler(self._claim_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None, reference: Object) -> None:
        self.loop.queue.add(((new or old or {})["metadata"].get("namespace"), reference["name"]))

    def _orphaned(self, pod: Object) -> None:
        for owner in self._sets.by_index("namespace", pod["metadata"].get("namespace")):
            if compile_selector(owner["spec"].get("selector"))(labels(pod)):
                self.loop.queue.add(key(owner))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        """A pod may wait for a claim of its predecessor to be gone."""
        if new is None and old is not None:
            for owner in self._sets.by_index("namespace", old["metadata"].get("namespace")):
                if old["metadata"]["name"].rpartition("-")[0].endswith(f"-{owner['metadata']['name']}"):
                    self.loop.queue.add(key(owner))

    async def _reconcile(self, name: Key) -> float | None:
        owner = self._sets.by_key(name)
        if owner is None:
            return None
        if is_empty(owner["spec"].get("selector")):
            return None
        matches = compile_selector(owner["spec"].get("selector"))
        namespace = owner["metadata"]["namespace"]
        revisions_claim = owners.plan_claim(
            owner,
            matches,
            owners.children(self._revisions, owner),
            owners.orphans(self._revisions, namespace),
        )
        revisions = history.in_order(
            await owners.apply_claim(self._client, owner, STATEFUL_SETS, revisions_claim, CONTROLLER_REVISIONS)
        )
        free = (pod for pod in owners.orphans(self._pods, namespace) if identity.is_member(owner, pod))
        claim = owners.plan_claim(owner, matches, owners.children(self._pods, owner), free)
        pods = await owners.apply_claim(self._client, owner, STATEFUL_SETS, claim, PODS)
        pods = [pod for pod in pods if identity.is_member(owner, pod)]
        planned = history.plan_history(owner, revisions, hash_label=_HASH_LABEL)
        newest, collisions = await history.apply_history(self._client, owner, planned, hash_label=_HASH_LABEL)
        current_name = (owner.get("status") or {}).get("currentRevision")
        current = next((item for item in revisions if item["metadata"]["name"] == current_name), newest)
        plan = plan_stateful_set(
            owner,
            pods,
            Revisions(current, newest),
            collisions,
            lambda claim_name: self._claims.get(claim_name, namespace),
            self._clock.wall(),
        )
        error = await self._apply(owner, plan)
        if plan.status != (owner.get("status") or {}):
            await self._client.update(STATEFUL_SETS, {**owner, "status": plan.status}, subresource="status")
        if error is not None:
            raise error
        await self._truncate(owner, revisions, pods, current, newest)
        return plan.again_seconds

    async def _truncate(
        self, owner: Object, revisions: list[Object], pods: list[Object], current: Object, newest: Object
    ) -> None:
        live = {current["metadata"]["name"], newest["metadata"]["name"]}
        live |= {labels(pod).get(identity.REVISION_LABEL, "") for pod in pods}
        if not is_deleting(owner):
            doomed = history.superfluous(revisions, live, owner["spec"].get("revisionHistoryLimit"))
            await history.remove(self._client, doomed)

    async def _apply(self, owner: Object, plan: Plan) -> AtollError | None:
        _, error = await batches.slow_start(plan.steps, lambda step: self._step(owner, step))
        return error

    async def _step(self, owner: Object, step: Step) -> None:
        if isinstance(step, CreatePod):
            await self._create_claims(owner, step.pod, step.claims)
            try:
                await self._tell(owner, "Create", step.pod, self._client.create(PODS, step.pod))
            except AlreadyExists:
                return  # the cache is behind, or someone else has the name; the pod's event will wake us
        elif isinstance(step, CreateClaims):
            await self._create_claims(owner, step.pod, step.claims)
        elif isinstance(step, DeletePod):
            metadata = step.pod["metadata"]
            options = DeleteOptions(uid=metadata["uid"])
            deletion = self._client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
            try:
                await self._tell(owner, "Delete", step.pod, deletion)
            except NotFound:
                return
        elif isinstance(step, UpdatePod):
            await self._tell(owner, "Update", step.pod, self._client.update(PODS, step.pod))
        elif isinstance(step, UpdateClaim):
            await self._client.update(PERSISTENT_VOLUME_CLAIMS, step.claim)

    async def _create_claims(self, owner: Object, pod: Object, claims: list[Object]) -> None:
        set_name, pod_name = owner["metadata"]["name"], pod["metadata"]["name"]
        for claim in claims:
            told = f"Create Claim {claim['metadata']['name']} Pod {pod_name} in StatefulSet {set_name}"
            try:
                await self._client.create(PERSISTENT_VOLUME_CLAIMS, claim)
            except AlreadyExists:
                continue
            except AtollError as error:
                self._events.event(owner, WARNING, "FailedCreate", f"{told} failed error: {error.message}")
                raise
            self._events.event(owner, NORMAL, "SuccessfulCreate", f"{told} success")

    async def _tell(self, owner: Object, verb: str, pod: Object, call: Awaitable[Object]) -> None:
        told = f"{verb} Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']}"
        try:
            await call
        except (AlreadyExists, NotFound):
            raise
        except AtollError as error:
            self._events.event(owner, WARNING, f"Failed{verb}", f"{told} failed error: {error.message}")
            raise
        self._events.event(owner, NORMAL, f"Successful{verb}", f"{told} successful")
