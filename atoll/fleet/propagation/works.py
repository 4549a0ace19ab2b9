"""ResourceBinding → one Work per cluster: the template pruned, divided, overridden and marked.

A Work that the binding no longer means goes when what is there may go: a cluster that is left only once its
replacement is Ready, anything else within the destruction budget.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from atoll.base.errors import AlreadyExists, NotFound, UserError
from atoll.fleet import names
from atoll.fleet.continuity import evictions
from atoll.fleet.model import ClusterView
from atoll.fleet.propagation import manifests, overrides
from atoll.fleet.propagation.interpreters.batch import is_finished
from atoll.fleet.propagation.placement import strategy
from atoll.fleet.propagation.view import TemplateKey, View, work_template
from atoll.kinds.hub import WORKS
from atoll.runtime.controller import Controller
from atoll.runtime.events import WARNING

Object = dict[str, Any]
log = logging.getLogger(__name__)
WORK_FINALIZER = "karmada.io/execution-controller"


@dataclass(frozen=True, slots=True)
class _Part:
    """One cluster's part of a binding."""

    cluster: ClusterView
    replicas: int | None
    completions: int | None
    have: Object | None


class Works:
    """Keys are templates: each has one binding."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.controller: Controller[TemplateKey] = Controller(
            "works", self._reconcile, workers=view.options.workers, wait_for=view.wait_for()
        )
        self._queue = self.controller.queue
        self._pruned: dict[TemplateKey, tuple[str, Object]] = {}
        for informer in (view.bindings, view.cluster_bindings):
            informer.add_handler(self._on_binding)
        view.on_template.append(self._on_template)
        for informer in view.overrides:
            informer.add_handler(self._on_override)
        view.works.add_handler(self._on_work)
        view.clusters.informer.add_handler(self._on_cluster)
        view.on_decided.append(self._on_decided)

    async def run(self) -> None:
        await self.controller.run()

    def _on_binding(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        same = old is not None and old["spec"] == new["spec"] and _unmanaged(old) == _unmanaged(new)
        if not same or evictions.tasks(new["spec"]):
            self._queue.add(TemplateKey.of_reference(new["spec"]["resource"]))

    def _on_template(self, key: TemplateKey, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._pruned.pop(key, None)
            return
        if old is not None and "generation" in new["metadata"]:
            fields = ("generation", "labels", "annotations")
            if all(old["metadata"].get(field) == new["metadata"].get(field) for field in fields):
                return
        if self._view.binding(key) is not None:
            self._queue.add(key)

    def _on_override(self, old: Object | None, new: Object | None) -> None:
        for one in (old, new):
            if one is None:
                continue
            for binding in self._view.all_bindings():
                key = TemplateKey.of_reference(binding["spec"]["resource"])
                template = self._view.template(key)
                if template is None or overrides.matching(template, [one]):
                    self._queue.add(key)

    def _on_work(self, old: Object | None, new: Object | None) -> None:
        """Somebody changed or deleted a Work."""
        one = new or old
        assert one is not None
        if old is not None and new is not None and old["spec"] == new["spec"]:
            return
        if old is None:
            return
        key = work_template(one)
        if key is not None and key.kind != "Namespace":
            self._queue.add(key)

    def _on_cluster(self, old: Object | None, new: Object | None) -> None:
        """Overrides look at labels and places of a cluster; a cluster that left takes its Works along."""
        if old is not None and new is not None:
            fields = ("labels", "deletionTimestamp")
            same = all(old["metadata"].get(field) == new["metadata"].get(field) for field in fields)
            if same and _places(old) == _places(new):
                return
        one = new or old
        assert one is not None
        for binding in self._view.bindings_in(one["metadata"]["name"]):
            self._queue.add(TemplateKey.of_reference(binding["spec"]["resource"]))

    def _on_decided(self, key: TemplateKey) -> None:
        """What is to go waits for its cluster to be known, and for a decision made since."""
        binding = self._view.binding(key)
        if binding is not None and evictions.tasks(binding["spec"]):
            self._queue.add(key)

    async def _reconcile(self, key: TemplateKey) -> float | None:
        view = self._view
        binding, template = view.binding(key), view.template(key)
        if binding is None or template is None or "deletionTimestamp" in template["metadata"]:
            return None
        if _unmanaged(binding):
            return None
        have = view.works_of(key)
        shares, extra = targets(binding)
        clusters = {one.name: one for one in view.clusters.views()}
        wanted = {name: share for name, share in shares.items() if name in clusters}
        pruned = self._prune(key, template)
        policies = overrides.matching(template, view.candidates(view.overrides, template))
        completions = manifests.divide_completions(template, shares) if _is_divided(binding) else {}
        jobs = []
        settled = have.keys() if key.kind == "Job" and is_finished(template) else ()  # nothing of it may change
        for name, share in wanted.items():
            if name in settled:
                continue
            count = None if share is None else share + extra.get(name, 0)
            part = _Part(clusters[name], count, completions.get(name), have.get(name))
            jobs.append(self._ensure(key, template, binding, pruned, policies, part))
        await asyncio.gather(*jobs)
        waits = []
        for name in sorted(have.keys() - wanted.keys()):
            waits.append(await self._remove(key, binding, name, have[name], name in clusters))
        for name in clusters:
            if name in wanted or name not in have:  # it stays, or is gone
                view.budget.withdraw(key.kind, f"{name}/{key}")
        await self._undo_if_deleted(key, wanted)
        return min((wait for wait in waits if wait is not None), default=None)

    def _prune(self, key: TemplateKey, template: Object) -> Object:
        """The pruned template, kept while the template is the same."""
        version = template["metadata"].get("resourceVersion", "")
        kept = self._pruned.get(key)
        if kept is None or kept[0] != version:
            kept = self._pruned[key] = (version, manifests.prune(template))
        return kept[1]

    async def _ensure(
        self, key: TemplateKey, template: Object, binding: Object, pruned: Object, policies: list[Object], part: _Part
    ) -> None:
        cluster = part.cluster
        space = names.execution_namespace(cluster.name)
        try:
            manifest, _ = manifests.manifest_for(
                pruned, cluster, policies, replicas=part.replicas, completions=part.completions
            )
        except UserError as error:
            self._view.recorder.event(template, WARNING, "ApplyOverridePolicyFailed", error.message)
            log.info("%s for %s: %s", key, cluster.name, error.message)
            self._view.refuse(key, cluster.name, error.message)
            return
        self._view.refuse(key, cluster.name, "")
        manifest = manifests.marked(
            manifest, work=key.work, work_namespace=space,
            generation=int(template["metadata"].get("generation") or 0), uid=template["metadata"].get("uid", ""),
        )  # fmt: skip
        spec = work_spec(manifest, binding["spec"], cluster.name)
        annotations = {
            names.BINDING: f"{key.binding[0] or ''}/{key.binding[1]}",
            names.CONFLICT: binding["spec"].get("conflictResolution") or "Abort",
        }
        await write_work(self._view, key, space, spec, annotations, part.have)

    async def _remove(
        self, key: TemplateKey, binding: Object, cluster: str, work: Object, is_member: bool
    ) -> float | None:
        """A copy that is not meant any more."""
        view = self._view
        if "deletionTimestamp" in work["metadata"]:
            return None
        what = f"{cluster}/{key}"
        leaving = is_member and self._is_leaving(cluster)
        if is_member and cluster in evictions.leaving(binding["spec"]):
            replaced = evictions.replaced(binding, view.members.is_known) or not binding["spec"].get("clusters")
            if not replaced or not (leaving or self._may_leave(key, binding, cluster)):
                return None
        elif (
            is_member
            and not leaving
            and not view.budget.take(key.kind, what, f"{key} is no longer placed in {cluster}")
        ):
            return view.budget.next_grant(key.kind)
        try:
            await view.client.delete(WORKS, key.work, names.execution_namespace(cluster))
        except NotFound:
            return None
        return None

    def _may_leave(self, key: TemplateKey, binding: Object, cluster: str) -> bool:
        """What runs there is known, and it has been decided since that it is not to stay."""
        member = self._view.members.get(cluster)
        return member is not None and member.known and self._view.is_decided_since(key, binding, member.known_since)

    def _is_leaving(self, cluster: str) -> bool:
        obj = self._view.clusters.informer.get(cluster)
        return obj is not None and "deletionTimestamp" in obj["metadata"]

    async def _undo_if_deleted(self, key: TemplateKey, wanted: dict[str, int | None]) -> None:
        """The template may have been deleted while its Works were being made."""
        template = self._view.template(key)
        if template is not None and "deletionTimestamp" not in template["metadata"]:
            return
        for name in wanted:
            try:
                await self._view.client.delete(WORKS, key.work, names.execution_namespace(name))
            except NotFound:
                continue


def targets(binding: Object) -> tuple[dict[str, int | None], dict[str, int]]:
    """Cluster → replicas that it was given, those that require it included; and what is kept there on top."""
    spec = binding["spec"]
    shares: dict[str, int | None] = {}
    for snapshot in spec.get("requiredBy") or ():
        for item in snapshot.get("clusters") or ():
            shares[item["name"]] = None
    for item in spec.get("clusters") or ():
        shares[item["name"]] = item.get("replicas")
    return dict(sorted(shares.items())), evictions.extra_replicas(spec)


def work_spec(manifest: Object, binding_spec: Object, cluster: str) -> Object:
    out: Object = {"workload": {"manifests": [manifest]}}
    if evictions.is_suspended(binding_spec, cluster):
        out["suspendDispatching"] = True
    if binding_spec.get("preserveResourcesOnDeletion"):
        out["preserveResourcesOnDeletion"] = True
    return out


async def write_work(
    view: View, key: TemplateKey, space: str, spec: Object, annotations: Object, have: Object | None
) -> None:
    """Create or update the Work where it differs. One that is being deleted is left alone: it will come again."""
    if have is None:
        metadata = {"name": key.work, "namespace": space, "annotations": annotations, "finalizers": [WORK_FINALIZER]}
        made = {"apiVersion": WORKS.api_version, "kind": WORKS.kind, "metadata": metadata, "spec": spec}
        try:
            await view.client.create(WORKS, made)
        except AlreadyExists:
            return  # our view was behind; what is there is compared when it comes
        return
    metadata = have["metadata"]
    if "deletionTimestamp" in metadata:
        return
    old = metadata.get("annotations") or {}
    if have["spec"] == spec and all(old.get(name) == value for name, value in annotations.items()):
        return
    metadata = {**metadata, "annotations": {**old, **annotations}}
    metadata.pop("managedFields", None)
    await view.client.update(WORKS, {**have, "metadata": metadata, "spec": spec})


def _is_divided(binding: Object) -> bool:
    return strategy(binding["spec"].get("placement") or {}) != "duplicated"


def _unmanaged(binding: Object) -> str:
    return str((binding["metadata"].get("annotations") or {}).get(names.UNMANAGED) or "")


def _places(cluster: Object) -> list[Any]:
    spec = cluster.get("spec") or {}
    return [spec.get(key) for key in ("provider", "region", "zone", "zones")]
