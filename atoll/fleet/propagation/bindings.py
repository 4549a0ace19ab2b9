"""Template and policy → ResourceBinding, scheduled in the same step; and the way of a template out of the fleet.

A template that is propagated carries our finalizer: it stays visible as deleting till every member has confirmed,
with the reason in an annotation. A template that vanished without that is doubt, and makes nothing be deleted.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import orjson

from atoll.base.errors import AlreadyExists, NotFound
from atoll.fleet import names
from atoll.fleet.continuity import evictions
from atoll.fleet.propagation import policy
from atoll.fleet.propagation.decide import SCHEDULED, Decision, Situation, decide, same_spec, scheduled_of
from atoll.fleet.propagation.dependencies import Dependencies
from atoll.fleet.propagation.interpreters.pods import requirements
from atoll.fleet.propagation.interpreters.table import pod_spec
from atoll.fleet.propagation.placement import strategy
from atoll.fleet.propagation.reservations import reserved
from atoll.fleet.propagation.selectors import NO_MATCH, best_precision
from atoll.fleet.propagation.view import TemplateKey, View, work_template
from atoll.fleet.propagation.wanted import WantedKinds
from atoll.kinds.builtin import SECRETS
from atoll.kinds.hub import WORKS
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING

Object = dict[str, Any]
log = logging.getLogger(__name__)
_SKIPPED = {
    ("v1", "ConfigMap", "kube-root-ca.crt"),
    ("v1", "ServiceAccount", "default"),
    ("v1", "Service", "kubernetes"),
}
_BY_ROOM = ("dynamic", "aggregated")
_WATCHED = ("generation", "labels", "annotations", "deletionTimestamp", "finalizers", "uid")


class Bindings:
    """Keys are templates."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._wanted = WantedKinds(view)
        self._dependencies = Dependencies(view, self._wanted)
        self._gone: dict[str, set[str]] = {}  # uid of a template being deleted → clusters certainly without its Work
        options = view.options
        self.controller: Controller[TemplateKey] = Controller(
            "bindings", self._reconcile, workers=options.workers, wait_for=view.wait_for()
        )
        self._queue = self.controller.queue
        view.on_template.append(self._on_template)
        for informer in view.policies:
            informer.add_handler(self._on_policy)
        for informer in (view.bindings, view.cluster_bindings):
            informer.add_handler(self._on_binding)
        view.overrides[0].add_handler(self._on_override)
        view.works.add_handler(self._on_work)
        view.clusters.informer.add_handler(self._on_cluster)
        view.clusters.on_change.append(self._on_member)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.run())
            group.create_task(self._wanted.run())

    # What wakes a template up.

    def _on_template(self, key: TemplateKey, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            before, after = old["metadata"], new["metadata"]
            if "generation" in after and all(before.get(field) == after.get(field) for field in _WATCHED):
                return  # only its status changed
        self._queue.add(key)

    def _on_policy(self, old: Object | None, new: Object | None) -> None:
        if (
            old is not None
            and new is not None
            and old["spec"] == new["spec"]
            and _annotations(old) == _annotations(new)
        ):
            return
        for one in (old, new):
            if one is not None:
                self._wake_selected(one)

    def _wake_selected(self, one: Object) -> None:
        space = one["metadata"].get("namespace")
        for selector in one["spec"].get("resourceSelectors") or ():
            informer = self._view.template_informer(selector["apiVersion"], selector["kind"])
            if informer is None:
                self._wanted.add(selector["apiVersion"], selector["kind"])
                continue
            where, name = selector.get("namespace") or space, selector.get("name")
            if name and (where or not informer.resource.namespaced):
                self._queue.add(TemplateKey(selector["apiVersion"], selector["kind"], where, name))
                continue
            for template in informer:
                if best_precision([selector], template, space) != NO_MATCH:
                    self._queue.add(TemplateKey.of(template))

    def _on_override(self, old: Object | None, new: Object | None) -> None:
        """A policy may wait for its dependentOverrides."""
        if old is None and new is not None:
            for waiting in self._view.policies[0]:
                if new["metadata"]["name"] in (waiting["spec"].get("dependentOverrides") or ()):
                    self._wake_selected(waiting)

    def _on_binding(self, old: Object | None, new: Object | None) -> None:
        """A changed target list concerns dependencies; a status may end an eviction; a binding gone is made again."""
        one = new or old
        assert one is not None
        key = TemplateKey.of_reference(one["spec"]["resource"])
        if new is None:
            self._dependencies.binding_gone(key)
        moved = old is None or new is None or old["spec"] != new["spec"]
        unneeded = "placement" not in one["spec"] and not one["spec"].get("requiredBy")
        edited = moved and new is not None and old is not None and not self._view.is_own_decision(key, new)
        if new is None or unneeded or edited or (evictions.tasks(one["spec"]) and not moved):
            self._queue.add(key)
        if moved:
            for reference in self._dependencies.needed_by(key):
                self._queue.add(reference)
        self._wanted.add(key.api_version, key.kind)

    def _on_work(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            key = work_template(old)
            if key is not None:
                self._queue.add(key)

    def _on_cluster(self, old: Object | None, new: Object | None) -> None:
        """Labels, taints and places of clusters, and clusters that come and go, concern every policy."""
        if old is not None and new is not None:
            fields = ("labels", "deletionTimestamp")
            same = all(old["metadata"].get(field) == new["metadata"].get(field) for field in fields)
            same = same and old["spec"] == new["spec"]
            enabled = (old.get("status") or {}).get("apiEnablements") == (new.get("status") or {}).get("apiEnablements")
            if same and enabled:
                if (old.get("status") or {}).get("resourceSummary") != (new.get("status") or {}).get("resourceSummary"):
                    self._wake_unplaced()
                return
        self._wake_all()

    def _on_member(self, name: str) -> None:
        self._wake_all()

    def _wake_all(self) -> None:
        for binding in self._view.all_bindings():
            self._queue.add(TemplateKey.of_reference(binding["spec"]["resource"]))

    def _wake_unplaced(self) -> None:
        for binding in self._view.all_bindings():
            if scheduled_of(binding).get("unplaced"):
                self._queue.add(TemplateKey.of_reference(binding["spec"]["resource"]))

    # One template.

    async def _reconcile(self, key: TemplateKey) -> float | None:
        template = self._view.template(key)
        if template is None:
            if self._view.binding(key) is None:  # else it is not known yet, or vanished: that is doubt
                self._dependencies.forget(key)
            self._view.forget(key)
            return None
        if "deletionTimestamp" in template["metadata"]:
            self._dependencies.forget(key)
            await self._delete(key, template)
            return None
        if _is_skipped(key, template):
            return None
        match = policy.select(template, self._view.candidates(self._view.policies, template))
        if match is not None and self._missing_overrides(match):
            return None
        binding = self._view.binding(key)
        required_by = self._dependencies.required_by(key, binding)
        if match is None and not required_by:
            await self._release(key, template, binding)
            return None
        template = await self._claim(key, template, match)
        decision = decide(template, match, required_by, binding, self._situation(key, template, match, binding))
        generation = await self._write(key, template, binding, decision, match)
        if generation is not None:
            self._view.decided(key, generation)
        for changed in await self._dependencies.update(key, template, decision.spec):
            self._queue.add(changed)
        return decision.again_seconds

    def _missing_overrides(self, match: policy.Match) -> bool:
        wanted = match.policy["spec"].get("dependentOverrides") or ()
        space = match.policy["metadata"].get("namespace")
        return any(self._view.overrides[0].get(name, space) is None for name in wanted)

    def _situation(
        self, key: TemplateKey, template: Object, match: policy.Match | None, binding: Object | None
    ) -> Situation:
        view = self._view
        counted = match is not None and strategy(match.policy["spec"].get("placement") or {}) in _BY_ROOM
        lost: dict[str, float] = {}
        for member in view.members.all():
            if not member.ready:
                seconds = view.clusters.lost_for(member.name)
                if seconds is not None:
                    lost[member.name] = seconds
        tasks = binding is not None and bool(evictions.tasks(binding["spec"]))
        return Situation(
            clusters=view.clusters.views(),
            lost_for=lost,
            present=frozenset(view.works_of(key)),
            replaced=tasks and binding is not None and evictions.replaced(binding, view.members.is_known),
            failover_seconds=view.options.failover_seconds,
            wall=view.clock.wall(),
            counts=evictions.reported(binding) if tasks else {},
            reserved=reserved(view, requirements(pod_spec(template))) if counted else {},
        )

    async def _claim(self, key: TemplateKey, template: Object, match: policy.Match | None) -> Object:
        """The finalizer and who governs it, before any copy exists. Returns the template as it is then."""
        metadata = template["metadata"]
        have = metadata.get("annotations") or {}
        wanted: dict[str, str | None] = dict(match.claim()) if match is not None else dict.fromkeys(names.CLAIMS)
        wanted[names.UNMANAGED] = None
        changed = {name: value for name, value in wanted.items() if have.get(name) != value}
        finalizers = metadata.get("finalizers") or []
        if not changed and names.FINALIZER in finalizers:
            return template
        patch: Object = {"resourceVersion": metadata["resourceVersion"]}
        if changed:
            patch["annotations"] = changed
        if names.FINALIZER not in finalizers:
            patch["finalizers"] = [*finalizers, names.FINALIZER]
        return await self._patch(key, patch)

    async def _patch(self, key: TemplateKey, metadata: Object) -> Object:
        return await self._view.client.patch(self._view.resource(key), key.name, {"metadata": metadata}, key.namespace)

    async def _write(
        self, key: TemplateKey, template: Object, binding: Object | None, decision: Decision, match: policy.Match | None
    ) -> int | None:
        """The binding's generation as it is then; None where another pass must write it."""
        space, name = key.binding
        resource = self._view.binding_resource(key)
        annotations = {SCHEDULED: orjson.dumps(decision.scheduled).decode()} if decision.scheduled else {}
        annotations |= {
            names.TEMPLATE_GENERATION: str(template["metadata"].get("generation") or 0),
            **({item: value for item, value in match.claim().items() if value} if match is not None else {}),
        }
        if binding is None:
            metadata: Object = {"name": name, "annotations": annotations}
            if space:
                metadata["namespace"] = space
            made = {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata,
                    "spec": decision.spec}  # fmt: skip
            try:
                written = await self._view.client.create(resource, made)
            except AlreadyExists:
                self._queue.add_after(key, 0.05)  # our own view is behind
                return None
        else:
            old = binding["metadata"].get("annotations") or {}
            kept = {item: value for item, value in old.items() if item not in _OURS}
            if same_spec(binding["spec"], decision.spec) and old == kept | annotations:
                return int(binding["metadata"].get("generation") or 0)
            metadata = {**binding["metadata"], "annotations": kept | annotations}
            metadata.pop("managedFields", None)
            changed = {**binding, "metadata": metadata, "spec": decision.spec}
            written = await self._view.client.update(resource, changed)
        self._tell(template, binding, decision)
        return int(written["metadata"].get("generation") or 0)

    def _tell(self, template: Object, binding: Object | None, decision: Decision) -> None:
        """An event where the decision is a different one."""
        before, now = scheduled_of(binding), decision.scheduled
        if not now or (before.get("reason"), before.get("message")) == (now["reason"], now["message"]):
            return
        if now["reason"] == "Success":
            if before:
                self._view.recorder.event(template, NORMAL, "ScheduleBindingSucceed", now["message"])
        else:
            self._view.recorder.event(template, WARNING, "ScheduleBindingFailed", now["message"])

    async def _release(self, key: TemplateKey, template: Object, binding: Object | None) -> None:
        """No policy selects it. What it has in members stays, and it says that nothing manages that."""
        annotations = template["metadata"].get("annotations") or {}
        governor = policy.claimed_by(template)
        if governor:
            clusters = ", ".join(item["name"] for item in ((binding or {}).get("spec") or {}).get("clusters") or ())
            change: dict[str, str | None] = dict.fromkeys(name for name in names.CLAIMS if name in annotations)
            if clusters:
                change[names.UNMANAGED] = (
                    f"{governor} no longer selects it: nothing manages the copies in {clusters}; they are kept"
                )
            await self._patch(key, {"resourceVersion": template["metadata"]["resourceVersion"], "annotations": change})
            if binding is not None:
                message = change.get(names.UNMANAGED) or ""
                await self._view.client.patch(
                    self._view.binding_resource(key), key.binding[1],
                    {"metadata": {"annotations": {names.UNMANAGED: message, **dict.fromkeys(names.CLAIMS)}}},
                    key.binding[0],
                )  # fmt: skip
                self._view.recorder.event(template, WARNING, "Unmanaged", message)
            return
        if binding is not None and binding["spec"].get("requiredBy") and "placement" not in binding["spec"]:
            await self._drop_dependency(key, binding)
        elif binding is not None and names.UNMANAGED not in annotations and "placement" not in binding["spec"]:
            await self._finish_dependency(key, template)

    async def _drop_dependency(self, key: TemplateKey, binding: Object) -> None:
        """Nobody requires it any more: its copies go, within the budget."""
        spec = {name: value for name, value in binding["spec"].items() if name not in ("requiredBy", "clusters")}
        await self._view.client.update(self._view.binding_resource(key), {**binding, "spec": spec})

    async def _finish_dependency(self, key: TemplateKey, template: Object) -> None:
        if self._view.works_of(key):
            return
        await self._forget(key, template)

    async def _forget(self, key: TemplateKey, template: Object) -> None:
        """The binding and the finalizer: the template is the hub's own again."""
        if self._view.binding(key) is not None:
            with suppress(NotFound):
                await self._view.client.delete(self._view.binding_resource(key), key.binding[1], key.binding[0])
        metadata = template["metadata"]
        if names.FINALIZER in (metadata.get("finalizers") or ()):
            left = [item for item in metadata["finalizers"] if item != names.FINALIZER]
            await self._patch(key, {"resourceVersion": metadata["resourceVersion"], "finalizers": left})

    # Deletion.

    async def _delete(self, key: TemplateKey, template: Object) -> None:
        """Its Works first; when members have confirmed all of them the binding, and the template itself."""
        metadata = template["metadata"]
        if names.FINALIZER not in (metadata.get("finalizers") or ()):
            return
        view = self._view
        works = view.works_of(key)
        orphaned = _orphaned(metadata, set(works))
        cascade = self._is_cascade(key)
        left: dict[str, str] = {}
        binding = view.binding(key)
        if binding is None and not works:
            try:
                binding = await view.client.get(view.binding_resource(key), key.binding[1], key.binding[0])
            except NotFound:
                binding = None
        gone = self._gone.setdefault(metadata["uid"], set())
        expected = (_clusters_of(binding) - gone) | set(works)
        results = await asyncio.gather(
            *(self._delete_work(key, name, works.get(name), name in orphaned, cascade) for name in sorted(expected))
        )
        left = {name: why for name, why in zip(sorted(expected), results, strict=True) if why}
        gone |= expected  # deleted, or still in sight in the cache
        if left:
            await self._say_what_is_left(key, template, left)
            return
        with suppress(NotFound):
            await self._forget(key, template)
        self._gone.pop(metadata["uid"], None)

    def _is_cascade(self, key: TemplateKey) -> bool:
        space = self._view.namespaces.get(key.namespace) if key.namespace else None
        return space is not None and "deletionTimestamp" in space["metadata"]

    async def _delete_work(
        self, key: TemplateKey, cluster: str, work: Object | None, orphan: bool, cascade: bool
    ) -> str:
        """ "" once there is none; else what it waits for."""
        view = self._view
        space = names.execution_namespace(cluster)
        try:
            if work is not None and orphan and work["metadata"].get("finalizers"):
                patch = {"metadata": {"finalizers": None, "annotations": {names.FORGET: "true"}}}
                await view.client.patch(WORKS, key.work, patch, space)
            if work is None or "deletionTimestamp" not in work["metadata"]:
                what = f"{cluster}/{key}"
                if cascade and not orphan and not view.budget.take(key.kind, what, "the cascade of a namespace"):
                    return f"{cluster}: held by the destruction budget; see kubectl get destructionbudgets -o yaml"
                await view.client.delete(WORKS, key.work, space)
            elif orphan:
                return ""
        except NotFound:
            return ""
        if work is None:
            return ""
        member = view.members.get(cluster)
        if member is None or not member.ready:
            reason = member.reason if member is not None else "has left the fleet"
            return f"{cluster} does not answer ({reason})"
        return f"{cluster} has not confirmed yet"

    async def _say_what_is_left(self, key: TemplateKey, template: Object, left: dict[str, str]) -> None:
        """Only what lasts is written down: members that can't be asked, and what the budget holds."""
        lasting = [why for why in left.values() if "not confirmed yet" not in why]
        if not lasting:
            return
        names_left = ",".join(name for name, why in left.items() if "not confirmed yet" not in why)
        text = f"waiting: {'; '.join(lasting)}. To leave the copies behind, annotate {names.ORPHAN}={names_left}"
        if (template["metadata"].get("annotations") or {}).get(names.DELETING) != text:
            note = {"annotations": {names.DELETING: text}}
            await self._patch(key, note)
            with suppress(NotFound):
                resource, (space, name) = self._view.binding_resource(key), key.binding
                await self._view.client.patch(resource, name, {"metadata": note}, space)
            self._view.recorder.event(template, WARNING, "DeletionWaits", text)


_OURS = frozenset((SCHEDULED, names.TEMPLATE_GENERATION, names.UNMANAGED, *names.CLAIMS))


def _annotations(obj: Object) -> Object:
    return obj["metadata"].get("annotations") or {}


def _clusters_of(binding: Object | None) -> set[str]:
    if binding is None:
        return set()
    spec = binding["spec"]
    found = {item["name"] for item in spec.get("clusters") or ()}
    found |= {one["fromCluster"] for one in evictions.tasks(spec)}
    for snapshot in spec.get("requiredBy") or ():
        found |= {item["name"] for item in snapshot.get("clusters") or ()}
    return found


def _orphaned(metadata: Object, clusters: set[str]) -> set[str]:
    """Clusters in which the user leaves the copies behind."""
    text = (metadata.get("annotations") or {}).get(names.ORPHAN, "")
    if text.strip().lower() in ("true", "all", "*"):
        return clusters
    return {part.strip() for part in text.split(",") if part.strip()}


def _is_skipped(key: TemplateKey, template: Object) -> bool:
    """Objects that every cluster makes for itself."""
    if (key.api_version, key.kind, key.name) in _SKIPPED:
        return True
    return key.kind == SECRETS.kind and template.get("type") == "kubernetes.io/service-account-token"
