"""Kueue's own performance case: its default generator (test/performance/scheduler), on our queues.

5 cohorts of 6 queues; in each queue 350, 100 and 50 workloads of 1, 5 and 20 units (priority 50, 100, 200) that run for
0.2, 0.5 and 1 s, one every 0.1, 0.5 and 1.2 s; nominal quota 20, borrowing limit 100, reclaim Any, lower priority
preempted within the queue. As there, Workloads are made without jobs: the bench ends those that were admitted when
their time is over, and lets go of those that were evicted. By quota it can't take less than 66 s.
"""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.app.garbage import collect_seldom
from atoll.app.queueing import make_queueing
from atoll.base.chance import Chance
from atoll.base.clock import Clock, SystemClock
from atoll.base.errors import Conflict, NotFound
from atoll.capacity.queueing import status
from atoll.client.http import HttpClient
from atoll.client.port import Client
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds import kueue
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual
from bench import load
from bench.figure import Figure, within
from bench.targets import ours

COHORTS, QUEUES = 5, 6
CLASSES = {"small": (350, 0.1, 0.2, 50, 1), "medium": (100, 0.5, 0.5, 100, 5), "large": (50, 1.2, 1.0, 200, 20)}
TOTAL = COHORTS * QUEUES * sum(count for count, *_ in CLASSES.values())
_KUEUE_SECONDS, _LEAST_SECONDS = 351.0, 66.0
_API = f"{kueue.GROUP}/{kueue.VERSION}"


