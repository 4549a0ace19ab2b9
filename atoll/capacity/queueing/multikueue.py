"""MultiKueue (KEP 693): workloads of a manager cluster run on the first worker cluster that has quota for them.

The admission check kueue.x-k8s.io/multikueue of a Workload with quota here: a copy of it goes to the workers that a
dispatcher nominates; the first that reserves quota there wins and the other copies go; the job is made there, bound to
the copy by the label prebuilt-workload-name; the status comes back, and what was made there goes when all is over here.

A worker that can't be reached is not one where things are gone: what is there stays until it answers, and only after
`workerLostTimeout` its workloads are queued anew. Names follow from the local ones, so each step may be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from atoll.base.errors import AlreadyExists, AtollError, Conflict, NotFound
from atoll.capacity.queueing import dispatch, status
from atoll.capacity.queueing.config import MultiKueueOptions
from atoll.capacity.queueing.mirrors import Mirror, NoReservation, NotOurs, copy_of, delete, mirrors
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.provisioning import Verdict, with_verdict
from atoll.capacity.queueing.workers import Worker, Workers
from atoll.client.port import Client
from atoll.kinds import kueue
from atoll.kinds.builtin import PODS
from atoll.kinds.resource import Resource
from atoll.objects.meta import condition, controller_of, is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL
from atoll.runtime.informer import Key

CONTROLLER: Final = kueue.MULTIKUEUE
_LOOK_SECONDS = 30.0  # changes are watched: this is for what no watch tells
_WAIT_SECONDS = 2.0


class MultiKueue:
    """Carries it out, worker by worker."""

    def __init__(
        self,
        parts: Parts,
        connect: Callable[[str], Client],
        read_file: Callable[[str], str],
        options: Callable[[], MultiKueueOptions],
    ) -> None:
        """`connect`: a client of the cluster that a kubeconfig (its text) names; `read_file`: the text of a kubeconfig
        file. Both raise UserError."""
        self._options = options
        self.name = "queueing-multikueue"
        self._parts = parts
        of = parts.informers.of
        self._workloads, self._checks = of(kueue.WORKLOADS), of(kueue.ADMISSION_CHECKS)
        self._configs, self._clusters = of(kueue.MULTIKUEUE_CONFIGS), of(kueue.MULTIKUEUE_CLUSTERS)
        self._mirrors = mirrors(parts)
        self._rounds: dict[Key, tuple[tuple[str, ...], float]] = {}  # who was nominated, and since when
        self._workers = Workers(parts, connect, read_file, self._remote_changed)
        pods = of(PODS)
        waits = (self._workloads, self._checks, self._configs, self._clusters, pods)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=waits)
        own = f"{self.name}-clusters"
        self._connections: Controller[str] = Controller(own, self._connection, workers=4, wait_for=waits)
        self._workloads.add_handler(self._workload_changed)
        pods.add_handler(self._pod_changed)
        for informer in (self._checks, self._configs, self._clusters):
            informer.add_handler(lambda old, new: self._setup_changed(old, new))

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.loop.run(), name=self.name)
                group.create_task(self._connections.run(), name=f"{self.name}-clusters")
                group.create_task(self._sweep(), name=f"{self.name}-orphans")
        finally:
            await self._workers.close()

    # -- what is to be looked at

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        if self._entry(obj) is not None or (obj.get("status") or {}).get("clusterName"):
            self.loop.queue.add(key(obj))

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        """Pods of groups come one by one, and go."""
        pod = new or old or {}
        if len(self._clusters) and (old is None or new is None or is_deleting(new)):
            name = labels(pod).get(kueue.POD_GROUP_LABEL)
            if name:
                self.loop.queue.add((pod["metadata"]["namespace"], name))

    def _remote_changed(self, name: Key) -> None:
        self.loop.queue.add(name)

    def _setup_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and old.get("spec") == new.get("spec"):
            return
        for obj in self._clusters:
            self._connections.queue.add(obj["metadata"]["name"])
        gone = old if new is None else None
        if gone is not None and gone.get("kind") == kueue.MULTIKUEUE_CLUSTERS.kind:
            self._connections.queue.add(gone["metadata"]["name"])
        self._checks_and_workloads()

    def _checks_and_workloads(self) -> None:
        for obj in self._checks:
            if self._is_ours(obj["metadata"]["name"]):
                self.loop.queue.add(("", obj["metadata"]["name"]))
        for obj in self._workloads:
            self._workload_changed(None, obj)

    def _is_ours(self, check: str) -> bool:
        found = self._checks.get(check)
        return found is not None and found["spec"].get("controllerName") == CONTROLLER

    async def _connection(self, name: str) -> float | None:
        if not self._parts.on():
            return _WAIT_SECONDS
        before = self._workers.reachable(name)
        again = await self._workers.follow(name, self._clusters.get(name), self._options().origin)
        if self._workers.reachable(name) != before:
            self._checks_and_workloads()
        return again

    async def _reconcile(self, name: Key) -> float | None:
        if not self._parts.on():
            return None
        if name[0]:
            return await self._workload(name)
        await self._tell_check(self._checks.get(name[1]))
        return None

    def _names(self, check: Object) -> list[str]:
        config = self._configs.get((check["spec"].get("parameters") or {}).get("name") or "")
        return list((config or {}).get("spec", {}).get("clusters") or ())

    async def _tell_check(self, check: Object | None) -> None:
        if check is None:
            return
        names = self._names(check)
        missing = [name for name in names if not self._workers.reachable(name)]
        if not names:
            active, reason, text = False, "BadConfig", "its MultiKueueConfig names no cluster, or is not there"
        elif len(missing) == len(names):
            active, reason, text = False, "NoUsableClusters", f"Inactive clusters: {', '.join(missing)}"
        else:
            active, reason, text = True, "Active", "The admission check is active"
        new = status.with_condition(check, "Active", active, reason, text, self._parts.clock.wall())
        await write_status(self._parts.client, kueue.ADMISSION_CHECKS, check, new)

    # -- one workload

    async def _workload(self, name: Key) -> float | None:
        workload = self._workloads.by_key(name)
        if workload is None or not _wants(workload):
            self._rounds.pop(name, None)
            return await self._withdraw(name, keep=())
        entry = self._entry(workload)
        if entry is None or entry["state"] in ("Retry", "Rejected"):
            return None  # no check of ours, or none any more: what runs, runs on; or it is about to be evicted
        mirror = self._mirror(workload)
        why = _no_mirror(workload) if mirror is None else await mirror.refusal(workload)
        if mirror is None or why:
            await self._say(workload, entry, "Rejected", why)
            return None
        check = self._checks.get(entry["name"])
        assert check is not None
        chosen = workload["status"].get("clusterName") or self._first(name, self._names(check))
        if not chosen:
            return await self._offer(workload, entry, self._names(check))
        again = await self._withdraw(name, keep=(chosen,))
        if workload["status"].get("clusterName") != chosen:
            await self._choose(workload, entry, chosen, mirror)
            return _WAIT_SECONDS
        return _sooner(again, await self._follow(workload, entry, chosen, mirror))

    def _entry(self, workload: Object) -> Object | None:
        listed = (workload.get("status") or {}).get("admissionChecks") or ()
        return next((item for item in listed if self._is_ours(item["name"])), None)

    def _mirror(self, workload: Object) -> Mirror | None:
        owner = _owner(workload)
        if owner is None:
            return None
        return self._mirrors.get((owner["apiVersion"].rpartition("/")[0], owner["kind"]))

    def _first(self, name: Key, names: list[str]) -> str:
        """The first that reserved quota for it; of several in one second, the first of the config."""
        found: list[tuple[str, int, str]] = []
        for place, worker_name in enumerate(names):
            worker = self._workers.get(worker_name)
            copy = worker.workload(name) if worker is not None else None
            reserved = condition(copy, "QuotaReserved") if copy is not None else None
            if reserved is not None and reserved["status"] == "True":
                found.append((reserved["lastTransitionTime"], place, worker_name))
        return min(found)[2] if found else ""

    async def _offer(self, workload: Object, entry: Object, names: list[str]) -> float | None:
        name = key(workload)
        if any(it["state"] != "Ready" for it in workload["status"]["admissionChecks"] if it is not entry):
            return await self._withdraw(name, keep=())  # another check says no yet; its change comes back here
        nominated = self._nominated(name, names, tuple(workload["status"].get("nominatedClusterNames") or ()))
        again = await self._withdraw(name, keep=nominated)
        if list(nominated) != (workload["status"].get("nominatedClusterNames") or []):
            new = {**workload, "status": {**workload["status"], "nominatedClusterNames": list(nominated)}}
            await write_status(self._parts.client, kueue.WORKLOADS, workload, new)
            return _sooner(again, _WAIT_SECONDS)
        for worker in filter(None, map(self._workers.get, nominated)):
            if worker.workload(name) is None:
                with suppress(AlreadyExists, NotFound):  # NotFound: it lacks the namespace
                    await worker.client.create(kueue.WORKLOADS, copy_of(workload, worker.origin))
        return _sooner(again, _LOOK_SECONDS)

    def _nominated(self, name: Key, names: list[str], before: tuple[str, ...]) -> tuple[str, ...]:
        """Rounds are counted in memory: a manager that is started again gives those nominated their time anew."""
        now = self._parts.clock.monotonic()
        known, since = self._rounds.get(name, (None, now))
        if known != before:
            since = now
            self._rounds[name] = (before, now)
        over = now - since >= dispatch.ROUND_SECONDS
        reachable = [worker for worker in names if self._workers.reachable(worker)]
        return tuple(dispatch.nominated(self._options().dispatcher, names, before, reachable, over))

    async def _choose(self, workload: Object, entry: Object, chosen: str, mirror: Mirror) -> None:
        state, text = "Pending" if mirror.keeps_pending else "Ready", f'The workload got reservation on "{chosen}"'
        new = with_verdict(workload, entry["name"], Verdict(state, text), self._parts.clock.wall())
        kept = {name: value for name, value in new["status"].items() if name != "nominatedClusterNames"}
        await write_status(
            self._parts.client, kueue.WORKLOADS, workload, {**new, "status": {**kept, "clusterName": chosen}}
        )
        self._parts.events.event(workload, NORMAL, "MultiKueue", text)

    async def _follow(self, workload: Object, entry: Object, chosen: str, mirror: Mirror) -> float | None:
        """The job runs there; what it comes to is told here."""
        worker = self._workers.get(chosen)
        if worker is None:
            return await self._lost(workload, entry, chosen)
        copy = worker.workload(key(workload))
        finished = copy is not None and status.is_true(copy, "Finished")
        if copy is None or not (finished or status.is_true(copy, "QuotaReserved")):
            await self._say(workload, entry, "Retry", f'The workload lost its reservation on "{chosen}"')
            return None
        if status.is_true(copy, "Evicted") and not finished:
            await self._say(workload, entry, "Retry", f'The workload was evicted on worker cluster "{chosen}"')
            return None
        try:
            again = await mirror.follow(worker, workload, finished)
        except NoReservation as error:
            await self._say(workload, entry, "Retry", f'The workload lost its reservation on "{chosen}": {error}')
            return None
        except NotOurs as error:
            await self._say(workload, entry, "Rejected", f'On worker cluster "{chosen}" {error}')
            return None
        if finished and again is None:
            ended = condition(copy, "Finished") or {}
            new = status.finished(workload, ended["reason"], ended["message"], self._parts.clock.wall())
            await write_status(self._parts.client, kueue.WORKLOADS, workload, new)
            return None
        return _sooner(again, _LOOK_SECONDS)

    async def _lost(self, workload: Object, entry: Object, chosen: str) -> float | None:
        silent = self._workers.silent_seconds(chosen)
        left = self._options().lost_seconds - silent
        if left > 0:
            return min(left, _LOOK_SECONDS) if silent else _WAIT_SECONDS
        await self._say(workload, entry, "Retry", f'Reserving remote lost: worker "{chosen}" does not answer')
        return None

    async def _say(self, workload: Object, entry: Object, state: str, message: str) -> None:
        new = with_verdict(workload, entry["name"], Verdict(state, message), self._parts.clock.wall())
        await write_status(self._parts.client, kueue.WORKLOADS, workload, new)

    # -- what is there no longer for anything

    async def _withdraw(self, name: Key, keep: tuple[str, ...]) -> float | None:
        """Take the copies (and their jobs) of all workers but `keep` away; of those that do not answer, later."""
        again = None
        for worker_name, worker in self._workers.all():
            copy = worker.workload(name)
            if worker_name in keep or copy is None:
                continue
            try:
                await self._take_away(worker, copy)
            except AtollError:
                again = _WAIT_SECONDS
        return again

    async def _take_away(self, worker: Worker, copy: Object) -> None:
        """First what it runs: without the copy nobody would know of it any more."""
        space = copy["metadata"]["namespace"]
        for owner in copy["metadata"].get("ownerReferences") or ():
            mirror = self._mirrors.get((owner["apiVersion"].rpartition("/")[0], owner["kind"]))
            if mirror is not None:
                owned = {"metadata": {"name": owner["name"], "namespace": space, "uid": owner["uid"]}}
                with suppress(Conflict):  # a namesake by now
                    await delete(worker.client, mirror.resource, owned)
        finalizers = copy["metadata"].get("finalizers") or []
        if kueue.FINALIZER in finalizers:
            left = [item for item in finalizers if item != kueue.FINALIZER]
            freed = {**copy, "metadata": {**copy["metadata"], "finalizers": left}}
            with suppress(NotFound):
                copy = await worker.client.update(kueue.WORKLOADS, freed)
        await delete(worker.client, kueue.WORKLOADS, copy)

    async def _sweep(self) -> None:
        """Now and then: what runs on a worker, bound to a Workload that is not meant to run there."""
        for informer in (self._workloads, self._checks):
            await informer.synced.wait()
        while True:
            seconds = self._options().gc_seconds
            await asyncio.sleep(seconds or _LOOK_SECONDS)
            if not seconds or not self._parts.on():
                continue
            for name, worker in self._workers.all():
                for mirror in self._mirrors.values():
                    with suppress(AtollError):
                        await self._sweep_kind(name, worker, mirror.resource)

    async def _sweep_kind(self, worker_name: str, worker: Worker, resource: Resource) -> None:
        found = await worker.client.list(resource, label_selector=worker.mine)
        for obj in found.items:
            bound = labels(obj).get(kueue.PREBUILT_LABEL)
            name = (obj["metadata"]["namespace"], bound or "")
            if not bound or is_deleting(obj) or worker.workload(name) is not None:
                continue  # with its copy, it goes when that goes
            try:
                local = await self._parts.client.get(kueue.WORKLOADS, bound, name[0])
            except NotFound:
                local = {}
            if not local or not _wants(local) or local["status"].get("clusterName") != worker_name:
                await delete(worker.client, resource, obj)


def _owner(workload: Object) -> Object | None:
    listed = workload["metadata"].get("ownerReferences") or ()
    return controller_of(workload) or next(iter(listed), None)


def _no_mirror(workload: Object) -> str:
    owner = _owner(workload)
    of = "" if owner is None else f' for owner kind "{owner["apiVersion"]}, Kind={owner["kind"]}"'
    return f"No multikueue adapter found{of}"


def _sooner(one: float | None, other: float | None) -> float | None:
    given = [seconds for seconds in (one, other) if seconds is not None]
    return min(given) if given else None


def _wants(workload: Object) -> bool:
    return (
        status.is_true(workload, "QuotaReserved")
        and not status.is_true(workload, "Evicted")
        and not status.is_true(workload, "Finished")
        and not is_deleting(workload)
    )
