"""Work → member: server-side apply of what it carries, repair of what drifts, deletion that the member confirms.

One queue and its workers a member, so that a hung one delays nobody else. What is applied is remembered by the
Work's generation and by what the member then says we own (managedFields): a field that anybody takes from us
changes that, and is taken back; fields of others are never looked at.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from atoll.base.errors import AlreadyExists, ApiError, AtollError, Forbidden, NotFound, Unreachable
from atoll.base.names import FIELD_MANAGER
from atoll.client.port import DeleteOptions
from atoll.fleet import names
from atoll.fleet.propagation import manifests
from atoll.fleet.propagation.view import View
from atoll.fleet.registry.members import Member
from atoll.kinds.builtin import NAMESPACES
from atoll.kinds.hub import WORKS
from atoll.kinds.resource import Resource
from atoll.objects.meta import copy
from atoll.runtime.controller import Controller

Object = dict[str, Any]
log = logging.getLogger(__name__)
_WATCHED = ("generation", "deletionTimestamp")


@dataclass(slots=True)
class Outcome:
    """What came of applying a Work, as long as this process lives."""

    generation: int
    applied: bool
    message: str = ""
    reason: str = "AppliedSuccessful"
    owned: dict[tuple[Resource, str | None, str], bytes] = field(default_factory=dict)
    autoscaled: bool = False


class Execution:
    """(cluster, Work) → what its member has. `on_outcome(cluster, work name)` when a status is due."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.on_outcome: list[Callable[[str, str], None]] = []
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        self._controllers: dict[str, Controller[str]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        view.works.add_handler(self._on_work)
        view.clusters.on_change.append(self._on_member)
        view.clusters.informer.add_handler(self._on_cluster)

    async def run(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _on_work(self, old: Object | None, new: Object | None) -> None:
        one = new or old
        assert one is not None
        cluster = names.cluster_of(one["metadata"].get("namespace"))
        if cluster is None:
            return
        name = one["metadata"]["name"]
        if new is None:
            self.outcomes.pop((cluster, name), None)
            return
        meta = new["metadata"]
        if old is not None and all(meta.get(name) == old["metadata"].get(name) for name in _WATCHED):
            return
        self._controller(cluster).queue.add(name)

    def _on_member(self, name: str) -> None:
        """All that waited for the member, and what it may have lost meanwhile, is looked at at once."""
        member = self._view.members.get(name)
        if member is None:
            task = self._tasks.pop(name, None)
            self._controllers.pop(name, None)
            if task is not None:
                task.cancel()
            for key in [key for key in self.outcomes if key[0] == name]:
                del self.outcomes[key]
            return
        if member.ready:
            self._look_at_all(name)

    def _on_cluster(self, old: Object | None, new: Object | None) -> None:
        """A cluster that leaves may be told to leave its copies behind."""
        if new is not None and "deletionTimestamp" in new["metadata"]:
            self._look_at_all(new["metadata"]["name"])

    def _look_at_all(self, name: str) -> None:
        controller = self._controller(name)
        space = names.execution_namespace(name)
        for work in self._view.works:
            if work["metadata"].get("namespace") == space:
                controller.queue.add(work["metadata"]["name"])

    def _controller(self, cluster: str) -> Controller[str]:
        controller = self._controllers.get(cluster)
        if controller is None:

            async def reconcile(name: str) -> float | None:
                return await self._reconcile(cluster, name)

            waits = (self._view.works, self._view.clusters.informer)
            workers = self._view.options.workers
            controller = Controller(f"execution-{cluster}", reconcile, workers=workers, wait_for=waits)
            self._controllers[cluster] = controller
            self._tasks[cluster] = asyncio.get_running_loop().create_task(controller.run())
        return controller

    def observe(self, member: Member, resource: Resource, old: Object | None, new: Object | None) -> None:
        """A managed object in a member changed: drift is repaired, a deletion confirmed."""
        one = new or old
        assert one is not None
        annotations = one["metadata"].get("annotations") or {}
        name = annotations.get(names.WORK_NAME)
        if name is None:
            return
        outcome = self.outcomes.get((member.name, name))
        if outcome is None:
            if new is None or "deletionTimestamp" in one["metadata"]:
                self._controller(member.name).queue.add(name)
            return
        key = (resource, one["metadata"].get("namespace"), one["metadata"]["name"])
        if new is None:
            if member.ready:
                outcome.owned.pop(key, None)
                self._controller(member.name).queue.add(name)
            return
        owned = outcome.owned.get(key)
        if owned is not None and owned != owned_fields(new):
            outcome.owned.pop(key, None)
            self._controller(member.name).queue.add(name)

    async def _reconcile(self, cluster: str, name: str) -> float | None:
        work = self._view.works.get(name, names.execution_namespace(cluster))
        if work is None:
            return None
        member = self._view.members.get(cluster)
        if "deletionTimestamp" in work["metadata"]:
            await self._delete(member, work)
            return None
        if member is None or not member.ready or (work["spec"].get("suspendDispatching")):
            return None
        for manifest in work["spec"]["workload"].get("manifests") or ():
            known = self._view.kinds.known(manifest["apiVersion"], manifest["kind"])
            if known is not None:
                member.watch(known)
        if not member.known:
            return None  # comes again once it is
        outcome = self.outcomes.get((cluster, name))
        generation = int(work["metadata"].get("generation") or 0)
        if (
            outcome is not None
            and outcome.generation == generation
            and outcome.applied
            and self._holds(member, work, outcome)
        ):
            return None
        try:
            outcome = await self._apply(member, work, generation)
        except Unreachable:
            raise
        except AtollError as error:
            outcome = Outcome(generation, False, error.message, "AppliedFailed")
            self._note(cluster, name, outcome)
            raise
        self._note(cluster, name, outcome)
        return None

    def _note(self, cluster: str, name: str, outcome: Outcome) -> None:
        self.outcomes[cluster, name] = outcome
        for handler in self.on_outcome:
            handler(cluster, name)

    def _holds(self, member: Member, work: Object, outcome: Outcome) -> bool:
        """Whether all that was applied is still there as we left it."""
        for manifest in work["spec"]["workload"].get("manifests") or ():
            resource = self._view.kinds.known(manifest["apiVersion"], manifest["kind"])
            metadata = manifest["metadata"]
            if resource is None or (resource, metadata.get("namespace"), metadata["name"]) not in outcome.owned:
                return False
            if _is_autoscaled(member, manifest) != outcome.autoscaled:
                return False
        return True

    async def _apply(self, member: Member, work: Object, generation: int) -> Outcome:
        outcome = Outcome(generation, True, "Manifest has been successfully applied")
        for manifest in work["spec"]["workload"].get("manifests") or ():
            resource = await self._resource(member, manifest)
            member.watch(resource)
            live = await self._apply_one(member, work, manifest, resource, outcome)
            metadata = manifest["metadata"]
            outcome.owned[resource, metadata.get("namespace"), metadata["name"]] = owned_fields(live)
        return outcome

    async def _resource(self, member: Member, manifest: Object) -> Resource:
        """Raises NotFound for a kind that the member does not serve."""
        api_version, kind = manifest["apiVersion"], manifest["kind"]
        known = self._view.kinds.known(api_version, kind)
        if known is None:
            known = await member.call(member.kinds.resource(api_version, kind))
        if known is None:
            raise NotFound(f"cluster {member.name} does not serve {api_version} {kind}")
        return known

    async def _apply_one(
        self, member: Member, work: Object, manifest: Object, resource: Resource, outcome: Outcome
    ) -> Object:
        metadata = manifest["metadata"]
        space, name = metadata.get("namespace"), metadata["name"]
        live = member.managed(resource, name, space)
        if live is None:
            try:
                live = await member.call(member.client.get(resource, name, space))
            except NotFound:
                live = None
            if live is not None and not _is_ours(live, work) and not _may_adopt(work, manifest):
                raise _conflict(member.name, manifest)
        if live is None and _is_namespace(manifest):
            await self._ensure_namespace(member, name)
        if live is not None and "deletionTimestamp" in live["metadata"]:
            raise Unreachable(f"{manifest['kind']} {name} is still being deleted in {member.name}")
        if _is_autoscaled(member, manifest) and live is not None:
            outcome.autoscaled = True
            manifest = _retain_replicas(manifest, live)
        try:
            return await member.call(member.client.apply(resource, manifest, force=True))
        except NotFound as error:
            if space is None or "namespaces" not in error.message:
                raise
        await self._ensure_namespace(member, space)
        return await member.call(member.client.apply(resource, manifest, force=True))

    async def _ensure_namespace(self, member: Member, name: str) -> None:
        """Made with a mark that it is ours; its own Work may come a moment later."""
        on_hub = self._view.namespaces.get(name)
        if on_hub is None or "deletionTimestamp" in on_hub["metadata"]:
            raise NotFound(f"namespace {name} is going, on the hub and in cluster {member.name}")
        space = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "annotations": {names.MADE: "true"}},
        }
        with suppress(AlreadyExists):
            await member.call(member.client.create(NAMESPACES, space))

    async def _delete(self, member: Member | None, work: Object) -> None:
        """The finalizer goes once the member has confirmed, or the copy is to stay."""
        metadata = work["metadata"]
        finalizers = metadata.get("finalizers") or []
        if not finalizers:
            return
        forget = (metadata.get("annotations") or {}).get(names.FORGET) == "true" or self._is_abandoned(metadata)
        if forget or work["spec"].get("preserveResourcesOnDeletion"):
            if member is not None and member.ready:
                await self._release_copies(member, work)
        else:
            if member is None:
                if self._view.clusters.informer.get(names.cluster_of(metadata["namespace"]) or "") is not None:
                    return
            elif not member.ready or not await self._delete_copies(member, work):
                return
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": None}}
        try:
            await self._view.client.patch(WORKS, metadata["name"], patch, metadata["namespace"])
        except NotFound:
            return

    def _is_leaving(self, cluster: str) -> bool:
        found = self._view.clusters.informer.get(cluster)
        return found is not None and "deletionTimestamp" in found["metadata"]

    def _is_abandoned(self, metadata: Object) -> bool:
        """The cluster is leaving, does not answer, and the user leaves behind what is there."""
        name = names.cluster_of(metadata["namespace"]) or ""
        cluster, member = self._view.clusters.informer.get(name), self._view.members.get(name)
        if cluster is None or "deletionTimestamp" not in cluster["metadata"] or (member is not None and member.ready):
            return False
        return str((cluster["metadata"].get("annotations") or {}).get(names.ORPHAN, "")).lower() == "true"

    async def _release_copies(self, member: Member, work: Object) -> None:
        """What stays is nobody's: the marks that say otherwise are taken off."""
        marks = (names.WORK_NAME, names.WORK_NAMESPACE, names.TEMPLATE_GENERATION, names.TEMPLATE_UID)
        patch = {"metadata": {"labels": {names.MANAGED: None}, "annotations": dict.fromkeys(marks)}}
        for manifest in work["spec"]["workload"].get("manifests") or ():
            space, name = manifest["metadata"].get("namespace"), manifest["metadata"]["name"]
            with suppress(ApiError):  # gone, or not allowed: either way it stays as it is
                resource = await self._resource(member, manifest)
                live = member.managed(resource, name, space)
                if live is None:
                    live = await member.call(member.client.get(resource, name, space))
                if _is_ours(live, work):
                    await member.call(member.client.patch(resource, name, patch, space))

    async def _delete_copies(self, member: Member, work: Object) -> bool:
        """Whether all are gone for sure."""
        gone = True
        for manifest in work["spec"]["workload"].get("manifests") or ():
            gone = await self._delete_copy(member, work, manifest) and gone
        return gone

    async def _delete_copy(self, member: Member, work: Object, manifest: Object) -> bool:
        metadata = manifest["metadata"]
        space, name = metadata.get("namespace"), metadata["name"]
        try:
            resource = await self._resource(member, manifest)
            member.watch(resource)
            live = member.managed(resource, name, space)
            if live is None:
                live = await member.call(member.client.get(resource, name, space))
            if not _is_ours(live, work) or (_is_namespace(manifest) and not _is_made_here(live)):
                return True
            if "deletionTimestamp" in live["metadata"]:
                return False
            options = DeleteOptions(propagation="Background", uid=live["metadata"].get("uid"))
            answer = await member.call(member.client.delete(resource, name, space, options=options))
        except NotFound:
            return True
        except Forbidden:
            if self._is_leaving(member.name) or not _was_applied(work):
                return True  # left behind by who may not take it away, or never made for the same reason
            raise
        if answer.get("kind") == "Status":
            return True
        shown = answer.get("metadata") or {}
        return "deletionTimestamp" not in shown and not shown.get("finalizers")


