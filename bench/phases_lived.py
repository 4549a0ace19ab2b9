"""The phases that GKE published for very large clusters, lived through in virtual time.

The API core, the controllers, the scheduler and simulated nodes are those of `atoll cluster create --batch`; nothing
is decided here. One Job fills every node; it is deleted, a Deployment serves and Jobs of 500 pods, gangs, train beside
it; the Deployment grows to all nodes in ten steps and whole gangs go; it shrinks back and the gangs come again. What
the scheduler's decisions take is measured in the run, attempts that fail included: on the real clock, and as CPU time
of the one thread, which other loads of the machine disturb less. Each size is a process of its own.

    python -m bench.phases_lived 65000
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.controllers import Running, running_cluster
from atoll.app.fleetspec import ClusterSpec
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import rfc3339
from atoll.client.port import DeleteOptions
from atoll.cluster.nodes.simulated.model import AddressPool
from atoll.cluster.scheduler.scheduler import Scheduler
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds import batch
from atoll.kinds.builtin import DEPLOYMENTS, JOBS, NODES, PODS, PRIORITY_CLASSES
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.simulate.layout import node_of, places
from atoll.simulate.scenario.model import Pool

Object = dict[str, Any]
GANG = 500  # pods of one training job, once they share the fleet
STEPS = 10  # in which inference grows
SERVING_SHARE = 15 / 65
_LIMITS = {"nvidia.com/gpu": "8"}
_CONTAINER = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "32", **_LIMITS}, "limits": _LIMITS}}


@dataclass(slots=True)
class Phase:
    """`decided`: pods that got a node or lost it. `cpu_seconds`: of the whole process meanwhile."""

    name: str
    decided: int
    decision_seconds: float
    decision_cpu_seconds: float
    cpu_seconds: float
    virtual_seconds: float

    @property
    def rate(self) -> float:
        return self.decided / max(1e-9, self.decision_seconds)

    @property
    def cpu_rate(self) -> float:
        return self.decided / max(1e-9, self.decision_cpu_seconds)

    def __str__(self) -> str:
        return f"{self.rate:,.0f}/s, {self.cpu_rate:,.0f} a second of CPU ({self.cpu_seconds:.0f} s)"


@dataclass(slots=True)
class Stopwatch:
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@contextmanager
def decisions_timed() -> Iterator[Stopwatch]:
    """What every scheduler's decisions take on the real clock: in virtual time its own clock stands still."""
    watch, decide = Stopwatch(), Scheduler._schedule

    def timed(self: Scheduler, waiting: Any) -> str:
        started, cpu = time.perf_counter(), time.thread_time()
        try:
            return decide(self, waiting)
        finally:
            watch.seconds += time.perf_counter() - started
            watch.cpu_seconds += time.thread_time() - cpu

    Scheduler._schedule = timed  # type: ignore[method-assign]
    try:
        yield watch
    finally:
        Scheduler._schedule = decide  # type: ignore[method-assign]


@dataclass(slots=True)
class Count:
    """Pods on nodes; how many came onto one and left one so far."""

    on: int = 0
    serving: int = 0
    came: int = 0
    left: int = 0

    def see(self, old: Object | None, new: Object | None) -> None:
        was, now = _placed(old), _placed(new)
        self.came += now and not was
        self.left += was and not now
        self.on += now - was
        pod = new if new is not None else old
        if pod is not None and (pod["metadata"].get("labels") or {}).get("app") == "serve":
            self.serving += now - was


def _placed(pod: Object | None) -> bool:
    return pod is not None and bool(pod["spec"].get("nodeName")) and "deletionTimestamp" not in pod["metadata"]


