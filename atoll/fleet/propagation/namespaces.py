"""Namespaces of the hub exist in every cluster: a Work each, without policy.

A member's namespace that was there before is shared, not owned, and is never deleted; one that the hub made goes
with the hub's, within the destruction budget.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from atoll.base.errors import NotFound
from atoll.fleet import names
from atoll.fleet.propagation import manifests, overrides
from atoll.fleet.propagation.view import TemplateKey, View, work_template
from atoll.fleet.propagation.works import write_work
from atoll.kinds.builtin import NAMESPACES
from atoll.kinds.hub import WORKS
from atoll.runtime.controller import Controller

Object = dict[str, Any]
_EVERYWHERE = ("default",)


class NamespaceSync:
    """Keys are names of namespaces."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.controller: Controller[str] = Controller(
            "namespaces", self._reconcile, workers=4, wait_for=view.wait_for()
        )
        view.namespaces.add_handler(self._on_namespace)
        view.works.add_handler(self._on_work)
        view.clusters.informer.add_handler(self._on_cluster)
        view.overrides[1].add_handler(lambda old, new: self._all())

    async def run(self) -> None:
        await self.controller.run()

    def _on_namespace(self, old: Object | None, new: Object | None) -> None:
        self.controller.queue.add((new or old or {})["metadata"]["name"])

    def _on_work(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            key = work_template(old)
            if key is not None and key.kind == NAMESPACES.kind and key.api_version == "v1":
                self.controller.queue.add(key.name)

    def _on_cluster(self, old: Object | None, new: Object | None) -> None:
        fields = ("labels", "deletionTimestamp")
        if old is None or new is None or any(old["metadata"].get(one) != new["metadata"].get(one) for one in fields):
            self._all()

    def _all(self) -> None:
        for namespace in self._view.namespaces:
            self.controller.queue.add(namespace["metadata"]["name"])

    async def _reconcile(self, name: str) -> float | None:
        view = self._view
        namespace = view.namespaces.get(name)
        if namespace is None:
            return None
        key = TemplateKey("v1", NAMESPACES.kind, None, name)
        if not _is_propagated(namespace):
            await self._let_leave(key)
            return None
        if "deletionTimestamp" in namespace["metadata"]:
            return await self._delete(key, namespace)
        if view.binding(key) is not None:
            return None  # a policy governs it
        have = view.works_of(key)
        metadata = namespace["metadata"]
        clusters = [one for one in view.clusters.views() if not one.deleting]
        if clusters and names.FINALIZER not in (metadata.get("finalizers") or ()):
            finalizers = [*(metadata.get("finalizers") or ()), names.FINALIZER]
            patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": finalizers}}
            await view.client.patch(NAMESPACES, name, patch)
        for cluster_name in sorted(have.keys() - {one.name for one in clusters}):
            await self._leave_behind(key, cluster_name)
        pruned = manifests.prune(namespace)
        policies = overrides.matching(namespace, view.candidates(view.overrides, namespace))
        for cluster in clusters:
            space = names.execution_namespace(cluster.name)
            manifest, _ = overrides.override(pruned, policies, cluster)
            manifest = manifests.marked(
                manifest, work=key.work, work_namespace=space,
                generation=int(namespace["metadata"].get("generation") or 0), uid=namespace["metadata"].get("uid", ""),
            )  # fmt: skip
            spec = {"workload": {"manifests": [manifest]}}
            await write_work(view, key, space, spec, {names.CONFLICT: "Abort"}, have.get(cluster.name))
        return None

    async def _let_leave(self, key: TemplateKey) -> None:
        """It was propagated before: what is in a cluster that leaves the fleet holds nothing up."""
        leaving = {one.name for one in self._view.clusters.views() if one.deleting}
        for cluster in sorted(self._view.works_of(key).keys() & leaving):
            await self._leave_behind(key, cluster)

    async def _leave_behind(self, key: TemplateKey, cluster: str) -> None:
        """A cluster that leaves the fleet keeps its namespaces: others may live there."""
        space = names.execution_namespace(cluster)
        with suppress(NotFound):
            patch = {"metadata": {"finalizers": None, "annotations": {names.FORGET: "true"}}}
            await self._view.client.patch(WORKS, key.work, patch, space)
            await self._view.client.delete(WORKS, key.work, space)

    async def _delete(self, key: TemplateKey, namespace: Object) -> float | None:
        """The namespace's own content goes by the hub's namespace controller; its copies by their Works."""
        view, metadata = self._view, namespace["metadata"]
        if names.FINALIZER not in (metadata.get("finalizers") or ()):
            return None
        works = view.works_of(key)
        if self._has_templates(key.name):
            return 0.2  # what is in it goes first, each confirmed by its members
        for cluster, work in works.items():
            if "deletionTimestamp" not in work["metadata"]:
                if not view.budget.take(key.kind, f"{cluster}/{key}", f"namespace {key.name} was deleted"):
                    return view.budget.next_grant(key.kind)
                with suppress(NotFound):
                    await view.client.delete(WORKS, key.work, names.execution_namespace(cluster))
        if works:
            return None
        left = [item for item in metadata["finalizers"] if item != names.FINALIZER]
        patch = {"metadata": {"resourceVersion": metadata["resourceVersion"], "finalizers": left or None}}
        with suppress(NotFound):
            await view.client.patch(NAMESPACES, key.name, patch)
        return None

    def _has_templates(self, namespace: str) -> bool:
        return bool(self._view.works.by_index("inside", namespace))


def _is_propagated(namespace: Object) -> bool:
    metadata = namespace["metadata"]
    if metadata["name"] in _EVERYWHERE or names.is_reserved(metadata["name"]):
        return False
    skip = {**(metadata.get("labels") or {}), **(metadata.get("annotations") or {})}.get(names.SKIP_NAMESPACE)
    return skip != "true"
