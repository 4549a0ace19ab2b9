"""What a plan rests on, read: from a hub and what it knows of its members, or straight from clusters without a hub.

Nothing is written, not even by a dry run. What may not be read is Unknown, with the server's words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, TypeVar

from atoll.base.clock import Clock
from atoll.base.errors import ApiError, AtollError, Forbidden, NotFound, Unauthorized, Unreachable
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.kindmap import KindMap
from atoll.fleet.model import ClusterView, NodeRoom
from atoll.fleet.plan.planner import State, Unknown, is_policy
from atoll.fleet.propagation.selectors import NO_MATCH, best_precision
from atoll.fleet.propagation.view import TemplateKey, work_template
from atoll.fleet.registry.ledger import room_of, slim_node, slim_pod
from atoll.fleet.registry.monitor import read_enablements
from atoll.kinds.builtin import NODES, PODS
from atoll.kinds.hub import (
    CLUSTER_OVERRIDE_POLICIES,
    CLUSTER_PROPAGATION_POLICIES,
    CLUSTER_RESOURCE_BINDINGS,
    CLUSTERS,
    OVERRIDE_POLICIES,
    PROPAGATION_POLICIES,
    RESOURCE_BINDINGS,
    WORKS,
)
from atoll.kinds.resource import Resource
from atoll.scheduling.resources import amounts

Object = dict[str, Any]
T = TypeVar("T")
_AT_ONCE = 32


async def read_hub(
    hub: Client, objects: list[Object], clock: Clock, *, members: Mapping[str, Client] | None = None,
    clusters: Resource = CLUSTERS,
) -> State:  # fmt: skip
    """For a plan that a hub would carry out. With `members` the objects are also looked up there."""
    found = [ClusterView.of(one, summary_room(one)) for one in (await hub.list(clusters)).items]
    state = State("hub", sorted(found, key=lambda view: view.name), wall=clock.wall())
    for resource in (PROPAGATION_POLICIES, CLUSTER_PROPAGATION_POLICIES):
        state.policies += (await hub.list(resource)).items
    for resource in (OVERRIDE_POLICIES, CLUSTER_OVERRIDE_POLICIES):
        state.overrides += (await hub.list(resource)).items
    for resource in (RESOURCE_BINDINGS, CLUSTER_RESOURCE_BINDINGS):
        for binding in (await hub.list(resource)).items:
            state.bindings[TemplateKey.of_reference(binding["spec"]["resource"])] = binding
    for work in (await hub.list(WORKS)).items:
        cluster, key = names.cluster_of(work["metadata"]["namespace"]), work_template(work)
        if cluster is not None and key is not None:
            state.copies[cluster, key] = work["spec"]["workload"]["manifests"][0]
    kinds = KindMap(hub)
    keys = await _keys(kinds, objects, state, "the hub")
    await _read_live(state, "hub", hub, kinds, keys)
    concerned = await _concerned(hub, kinds, objects, state)
    for obj in concerned:
        state.live.setdefault(("hub", TemplateKey.of(obj)), obj)
    templates = [key for where, key in state.live if where == "hub"]
    templates = [key for key in templates if key.api_version != PROPAGATION_POLICIES.api_version]
    for name, member in (members or {}).items():
        await _read_live(state, name, member, KindMap(member), templates)
    return state


async def read_clusters(clusters: Mapping[str, Client], objects: list[Object], clock: Clock) -> State:
    """For a plan without a hub: the clusters as they are, by name."""
    state = State("clusters", [], wall=clock.wall())
    views = await asyncio.gather(*(_read_cluster(name, client, state) for name, client in clusters.items()))
    state.clusters = sorted(views, key=lambda view: view.name)
    ready = {view.name for view in views if view.ready}
    maps = {name: KindMap(client) for name, client in clusters.items()}
    found = [obj for obj in objects if not is_policy(obj)]
    for name in sorted(ready):
        templates = await _keys(maps[name], found, state, name)
        await _read_live(state, name, clusters[name], maps[name], templates)
    for key in {key for _, key in state.live}:
        for name in clusters.keys() - ready:
            state.live[name, key] = Unknown(f"cluster {name} can't be read")
    for obj in objects:
        if is_policy(obj) and not obj["kind"].startswith("Cluster"):
            state.known_kinds[obj["apiVersion"], obj["kind"]] = True
    return state


async def _keys(kinds: KindMap, objects: Iterable[Object], state: State, where: str) -> list[TemplateKey]:
    """The objects' keys, with the namespace default where a namespaced one names none."""
    found = []
    for obj in objects:
        api_version, kind = obj["apiVersion"], obj["kind"]
        try:
            resource = await kinds.resource(api_version, kind)
        except AtollError as error:
            resource = None
            state.warnings.append(f"{where}: {error.message}")
        if resource is None:
            state.warnings.append(f"{where} does not serve {api_version} {kind}")
        else:
            state.known_kinds[api_version, kind] = resource.namespaced
        metadata = obj["metadata"]
        space = metadata.get("namespace")
        if space is None and state.known_kinds.get((api_version, kind)):
            space = "default"
        found.append(TemplateKey(api_version, kind, space, metadata["name"]))
    return found


