"""Why a template is where it is: policy, filters, scores, division, failures; as data."""

from __future__ import annotations

from typing import Any

import msgspec

from atoll.base.clock import Clock
from atoll.base.errors import NotFound, UserError
from atoll.client.port import Client
from atoll.fleet import names
from atoll.fleet.continuity import evictions
from atoll.fleet.kindmap import KindMap
from atoll.fleet.model import ClusterView
from atoll.fleet.plan.model import Verdict
from atoll.fleet.plan.read import summary_room
from atoll.fleet.propagation import overrides as override_rules
from atoll.fleet.propagation import policy
from atoll.fleet.propagation.decide import Situation, decide, scheduled_of
from atoll.fleet.propagation.view import TemplateKey
from atoll.kinds.builtin import EVENTS
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

Object = dict[str, Any]


class InCluster(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of it in one cluster."""

    cluster: str
    replicas: int | None = None
    ready: int | None = None
    applied: bool = False
    health: str = "Unknown"
    overrides: tuple[str, ...] = ()
    message: str = ""


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    label: str
    policy: str = ""
    why: str = ""
    other_policies: tuple[str, ...] = ()  # that would match, but rank lower
    affinity: str = ""
    division: str = ""
    scheduled: str = ""
    verdicts: tuple[Verdict, ...] = ()
    clusters: tuple[InCluster, ...] = ()
    moving: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


async def locate(hub: Client, text: str, namespace: str) -> tuple[TemplateKey, Object, Resource]:
    """The object that KIND/NAME means on the hub. Raises UserError."""
    kind, slash, name = text.partition("/")
    if not slash or not kind or not name:
        raise UserError(f"{text!r} is not KIND/NAME", hint="e.g. deployment/web")
    kinds = KindMap(hub)
    resource = await kinds.named(kind)
    if resource is None:
        raise UserError(f"the hub serves no kind {kind!r}", hint="see kubectl api-resources on the hub")
    space = namespace if resource.namespaced else None
    try:
        obj = await hub.get(resource, name, space)
    except NotFound as error:
        where = f" in namespace {space}" if space else ""
        raise UserError(f"there is no {resource.kind} {name}{where} on the hub") from error
    return TemplateKey(resource.api_version, resource.kind, space, name), obj, resource


async def explain(
    hub: Client, clock: Clock, text: str, *, namespace: str = "default", clusters: Resource = CLUSTERS
) -> Explanation:
    """Everything that the hub knows of why KIND/NAME is where it is. Raises UserError."""
    key, template, _ = await locate(hub, text, namespace)
    policies: list[Object] = []
    for resource in (PROPAGATION_POLICIES, CLUSTER_PROPAGATION_POLICIES):
        policies += (await hub.list(resource)).items
    rules: list[Object] = []
    for resource in (OVERRIDE_POLICIES, CLUSTER_OVERRIDE_POLICIES):
        rules += (await hub.list(resource)).items
    objects = (await hub.list(clusters)).items
    views = sorted((ClusterView.of(one, summary_room(one)) for one in objects), key=lambda view: view.name)
    binding = await _binding(hub, key)
    works = await _works(hub, key, views)
    match = policy.select(template, policies)
    others = [one.label for one in (policy.select(template, [item]) for item in policies)
              if one is not None and (match is None or one.policy is not match.policy)]  # fmt: skip
    failures = await _failures(hub, template, binding)
    decision = None
    if match is not None:
        situation = Situation(views, {}, frozenset(works), False, 30.0, clock.wall())
        decision = decide(template, match, [], binding, situation)
    if (((binding or {}).get("spec") or {}).get("suspension") or {}).get("dispatching"):
        failures.insert(0, "suspended: the policy suspends dispatching, nothing new is sent to clusters")
    placed = decision.placement if decision is not None else None
    matching = override_rules.matching(template, rules)
    spec = (binding or {}).get("spec") or {}
    return Explanation(
        label=str(key),
        policy=match.label if match is not None else _no_policy(template),
        why=match.why if match is not None else "",
        other_policies=tuple(others),
        affinity=placed.affinity if placed is not None else "",
        division=placed.division if placed is not None else "",
        scheduled=str(scheduled_of(binding).get("message") or (placed.message if placed is not None else "")),
        verdicts=tuple(Verdict(one.cluster, one.chosen, one.reason, one.score) for one in placed.verdicts)
        if placed is not None else (),
        clusters=_in_clusters(binding, views, matching),
        moving=tuple(f"{one['fromCluster']}: {one['message']}" for one in evictions.tasks(spec)),
        required_by=tuple(f"{one.get('namespace', '')}/{one['name']}" for one in spec.get("requiredBy") or ()),
        failures=tuple(failures),
    )  # fmt: skip


def _no_policy(template: Object) -> str:
    return str((template["metadata"].get("annotations") or {}).get(names.UNMANAGED) or "no policy selects it")


async def _binding(hub: Client, key: TemplateKey) -> Object | None:
    resource = RESOURCE_BINDINGS if key.namespace else CLUSTER_RESOURCE_BINDINGS
    try:
        return await hub.get(resource, key.binding[1], key.binding[0])
    except NotFound:
        return None


async def _works(hub: Client, key: TemplateKey, views: list[ClusterView]) -> dict[str, Object]:
    found = {}
    for view in views:
        try:
            found[view.name] = await hub.get(WORKS, key.work, names.execution_namespace(view.name))
        except NotFound:
            continue
    return found


def _in_clusters(binding: Object | None, views: list[ClusterView], rules: list[Object]) -> tuple[InCluster, ...]:
    if binding is None:
        return ()
    given = {item["name"]: item.get("replicas") for item in binding["spec"].get("clusters") or ()}
    by_name = {view.name: view for view in views}
    found = []
    for item in (binding.get("status") or {}).get("aggregatedStatus") or ():
        name = item["clusterName"]
        status, done = item.get("status") or {}, bool(item.get("applied"))
        view = by_name.get(name)
        applied = []
        for rule in rules if view is not None else ():
            assert view is not None
            if override_rules.concerns(rule, view):
                applied.append(override_rules.policy_label(rule))
        found.append(InCluster(
            cluster=name, replicas=given.get(name), ready=status.get("readyReplicas"), applied=done,
            health=item.get("health") or "Unknown", overrides=tuple(applied), message=item.get("appliedMessage") or "",
        ))  # fmt: skip
    return tuple(found)


async def _failures(hub: Client, template: Object, binding: Object | None) -> list[str]:
    """Conditions that say no, why a deletion waits, and warnings told about the object."""
    found = []
    for item in ((binding or {}).get("status") or {}).get("conditions") or ():
        if item["status"] == "False":
            found.append(f"{item['type']}: {item.get('message') or item.get('reason')}")
    annotations = template["metadata"].get("annotations") or {}
    if annotations.get(names.DELETING):
        found.append(f"deleting: {annotations[names.DELETING]}")
    selector = f"involvedObject.uid={template['metadata'].get('uid', '')},type=Warning"
    for event in (await hub.list(EVENTS, field_selector=selector)).items:
        if not any(str(event.get("message")) in said for said in found):
            found.append(f"{event.get('reason')}: {event.get('message')}")
    return found
