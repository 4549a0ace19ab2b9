"""Status on its way back: member → Work → binding → template.

Each write says what is so at its time; changes that come close together are told once. What runs in a cluster that
can't be asked is not counted.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from atoll.base.clock import rfc3339
from atoll.base.errors import NotFound
from atoll.fleet import names
from atoll.fleet.continuity import evictions
from atoll.fleet.propagation import manifests
from atoll.fleet.propagation.decide import scheduled_of
from atoll.fleet.propagation.execution import Execution
from atoll.fleet.propagation.interpreters.table import UNKNOWN, Aggregation, Item
from atoll.fleet.propagation.pace import Pace
from atoll.fleet.propagation.view import TemplateKey, View, work_template
from atoll.fleet.registry.members import Member
from atoll.fleet.registry.status import condition
from atoll.kinds.hub import WORKS
from atoll.kinds.resource import Resource
from atoll.runtime.controller import Controller

Object = dict[str, Any]


class Reflection:
    """Two queues: Works by (cluster, name), and templates."""

    def __init__(self, view: View, execution: Execution) -> None:
        self._view = view
        self._execution = execution
        workers = view.options.workers
        self._works: Controller[tuple[str, str]] = Controller(
            "work-status", self._reconcile_work, workers=workers, wait_for=(view.works,)
        )
        self._templates: Controller[TemplateKey] = Controller(
            "binding-status", self._reconcile_template, workers=workers, wait_for=view.wait_for()
        )
        self._work_pace = Pace(view.clock, view.options.batch_seconds)
        self._template_pace = Pace(view.clock, view.options.batch_seconds)
        execution.on_outcome.append(self._later)
        view.works.add_handler(self._on_work)
        for informer in (view.bindings, view.cluster_bindings):
            informer.add_handler(self._on_binding)
        view.on_template.append(self._on_template)
        view.clusters.on_change.append(self._on_member)
        view.on_refused.append(self._templates.queue.add)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._works.run())
            group.create_task(self._templates.run())

    def observe(self, member: Member, resource: Resource, old: Object | None, new: Object | None) -> None:
        """A managed object in a member changed."""
        one = new or old
        assert one is not None
        name = (one["metadata"].get("annotations") or {}).get(names.WORK_NAME)
        if name is not None and (new is None or old is None or _told(old) != _told(new)):
            self._later(member.name, name)

    def _later(self, cluster: str, name: str) -> None:
        key = (cluster, name)
        self._works.queue.add_after(key, self._work_pace.wait(key))

    def _on_work(self, old: Object | None, new: Object | None) -> None:
        one = new or old
        assert one is not None
        if new is not None and is_suspended(new) != _says_suspended(new):
            self._later(names.cluster_of(new["metadata"]["namespace"]) or "", new["metadata"]["name"])
        if old is not None and new is not None and all(_seen(old, part) == _seen(new, part) for part in _REFLECTED):
            return
        key = work_template(one)
        if key is not None and self._view.binding(key) is not None:
            pause = self._template_pace.wait(key)
            going = new is None or "deletionTimestamp" in new["metadata"]
            self._templates.queue.add_after(key, max(pause, _DELETION_SECONDS) if going else pause)

    def _on_binding(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        same = old is not None and old["spec"] == new["spec"]
        if same and old is not None and old["metadata"].get("annotations") == new["metadata"].get("annotations"):
            return
        key = TemplateKey.of_reference(new["spec"]["resource"])
        self._templates.queue.add_after(key, self._template_pace.wait(key))

    def _on_template(self, key: TemplateKey, old: Object | None, new: Object | None) -> None:
        if new is None or self._view.binding(key) is None:
            return
        if old is None or old["metadata"].get("generation") != new["metadata"].get("generation"):
            self._templates.queue.add_after(key, self._template_pace.wait(key))

    def _on_member(self, name: str) -> None:
        """What runs in it is unknown from now on, or known again."""
        for binding in self._view.bindings_in(name):
            self._templates.queue.add(TemplateKey.of_reference(binding["spec"]["resource"]))
        member = self._view.members.get(name)
        if member is not None and member.known:
            space = names.execution_namespace(name)
            for work in self._view.works:
                if work["metadata"].get("namespace") == space:
                    self._later(name, work["metadata"]["name"])

    async def _reconcile_work(self, key: tuple[str, str]) -> float | None:
        cluster, name = key
        work = self._view.works.get(name, names.execution_namespace(cluster))
        member, outcome = self._view.members.get(cluster), self._execution.outcomes.get(key)
        if work is None or member is None or "deletionTimestamp" in work["metadata"]:
            return None
        if is_suspended(work) and (outcome is None or not member.known):
            await self._write_work(
                key, work, _with_dispatching(work, work.get("status") or {}, self._view.clock.wall())
            )
            return None
        if not member.known or outcome is None:
            return None
        for manifest in work["spec"]["workload"].get("manifests") or ():
            resource = self._resource(manifest, member)
            if resource is not None and not member.is_synced(resource):
                return 0.02
        await self._write_work(key, work, self._work_status(work, member))
        return None

    async def _write_work(self, key: tuple[str, str], work: Object, status: Object) -> None:
        if status == (work.get("status") or {}):
            return
        self._work_pace.told(key)
        with suppress(NotFound):
            patch = {"status": status}
            await self._view.client.patch(WORKS, key[1], patch, work["metadata"]["namespace"], subresource="status")

    def _work_status(self, work: Object, member: Member) -> Object:
        outcome = self._execution.outcomes[member.name, work["metadata"]["name"]]
        old = work.get("status") or {}
        now = self._view.clock.wall()
        applied = condition(old.get("conditions"), "Applied", "True" if outcome.applied else "False", outcome.reason,
                            outcome.message[:32000], now)  # fmt: skip
        others = [item for item in old.get("conditions") or () if item["type"] != "Applied"]
        statuses = []
        for ordinal, manifest in enumerate(work["spec"]["workload"].get("manifests") or ()):
            shown = self._manifest_status(manifest, member, ordinal)
            if shown is not None:
                statuses.append(shown)
        status: Object = {"conditions": [applied, *others]}
        if statuses:
            status["manifestStatuses"] = statuses
        elif old.get("manifestStatuses"):
            status["manifestStatuses"] = []
        return _with_dispatching(work, status, now)

    def _resource(self, manifest: Object, member: Member) -> Resource | None:
        found = self._view.kinds.known(manifest["apiVersion"], manifest["kind"])
        return found or member.kinds.known(manifest["apiVersion"], manifest["kind"])

    def _manifest_status(self, manifest: Object, member: Member, ordinal: int) -> Object | None:
        resource = self._resource(manifest, member)
        metadata = manifest["metadata"]
        live = member.managed(resource, metadata["name"], metadata.get("namespace")) if resource is not None else None
        if live is None or resource is None:
            return None
        interpreter = manifests.interpreter(manifest)
        identifier = {"ordinal": ordinal, "version": resource.version, "kind": resource.kind,
                      "resource": resource.plural, "name": metadata["name"]}  # fmt: skip
        if resource.group:
            identifier["group"] = resource.group
        if metadata.get("namespace"):
            identifier["namespace"] = metadata["namespace"]
        out: Object = {"identifier": identifier, "health": interpreter.health(live)}
        reflected = interpreter.reflect(live)
        if reflected:
            out["status"] = reflected
        return out

    async def _reconcile_template(self, key: TemplateKey) -> float | None:
        binding, template = self._view.binding(key), self._view.template(key)
        if binding is None or template is None:
            return None
        self._template_pace.told(key)
        items = self._items(key, binding)
        if "deletionTimestamp" in template["metadata"]:
            left = {name for name, work in self._view.works_of(key).items() if self._still_runs(name, work)}
            items = [item for item in items if item["clusterName"] in left]
        status = binding_status(binding, items, self._view.clock.wall())
        if status != (binding.get("status") or {}):
            resource = self._view.binding_resource(key)
            try:
                await self._view.client.patch(
                    resource, key.binding[1], {"status": status}, key.binding[0], subresource="status"
                )
            except NotFound:
                return None
        await self._write_template_status(key, template, binding, items)
        return None

    def _still_runs(self, cluster: str, work: Object) -> bool:
        """Not while a member that answers takes its copy away."""
        member = self._view.members.get(cluster)
        return "deletionTimestamp" not in work["metadata"] or member is None or not member.ready

    def _items(self, key: TemplateKey, binding: Object) -> list[Object]:
        """spec.clusters with what their Works say: aggregatedStatus."""
        found = []
        works = self._view.works_of(key)
        clusters = [item["name"] for item in binding["spec"].get("clusters") or ()]
        for snapshot in binding["spec"].get("requiredBy") or ():
            clusters += [item["name"] for item in snapshot.get("clusters") or () if item["name"] not in clusters]
        refused = self._view.refused(key)
        for name in sorted(set(clusters)):
            item = aggregated_item(name, works.get(name), self._view.members.get(name))
            if name in refused:
                item |= {"applied": False, "appliedMessage": refused[name]}
            found.append(item)
        return found

    async def _write_template_status(
        self, key: TemplateKey, template: Object, binding: Object, items: list[Object]
    ) -> None:
        interpreter = manifests.interpreter(template)
        given = aggregation(template, binding, items, self._view.members.is_known, rfc3339(self._view.clock.wall()))
        status = interpreter.aggregate(given)
        old = template.get("status") or {}
        if status is None or status == {
            name: value for name, value in old.items() if name in status or name not in _KEPT
        }:
            return
        patch = {**dict.fromkeys(name for name in old if name not in status), **status}
        resource = self._view.resource(key)
        try:
            await self._view.client.patch(resource, key.name, {"status": patch}, key.namespace, subresource="status")
        except NotFound:
            return


def _told(live: Object) -> Any:
    """What of a live object reaches the hub."""
    metadata = live["metadata"]
    generation = (metadata.get("annotations") or {}).get(names.TEMPLATE_GENERATION)
    return live.get("status"), metadata.get("generation"), generation


def is_suspended(work: Object) -> bool:
    """The policy holds back what changes there."""
    return bool(work["spec"].get("suspendDispatching"))


def _says_suspended(work: Object) -> bool:
    conditions = (work.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Dispatching" and one["status"] == "False" for one in conditions)


def _with_dispatching(work: Object, status: Object, now: float) -> Object:
    """The status with the condition Dispatching, where it is or was suspended."""
    before = status.get("conditions") or []
    if not is_suspended(work) and not any(one["type"] == "Dispatching" for one in before):
        return status
    told = ("False", "SuspendDispatching", _SUSPENDED) if is_suspended(work) else (
        "True", "Dispatching", "changes are dispatched to the member")  # fmt: skip
    said = condition(before, "Dispatching", *told, now)
    return {**status, "conditions": [*(one for one in before if one["type"] != "Dispatching"), said]}


def _seen(work: Object, part: str) -> Any:
    return work.get("status") if part == "status" else work["metadata"].get(part)


_REFLECTED = ("status", "deletionTimestamp")
_SUSPENDED = "dispatching is suspended by the policy: nothing is changed in the member"
_DELETION_SECONDS = 0.5  # most deletions are over by then, and need no status
_KEPT: frozenset[str] = frozenset(("collisionCount", "terminatingReplicas"))


def aggregated_item(name: str, work: Object | None, member: Member | None) -> Object:
    """One cluster's entry of aggregatedStatus."""
    item: Object = {"clusterName": name, "applied": False, "health": UNKNOWN}
    if work is None:
        return item
    status = work.get("status") or {}
    applied = next((one for one in status.get("conditions") or () if one["type"] == "Applied"), None)
    item["applied"] = applied is not None and applied["status"] == "True"
    if applied is not None and not item["applied"]:
        item["appliedMessage"] = applied["message"]
    elif applied is None and is_suspended(work):
        item["appliedMessage"] = _SUSPENDED
    shown = (status.get("manifestStatuses") or [None])[0]
    if shown is not None:
        if "status" in shown:
            item["status"] = shown["status"]
        item["health"] = shown.get("health", UNKNOWN)
    if member is None or not member.ready:
        item["health"] = UNKNOWN
        reason = member.reason if member is not None else "it has left the fleet"
        item["appliedMessage"] = f"cluster {name} does not answer: {reason}"
    return item