async def _read_live(state: State, where: str, client: Client, kinds: KindMap, keys: list[TemplateKey]) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(key: TemplateKey) -> None:
        async with gate:
            state.live[where, key] = await _look(client, kinds, key)

    await asyncio.gather(*(one(key) for key in keys))


async def _look(client: Client, kinds: KindMap, key: TemplateKey) -> Object | Unknown | None:
    try:
        resource = await kinds.resource(key.api_version, key.kind)
        if resource is None:
            return None
        return await client.get(resource, key.name, key.namespace)
    except NotFound:
        return None
    except (Forbidden, Unauthorized) as error:
        return Unknown(f"may not be read: {error.message}")
    except (Unreachable, ApiError) as error:
        return Unknown(f"could not be read: {error.message}")


async def _concerned(hub: Client, kinds: KindMap, objects: list[Object], state: State) -> list[Object]:
    """Templates on the hub that the given policies select, or that they claim now."""
    found: dict[TemplateKey, Object] = {}
    for obj in objects:
        if not is_policy(obj):
            continue
        space = obj["metadata"].get("namespace") or ("default" if not obj["kind"].startswith("Cluster") else None)
        for selector in (obj.get("spec") or {}).get("resourceSelectors") or ():
            resource = await kinds.resource(selector["apiVersion"], selector["kind"])
            if resource is None:
                continue
            for template in (await hub.list(resource, space)).items:
                if best_precision([selector], template, space) != NO_MATCH:
                    found[TemplateKey.of(template)] = template
        for key in state.bindings:
            claimed = _claims(state.bindings[key], obj, space)
            resource = await kinds.resource(key.api_version, key.kind) if claimed and key not in found else None
            if resource is not None:
                live = await _look(hub, kinds, key)
                if isinstance(live, dict):
                    found[key] = live
    return list(found.values())


def _claims(binding: Object, policy: Object, space: str | None) -> bool:
    annotations = binding["metadata"].get("annotations") or {}
    name = policy["metadata"]["name"]
    if policy["kind"] == CLUSTER_PROPAGATION_POLICIES.kind:
        return bool(annotations.get(names.CLUSTER_POLICY_NAME) == name)
    if policy["kind"] == PROPAGATION_POLICIES.kind:
        return (annotations.get(names.POLICY_NAMESPACE), annotations.get(names.POLICY_NAME)) == (space, name)
    return False


def summary_room(cluster: Object) -> tuple[NodeRoom, ...] | None:
    """Free room as one node, from a Cluster's resourceSummary: coarser than what the hub itself counts by."""
    summary = (cluster.get("status") or {}).get("resourceSummary")
    if not summary:
        return None
    free = amounts(summary.get("allocatable"))
    for part in ("allocated", "allocating"):
        for key, value in amounts(summary.get(part)).items():
            free[key] = free.get(key, 0) - value
    return (NodeRoom(free),)


async def _read_cluster(name: str, client: Client, state: State) -> ClusterView:
    """A cluster that no hub knows: what it serves, its place by its nodes' labels, its free room."""
    try:
        answer = await client.raw("GET", "/version")
        if answer.status >= 400 and answer.status not in (401, 403):
            raise Unreachable(f"/version answered {answer.status}")
        enabled = await read_enablements(client)
    except AtollError as error:
        state.warnings.append(f"cluster {name} can't be read: {error.message}")
        return ClusterView(name, ready=False)
    kinds = frozenset((item["groupVersion"], kind["kind"]) for item in enabled for kind in item["resources"])
    nodes = await _attempt(client.list(NODES), state, f"cluster {name}: nodes are unknown")
    pods = await _attempt(client.list(PODS), state, f"cluster {name}: pods are unknown, and so is its free room")
    items = nodes.items if nodes is not None else []
    rooms = None
    if nodes is not None and pods is not None:
        rooms = room_of([slim_node(node) for node in nodes.items], [slim_pod(pod) for pod in pods.items])
    regions = {(node["metadata"].get("labels") or {}).get("topology.kubernetes.io/region", "") for node in items} - {""}
    zones = {(node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", "") for node in items} - {""}
    providers = {str((node.get("spec") or {}).get("providerID", "")).partition(":")[0] for node in items} - {""}
    return ClusterView(
        name, provider=min(providers) if len(providers) == 1 else "", region=min(regions) if len(regions) == 1 else "",
        zones=tuple(sorted(zones)), enablements=kinds or None, nodes=rooms,
    )  # fmt: skip


async def _attempt(request: Awaitable[T], state: State, otherwise: str) -> T | None:
    try:
        return await request
    except AtollError as error:
        state.warnings.append(f"{otherwise} ({error.message})")
        return None
