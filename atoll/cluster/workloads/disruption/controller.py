"""The loop of PodDisruptionBudgets."""

from __future__ import annotations

from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common import owners
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.selectors import compile_selector
from atoll.cluster.workloads.disruption.plan import Expected, calculate_status, expected, failed_status, needs_scale
from atoll.kinds.builtin import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from atoll.kinds.resource import Resource
from atoll.objects.meta import controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

NAME = "disruption-controller"
_BATCH_SECONDS = 0.05
_SCALED: dict[str, Resource] = {
    "ReplicaSet": REPLICA_SETS,
    "ReplicationController": REPLICATION_CONTROLLERS,
    "StatefulSet": STATEFUL_SETS,
    "Deployment": DEPLOYMENTS,
}


class _NoScale(AtollError):
    """A pod's owner tells no scale."""


class DisruptionController:
    """On doubt it allows no disruption."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder("controllermanager")
        self._clock = context.clock
        self._budgets = context.informers.of(POD_DISRUPTION_BUDGETS)
        self._pods = context.informers.of(PODS)
        self._owners = {kind: context.informers.of(resource) for kind, resource in _SCALED.items()}
        for informer in (self._budgets, self._pods):
            informer.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=2, wait_for=(self._budgets, self._pods, *self._owners.values())
        )
        self._budgets.add_handler(lambda old, new: self.loop.queue.add(key(new or old or {})))
        self._pods.add_handler(self._pod_changed)
        for informer in self._owners.values():
            owners.index_by_controller(informer)
            informer.add_handler(self._owner_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        budgets = self._budgets.by_index("namespace", (new or old or {})["metadata"].get("namespace"))
        if not budgets or (old is not None and new is not None and _relevant(old) == _relevant(new)):
            return
        for budget in budgets:
            matches = compile_selector(budget["spec"].get("selector"))
            if any(pod is not None and matches(labels(pod)) for pod in (old, new)):
                self.loop.queue.add_after(key(budget), _BATCH_SECONDS)

    def _owner_changed(self, old: Object | None, new: Object | None) -> None:
        if old is None or new is None or old["spec"].get("replicas") == new["spec"].get("replicas"):
            return
        for budget in self._budgets.by_index("namespace", new["metadata"].get("namespace")):
            self.loop.queue.add_after(key(budget), _BATCH_SECONDS)

    async def _reconcile(self, name: Key) -> float | None:
        budget = self._budgets.by_key(name)
        if budget is None or is_deleting(budget):
            return None
        now = self._clock.wall()
        matches = compile_selector(budget["spec"].get("selector"))
        pods = [pod for pod in self._pods.by_index("namespace", name[0]) if matches(labels(pod))]
        if not pods:
            self._events.event(budget, NORMAL, "NoPods", "No matching pods found")
        try:
            wanted = await self._expected(budget, pods)
        except _NoScale as error:
            message = f"Failed to calculate the number of expected pods: {error.message}"
            self._events.event(budget, WARNING, "CalculateExpectedPodCountFailed", message)
            await self._write(budget, failed_status(budget, error.message, now))
            return None
        status, again = calculate_status(budget, pods, wanted, now)
        await self._write(budget, status)
        return again

    async def _write(self, budget: Object, status: Object) -> None:
        if status == (budget.get("status") or {}):
            return
        try:
            await self._client.update(POD_DISRUPTION_BUDGETS, {**budget, "status": status}, subresource="status")
        except NotFound:
            return
        except Conflict:
            self.loop.queue.add_rate_limited(key(budget))

    async def _expected(self, budget: Object, pods: list[Object]) -> Expected:
        if not needs_scale(budget):
            return expected(budget, len(pods), 0)
        scales: dict[str, int] = {}  # by the topmost owner
        seen: set[str] = set()
        unmanaged = []
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged.append(pod["metadata"]["name"])
            elif reference["uid"] not in seen:
                seen.add(reference["uid"])
                uid, scale = await self._scale(reference, pod)
                scales[uid] = scale
        if unmanaged:
            message = (
                f"Pods selected by this PodDisruptionBudget (selector: {_text(budget['spec'].get('selector'))}) were "
                "found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may "
                'result in undefined behavior. To account for these pods please set ".spec.minAvailable" field of the '
                "PDB to an integer value."
            )
            self._events.event(budget, WARNING, "UnmanagedPods", message)
        return expected(budget, len(pods), sum(scales.values()))

    async def _scale(self, reference: Object, pod: Object) -> tuple[str, int]:
        """The uid and scale of the topmost known owner (the Deployment of a ReplicaSet)."""
        namespace = pod["metadata"].get("namespace")
        informer = self._owners.get(reference["kind"])
        if informer is None:
            return reference["uid"], await self._foreign_scale(reference, pod)
        owner = informer.get(reference["name"], namespace)
        if owner is None or owner["metadata"]["uid"] != reference["uid"]:
            raise _NoScale(f'found no controllers for pod "{pod["metadata"]["name"]}"')
        above = controller_of(owner)
        if above is not None and above["kind"] == "Deployment":
            deployment = self._owners["Deployment"].get(above["name"], namespace)
            if deployment is not None and deployment["metadata"]["uid"] == above["uid"]:
                owner = deployment
        replicas = owner["spec"].get("replicas")
        return owner["metadata"]["uid"], 1 if replicas is None else int(replicas)

    async def _foreign_scale(self, reference: Object, pod: Object) -> int:
        """By the scale subresource, of whatever kind."""
        group, _, version = reference["apiVersion"].rpartition("/")
        plural = _plural(reference["kind"])
        resource = Resource(group, version, plural, reference["kind"])
        try:
            scale = await self._client.get(
                resource, reference["name"], pod["metadata"].get("namespace"), subresource="scale"
            )
        except AtollError as error:
            text = f"{reference['kind']}.{group}" if group else reference["kind"]
            raise _NoScale(f"{text} does not implement the scale subresource: {error.message}") from None
        return int((scale.get("spec") or {}).get("replicas") or 0)


def _plural(kind: str) -> str:
    lower = kind.lower()
    if lower.endswith(("s", "x", "z", "ch", "sh")):
        return lower + "es"
    return lower[:-1] + "ies" if lower.endswith("y") else lower + "s"


def _relevant(pod: Object) -> tuple[object, ...]:
    return health.is_ready(pod), is_deleting(pod), health.is_finished(pod), labels(pod), controller_of(pod)


def _text(selector: Object | None) -> str:
    pairs = ((selector or {}).get("matchLabels") or {}).items()
    return ",".join(f"{name}={value}" for name, value in sorted(pairs))
