"""Scheduler and claim controller, killed at any moment on a network that loses requests and answers: no device is ever
given twice, and in the end each pod that fits runs with a claim of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scheduling_world import world
from test_device_claims import DRIVER, exactly, gpu, slice_of, spec_of, template, with_template
from test_workload_faults import Shaky

from atoll.base.chance import Chance
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.apiserver.ports import User
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.cluster.scheduler.scheduler import USER, Scheduler
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.resourceclaims.controller import ResourceClaimController
from atoll.kinds.builtin import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES
from atoll.objects.meta import controller_of
from atoll.objects.resource_claims import device_id, results
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import run_virtual

NAME, NODES, GPUS, COUNT = "mortal", 2, 3, 9


class Mortals:
    """A scheduler of its own name and the claim controller, killed and started again every now and then."""

    def __init__(self, made: Any, chance: Chance) -> None:
        self._world = made
        self._chance = chance
        self._clients: list[Shaky] = []

    def _shaky(self, client: Any, name: str) -> Any:
        made = Shaky(client, self._chance.stream(f"{name}-{len(self._clients)}"))
        self._clients.append(made)
        return made

    async def run(self, lives: int) -> None:
        for life in range(lives + 1):
            await self._live(life, self._chance.uniform(0.2, 5.0) if life < lives else None)

    async def _live(self, life: int, seconds: float | None) -> None:
        assembly, clock, chance = self._world.assembly, self._world.clock, self._chance.stream(f"life-{life}")
        informers = Informers(self._shaky(assembly.client(), "informers"))
        scheduler = self._shaky(assembly.client(User(USER, ("system:authenticated",)), "kube-scheduler"), "scheduler")
        context = Context(lambda name: self._shaky(assembly.controller_client(name), name), informers, clock, chance)
        parts = [
            Scheduler(scheduler, informers, clock, chance, name=NAME, selectors=CelSelectors()),
            ResourceClaimController(context),
        ]
        informers.start()
        tasks = [asyncio.get_running_loop().create_task(part.run()) for part in parts]
        try:
            if seconds is None:
                for client in self._clients:
                    client.steady = True
                await asyncio.Event().wait()
            await asyncio.sleep(seconds or 0)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await informers.stop()


class Watcher:
    """Looks at every state of every claim."""

    def __init__(self, informers: Informers) -> None:
        self._claims = informers.of(RESOURCE_CLAIMS)
        self.twice: list[str] = []
        self._claims.add_handler(self._look)

    def _look(self, *_: Any) -> None:
        taken = [device_id(result) for claim in self._claims for result in results(claim)]
        if len(taken) != len(set(taken)):
            self.twice.append(str(sorted(taken)))


@pytest.mark.parametrize("seed", [1, 5, 9, 27])  # three of them once found a fault
def test_no_device_is_given_twice_whatever_is_lost(seed: int) -> None:
    async def main() -> None:
        async with world(SimulatedGroup(NODES, "n", cpu="8")) as made:
            spec = {"selectors": [{"cel": {"expression": f"device.driver == '{DRIVER}'"}}]}
            await made.client.create(DEVICE_CLASSES, {"metadata": {"name": "gpu"}, "spec": spec})
            for number in range(NODES):
                listed = [gpu(f"gpu-{index}") for index in range(GPUS)]
                await made.client.create(RESOURCE_SLICES, slice_of(f"n-{number}", listed))
            await template(made, spec_of(exactly()))
            informers = Informers(made.client)
            watcher = Watcher(informers)
            informers.start()
            chance = Chance(seed, "device-faults")
            mortals = asyncio.get_running_loop().create_task(Mortals(made, chance).run(10))
            for number in range(COUNT):
                await made.pod(f"p{number}", spec={**with_template(), "schedulerName": NAME})
                await asyncio.sleep(chance.uniform(0, 1.5))
            for number in range(3):
                await made.client.delete(PODS, f"p{number}", "default")
                await asyncio.sleep(chance.uniform(0, 3))

            async def settled() -> bool:
                pods = (await made.client.list(PODS, "default")).items
                return len(pods) == NODES * GPUS and all(pod["status"]["phase"] == "Running" for pod in pods)

            await made.until(settled, 400)
            await asyncio.sleep(30)
            assert await settled()
            assert not watcher.twice
            held = [claim for claim in (await made.client.list(RESOURCE_CLAIMS, "default")).items if results(claim)]
            owners = [(controller_of(claim) or {}).get("name") for claim in held]
            assert sorted(owners) == [f"p{number}" for number in range(3, COUNT)]
            mortals.cancel()
            await asyncio.gather(mortals, return_exceptions=True)
            await informers.stop()

    run_virtual(main())