def aggregation(template: Object, binding: Object, items: list[Object], known: Any, now: str) -> Aggregation:
    """What the template's status is made from."""
    spec = binding["spec"]
    shrinking = evictions.shrinking(spec)
    given = {item["name"]: item.get("replicas") for item in spec.get("clusters") or ()}
    unplaced = int(scheduled_of(binding).get("unplaced") or 0)
    extra = evictions.extra_replicas(spec)

    def may_run(cluster: str) -> int | None:
        """What it was given, and what is kept there till that runs elsewhere."""
        count = given.get(cluster)
        return None if count is None else int(count) + extra.get(cluster, 0)

    found = tuple(
        Item(
            cluster=item["clusterName"],
            status=item.get("status") or {},
            replicas=may_run(item["clusterName"]),
            known=bool(known(item["clusterName"])),
            settled=item["clusterName"] not in shrinking,
        )
        for item in items
    )
    wanted = sum(count or 0 for count in given.values()) + unplaced
    return Aggregation(template, found, wanted, now, moving=bool(evictions.tasks(spec)))


def binding_status(binding: Object, items: list[Object], now: float) -> Object:
    """Conditions Scheduled and FullyApplied, and what each cluster says."""
    old = binding.get("status") or {}
    scheduled = scheduled_of(binding)
    conditions = []
    if scheduled:
        done = scheduled["reason"] == "Success"
        conditions.append(
            condition(old.get("conditions"), "Scheduled", "True" if done else "False", scheduled["reason"],
                      scheduled["message"], now)
        )  # fmt: skip
    total, good = len(items), sum(1 for item in items if item["applied"])
    full = total > 0 and good == total
    reason = "FullyAppliedSuccess" if full else "FullyAppliedFailed"
    message = f"applied in {good} of {total} clusters"
    conditions.append(
        condition(old.get("conditions"), "FullyApplied", "True" if full else "False", reason, message, now)
    )
    status: Object = {"conditions": conditions}
    if items or old.get("aggregatedStatus"):
        status["aggregatedStatus"] = items
    if scheduled:
        generation = binding["metadata"].get("generation") or 0
        status["schedulerObservedGeneration"] = generation
        same = old.get("schedulerObservedGeneration") == generation and old.get("lastScheduledTime")
        status["lastScheduledTime"] = old["lastScheduledTime"] if same else rfc3339(now)
        if scheduled.get("affinity"):
            status["schedulerObservingAffinityName"] = scheduled["affinity"]
    unmanaged = (binding["metadata"].get("annotations") or {}).get(names.UNMANAGED)
    if unmanaged:
        conditions.append(condition(old.get("conditions"), "Managed", "False", "PolicyGone", unmanaged, now))
    return status
