"""WorkloadRebalancer: a person asks for a decision that ignores what stands."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.base.errors import NotFound
from atoll.fleet.propagation.view import TemplateKey, View
from atoll.kinds.hub import WORKLOAD_REBALANCERS
from atoll.runtime.controller import Controller

Object = dict[str, Any]


class Rebalancers:
    """Keys are names of WorkloadRebalancers."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._informer = view.informers.of(WORKLOAD_REBALANCERS)
        waits = (*view.wait_for(), self._informer)
        self.controller: Controller[str] = Controller("rebalancers", self._reconcile, workers=2, wait_for=waits)
        self._informer.add_handler(lambda old, new: self.controller.queue.add((new or old or {})["metadata"]["name"]))

    async def run(self) -> None:
        await self.controller.run()

    async def _reconcile(self, name: str) -> float | None:
        rebalancer = self._informer.get(name)
        if rebalancer is None or "deletionTimestamp" in rebalancer["metadata"]:
            return None
        status, generation = rebalancer.get("status") or {}, rebalancer["metadata"].get("generation") or 1
        now = self._view.clock.wall()
        if status.get("observedGeneration") == generation and status.get("finishTime"):
            return await self._expire(rebalancer, now)
        observed = []
        for workload in rebalancer["spec"]["workloads"]:
            observed.append({"workload": workload, **await self._trigger(workload, rfc3339(now))})
        status = {"observedGeneration": generation, "observedWorkloads": observed, "finishTime": rfc3339(now)}
        await self._view.client.patch(WORKLOAD_REBALANCERS, name, {"status": status}, subresource="status")
        return None

    async def _trigger(self, workload: Object, now: str) -> Object:
        key = TemplateKey.of_reference(workload)
        if self._view.binding(key) is None:
            return {"result": "Failed", "reason": "ReferencedBindingNotFound"}
        patch = {"spec": {"rescheduleTriggeredAt": now}}
        await self._view.client.patch(self._view.binding_resource(key), key.binding[1], patch, key.binding[0])
        return {"result": "Successful"}

    async def _expire(self, rebalancer: Object, now: float) -> float | None:
        ttl = rebalancer["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return None
        left = parse_rfc3339(rebalancer["status"]["finishTime"]) + float(ttl) - now
        if left > 0:
            return left
        try:
            await self._view.client.delete(WORKLOAD_REBALANCERS, rebalancer["metadata"]["name"])
        except NotFound:
            return None
        return None
