"""The loop of balloons: a Deployment per pool with spare nodes; those of pools that are no more are deleted."""

from __future__ import annotations

from contextlib import suppress

from atoll.base.errors import AlreadyExists, NotFound
from atoll.capacity import names
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.capacity.balloons import plan
from atoll.capacity.balloons.plan import Object
from atoll.capacity.parts import Parts
from atoll.capacity.settings import Live
from atoll.kinds.builtin import DEPLOYMENTS, NAMESPACES, PRIORITY_CLASSES
from atoll.objects.meta import labels
from atoll.runtime.controller import Controller

NAME = "balloons"
_ALL = ""


class BalloonController:
    """Killed at any await it goes on from the Deployments that there are."""

    def __init__(self, parts: Parts, settings: Live[AutoscaleSettings]) -> None:
        self.name = NAME
        self._client = parts.client
        self._settings = settings
        self._deployments = parts.informers.of(DEPLOYMENTS)
        self.loop: Controller[str] = Controller(NAME, self._reconcile, wait_for=(self._deployments, settings.informer))
        self._deployments.add_handler(self._changed)
        settings.on_change(self._again)
        self._again()

    async def run(self) -> None:
        await self.loop.run()

    def _again(self) -> None:
        self.loop.queue.add(_ALL)

    def _changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        same = old is not None and new is not None and old.get("spec") == new.get("spec")
        if names.BALLOON in labels(obj) and not same:
            self._again()

    async def _reconcile(self, key: str) -> None:
        pools = self._settings.value.pools
        for deployment in self._deployments:
            metadata = deployment["metadata"]
            ours = metadata.get("namespace") == names.SYSTEM_NAMESPACE and names.BALLOON in labels(deployment)
            if ours and metadata["name"] not in {plan.deployment_name(pool.name) for pool in pools if pool.spare}:
                with suppress(NotFound):
                    await self._client.delete(DEPLOYMENTS, metadata["name"], metadata["namespace"])
        wanted = [plan.deployment(pool) for pool in pools if pool.spare]
        if wanted:
            with suppress(AlreadyExists):
                await self._client.create(NAMESPACES, {"metadata": {"name": names.SYSTEM_NAMESPACE}})
            with suppress(AlreadyExists):
                await self._client.create(PRIORITY_CLASSES, plan.priority_class())
        for deployment in wanted:
            name = deployment["metadata"]["name"]
            if plan.differs(self._deployments.get(name, names.SYSTEM_NAMESPACE), deployment):
                await self._client.apply(DEPLOYMENTS, deployment)
