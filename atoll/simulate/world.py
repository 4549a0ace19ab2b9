"""A scenario brought to life: the real controllers on the real API core, in virtual time, with its faults and arrivals.

The cluster is the one that `atoll cluster create` starts (`app.controllers.running_cluster`): controller-manager,
scheduler, node lifecycle, simulated nodes, and the queues where the scenario has any. Only the clock, chance, the store
(in memory, observed) and, where the API server is to fail, its clients' transport are the simulation's.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import msgspec
from msgspec.structs import replace

from atoll.app.assembly import ApiOptions, Assembly, assemble, bootstrap
from atoll.app.controllers import Running, running_cluster
from atoll.app.fleetspec import ClusterSpec
from atoll.app.serving import handler_of
from atoll.base.chance import Chance
from atoll.base.clock import rfc3339
from atoll.base.errors import AlreadyExists, ApiError, AtollError, UserError
from atoll.capacity import names
from atoll.capacity.autoscale.settings import CONFIG_MAP, KEY
from atoll.client.port import Client
from atoll.cluster.apiserver.local import LocalClient
from atoll.cluster.nodes.simulated.model import AddressPool
from atoll.kinds import batch, kueue
from atoll.kinds.builtin import CONFIGMAPS, JOBS, NAMESPACES, NODES, PODS, RESOURCE_CLAIM_TEMPLATES
from atoll.runtime.virtual import LoopClock
from atoll.simulate.arrivals import Arrival, claim_templates, job_object, plan_arrivals
from atoll.simulate.faults import Fault, plan_faults
from atoll.simulate.fragmentation import Fragmentation
from atoll.simulate.gate import Gate, gated
from atoll.simulate.inject import Injector
from atoll.simulate.invariants.port import Invariant, Violation
from atoll.simulate.invariants.registry import MAKERS
from atoll.simulate.layout import Place, node_of, places
from atoll.simulate.ledger import Ledger, ObservedStore
from atoll.simulate.prices import Prices
from atoll.simulate.programs import Programs
from atoll.simulate.record import Recorder
from atoll.simulate.scenario.model import Given, Object, Scenario
from atoll.simulate.scenario.objects import is_operators

_NODE_NETWORK = "172.16.0.0/12"
_SETTLE_SECONDS = 5.0
_ACCOUNTS_SECONDS = 1.0  # until namespaces have the accounts without which no pod is let in
_HOUR = 3600.0
_LOOK_SECONDS = 60.0  # how often the run looks whether it is to stop
_RETRY_SECONDS = 1.0
_JOIN_SECONDS = 3600.0  # for the least that pools have; where there is no stock the scenario begins without
Progress = Callable[[float], None]
"""(virtual seconds that are done)"""


@dataclass(slots=True)
class Outcome:
    """What is left of a run."""

    recorder: Recorder
    began: float  # the loop's seconds when the scenario's time began
    digest: str
    commits: int
    seconds: float  # virtual, shorter than the scenario where an invariant was violated
    violations: list[Violation]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed makes of a scenario."""

    stand: Sequence[Place]
    arrivals: list[Arrival]
    faults: list[Fault]


def plan_run(scenario: Scenario, seed: int) -> Plan:
    """Pure but for reading the scenario's traces. Raises UserError."""
    chance = Chance(seed, "scenario")
    stand = list(places(scenario.pools))
    return Plan(stand, plan_arrivals(scenario, chance), plan_faults(scenario, stand, chance))


async def _insist(act: Callable[[], Awaitable[object]]) -> None:
    """Again, until the API server answers."""
    while True:
        try:
            await act()
            return
        except AtollError as error:
            if not error.retryable:
                raise
        await asyncio.sleep(_RETRY_SECONDS)


async def play(scenario: Scenario, seed: int, progress: Progress | None = None) -> Outcome:
    """One run, to its end or to its first violation. In a virtual loop only. Raises UserError."""
    run = _Run(scenario, seed, plan_run(scenario, seed))
    async with run.started():
        return await run.through(progress or (lambda _: None))