@dataclass(slots=True)
class Fleet:
    """A cluster of so many nodes, with room for one pod each."""

    nodes: int
    watch: Stopwatch
    count: Count = field(default_factory=Count)
    phases: list[Phase] = field(default_factory=list)

    async def live(self) -> list[Phase]:
        clock = LoopClock(asyncio.get_running_loop())
        assembly = assemble(MemoryStore(clock), clock, Chance(1, "cluster"), ApiOptions(batch=True))
        handler_of(assembly)
        await bootstrap(assembly, batch.custom_resource_definitions())
        async with running_cluster(assembly, ClusterSpec("large", batch=True)) as running:
            await self._set_up(running, clock)
            running.informers.of(PODS).add_handler(self.count.see)
            await self._through(running)
        return self.phases

    async def _set_up(self, running: Running, clock: LoopClock) -> None:
        client = running.assembly.client()
        pool = Pool("h100", self.nodes, gpu="H100", gpus=8, block_nodes=GANG, rack_nodes=20)
        addresses, now = AddressPool("172.16.0.0/12"), rfc3339(clock.wall())
        for place in places([pool]):
            await client.create(NODES, node_of(place, addresses.take() or "", now))
        await running.nodes_ready(self.nodes)
        for name, value in (("train", 0), ("serve", 100)):
            await client.create(PRIORITY_CLASSES, {"metadata": {"name": name}, "value": value})
        await asyncio.sleep(5)

    async def _through(self, running: Running) -> None:
        client, count = running.assembly.client(), self.count
        serving = int(self.nodes * SERVING_SHARE)
        gangs = (self.nodes - serving) // GANG
        shared = serving + gangs * GANG
        async with self._phase("one job fills all"):
            await client.create(JOBS, _job("pretrain", self.nodes), "default")
            await _until(lambda: count.on == self.nodes)
        async with self._phase("training and inference"):
            await client.delete(JOBS, "pretrain", "default", options=DeleteOptions(propagation="Background"))
            await client.create(DEPLOYMENTS, _deployment(serving), "default")
            for number in range(gangs):
                await client.create(JOBS, _job(f"train-{number}", GANG), "default")
            await _until(lambda: count.came == self.nodes + shared and count.on == shared)
        async with self._phase("inference grows, gangs go"):
            for step in range(1, STEPS + 1):
                grown = serving + gangs * GANG * step // STEPS
                await client.patch(DEPLOYMENTS, "serve", {"spec": {"replicas": grown}}, "default")
                await _until(lambda grown=grown: count.serving == grown)
        assert count.on == count.serving == shared, "every gang went, as a whole"
        async with self._phase("training resumes"):
            await client.patch(DEPLOYMENTS, "serve", {"spec": {"replicas": serving}}, "default")
            await _until(lambda: count.on == shared and count.serving == serving)

    @asynccontextmanager
    async def _phase(self, name: str) -> AsyncIterator[None]:
        count, watch, loop = self.count, self.watch, asyncio.get_running_loop()
        moved, cpu, began = count.came + count.left, time.process_time(), loop.time()
        decided, decided_cpu = watch.seconds, watch.cpu_seconds
        yield
        phase = Phase(
            name, count.came + count.left - moved, watch.seconds - decided, watch.cpu_seconds - decided_cpu,
            time.process_time() - cpu, loop.time() - began,
        )  # fmt: skip
        self.phases.append(phase)
        print(f"{self.nodes:,} nodes, {name}: {phase}", file=sys.stderr, flush=True)


def _job(name: str, pods: int) -> Object:
    spec = {"restartPolicy": "Never", "priorityClassName": "train", "containers": [_CONTAINER]}
    template = {"metadata": {"annotations": {"atoll.dev/run-seconds": "86400"}}, "spec": spec}
    return {
        "metadata": {"name": name, "annotations": {"atoll.dev/gang": "true"}},
        "spec": {"parallelism": pods, "completions": pods, "backoffLimit": 1_000_000, "template": template},
    }


def _deployment(replicas: int) -> Object:
    labels = {"app": "serve"}
    spec = {"priorityClassName": "serve", "containers": [_CONTAINER]}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "metadata": {"name": "serve"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


async def _until(done: Callable[[], bool]) -> None:
    while not done():
        await asyncio.sleep(1.0)


def main() -> int:
    nodes = int(sys.argv[1])
    started = time.perf_counter()
    with decisions_timed() as watch:
        phases = run_virtual(Fleet(nodes, watch).live())
    rates = " | ".join(map(str, phases))
    minutes = (time.perf_counter() - started) / 60
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print(f"| {nodes:,} | {rates} | {minutes:.1f} min, {time.process_time() / 60:.1f} of CPU | {gigabytes:.1f} GiB |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