class Case:
    """Makes the workloads on time, and plays those who run them."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._informers = Informers(client)
        self._workloads = self._informers.of(kueue.WORKLOADS)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._finished: set[str] = set()
        self._done = asyncio.Event()
        self.evictions = 0
        self.wall_seconds = 0.0

    async def run(self) -> float:
        """Seconds of the loop's clock from the first creation to the last end; `wall_seconds`: the real ones."""
        await self._set_up()
        self._workloads.add_handler(self._changed)
        self._informers.start()
        await self._informers.wait_synced()
        started, at = self._clock.monotonic(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for cohort in range(COHORTS):
                for number in range(QUEUES):
                    for name in CLASSES:
                        group.create_task(self._generate(f"c{cohort}-q{number}", name))
            await self._done.wait()
        seconds, self.wall_seconds = self._clock.monotonic() - started, time.perf_counter() - at
        await self._informers.stop()
        return seconds

    async def _set_up(self) -> None:
        await self._client.create(
            kueue.RESOURCE_FLAVORS, {"apiVersion": _API, "kind": "ResourceFlavor", "metadata": {"name": "default"}}
        )
        quota = {"name": "cpu", "nominalQuota": 20, "borrowingLimit": 100}
        groups = [{"coveredResources": ["cpu"], "flavors": [{"name": "default", "resources": [quota]}]}]
        preemption = {"reclaimWithinCohort": "Any", "withinClusterQueue": "LowerPriority"}
        for cohort in range(COHORTS):
            for number in range(QUEUES):
                name = f"c{cohort}-q{number}"
                spec = {
                    "cohortName": f"c{cohort}",
                    "namespaceSelector": {},
                    "preemption": preemption,
                    "resourceGroups": groups,
                }
                queue = {"apiVersion": _API, "kind": "ClusterQueue", "metadata": {"name": name}, "spec": spec}
                await self._client.create(kueue.CLUSTER_QUEUES, queue)
                local = {
                    "apiVersion": _API,
                    "kind": "LocalQueue",
                    "metadata": {"name": name},
                    "spec": {"clusterQueue": name},
                }
                await self._client.create(kueue.LOCAL_QUEUES, local, "default")

    async def _generate(self, queue: str, kind: str) -> None:
        count, every, _, priority, units = CLASSES[kind]
        container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": str(units)}}}
        pods = {"name": "main", "count": 1, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
        spec = {"queueName": queue, "priority": priority, "podSets": [pods]}
        first = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(count):
                await asyncio.sleep(max(0.0, first + number * every - self._clock.monotonic()))
                metadata = {"name": f"{queue}-{kind}-{number}", "labels": {"class": kind}}
                workload = {"apiVersion": _API, "kind": "Workload", "metadata": metadata, "spec": spec}
                group.create_task(self._client.create(kueue.WORKLOADS, workload, "default"))

    def _changed(self, _: Any, new: Any) -> None:
        if new is None:
            return
        name = new["metadata"]["name"]
        if status.is_true(new, "Finished"):
            self._finished.add(name)
            if len(self._finished) == TOTAL:
                self._done.set()
        elif status.is_true(new, "Evicted"):
            task = self._running.pop(name, None)
            if task is not None and not task.done():
                task.cancel()
                self.evictions += 1
                self._running[f"{name}/evicted"] = asyncio.ensure_future(self._write(name, self._released))
        elif status.is_true(new, "Admitted") and name not in self._running:
            self._running[name] = asyncio.ensure_future(
                self._work(name, CLASSES[new["metadata"]["labels"]["class"]][2])
            )

    async def _work(self, name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._write(name, lambda obj: status.finished(obj, "Succeeded", "done", self._clock.wall()))

    def _released(self, obj: Any) -> Any:
        return status.released(obj, self._clock.wall())

    async def _write(self, name: str, change: Any) -> None:
        while True:
            obj = self._workloads.get(name, "default")
            if obj is None or status.is_true(obj, "Finished"):
                return
            try:
                await self._client.update(kueue.WORKLOADS, change(obj), subresource="status")
                return
            except Conflict:
                await asyncio.sleep(0.01)
            except NotFound:
                return


async def live(target: Any) -> tuple[float, int]:
    client = HttpClient(target.admin, clock=SystemClock(), timeout_seconds=30)
    thresholds = gc.get_threshold()
    collect_seldom()  # as the cluster does: each look at 15,000 cached Workloads stops the bench's part for a second
    try:
        case = Case(client, SystemClock())
        return await case.run(), case.evictions
    finally:
        gc.set_threshold(*thresholds)
        await client.close()


async def virtual() -> tuple[float, float, int]:
    """Virtual and real seconds, and evictions; all in one process: API server, queues and the bench's own part."""
    clock = LoopClock(asyncio.get_running_loop())
    assembly = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions(queueing=True))
    await bootstrap(assembly, kueue.custom_resource_definitions())
    informers = Informers(assembly.client())
    made = make_queueing(assembly.controller_client, informers, clock, Chance(2))
    informers.start()
    tasks = [asyncio.ensure_future(item.run()) for item in made.runnables]
    case = Case(assembly.client(), clock)
    seconds = await case.run()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await informers.stop()
    return seconds, case.wall_seconds, case.evictions


def run() -> list[Figure]:
    with ours("--nodes", "0", "--queueing") as target:
        seconds, evictions = load.execute(live(target))
        cpu = target.cpu_seconds()
    virtual_seconds, took, virtual_evictions = run_virtual(virtual())
    span = "from the first creation to the last end"
    basis = f"{TOTAL:,} Workloads, 30 queues, {span}; {_LEAST_SECONDS:.0f} s is the least that quota allows"
    theirs = f"{_KUEUE_SECONDS:.0f} s (published)"
    over_https = f"over HTTPS, durable; {evictions} preempted; the cluster's process used {cpu:.0f} s of CPU"
    alone = f"wall time of {virtual_seconds:.1f} virtual s, {span}, API server included; {virtual_evictions} preempted"
    return [
        within(
            "Kueue's performance case, live",
            theirs,
            f"{seconds:.1f} s",
            seconds,
            90,
            "≤ 90 s",
            f"{basis}; {over_https}",
        ),
        within("the same in virtual time", theirs, f"{took:.1f} s", took, 20, "≤ 20 s", alone),
    ]
