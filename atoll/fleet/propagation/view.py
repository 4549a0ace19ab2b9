"""What the propagation controllers share: informers on the hub with their indices, and the templates in use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from atoll.base.clock import Clock
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.continuity.budget import Budget
from atoll.fleet.kindmap import KindMap
from atoll.fleet.options import HubOptions
from atoll.fleet.registry.clusters import Clusters
from atoll.fleet.registry.members import Members
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, NAMESPACES
from atoll.kinds.hub import (
    CLUSTER_OVERRIDE_POLICIES,
    CLUSTER_PROPAGATION_POLICIES,
    CLUSTER_RESOURCE_BINDINGS,
    OVERRIDE_POLICIES,
    PROPAGATION_POLICIES,
    RESOURCE_BINDINGS,
    WORKS,
)
from atoll.kinds.resource import Resource
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informer, Informers

Object = dict[str, Any]


class TemplateKey(NamedTuple):
    """An object on the hub that is, or may be, propagated."""

    api_version: str
    kind: str
    namespace: str | None
    name: str

    @classmethod
    def of(cls, obj: Object) -> TemplateKey:
        metadata = obj["metadata"]
        return cls(obj["apiVersion"], obj["kind"], metadata.get("namespace"), metadata["name"])

    @classmethod
    def of_reference(cls, reference: Object) -> TemplateKey:
        """From a binding's spec.resource."""
        return cls(reference["apiVersion"], reference["kind"], reference.get("namespace") or None, reference["name"])

    @property
    def binding(self) -> tuple[str | None, str]:
        """(namespace, name) of its ResourceBinding or ClusterResourceBinding."""
        return self.namespace, names.binding_name(self.kind, self.name)

    @property
    def work(self) -> str:
        """The name of its Works."""
        return names.work_name(self.api_version.rpartition("/")[0], self.kind, self.namespace, self.name)

    def __str__(self) -> str:
        space = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {space}{self.name}"


def work_template(work: Object) -> TemplateKey | None:
    """The template that a Work carries."""
    manifests = ((work.get("spec") or {}).get("workload") or {}).get("manifests") or ()
    return TemplateKey.of(manifests[0]) if manifests else None