class _Run:
    def __init__(self, scenario: Scenario, seed: int, plan: Plan) -> None:
        self._scenario = scenario
        self._seed = seed
        self._plan = plan
        self._clock = LoopClock(asyncio.get_running_loop())
        self._store = ObservedStore(self._clock)
        options = ApiOptions(
            queueing=scenario.queueing,
            batch=scenario.batch,
            teams=scenario.teams,
            health=scenario.health,
            workload_api=scenario.workload_api,
        )
        self._assembly = assemble(self._store, self._clock, Chance(seed, "cluster"), options)
        handler_of(self._assembly)  # the garbage collector's discovery is a raw request
        self._gate = Gate(self._store.break_watches)
        self._ledger = Ledger(self._clock)
        self._store.see = self._ledger.see
        self._prices = Prices(scenario.pools, scenario.autoscale)
        self._ledger.add(self._prices)
        self._recorder = Recorder(self._ledger, Fragmentation(plan.arrivals), self._prices)
        self._ledger.add(self._recorder)
        client = self._assembly.client()
        self._programs = Programs(client, self._clock, self._recorder.work)
        self._ledger.add(self._programs)
        self._injector = Injector(client, self._clock, self._recorder, self._programs, self._gate)
        self._violations: list[Violation] = []
        self._epoch = 0.0
        self._invariants = [self._watched(name) for name in scenario.invariants]

    def _watched(self, name: str) -> Invariant:
        def tell(what: str, now: float) -> None:
            self._violations.append(Violation(name, now - self._epoch, what))

        invariant = MAKERS[name](self._ledger, self._store, tell)
        self._ledger.add(invariant)
        return invariant

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """The cluster runs, its nodes are Ready, what the scenario brings is there."""
        scenario = self._scenario
        kinds = kueue.custom_resource_definitions() if scenario.queueing else []
        kinds += batch.custom_resource_definitions() if scenario.batch else []
        await bootstrap(self._assembly, kinds)
        breaks = any(fault.target == "apiServer" for fault in self._plan.faults)
        assembly: Assembly = gated(self._assembly, self._gate) if breaks else self._assembly
        spec = ClusterSpec(
            scenario.name,
            queueing=scenario.queueing,
            batch=scenario.batch,
            teams=scenario.teams,
            health=scenario.health,
            scheduler_config=scenario.scheduler_config,
            workload_api=scenario.workload_api,
            autoscale=scenario.autoscale is not None,
        )
        async with running_cluster(assembly, spec) as running:
            client = assembly.client()
            await self._set_up(client, running)
            self._epoch = self._clock.monotonic()
            self._prices.begin(self._epoch)
            loop = asyncio.get_running_loop()
            parts = [
                loop.create_task(self._programs.run(), name="programs"),
                loop.create_task(self._injector.run(self._plan.faults, self._epoch), name="faults"),
                loop.create_task(self._arrive(client), name="arrivals"),
                loop.create_task(self._sample(), name="samples"),
                loop.create_task(self._bring_later(client), name="objects"),
            ]
            self._parts = parts
            try:
                yield
            finally:
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)

    async def _set_up(self, client: LocalClient, running: Running) -> None:
        scaled = self._scenario.autoscale
        least = sum(pool.min for pool in scaled.pools) if scaled is not None else 0
        addresses = AddressPool(_NODE_NETWORK)
        now = rfc3339(self._clock.wall())
        operators = [it for it in self._scenario.given if it.at_seconds <= 0 and is_operators(it.obj)]
        await self._spaces(client, {space for it in operators if (space := self._space_of(it.obj)) is not None})
        for given in operators:
            await self._bring(client, given)  # nodes' agents act upon it as these join
        for place in self._plan.stand:
            try:
                await client.create(NODES, node_of(place, addresses.take() or "", now))
            except ApiError as error:
                raise UserError(f"pool {place.pool.name}: {error.message}", hint="mend the pool") from None
        await self._scale(client)
        with suppress(TimeoutError):
            async with asyncio.timeout(None if scaled is None else _JOIN_SECONDS):
                await running.nodes_ready(len(self._plan.stand) + least)
        first = [it for it in self._scenario.given if it.at_seconds <= 0 and not is_operators(it.obj)]
        first.sort(key=lambda item: item.obj["kind"] != NAMESPACES.kind)  # what is in them comes after
        named = sum(item.obj["kind"] == NAMESPACES.kind for item in first)
        for given in first[:named]:
            await self._bring(client, given)
        spaces = {space for given in self._scenario.given if (space := self._space_of(given.obj)) is not None}
        await self._spaces(client, spaces | {item.namespace for item in self._plan.arrivals})
        await asyncio.sleep(_ACCOUNTS_SECONDS)
        for given in first[named:]:
            await self._bring(client, given)
        for template in claim_templates(self._plan.arrivals):
            try:
                await client.create(RESOURCE_CLAIM_TEMPLATES, template, template["metadata"]["namespace"])
            except ApiError as error:
                stream = template["metadata"]["name"].rpartition("-")[0]
                raise UserError(f"jobs {stream}: {error.message}", hint="mend deviceClass or selector") from None
        await asyncio.sleep(_SETTLE_SECONDS)
        gc.freeze()  # what is there now stays: later collections need not look at it

    async def _scale(self, client: Client) -> None:
        """The autoscaler's settings; boot times and stock follow from the run's seed too."""
        settings = self._scenario.autoscale
        if settings is None:
            return
        await self._spaces(client, {names.SYSTEM_NAMESPACE})
        text = msgspec.json.encode(replace(settings, seed=settings.seed + self._seed)).decode()
        made = {"metadata": {"name": CONFIG_MAP}, "data": {KEY: text}}
        await client.create(CONFIGMAPS, made, names.SYSTEM_NAMESPACE)

    async def _spaces(self, client: Client, names: set[str]) -> None:
        for name in sorted(names):
            try:
                await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
            except AlreadyExists:
                continue

    def _space_of(self, obj: Object) -> str | None:
        """Of an object of a kind that is served in namespaces."""
        served = self._assembly.api.registry.of_kind(obj["apiVersion"], obj["kind"])
        if served is None or not served.resource.namespaced:
            return None
        return str(obj["metadata"].get("namespace") or "default")

    async def _bring(self, client: Client, given: Given) -> None:
        """Create an object of the scenario; one that comes later changes what is there already, by a merge patch.
        Raises UserError that says where it is written."""
        served = self._assembly.api.registry.of_kind(given.obj["apiVersion"], given.obj["kind"])
        if served is None:
            kind = f"{given.obj['kind']} of {given.obj['apiVersion']}"
            hint = "Kueue's kinds are served where queues: has objects" if not self._scenario.queueing else None
            raise UserError(f"{given.where}: {kind} is not served", hint=hint)
        space = self._space_of(given.obj)
        changes = given.at_seconds > 0 or served.resource == NAMESPACES
        try:
            try:
                await client.create(served.resource, given.obj, space)
            except AlreadyExists:
                if not changes:
                    raise
                await client.patch(served.resource, given.obj["metadata"]["name"], given.obj, space)
        except ApiError as error:
            if error.retryable:
                raise
            raise UserError(f"{given.where}: {error.message}", hint="mend the object") from None

    async def _bring_later(self, client: Client) -> None:
        for given in sorted(self._scenario.given, key=lambda item: item.at_seconds):
            if given.at_seconds > 0:
                await self._until(given.at_seconds)
                await _insist(partial(self._bring, client, given))

    async def _arrive(self, client: Client) -> None:
        for arrival in self._plan.arrivals:
            await self._until(arrival.at)
            try:
                await _insist(partial(client.create, JOBS, job_object(arrival), arrival.namespace))
            except AlreadyExists:
                raise UserError(f"two jobs are called {arrival.name!r}", hint="name streams apart") from None
            except ApiError as error:
                raise UserError(f"job {arrival.name}: {error.message}", hint="mend its stream or trace") from None

    async def _sample(self) -> None:
        number = 0
        while True:
            self._recorder.sample(self._clock.monotonic())
            number += 1
            await self._until(number * self._scenario.sample_seconds)

    async def _until(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self._epoch + seconds - self._clock.monotonic()))

    async def through(self, progress: Progress) -> Outcome:
        """Let time pass; looks at everything each hour and at the end."""
        done, whole = 0.0, _HOUR
        while done < self._scenario.seconds and not self._violations:
            await self._until(min(done + _LOOK_SECONDS, self._scenario.seconds))
            done = self._clock.monotonic() - self._epoch
            if done >= whole or done >= self._scenario.seconds:
                whole += _HOUR
                for invariant in self._invariants:
                    invariant.full(self._clock.monotonic())
            progress(done)
            for part in self._parts:
                if part.done() and not part.cancelled():
                    part.result()
        client = self._assembly.client()
        kinds = [PODS, kueue.WORKLOADS] if self._scenario.queueing else [PODS]
        told = [obj for kind in kinds for obj in (await client.list(kind)).items]
        self._recorder.settled(told, self._clock.monotonic())
        return Outcome(self._recorder, self._epoch, self._ledger.digest(), self._ledger.commits, done, self._violations)
