"""A template and all that came of it: binding, Works, objects in members, pods; with the health of each; as data."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from atoll.base.errors import AtollError, NotFound
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.plan.explain import locate
from atoll.fleet.propagation.view import TemplateKey
from atoll.kinds.builtin import PODS, REPLICA_SETS
from atoll.kinds.hub import CLUSTER_RESOURCE_BINDINGS, RESOURCE_BINDINGS, WORKS
from atoll.kinds.resource import Resource
from atoll.objects.health import health

Object = dict[str, Any]


class Branch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One object. `cluster` is "hub" or a member."""

    kind: str
    name: str
    cluster: str
    namespace: str = ""
    health: str = ""
    message: str = ""
    children: tuple[Branch, ...] = ()


async def tree(hub: Client, members: Mapping[str, Client], text: str, *, namespace: str = "default") -> Branch:
    """From KIND/NAME on the hub to the pods in its members; a member that can't be read says so. Raises UserError."""
    key, template, resource = await locate(hub, text, namespace)
    binding_resource = RESOURCE_BINDINGS if key.namespace else CLUSTER_RESOURCE_BINDINGS
    try:
        binding = await hub.get(binding_resource, key.binding[1], key.binding[0])
    except NotFound:
        return _branch(template, "hub", message=_unmanaged(template) or "nothing propagates it")
    clusters = _clusters(binding)
    works = await asyncio.gather(*(_work(hub, key, name, members.get(name), resource) for name in clusters))
    children = [work for work in works if work is not None]
    scheduled = next(
        (item for item in (binding.get("status") or {}).get("conditions") or () if item["type"] == "Scheduled"), None
    )
    good = scheduled is None or scheduled["status"] == "True"
    shown = Branch(
        binding["kind"], binding["metadata"]["name"], "hub", binding["metadata"].get("namespace") or "",
        "Ready" if good else "Failed", "" if good or scheduled is None else scheduled["message"], tuple(children),
    )  # fmt: skip
    return _branch(template, "hub", message=_unmanaged(template), children=(shown,))


def _unmanaged(template: Object) -> str:
    annotations = template["metadata"].get("annotations") or {}
    return str(annotations.get(names.DELETING) or annotations.get(names.UNMANAGED) or "")


def _clusters(binding: Object) -> list[str]:
    spec = binding["spec"]
    found = {item["name"] for item in spec.get("clusters") or ()}
    found |= {task["fromCluster"] for task in spec.get("gracefulEvictionTasks") or ()}
    for snapshot in spec.get("requiredBy") or ():
        found |= {item["name"] for item in snapshot.get("clusters") or ()}
    return sorted(found)


async def _work(
    hub: Client, key: TemplateKey, cluster: str, member: Client | None, resource: Resource
) -> Branch | None:
    try:
        work = await hub.get(WORKS, key.work, names.execution_namespace(cluster))
    except NotFound:
        return None
    conditions = {item["type"]: item for item in (work.get("status") or {}).get("conditions") or ()}
    applied = conditions.get("Applied")
    state = "Progressing" if applied is None else "Ready" if applied["status"] == "True" else "Failed"
    message = applied["message"] if applied is not None and state == "Failed" else ""
    if "deletionTimestamp" in work["metadata"]:
        state, message = "Deleting", "waits for the member to confirm"
    child = await _object(member, cluster, key, resource)
    space = work["metadata"]["namespace"]
    return Branch("Work", work["metadata"]["name"], cluster, space, state, message, (child,) if child else ())


async def _object(member: Client | None, cluster: str, key: TemplateKey, resource: Resource) -> Branch | None:
    if member is None:
        return Branch(key.kind, key.name, cluster, key.namespace or "", "Unknown", "no connection to this cluster")
    try:
        live = await member.get(resource, key.name, key.namespace)
        return _branch(live, cluster, children=await _owned(member, cluster, live))
    except NotFound:
        return Branch(key.kind, key.name, cluster, key.namespace or "", "Missing", "it is not there")
    except AtollError as error:
        return Branch(key.kind, key.name, cluster, key.namespace or "", "Unknown", error.message)


async def _owned(member: Client, cluster: str, live: Object) -> tuple[Branch, ...]:
    """ReplicaSets with pods, or pods, that the object controls."""
    namespace = live["metadata"].get("namespace")
    if live["kind"] == "Deployment":
        found = []
        for one in await _controlled(member, REPLICA_SETS, namespace, live):
            pods = await _controlled(member, PODS, namespace, one)
            if pods or (one.get("spec") or {}).get("replicas"):
                found.append(_branch(one, cluster, children=tuple(_branch(pod, cluster) for pod in pods)))
        return tuple(found)
    if live["kind"] in ("ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController"):
        return tuple(_branch(pod, cluster) for pod in await _controlled(member, PODS, namespace, live))
    return ()


async def _controlled(member: Client, resource: Resource, namespace: str | None, owner: Object) -> list[Object]:
    labels = ((owner.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    selector = ",".join(f"{name}={value}" for name, value in sorted(labels.items())) or None
    page = await member.list(resource, namespace, label_selector=selector)
    uid = owner["metadata"]["uid"]
    found = [
        one for one in page.items
        if any(owned.get("uid") == uid for owned in one["metadata"].get("ownerReferences") or ())
    ]  # fmt: skip
    return sorted(found, key=lambda one: str(one["metadata"]["name"]))


def _branch(obj: Object, cluster: str, *, message: str = "", children: tuple[Branch, ...] = ()) -> Branch:
    found = health(obj)
    metadata = obj["metadata"]
    return Branch(
        obj["kind"], metadata["name"], cluster, metadata.get("namespace") or "", found.state, message or found.message,
        children,
    )  # fmt: skip
