"""The gangs of a cluster, and why pods wait, for those who only look: the scheduler's view, built once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import Unreachable
from atoll.client.port import Client
from atoll.cluster.scheduler.cache import SchedulerCache
from atoll.cluster.scheduler.gangs.attempt import members_of, not_free, too_few, unknown
from atoll.cluster.scheduler.gangs.book import GangBook
from atoll.cluster.scheduler.gangs.reserve import kept_until, words
from atoll.cluster.scheduler.spreading import DefaultSelectors
from atoll.runtime.informer import Informers
from atoll.scheduling.dra.model import Selectors
from atoll.scheduling.explain import why_gang, why_pod
from atoll.scheduling.gang import Gang
from atoll.scheduling.gang_reservation import plan_reservation
from atoll.scheduling.groups.model import Group, GroupKey, Missing
from atoll.scheduling.groups.placing import Members, is_whole, lacking, short, to_place
from atoll.scheduling.plan import Planner

_LIST_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Row:
    """One gang (or pod that waits by itself: its dialect is ""). `why`: "" where nothing of it waits."""

    namespace: str
    name: str
    dialect: str
    least: int
    members: int
    placed: int
    why: str


class Observation:
    """`gangs` and `pods` decide on the snapshot as the scheduler would, and change nothing."""

    def __init__(self, book: GangBook, planner: Planner, cache: SchedulerCache, clock: Clock) -> None:
        self._book = book
        self._planner = planner
        self._cache = cache
        self._keep_room(clock.wall())

    def _keep_room(self, now: float) -> None:
        """As the scheduler does, which says so in what it tells the gang's pods."""
        self._kept: tuple[GroupKey, str] | None = None
        for key in self._book.all_keys():
            pods = self._book.pods(key)
            group, members = self._book.group(key, pods), members_of(pods, self._planner, self._cache.queue)[0]
            until = kept_until(members.waiting)
            if isinstance(group, Group) and until > now:
                found = plan_reservation(self._planner, self._gang(key, group, members))
                if found is not None:
                    self._planner.reservation = found
                    pods_there = "1 pod" if found.leaving == 1 else f"{found.leaving} pods"
                    self._kept = key, f"; {words(found, until)}: {pods_there} there must end"
                return

    def _gang(self, key: GroupKey, group: Group, members: Members) -> Gang:
        return to_place(str(key), group, members, self._book.task_of(key), self._book.levels(), self._planner)

    def gangs(self, member: str = "") -> list[Row]:
        """All, or those with a pod of that name."""
        found = []
        for key in self._book.all_keys():
            pods = self._book.pods(key)
            if member and not any(pod["metadata"]["name"] == member for pod in pods):
                continue
            group = self._book.group(key, pods)
            if group is not None:
                members, _ = members_of(pods, self._planner, self._cache.queue)
                least = group.least if isinstance(group, Group) else 0
                why = self._why(key, group, members)
                found.append(
                    Row(key.namespace, key.name, key.dialect, least, len(pods), len(members.there), why)
                )  # fmt: skip
        return found

    def _why(self, key: GroupKey, group: Group | Missing, members: Members) -> str:
        if not members.waiting:
            return f"{members.gated} pods are behind scheduling gates" if members.gated else ""
        if isinstance(group, Missing):
            return unknown(group)
        task_of = self._book.task_of(key)
        lack = short(group, members, task_of)
        if lack:
            return too_few(group, members, lack)
        if is_whole(group, members.there, task_of):
            return f"{len(members.waiting)} beyond its minimum wait: {self._why_pod(members)}"
        kept = self._kept[1] if self._kept is not None and self._kept[0] == key else ""
        missing = {} if members.there else lacking(self._planner, group.resources)
        if missing:
            return f"{not_free(missing)}{kept}"
        gang = self._gang(key, group, members)
        return f"{why_gang(self._planner, gang, self._book.work(self._planner.state), list(self._cache.budgets))}{kept}"

    def _why_pod(self, members: Members) -> str:
        return why_pod(self._planner, members.waiting[0], list(self._cache.budgets))

    def pods(self) -> list[Row]:
        """Those that wait by themselves."""
        found = []
        for waiting in self._cache.queue.everyone():
            pod = waiting.pod
            key = self._book.key(pod.obj)
            if key is not None and self._book.group(key, self._book.pods(key)) is not None:
                continue
            gated = waiting.place == "gated"
            why = "it is behind scheduling gates" if gated else why_pod(self._planner, pod, list(self._cache.budgets))
            found.append(Row(pod.template.namespace, pod.name, "", 1, 1, 0, why))
        return found


@asynccontextmanager
async def observed(
    client: Client, clock: Clock, chance: Chance, book_of: Callable[[Informers], GangBook], devices: Selectors
) -> AsyncIterator[Observation]:
    """Lists what a scheduler looks at. Kinds that the cluster does not serve are as if there were none.

    `devices` is CEL over devices.

    Raises Unreachable where something can't be listed in time.
    """
    informers = Informers(client)
    book, selectors = book_of(informers), DefaultSelectors(informers)
    planner = Planner(chance.stream("observe"), selectors, selectors=devices)
    cache = SchedulerCache(informers, planner, clock, lambda name: True, lambda: None, taint_rules=True)
    informers.start()
    try:
        for informer in (*cache.informers(), *selectors.informers(), *book.informers()):
            try:
                async with asyncio.timeout(_LIST_SECONDS):
                    await informer.answered.wait()
            except TimeoutError:
                raise Unreachable(
                    f"{informer.resource.group_resource} can't be listed",
                    hint="a gang can only be judged by who may list pods, nodes, and all kinds that pods depend on",
                ) from None
        cache.start()
        yield Observation(book, planner, cache, clock)
    finally:
        await informers.stop()
