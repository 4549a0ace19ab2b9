"""The loop of Deployments: claim replica sets, plan, carry out, write the status last."""

from __future__ import annotations

from atoll.base.errors import AlreadyExists, ApiError, NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common import conditions, owners, pods
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.cluster.workloads.deployment import revisions
from atoll.cluster.workloads.deployment import status as states
from atoll.cluster.workloads.deployment.plan import Create, Delete, Plan, Update, plan_deployment
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import DEPLOYMENTS, REPLICA_SETS
from atoll.objects import meta
from atoll.objects.meta import controller_of, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "deployment-controller"


class DeploymentController:
    """Writes replica sets with their resourceVersion as precondition: a stale cache gives a Conflict, not a mistake."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder(NAME)
        self._clock = context.clock
        self._deployments = context.informers.of(DEPLOYMENTS)
        self._sets = context.informers.of(REPLICA_SETS)
        self._pods = context.pod_events.pods
        owners.index_by_controller(self._sets)
        self._deployments.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self.loop: Controller[Key] = Controller(
            NAME,
            self._reconcile,
            workers=context.options.workers,
            wait_for=(self._deployments, self._sets, self._pods),
        )
        self._deployments.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._sets.add_handler(self._set_changed)
        context.pod_events.follow("ReplicaSet", self._pod_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _set_changed(self, old: Object | None, new: Object | None) -> None:
        for item in (old, new):
            reference = controller_of(item) if item is not None else None
            if item is not None and reference is not None and reference["kind"] == "Deployment":
                self.loop.queue.add((item["metadata"].get("namespace"), reference["name"]))
        if new is not None and controller_of(new) is None and (old is None or labels(old) != labels(new)):
            for deployment in self._deployments.by_index("namespace", new["metadata"].get("namespace")):
                if compile_selector(deployment["spec"].get("selector"))(labels(new)):
                    self.loop.queue.add(key(deployment))

    def _pod_changed(self, old: Object | None, new: Object | None, reference: Object) -> None:
        """A Recreate Deployment goes on when the last old pod is gone."""
        if new is not None or old is None:
            return
        namespace = old["metadata"].get("namespace")
        replica_set = self._sets.get(reference["name"], namespace)
        owner = controller_of(replica_set) if replica_set is not None else None
        if owner is None or owner["kind"] != "Deployment":
            return
        deployment = self._deployments.get(owner["name"], namespace)
        if deployment is not None and not states.is_rolling(deployment):
            self.loop.queue.add(key(deployment))

    async def _reconcile(self, name: Key) -> float | None:
        deployment = self._deployments.by_key(name)
        if deployment is None:
            return None
        claim = owners.plan_claim(
            deployment,
            compile_selector(deployment["spec"].get("selector")),
            owners.children(self._sets, deployment),
            owners.orphans(self._sets, deployment["metadata"].get("namespace")),
        )
        sets = await owners.apply_claim(self._client, deployment, DEPLOYMENTS, claim, REPLICA_SETS)
        plan = plan_deployment(deployment, sets, lambda new: self._old_pods_remain(sets, new), self._clock.wall())
        if plan.selects_all:
            message = "This deployment is selecting all pods. A non-empty selector is required."
            self._events.event(deployment, WARNING, "SelectingAll", message)
        return await self._apply(deployment, plan)

    def _old_pods_remain(self, sets: list[Object], new: Object | None) -> bool:
        return any(
            not pods.is_finished(pod)
            for replica_set in sets
            if new is None or replica_set["metadata"]["uid"] != new["metadata"].get("uid")
            for pod in owners.children(self._pods, replica_set)
        )

    async def _apply(self, deployment: Object, plan: Plan) -> float | None:
        for step in plan.steps:
            if isinstance(step, Create):
                await self._create(deployment, step.replica_set)
            elif isinstance(step, Update):
                await self._client.update(REPLICA_SETS, step.replica_set)
                if step.told:
                    self._events.event(deployment, NORMAL, "ScalingReplicaSet", step.told)
            elif isinstance(step, Delete):
                await self._delete(step.replica_set)
        await self._write_status(deployment, plan.status, plan.revision)
        return plan.again_seconds

    async def _write_status(self, deployment: Object, status: Object | None, revision: str | None = None) -> None:
        metadata = deployment["metadata"]
        if revision is not None and meta.annotations(deployment).get(revisions.REVISION) != revision:
            metadata = {**metadata, "annotations": {**meta.annotations(deployment), revisions.REVISION: revision}}
        if status is None or (status == (deployment.get("status") or {}) and metadata is deployment["metadata"]):
            return
        await self._client.update(
            DEPLOYMENTS, {**deployment, "metadata": metadata, "status": status}, subresource="status"
        )

    async def _create(self, deployment: Object, replica_set: Object) -> None:
        name, namespace = replica_set["metadata"]["name"], replica_set["metadata"]["namespace"]
        try:
            await self._client.create(REPLICA_SETS, replica_set, namespace)
        except AlreadyExists:
            await self._resolve_collision(deployment, replica_set)
            return
        except ApiError as error:
            if not namespace_terminates(error):
                await self._tell_failure(deployment, name, error)
            raise
        size = states.replicas(replica_set)
        if size:
            message = f"Scaled up replica set {name} from 0 to {size}"
            self._events.event(deployment, NORMAL, "ScalingReplicaSet", message)

    async def _resolve_collision(self, deployment: Object, replica_set: Object) -> None:
        """Go on with the set of that name if it is ours; else count the collision, which changes the name."""
        metadata = replica_set["metadata"]
        present = await self._client.get(REPLICA_SETS, metadata["name"], metadata["namespace"])
        owner = controller_of(present)
        if (
            owner is not None
            and owner["uid"] == deployment["metadata"]["uid"]
            and revisions.same_template(present["spec"]["template"], deployment["spec"]["template"])
        ):
            return
        status = deployment.get("status") or {}
        collided = {**status, "collisionCount": int(status.get("collisionCount") or 0) + 1}
        await self._write_status(deployment, collided)
        raise AlreadyExists(f'replicasets.apps "{metadata["name"]}" already exists')

    async def _tell_failure(self, deployment: Object, name: str, error: ApiError) -> None:
        message = f'Failed to create new replica set "{name}": {error.message}'
        self._events.event(deployment, WARNING, "ReplicaSetCreateError", message)
        if states.deadline(deployment) is None:
            return
        failed = states.condition("Progressing", "False", "ReplicaSetCreateError", message, self._clock.wall())
        status = deployment.get("status") or {}
        present = conditions.with_condition(status.get("conditions"), failed)
        await self._write_status(deployment, {**status, "conditions": present})

    async def _delete(self, replica_set: Object) -> None:
        metadata = replica_set["metadata"]
        try:
            await self._client.delete(REPLICA_SETS, metadata["name"], metadata.get("namespace"))
        except NotFound:
            return