class View:
    """One a hub. `on_template` handlers are told (key, old, new)."""

    def __init__(
        self, client: Client, informers: Informers, clock: Clock, options: HubOptions, clusters: Clusters,
        members: Members, recorder: EventRecorder, budget: Budget,
    ) -> None:  # fmt: skip
        self.client = client
        self.informers = informers
        self.clock = clock
        self.options = options
        self.clusters = clusters
        self.members = members
        self.recorder = recorder
        self.budget = budget
        self.kinds = KindMap(client)
        self.bindings = informers.of(RESOURCE_BINDINGS)
        self.cluster_bindings = informers.of(CLUSTER_RESOURCE_BINDINGS)
        self.works = informers.of(WORKS)
        self.policies = (informers.of(PROPAGATION_POLICIES), informers.of(CLUSTER_PROPAGATION_POLICIES))
        self.overrides = (informers.of(OVERRIDE_POLICIES), informers.of(CLUSTER_OVERRIDE_POLICIES))
        self.namespaces = informers.of(NAMESPACES)
        self.definitions = informers.of(CUSTOM_RESOURCE_DEFINITIONS)
        self.on_template: list[Callable[[TemplateKey, Object | None, Object | None], None]] = []
        self.on_decided: list[Callable[[TemplateKey], None]] = []
        self._decided: dict[TemplateKey, tuple[float, int]] = {}  # when, and the binding's generation then
        self.on_refused: list[Callable[[TemplateKey], None]] = []
        self._refused: dict[TemplateKey, dict[str, str]] = {}  # → cluster → why no manifest can be made for it
        self._templates: dict[tuple[str, str], Informer] = {}
        self.works.add_index("template", _by_template)
        self.works.add_index("inside", lambda work: [key.namespace for key in _by_template(work) if key.namespace])
        for informer in (self.bindings, self.cluster_bindings):
            informer.add_index("template", lambda rb: [TemplateKey.of_reference(rb["spec"]["resource"])])
            informer.add_index("cluster", _by_cluster)
        for informer in (*self.policies, *self.overrides):
            informer.add_index("selects", _by_selector)

    def decided(self, key: TemplateKey, generation: int) -> None:
        """The template's placement has just been decided on (again); the binding has that generation."""
        self._decided[key] = (asyncio.get_running_loop().time(), generation)
        for handler in self.on_decided:
            handler(key)

    def is_decided_since(self, key: TemplateKey, binding: Object, moment: float) -> bool:
        """Whether `binding` holds a decision that was made after that moment."""
        when, generation = self._decided.get(key, (-1.0, 0))
        return when >= moment and int(binding["metadata"].get("generation") or 0) >= generation

    def is_own_decision(self, key: TemplateKey, binding: Object) -> bool:
        """Whether the binding is as the last decision left it: nobody else edited it."""
        _, generation = self._decided.get(key, (-1.0, 0))
        return int(binding["metadata"].get("generation") or 0) == generation

    def refuse(self, key: TemplateKey, cluster: str, why: str) -> None:
        """No manifest can be made of the template for the cluster; "" once one can."""
        before = self._refused.get(key, {})
        if before.get(cluster, "") == why:
            return
        now = {name: text for name, text in {**before, cluster: why}.items() if text}
        if now:
            self._refused[key] = now
        else:
            self._refused.pop(key, None)
        for handler in self.on_refused:
            handler(key)

    def refused(self, key: TemplateKey) -> dict[str, str]:
        """Cluster → why what it has is not what the template and its overrides say."""
        return self._refused.get(key, {})

    def forget(self, key: TemplateKey) -> None:
        self._decided.pop(key, None)
        self._refused.pop(key, None)

    def wait_for(self) -> tuple[Informer, ...]:
        return (
            self.bindings, self.cluster_bindings, self.works, *self.policies, *self.overrides, self.namespaces,
            self.clusters.informer,
        )  # fmt: skip

    def binding_informer(self, key: TemplateKey) -> Informer:
        return self.bindings if key.namespace else self.cluster_bindings

    def binding_resource(self, key: TemplateKey) -> Resource:
        return RESOURCE_BINDINGS if key.namespace else CLUSTER_RESOURCE_BINDINGS

    def binding(self, key: TemplateKey) -> Object | None:
        namespace, name = key.binding
        return self.binding_informer(key).get(name, namespace)

    def all_bindings(self) -> Iterable[Object]:
        yield from self.bindings
        yield from self.cluster_bindings

    def bindings_in(self, cluster: str) -> list[Object]:
        """Those that have, or are leaving, the cluster."""
        return self.bindings.by_index("cluster", cluster) + self.cluster_bindings.by_index("cluster", cluster)

    def works_of(self, key: TemplateKey) -> dict[str, Object]:
        """Cluster → Work."""
        found = {}
        for work in self.works.by_index("template", key):
            cluster = names.cluster_of(work["metadata"].get("namespace"))
            if cluster is not None:
                found[cluster] = work
        return found

    def candidates(self, kind: tuple[Informer, ...], template: Object) -> list[Object]:
        """Policies (or overrides) that may select the template, found by index."""
        metadata = template["metadata"]
        space, name = metadata.get("namespace") or "", metadata["name"]
        gvk = (template["apiVersion"], template["kind"])
        buckets = {(*gvk, where, what) for where in (space, "") for what in (name, "")} | {
            ("", "", space, ""),
            ("", "", "", ""),
        }
        found = {}
        for informer in kind:
            for bucket in buckets:
                for policy in informer.by_index("selects", bucket):
                    found[policy["metadata"].get("namespace"), policy["metadata"]["name"]] = policy
        return list(found.values())

    async def watch_kind(self, api_version: str, kind: str) -> Informer | None:
        """Templates of the kind are watched from now on; None while the hub does not serve it."""
        informer = self._templates.get((api_version, kind))
        if informer is not None:
            return informer
        resource = await self.kinds.resource(api_version, kind)
        if (api_version, kind) in self._templates:
            return self._templates[api_version, kind]
        if resource is None:
            return None
        informer = self.informers.of(resource)
        self._templates[api_version, kind] = informer

        def tell(old: Object | None, new: Object | None) -> None:
            metadata = (new or old or {})["metadata"]
            key = TemplateKey(api_version, kind, metadata.get("namespace"), metadata["name"])
            for handler in self.on_template:
                handler(key, old, new)

        informer.add_handler(tell)
        return informer

    def template_informer(self, api_version: str, kind: str) -> Informer | None:
        return self._templates.get((api_version, kind))

    def template(self, key: TemplateKey) -> Object | None:
        """The cached template; kinds in lists and watches carry apiVersion and kind."""
        informer = self._templates.get((key.api_version, key.kind))
        return informer.get(key.name, key.namespace) if informer is not None else None

    def resource(self, key: TemplateKey) -> Resource:
        informer = self._templates[key.api_version, key.kind]
        return informer.resource


def _by_template(work: Object) -> list[TemplateKey]:
    key = work_template(work)
    return [key] if key is not None else []


def _by_cluster(binding: Object) -> set[str]:
    spec = binding["spec"]
    found = {item["name"] for item in spec.get("clusters") or ()}
    found |= {task["fromCluster"] for task in spec.get("gracefulEvictionTasks") or ()}
    for snapshot in spec.get("requiredBy") or ():
        found |= {item["name"] for item in snapshot.get("clusters") or ()}
    return found


def _by_selector(policy: Object) -> set[tuple[str, str, str, str]]:
    """(apiVersion, kind, namespace or "", name or "") per selector; an override without selectors means all."""
    space = policy["metadata"].get("namespace") or ""
    selectors = policy["spec"].get("resourceSelectors") or ()
    if not selectors:
        return {("", "", space, "")}
    return {(one["apiVersion"], one["kind"], one.get("namespace") or space, one.get("name") or "") for one in selectors}
