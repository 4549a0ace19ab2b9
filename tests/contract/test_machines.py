"""Machines' contracts: the simulated provider and remedies, and a real program that keeps machines in a file."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.base.chance import Chance
from atoll.base.clock import SystemClock, rfc3339
from atoll.base.errors import NotFound
from atoll.capacity import names
from atoll.capacity.autoscale.programmed import ProgramProvider
from atoll.capacity.autoscale.provider import Provider
from atoll.capacity.autoscale.settings import CONFIG_MAP, KEY, AutoscaleSettings
from atoll.capacity.autoscale.simulated import SimulatedProvider
from atoll.capacity.health.model import Repair
from atoll.capacity.health.programmed import ProgramRemedies
from atoll.capacity.health.remedy import Progress, Remedies, SimulatedRemedies
from atoll.capacity.health.settings import RemedySeconds
from atoll.capacity.program import MachineProgram, ProgramFailed
from atoll.capacity.settings import Live
from atoll.cluster.store.memory import MemoryStore
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES, NODES
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers
from atoll.testing.contracts.machines import POOL, ProviderContract, RemedyContract

SITE = """
import datetime, fcntl, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
lock = open(folder / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)            # several requests may come at once
state = folder / "machines.json"
machines = json.loads(state.read_text()) if state.exists() else {}
asked = json.load(sys.stdin)
answer = {}
match asked["operation"]:
    case "list":
        answer = {"machines": [{k: it[k] for k in ("name", "pool", "created", "replaces")} for it in machines.values()]}
    case "create" if asked["name"] in machines:
        pass
    case "create" if (folder / "sold-out").exists():
        answer = {"outOfStock": True, "message": "come back tomorrow"}
    case "create":
        machines[asked["name"]] = {**asked, "created": datetime.datetime.now(datetime.UTC).isoformat()}
    case "delete":
        machines.pop(asked["name"], None)
    case "reset" | "reboot" | "replace":
        order = folder / f"{asked['node']}-{asked['number']}"
        if not order.exists():
            order.write_text("begun")
        with (folder / "begun").open("a") as file:
            file.write(order.name + "\\n")
        answer = {"state": "done" if (folder / "finished").exists() else "running", "againSeconds": 5}
draft = folder / "machines.new"
draft.write_text(json.dumps(machines))
draft.rename(state)
print(json.dumps(answer))
"""


async def api(stack: AsyncExitStack) -> Assembly:
    clock = SystemClock()
    found = assemble(MemoryStore(clock), clock, Chance(1), ApiOptions())
    await bootstrap(found)
    return found


def node(name: str, **metadata: Any) -> Any:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **metadata}, "spec": {}}


class _Site:
    def __init__(self, assembly: Assembly) -> None:
        self.client = assembly.client()

    async def left(self, name: str) -> None:
        while name in {it["metadata"]["name"] for it in (await self.client.list(NODES)).items}:
            await asyncio.sleep(0.02)


class SimulatedSite(_Site):
    def __init__(self, assembly: Assembly, settings: Live[AutoscaleSettings], make: Any) -> None:
        super().__init__(assembly)
        self._settings = settings
        self.again = make
        self.provider: Provider = make()

    async def joined(self, name: str) -> Any:
        while True:
            try:
                return await self.client.get(NODES, name)
            except NotFound:
                await asyncio.sleep(0.02)

    async def sell_out(self) -> None:
        await configure(self.client, "stock: 0")
        while self._settings.value.pools[0].simulated.stock:
            await asyncio.sleep(0.01)


async def configure(client: Any, simulated: str) -> None:
    pool = "name: gpu, max: 4, node: {cpu: 96, memory: 1Ti, gpus: 8, labels: {zone: a}}"
    text = f"pools: [{{{pool}, simulated: {{bootSeconds: 0, bootJitterSeconds: 0, {simulated}}}}}]"
    metadata = {"name": CONFIG_MAP, "namespace": names.SYSTEM_NAMESPACE}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}}
    await client.apply(CONFIGMAPS, config)


class ProgramSite(_Site):
    """Machines in a file; the test plays kubelet, with the labels that the program was told."""

    def __init__(self, assembly: Assembly, folder: Path) -> None:
        super().__init__(assembly)
        self.folder = folder
        self.provider: Provider = self.again()

    def again(self) -> Provider:
        return ProgramProvider(site_program(self.folder), self.client)

    async def joined(self, name: str) -> Any:
        told = json.loads((self.folder / "machines.json").read_text())[name]
        assert told["capacity"]["nvidia.com/gpu"] == "8"
        return await self.client.create(NODES, node(name, labels=told["labels"]))

    async def sell_out(self) -> None:
        (self.folder / "sold-out").touch()


def site_program(folder: Path) -> MachineProgram:
    (folder / "site.py").write_text(SITE)
    return MachineProgram([sys.executable, str(folder / "site.py"), str(folder)])


class TestSimulatedProvider(ProviderContract):
    async def opened(self, stack: AsyncExitStack, folder: Path) -> Any:
        assembly = await api(stack)
        client, clock = assembly.client(), assembly.clock
        await client.create(NAMESPACES, {"metadata": {"name": names.SYSTEM_NAMESPACE}})
        await configure(client, "stock: 9")
        informers = Informers(client)
        events = EventRecorder(client, "t", clock, Chance(1))
        settings = Live(informers, events, CONFIG_MAP, KEY, AutoscaleSettings)
        made = SimulatedProvider(client, informers, clock, settings)
        informers.start()
        stack.push_async_callback(informers.stop)
        await settings.informer.synced.wait()
        task = asyncio.create_task(made.run())
        stack.callback(task.cancel)

        class Now(SimulatedProvider):
            """Pools as `sell_out` has left them: the contract's own knows of no stock."""

            async def create(self, pool: Any, name: str, replaces: str = "") -> None:
                await super().create(settings.value.pool(pool.name) or pool, name, replaces)

        return SimulatedSite(assembly, settings, lambda: Now(client, informers, clock, settings))


