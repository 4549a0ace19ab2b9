"""A kernel's log becomes events, conditions and kept lines of its Node: on a real API, with the device's records."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from atoll.app.assembly import ApiOptions, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock
from atoll.cluster.nodes.kernel.injected import InjectedKernelLogs
from atoll.cluster.nodes.kernel.journal import Journal
from atoll.cluster.nodes.kernel.monitor import KernelMonitor
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import EVENTS, NODES
from atoll.objects.kernel_log import ANNOTATION, MOST_LINES
from atoll.objects.meta import annotations, condition
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from test_kernel_log import Device

XID = "NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus."
READ_ONLY = "EXT4-fs (sda1): Remounting filesystem read-only"
OOM = "Out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:9kB, file-rss:0kB, shmem-rss:0kB"


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock, self.chance = SystemClock(), Chance(1)
        self.assembly = assemble(MemoryStore(self.clock), self.clock, self.chance, ApiOptions())
        self.client = self.assembly.client()
        self.tasks: list[asyncio.Task[None]] = []

    async def node(self, **metadata: Any) -> None:
        await self.client.create(NODES, {"metadata": {"name": "n", **metadata}})

    def monitor(self, log: Any, boot: str = "boot-1") -> asyncio.Task[None]:
        events = EventRecorder(self.client, "kubelet", self.clock, self.chance)
        made = KernelMonitor("n", boot, log, self.folder / "kept.json", self.client, self.clock, events)
        self.tasks.append(asyncio.create_task(made.run()))
        return self.tasks[-1]

    async def says(self, kind: str) -> tuple[str, str]:
        found = condition(await self.client.get(NODES, "n"), kind) or {}
        return found.get("status", ""), found.get("reason", "")

    async def kept(self) -> list[str]:
        return (annotations(await self.client.get(NODES, "n")).get(ANNOTATION) or "").splitlines()

    async def reasons(self) -> list[str]:
        return sorted(it["reason"] for it in (await self.client.list(EVENTS)).items)

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(10):
            while not await holds():
                await asyncio.sleep(0.01)


def play(folder: Path, main: Callable[[World], Awaitable[None]]) -> None:
    async def whole() -> None:
        world = World(folder)
        await bootstrap(world.assembly)
        try:
            await main(world)
        finally:
            for task in world.tasks:
                task.cancel()
            await asyncio.gather(*world.tasks, return_exceptions=True)

    asyncio.run(whole())


async def stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_lines_become_events_conditions_and_what_health_judges(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        await world.node()
        device = Device()
        world.monitor(device.log)

        async def began() -> bool:
            return await world.says("XfsShutdown") == ("False", "XfsHasNotShutDown")

        await world.until(began)
        for text in ("usb 1-1: new device", XID, OOM, READ_ONLY, *([XID] * 50)):
            device.write(text)
        device.pretend("EXT4-fs error (forged)")

        async def told() -> bool:
            return len(await world.reasons()) >= 3 and len(await world.kept()) == 2

        await world.until(told)
        assert await world.says("ReadonlyFilesystem") == ("True", "FilesystemIsReadOnly")
        assert await world.says("KernelDeadlock") == ("False", "KernelHasNoDeadlock")
        assert await world.kept() == [XID, READ_ONLY], "each once, and only what may call for a remedy"
        assert set(await world.reasons()) == {"XID79", "OOMKilling", "FilesystemIsReadOnly"}

    play(tmp_path, main)


def test_a_restart_tells_nothing_twice_and_a_boot_ends_conditions(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        await world.node()
        device = Device()
        task = world.monitor(device.log)
        device.write(READ_ONLY)

        async def told() -> bool:
            return (await world.says("ReadonlyFilesystem"))[0] == "True"

        await world.until(told)
        await stop(task)
        await world.client.patch(NODES, "n", {"metadata": {"annotations": {ANNOTATION: None}}})  # health did so
        device.write(XID)  # while nobody looked
        task = world.monitor(device.log)

        async def again() -> bool:
            return await world.kept() == [XID]

        await world.until(again)
        assert (await world.says("ReadonlyFilesystem"))[0] == "True", "the same boot"
        await stop(task)
        world.monitor(Device("boot-2").log, boot="boot-2")

        async def over() -> bool:
            return await world.says("ReadonlyFilesystem") == ("False", "FilesystemIsNotReadOnly")

        await world.until(over)

    play(tmp_path, main)


def test_killed_anywhere_a_line_is_told(tmp_path: Path) -> None:
    """The process ends at each of its first turns, and begins anew."""

    async def main(world: World) -> None:
        await world.node()
        device = Device()
        device.write(XID)
        for turns in range(40):
            task = world.monitor(device.log)
            for _ in range(turns):
                await asyncio.sleep(0)
            await stop(task)
        world.monitor(device.log)

        async def told() -> bool:
            return await world.kept() == [XID] and "XID79" in await world.reasons()

        await world.until(told)

    play(tmp_path, main)


def test_where_the_log_is_closed_the_node_says_so(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        await world.node()
        await world.monitor(Journal(["/nowhere/journalctl"]))
        assert await world.says("KernelDeadlock") == ("Unknown", "KernelLogUnreadable")

        async def told() -> bool:
            return await world.reasons() == ["KernelLogUnreadable"]

        await world.until(told)

    play(tmp_path, main)


def test_lines_injected_into_a_simulated_node_are_told_as_a_real_ones(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        informers = Informers(world.client)
        events = EventRecorder(world.client, "kernel-monitor", world.clock, world.chance)
        made = InjectedKernelLogs(world.client, informers, world.clock, events)
        informers.start()
        world.tasks.append(asyncio.create_task(made.run()))
        await world.node(annotations={"kwok.x-k8s.io/node": "fake"})
        await asyncio.sleep(0.1)
        for lines, status in ((f"{READ_ONLY}\n{OOM}", "True"), (None, "False")):
            await world.client.patch(NODES, "n", {"metadata": {"annotations": {ANNOTATION: lines}}})

            async def told(status: str = status) -> bool:
                return (await world.says("ReadonlyFilesystem"))[0] == status

            await world.until(told)
        assert await world.reasons() == ["FilesystemIsReadOnly", "OOMKilling"]
        await informers.stop()

    play(tmp_path, main)


def test_a_storm_of_different_problems_stays_small(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        await world.node()
        device = Device()
        for number in range(40):
            device.write(f"NVRM: Xid (PCI:0000:{number:02x}:00): 79, x{'y' * 600}")
        world.monitor(device.log)

        async def told() -> bool:
            kept = await world.kept()
            return bool(kept) and "0000:27:00" in kept[-1]

        await world.until(told)
        kept = await world.kept()
        assert len(kept) == MOST_LINES and max(map(len, kept)) <= 400

    play(tmp_path, main)
