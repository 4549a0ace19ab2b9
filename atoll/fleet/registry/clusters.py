"""The registry's loop: for each Cluster object a member, a monitor, a status, taints, a namespace for its Works, a
ClusterProfile. It says who became known, not ready or lost; what follows is others' work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from atoll.base.clock import Clock
from atoll.base.errors import AlreadyExists, AtollError, NotFound
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.continuity.suspicion import Suspicion
from atoll.fleet.continuity.tolerance import OURS
from atoll.fleet.model import ClusterView, NodeRoom
from atoll.fleet.options import HubOptions
from atoll.fleet.registry import status as views
from atoll.fleet.registry.join import clean_member
from atoll.fleet.registry.members import Member, Members, Observer
from atoll.fleet.registry.monitor import Beat, Monitor, read_enablements, read_version
from atoll.kinds.builtin import NAMESPACES, SECRETS
from atoll.kinds.hub import CLUSTER_PROFILES
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informers

Object = dict[str, Any]
Connect = Callable[[Object, Object | None], Client]
log = logging.getLogger(__name__)
_EXECUTE_AFTER_SECONDS = 1.0  # NoSchedule at once, NoExecute a little later
_SETTLE_SECONDS = 0.2  # after a change of CRDs
_PROFILE_RETRY_SECONDS = 5.0
MANAGER = "atoll"


class Clusters:
    """Name → member. `on_change(name)` is called whenever a member became known, not ready, or left."""

    def __init__(
        self, client: Client, informers: Informers, clock: Clock, options: HubOptions, connect: Connect,
        members: Members, observer: Observer,
    ) -> None:  # fmt: skip
        self._client = client
        self._clock = clock
        self._options = options
        self._connect = connect
        self._members = members
        self._observer = observer
        self._resource = options.cluster_resource
        self.informer = informers.of(self._resource)
        self._secrets = informers.of(SECRETS, namespace=names.CREDENTIALS_NAMESPACE)
        self.suspicion = Suspicion(options.stall_seconds, options.failure_threshold)
        self.on_change: list[Callable[[str], None]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._monitors: dict[str, Monitor] = {}
        self._beats: dict[str, Beat] = {}
        self._identity: dict[str, Any] = {}
        self._facts: dict[str, tuple[str, list[Object]]] = {}  # version and enablements, read on every connection
        self._namespaces: set[str] = set()
        self._views: dict[str, tuple[Object, tuple[NodeRoom, ...] | None, bool, ClusterView]] = {}
        self._profiles: dict[str, Object] = {}  # what each ClusterProfile's status was made to say
        self.works_in: Callable[[str], list[str]] = lambda name: []  # what a cluster still has Works of
        self._leaving: dict[str, str] = {}  # what clusters that are being deleted wait for
        self._disconnects: set[asyncio.Task[None]] = set()
        waits = (self.informer, self._secrets)
        self.controller = Controller("cluster-status", self._reconcile, workers=4, wait_for=waits)
        self.informer.add_handler(lambda old, new: self.controller.queue.add(_name(old, new)))
        self._secrets.add_handler(self._on_secret)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.controller.run())
                group.create_task(self._pulse())
        finally:
            for task in self._tasks.values():
                task.cancel()
            for member in self._members.all():
                await member.disconnect()
                await member.client.close()

    def views(self) -> list[ClusterView]:
        """All clusters as a planner sees them; readiness is the hub's own observation, not the written one."""
        return [self._view(cluster) for cluster in self.informer]

    def _view(self, cluster: Object) -> ClusterView:
        """Kept as long as nothing that it is made of changes: it is asked for with every decision."""
        name = cluster["metadata"]["name"]
        member = self._members.get(name)
        rooms = member.rooms() if member is not None else None
        known = member is not None and member.known
        kept = self._views.get(name)
        if kept is not None and kept[0] is cluster and kept[1] is rooms and kept[2] == known:
            return kept[3]
        view = _with_readiness(ClusterView.of(cluster, rooms), known)
        self._views[name] = (cluster, rooms, known, view)
        return view

    def lost_for(self, name: str) -> float | None:
        """Seconds observed not ready; None while it is ready, or nothing can be concluded."""
        now = self._clock.monotonic()
        if self.suspicion.tick(now, self._clock.wall()):
            self.suspicion.judge(now)
        return self.suspicion.lost_for(name, now)

    async def _pulse(self) -> None:
        """Notices that the hub itself stood still."""
        while True:
            now = self._clock.monotonic()
            if self.suspicion.tick(now, self._clock.wall()):
                log.warning("the hub stood still for a while: what it timed is void")
                for monitor in self._monitors.values():
                    monitor.poke()
            was = self.suspicion.suspect
            if self.suspicion.judge(now) != was:
                log.warning("all clusters vanished at once: the hub is the suspect" if not was else "clusters are back")
                for name in list(self._monitors):
                    self.controller.queue.add(name)
                    self._announce(name)
            await asyncio.sleep(self._options.stall_seconds / 4)

    def _on_secret(self, old: Object | None, new: Object | None) -> None:
        name = _name(old, new)
        for cluster in self.informer:
            reference = (cluster.get("spec") or {}).get("secretRef") or {}
            if reference.get("name") == name:
                self.controller.queue.add(cluster["metadata"]["name"])

    def _announce(self, name: str) -> None:
        for handler in self.on_change:
            handler(name)

    async def _reconcile(self, name: str) -> float | None:
        cluster = self.informer.get(name)
        if cluster is None:
            await self._leave(name)
            return None
        await self._ensure_member(cluster)
        if "deletionTimestamp" in cluster["metadata"]:
            return await self._let_go(cluster)
        await self._ensure_namespace(name)
        return await self._write(cluster)

    async def _ensure_member(self, cluster: Object) -> None:
        """A member with a client for the address and credential that the Cluster names now."""
        name, spec = cluster["metadata"]["name"], cluster.get("spec") or {}
        reference = spec.get("secretRef") or {}
        secret = self._secrets.get(reference["name"], reference.get("namespace")) if reference.get("name") else None
        if reference.get("name") and secret is None:
            return
        keys = ("apiEndpoint", "insecureSkipTLSVerification", "proxyURL", "proxyHeader")
        identity = ([spec.get(key) for key in keys], (secret or {}).get("data"), cluster["metadata"].get("uid"))
        if self._identity.get(name) == identity:
            return
        await self._leave(name)
        client = self._connect(cluster, secret)
        member = Member(name, client, self._options.request_seconds, self._observer)
        member.changed = lambda: self._room_changed(name)
        member.kinds_changed = lambda: self._kinds_changed(name)
        self._members.add(member)
        self._identity[name] = identity
        monitor = Monitor(client, self._clock, self._options, lambda beat: self._beat(member, beat), self._interval)
        self._monitors[name] = monitor
        self._tasks[name] = asyncio.get_running_loop().create_task(monitor.run(), name=f"monitor-{name}")
        self._announce(name)

    async def _leave(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._monitors.pop(name, None)
        self._identity.pop(name, None)
        self._facts.pop(name, None)
        self._views.pop(name, None)
        self.suspicion.forget(name)
        member = self._members.get(name)
        if member is not None:
            self._members.remove(name)
            await member.disconnect()
            await member.client.close()
            self._announce(name)

    def _interval(self) -> float:
        """Between two probes: longer where there are many clusters, so that probing stays cheap."""
        return self._options.heartbeat_seconds * max(1.0, len(self._monitors) / 25)

    def _beat(self, member: Member, beat: Beat) -> bool:
        """One probe's outcome. True when there is nothing to be found out at once."""
        name = member.name
        now = self._clock.monotonic()
        stalled = self.suspicion.tick(now, self._clock.wall())
        overslept = beat.took > self._options.probe_deadline_seconds + self._options.stall_seconds / 2
        if not beat.ok and (stalled or overslept):
            return False
        if beat.timed_out and member.heard_since(beat.began):
            return False  # slow, but alive: its watches speak
        self._beats[name] = beat
        if beat.ok:
            if self.suspicion.answered(name) or not member.ready:
                member.not_ready_since, member.reason = None, ""
                member.connect(lambda: self._known(name))
                self.controller.queue.add(name)
            return True
        fell = self.suspicion.failed(name, beat.began, timed_out=beat.timed_out)
        seen = self.suspicion.clusters[name]
        member.not_ready_since, member.reason = seen.failing_since, beat.message
        if fell or (member.ready and not seen.ready):
            self._disconnect(member)
            self.controller.queue.add(name)
            self.suspicion.judge(now)
            self._announce(name)
        elif not seen.ever:
            self.controller.queue.add(name)
        return not seen.ready

    def _disconnect(self, member: Member) -> None:
        member.ready = member.known = False
        self._facts.pop(member.name, None)
        task = asyncio.get_running_loop().create_task(member.disconnect())
        self._disconnects.add(task)
        task.add_done_callback(self._disconnects.discard)

    def _known(self, name: str) -> None:
        self._announce(name)
        self.controller.queue.add(name)

    def _room_changed(self, name: str) -> None:
        self.controller.queue.add_after(name, self._options.summary_seconds)

    def _kinds_changed(self, name: str) -> None:
        self._facts.pop(name, None)
        self.controller.queue.add_after(name, _SETTLE_SECONDS)

    async def _ensure_namespace(self, name: str) -> None:
        if name in self._namespaces:
            return
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.execution_namespace(name)}}
        with suppress(AlreadyExists):
            await self._client.create(NAMESPACES, space)
        metadata = (self.informer.get(name) or {"metadata": {}})["metadata"]
        finalizers = metadata.get("finalizers") or []
        if names.FINALIZER not in finalizers and "deletionTimestamp" not in metadata:
            with suppress(NotFound):
                patch = {"metadata": {"resourceVersion": metadata["resourceVersion"],
                                      "finalizers": [*finalizers, names.FINALIZER]}}  # fmt: skip
                await self._client.patch(self._resource, name, patch)
        self._namespaces.add(name)

    async def _let_go(self, cluster: Object) -> float | None:
        """What runs there is moved and taken away; then the accounts go, on both sides, and the Cluster itself."""
        metadata = cluster["metadata"]
        name, finalizers = metadata["name"], metadata.get("finalizers") or []
        if names.FINALIZER not in finalizers:
            return None
        orphan = (metadata.get("annotations") or {}).get(names.ORPHAN, "").lower() == "true"
        left = self.works_in(name)
        if left:
            member = self._members.get(name)
            waits = (
                "" if member is not None and member.ready else ": it does not answer; atoll unjoin --force leaves it"
            )
            listed = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
            message = f"what the fleet runs there is moved and taken away, {listed} till replaced elsewhere{waits}"
            await self._say_leaving(cluster, message)
            return 0.5
        member = self._members.get(name)
        if member is not None and member.ready:
            with suppress(AtollError):
                await member.call(clean_member(member.client))
        elif not orphan:
            await self._say_leaving(cluster, "it does not answer: atoll unjoin --force leaves its account behind")
            return 2.0
        reference = (cluster.get("spec") or {}).get("secretRef") or {}
        for resource, one, space in (
            (SECRETS, reference.get("name"), reference.get("namespace")),
            (CLUSTER_PROFILES, name, names.SYSTEM_NAMESPACE),
            (NAMESPACES, names.execution_namespace(name), None),
        ):
            with suppress(NotFound):
                if one:
                    await self._client.delete(resource, one, space)
        self._namespaces.discard(name)
        self._profiles.pop(name, None)
        self._leaving.pop(name, None)
        rest = [item for item in finalizers if item != names.FINALIZER]
        with suppress(NotFound):
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": rest or None}}
            await self._client.patch(self._resource, name, patch)
        return None

    async def _say_leaving(self, cluster: Object, message: str) -> None:
        """With the rest of its status, where anything is known of it."""
        self._leaving[cluster["metadata"]["name"]] = message
        if cluster["metadata"]["name"] in self._beats:
            await self._write(cluster)
            return
        old = (cluster.get("status") or {}).get("conditions") or []
        said = views.condition(old, "Leaving", "True", "Unjoined", message, self._clock.wall())
        conditions = [*(item for item in old if item["type"] != "Leaving"), said]
        if conditions != old:
            name = cluster["metadata"]["name"]
            await self._client.patch(self._resource, name, {"status": {"conditions": conditions}}, subresource="status")

    async def _write(self, cluster: Object) -> float | None:
        """Status, then taints, then the profile; each only where it differs."""
        name = cluster["metadata"]["name"]
        member, seen = self._members.get(name), self.suspicion.clusters.get(name)
        if member is None or name not in self._beats or seen is None:
            return None
        ready: bool | None = member.ready
        if not member.ready and self.suspicion.suspect:
            ready = None
        status = await self._status(cluster, member, ready)
        if status != (cluster.get("status") or {}):
            await self._client.patch(
                self._resource, name, {"status": _replacing(cluster, status)}, subresource="status"
            )
        shown = views.profile_status({**cluster, "status": status})
        retry = None
        if self._profiles.get(name) != shown:
            retry = await self._write_profile(cluster, shown)
        return await self._write_taints(cluster, member, ready) or retry

    async def _status(self, cluster: Object, member: Member, ready: bool | None) -> Object:
        beat = self._beats[member.name]
        old = cluster.get("status") or {}
        status = {key: old[key] for key in ("kubernetesVersion", "apiEnablements", "nodeSummary", "resourceSummary",
                                            "remedyActions") if key in old}  # fmt: skip
        others = [item for item in old.get("conditions") or () if item["type"] not in ("Ready", "Leaving")]
        if member.name in self._leaving:
            told, wall = self._leaving[member.name], self._clock.wall()
            others.append(views.condition(old.get("conditions"), "Leaving", "True", "Unjoined", told, wall))
        message = "no cluster answers: the hub may be cut off" if ready is None else beat.message
        ready_now = views.ready_condition(cluster, ready, message, beat.took, self._clock.wall())
        status["conditions"] = [ready_now, *others]
        if not member.ready:
            return status
        if member.name not in self._facts:
            try:
                version = await member.call(read_version(member.client))
                enabled = await member.call(read_enablements(member.client))
                self._facts[member.name] = (version, enabled)
            except AtollError as error:
                log.info("cluster %s: %s", member.name, error)
        if member.name in self._facts:
            status["kubernetesVersion"], status["apiEnablements"] = self._facts[member.name]
        summaries = member.summaries()
        if summaries is not None:
            status["nodeSummary"], status["resourceSummary"] = summaries
        return status

    async def _write_taints(self, cluster: Object, member: Member, ready: bool | None) -> float | None:
        if ready is None:
            return None
        since = member.not_ready_since
        elapsed = 0.0 if since is None else self._clock.monotonic() - since
        taints = views.taints_for(cluster, ready, elapsed >= _EXECUTE_AFTER_SECONDS, self._clock.wall())
        if taints != ((cluster.get("spec") or {}).get("taints") or []):
            change = {
                "metadata": {"resourceVersion": cluster["metadata"]["resourceVersion"]},
                "spec": {"taints": taints},
            }
            try:
                await self._client.patch(self._resource, member.name, change)
            except NotFound:
                return None
        if not ready and elapsed < _EXECUTE_AFTER_SECONDS:
            return _EXECUTE_AFTER_SECONDS - elapsed + 0.01
        return None

    async def _write_profile(self, cluster: Object, shown: Object) -> float | None:
        """Seconds until it should be tried again, if it did not work."""
        name = cluster["metadata"]["name"]
        wanted = views.profile(cluster, names.SYSTEM_NAMESPACE, MANAGER)
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names.SYSTEM_NAMESPACE}}
        try:
            if not self._profiles:
                with suppress(AlreadyExists):
                    await self._client.create(NAMESPACES, space)
            await self._client.apply(CLUSTER_PROFILES, wanted)
            if shown:
                await self._client.apply(CLUSTER_PROFILES, {**wanted, "status": shown}, subresource="status")
        except AtollError as error:
            log.info("ClusterProfile %s: %s", name, error)
            return _PROFILE_RETRY_SECONDS
        self._profiles[name] = shown
        return None


def _name(old: Object | None, new: Object | None) -> str:
    return str((new or old or {})["metadata"]["name"])


def _replacing(cluster: Object, status: Object) -> Object:
    """A merge patch of the status: maps replaced whole, so that a resource that is gone goes."""
    old = cluster.get("status") or {}
    out = dict(status)
    before, after = old.get("resourceSummary") or {}, status.get("resourceSummary")
    if after:
        out["resourceSummary"] = {
            part: {**dict.fromkeys(before.get(part) or {}), **(after.get(part) or {})} for part in after
        }
    return out


def _with_readiness(view: ClusterView, ready: bool) -> ClusterView:
    """The view with the hub's own observation: readiness and the taints for it lag behind in the object.

    Ready is a cluster that answers, once what runs there has been read since.
    """
    taints = tuple(item for item in view.taints if item["key"] not in OURS) if ready else view.taints
    if view.ready == ready and len(taints) == len(view.taints):
        return view
    return replace(view, ready=ready, taints=taints)