class TestProgramProvider(ProviderContract):
    async def opened(self, stack: AsyncExitStack, folder: Path) -> Any:
        return ProgramSite(await api(stack), folder)


class Shop:
    def __init__(self, remedies: Remedies, get: Any, wait: Any) -> None:
        self.remedies, self.node, self.wait = remedies, get, wait

    def again(self) -> Remedies:
        return self.remedies

    def now(self) -> str:
        return rfc3339(time.time())


class TestSimulatedRemedies(RemedyContract):
    async def opened(self, stack: AsyncExitStack, folder: Path) -> Any:
        assembly = await api(stack)
        client = assembly.client()
        await client.create(NODES, node("n"))
        seconds = RemedySeconds(1.5, 1.5, 1.5)
        made = SimulatedRemedies(client, assembly.clock, lambda: seconds)
        return Shop(made, lambda: client.get(NODES, "n"), lambda: asyncio.sleep(1.6))


class TestProgramRemedies(RemedyContract):
    async def opened(self, stack: AsyncExitStack, folder: Path) -> Any:
        async def get() -> Any:
            return node("n", labels={"rack": "r1"})

        async def wait() -> None:
            (folder / "finished").touch()

        return Shop(ProgramRemedies(site_program(folder)), get, wait)


def shell(text: str, timeout_seconds: float = 10) -> MachineProgram:
    return MachineProgram(["sh", "-c", text], timeout_seconds)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'no credentials' >&2; exit 3", "sh list ended with 3: no credentials"),
        ("exit 1", "ended with 1: no word"),
        ("echo sorry", "its answer is not as it should be"),
        ("echo '{}'", "its answer is not as it should be: Object missing required field `machines`"),
        ('echo \'{"machines": [{"name": "A B", "pool": "p", "created": ""}]}\'', "matching regex"),
        ('echo \'{"machines": [{"name": "a", "pool": "p", "created": "today"}]}\'', "no RFC 3339 time"),
        ('echo \'{"machines": [], "more": 1}\'', "unknown field `more`"),
        ("head -c 5000000 /dev/zero", "longer than 4 MiB"),
    ],
)
def test_an_answer_that_is_none_is_an_error_and_concludes_nothing(script: str, told: str) -> None:
    provider = ProgramProvider(shell(script), None)  # type: ignore[arg-type]
    with pytest.raises(ProgramFailed) as failed:
        asyncio.run(provider.machines())
    assert told in failed.value.message


def test_two_machines_of_one_name_are_an_error() -> None:
    listed = '{"name": "a", "pool": "p", "created": "2026-01-01T00:00:00Z"}'
    with pytest.raises(ProgramFailed, match="named twice"):
        asyncio.run(ProgramProvider(shell(f"echo '{{\"machines\": [{listed}, {listed}]}}'"), None).machines())  # type: ignore[arg-type]


def test_a_run_that_takes_too_long_is_ended_with_what_it_has_started(tmp_path: Path) -> None:
    program = shell(f"(sleep 2; touch {tmp_path}/later) & sleep 60", 0.3)
    began = time.monotonic()
    with pytest.raises(ProgramFailed, match=r"took longer than 0\.3 s"):
        asyncio.run(ProgramProvider(program, None).machines())  # type: ignore[arg-type]
    assert time.monotonic() - began < 5
    time.sleep(2.2)
    assert not (tmp_path / "later").exists()


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(ProgramFailed, match="/nowhere/machines list can't be started: No such file"):
        asyncio.run(ProgramProvider(MachineProgram(["/nowhere/machines"]), None).machines())  # type: ignore[arg-type]


def test_a_remedy_that_fails_is_told_and_one_that_says_nothing_is_asked_again() -> None:
    repair = Repair("reboot", "repairing", rfc3339(time.time()), "XID79")

    def advance(script: str) -> Progress:
        return asyncio.run(ProgramRemedies(shell(script)).advance(node("n"), repair))

    assert advance('echo \'{"state": "failed", "message": "its BMC is dead"}\'') == Progress(
        failed="its BMC is dead", again_seconds=None
    )
    assert advance("echo broken; exit 1") == Progress(again_seconds=30.0)
    assert advance('echo \'{"state": "perhaps"}\'') == Progress(again_seconds=30.0)
    told = advance('grep -q \'"operation":"reboot","node":"n","number":1,\' && echo \'{"state": "done"}\' || echo "{}"')
    assert told.done


def test_the_pool_is_what_the_program_is_told(tmp_path: Path) -> None:
    provider = ProgramProvider(shell(f"cat > {tmp_path}/asked"), None)  # type: ignore[arg-type]
    asyncio.run(provider.create(POOL, "gpu-7", "gpu-3"))
    assert json.loads((tmp_path / "asked").read_text()) == {
        "version": 1, "operation": "create", "name": "gpu-7", "pool": "gpu", "replaces": "gpu-3",
        "labels": {"zone": "a", "atoll.dev/pool": "gpu", "atoll.dev/machine": "gpu-7"}, "taints": [],
        "capacity": {"cpu": "96", "memory": "1Ti", "pods": "110", "nvidia.com/gpu": "8"},
    }  # fmt: skip
