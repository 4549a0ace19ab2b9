"""The loop of devices' taints: evicts the pods that `plan.py` names. Keys are claims."""

from __future__ import annotations

from atoll.base.errors import NotFound
from atoll.client.port import STRATEGIC_PATCH, DeleteOptions, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.devicetaints.plan import due_at, leaving, taints_of
from atoll.kinds.builtin import PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.objects import meta
from atoll.objects.resource_claims import results
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key

NAME = "device-taint-eviction-controller"
_REASON = "DeletionByDeviceTaintManager"


class DeviceTaintEviction:
    """A driver that taints a device NoExecute drives its users away."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder("device-taint-eviction")
        self._clock = context.clock
        self._slices = context.informers.of(RESOURCE_SLICES)
        self._claims = context.informers.of(RESOURCE_CLAIMS)
        self._pods = context.informers.of(PODS)
        self._slices.add_index("pool", lambda found: (_pool(found["spec"]["driver"], found["spec"]["pool"]["name"]),))
        self._claims.add_index("pool", _pools_of)
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=8, wait_for=(self._slices, self._claims, self._pods)
        )
        self._slices.add_handler(self._slice_changed)
        self._claims.add_handler(self._claim_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        spec = (new or old or {})["spec"]
        for claim in self._claims.by_index("pool", _pool(spec["driver"], spec["pool"]["name"])):
            self.loop.queue.add(meta.key(claim))

    def _claim_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and results(new):
            self.loop.queue.add(meta.key(new))

    async def _reconcile(self, key: Key) -> float | None:
        claim = self._claims.by_key(key)
        if claim is None:
            return None
        due = due_at(claim, lambda device: taints_of(self._slices.by_index("pool", device[:2]), device))
        if due is None:
            return None
        left = due - self._clock.wall()
        if left > 0:
            return left
        for pod in leaving(claim, lambda name: self._pods.get(name, key[0])):
            await self._evict(pod)
        return None

    async def _evict(self, pod: Object) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self._events.event(pod, NORMAL, "DeviceTaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        mark = meta.disruption_target(
            _REASON, "Device Taint manager: deleting due to NoExecute taint", self._clock.wall()
        )
        body = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [mark]}}
        try:
            await self._client.patch(PODS, name, body, namespace, content_type=STRATEGIC_PATCH, subresource="status")
            await self._client.delete(PODS, name, namespace, options=DeleteOptions(uid=metadata["uid"]))
        except NotFound:
            return


def _pool(driver: str, name: str) -> tuple[str, str]:
    return driver, name


def _pools_of(claim: Object) -> tuple[tuple[str, str], ...]:
    return tuple({_pool(result["driver"], result["pool"]): None for result in results(claim)})