def owned_fields(live: Object) -> bytes:
    """What the member says that we own, as bytes to compare."""
    for entry in live["metadata"].get("managedFields") or ():
        if entry.get("operation") == "Apply" and entry.get("manager") == FIELD_MANAGER and not entry.get("subresource"):
            return orjson.dumps(entry.get("fieldsV1"), option=orjson.OPT_SORT_KEYS)
    return b""


def _was_applied(work: Object) -> bool:
    status = work.get("status") or {}
    applied = any(item["type"] == "Applied" and item["status"] == "True" for item in status.get("conditions") or ())
    return applied or bool(status.get("manifestStatuses"))


def _is_ours(live: Object, work: Object) -> bool:
    """Marked as managed, by this Work."""
    metadata = live["metadata"]
    annotations = metadata.get("annotations") or {}
    here = work["metadata"]["namespace"], work["metadata"]["name"]
    return (annotations.get(names.WORK_NAMESPACE), annotations.get(names.WORK_NAME)) == here


def _is_namespace(manifest: Object) -> bool:
    return bool(manifest["kind"] == "Namespace" and manifest["apiVersion"] == "v1")


def _is_made_here(namespace: Object) -> bool:
    """A namespace that was there before is shared: what else lives in it is not the hub's to delete."""
    return (namespace["metadata"].get("annotations") or {}).get(names.MADE) == "true"


def _may_adopt(work: Object, manifest: Object) -> bool:
    """An object that was there before: taken over if the policy says so. A namespace is shared by nature."""
    if _is_namespace(manifest):
        return True
    return (work["metadata"].get("annotations") or {}).get(names.CONFLICT) == "Overwrite"


def _conflict(cluster: str, manifest: Object) -> ApiError:
    name = f"{manifest['kind']} {manifest['metadata'].get('namespace', '')}/{manifest['metadata']['name']}"
    message = (
        f"{name} exists in cluster {cluster} and is not managed by this hub: it is left alone; "
        "set conflictResolution: Overwrite in the policy to take it over"
    )
    return ApiError(message, code=409, reason="AlreadyExists")


def _is_autoscaled(member: Member, manifest: Object) -> bool:
    interpreter = manifests.interpreter(manifest)
    if not interpreter.replicas_field:
        return False
    metadata = manifest["metadata"]
    if (metadata.get("labels") or {}).get(names.RETAIN_REPLICAS) == "true":
        return True
    return member.autoscaled(manifest["apiVersion"], manifest["kind"], metadata.get("namespace"), metadata["name"])


def _retain_replicas(manifest: Object, live: Object) -> Object:
    """The manifest with the replicas that the member's autoscaler chose."""
    field_name = manifests.interpreter(manifest).replicas_field
    count = (live.get("spec") or {}).get(field_name)
    if count is None:
        return manifest
    out: Object = copy(manifest)
    out["spec"][field_name] = count
    return out
