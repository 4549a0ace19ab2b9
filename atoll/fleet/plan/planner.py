"""From manifests and what was read to a Plan. Pure: it uses the very functions that the hub's controllers use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import orjson

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError, UserError
from atoll.base.names import FIELD_MANAGER
from atoll.fleet import names
from atoll.fleet.model import ClusterView
from atoll.fleet.plan import settled
from atoll.fleet.plan.model import Decided, Plan, Read, Step, Verdict
from atoll.fleet.propagation import manifests as sent
from atoll.fleet.propagation import overrides, policy
from atoll.fleet.propagation.decide import Decision, Situation, decide
from atoll.fleet.propagation.placement import strategy
from atoll.fleet.propagation.view import TemplateKey
from atoll.fleet.propagation.works import work_spec
from atoll.kinds.decode import DecodeError, decode
from atoll.kinds.hub import (
    CLUSTER_OVERRIDE_POLICIES,
    CLUSTER_PROPAGATION_POLICIES,
    OVERRIDE_POLICIES,
    PROPAGATION_POLICIES,
)
from atoll.kinds.schemas import schema_for
from atoll.objects import apply as server_side
from atoll.objects.diff import diff
from atoll.objects.managed import Schema
from atoll.objects.merge import merge

Object = dict[str, Any]
Place = tuple[str, TemplateKey]  # a cluster (or "hub") and an object
PROPAGATION = {PROPAGATION_POLICIES.kind, CLUSTER_PROPAGATION_POLICIES.kind}
OVERRIDE = {OVERRIDE_POLICIES.kind, CLUSTER_OVERRIDE_POLICIES.kind}
POLICY_API = PROPAGATION_POLICIES.api_version


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be read, and why."""

    reason: str


@dataclass(slots=True)
class State:
    """All that a plan rests on."""

    mode: str  # hub or clusters
    clusters: list[ClusterView]
    live: dict[Place, Object | Unknown | None] = field(default_factory=dict)  # on the hub ("hub") and in members
    policies: list[Object] = field(default_factory=list)
    overrides: list[Object] = field(default_factory=list)
    bindings: dict[TemplateKey, Object] = field(default_factory=dict)
    copies: dict[Place, Object] = field(default_factory=dict)  # manifests in Works
    known_kinds: dict[tuple[str, str], bool] = field(default_factory=dict)  # → namespaced
    wall: float = 0.0
    failover_seconds: float = 30.0
    warnings: list[str] = field(default_factory=list)


def is_policy(obj: Object) -> bool:
    return obj["apiVersion"] == POLICY_API and obj["kind"] in PROPAGATION | OVERRIDE


def digest(obj: Object | None) -> str:
    """Of what a person or a policy can change in an object: not its status, nor what servers write."""
    if obj is None:
        return ""
    metadata = obj["metadata"]
    kept = {key: metadata[key] for key in ("uid", "labels", "annotations", "finalizers", "deletionTimestamp")
            if key in metadata}  # fmt: skip
    rest = {key: value for key, value in obj.items() if key not in ("metadata", "status")}
    return hashlib.sha256(orjson.dumps([kept, rest], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def cluster_digest(view: ClusterView) -> str:
    """Of what a decision looks at in a cluster, but for its free room."""
    taints = sorted(f"{item['key']}={item.get('value', '')}:{item['effect']}" for item in view.taints)
    kinds = sorted(map(list, view.enablements)) if view.enablements is not None else None
    parts = [dict(view.labels), view.provider, view.region, list(view.zones), taints, view.ready, view.deleting, kinds]
    return hashlib.sha256(orjson.dumps(parts, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def make_plan(objects: list[Object], state: State) -> Plan:
    """What would happen if the objects were applied now."""
    given = {TemplateKey.of(_placed(obj, state)): _placed(obj, state) for obj in objects}
    policies = _merged(state.policies, [obj for obj in given.values() if _is(obj, PROPAGATION)])
    rules = _merged(state.overrides, [obj for obj in given.values() if _is(obj, OVERRIDE)])
    templates = {key: obj for key, obj in given.items() if not is_policy(obj)}
    hub_steps: list[Step] = []
    after: dict[TemplateKey, Object] = {}
    for key, obj in given.items():
        live = state.live.get(("hub", key)) if state.mode == "hub" else None
        result = applied(live if isinstance(live, dict) else None, obj)
        if state.mode == "hub":
            hub_steps.append(_step("hub", key, obj, live, result))
        if key in templates:
            after[key] = result
    for place, existing in state.live.items():
        if place[0] == "hub" and place[1] not in given and isinstance(existing, dict) and not is_policy(existing):
            after[place[1]] = existing  # on the hub already, and concerned by a policy that changes
    decisions = _decide_all(after, policies, state)
    decided = [
        _describe(key, after[key], match, decision, required, rules, state)
        for key, (match, decision, required) in sorted(decisions.items(), key=_order)
    ]
    shown = [one for one in decided if _key_of(one) in templates or _acts(one)]
    warnings = list(state.warnings)
    if state.mode == "clusters" and templates and not policies:
        warnings.append("no PropagationPolicy selects anything: without one nothing goes anywhere")
    return Plan(
        mode="hub" if state.mode == "hub" else "clusters", made=rfc3339(state.wall),
        clusters=tuple(view.name for view in state.clusters), hub=tuple(hub_steps), decided=tuple(shown),
        warnings=tuple(warnings), reads=tuple(sorted(_reads(state))),
        source=() if state.mode == "hub" else tuple(given.values()),
    )  # fmt: skip


def _order(item: tuple[TemplateKey, Any]) -> tuple[str, str, str]:
    return item[0].kind, item[0].namespace or "", item[0].name


def _key_of(one: Decided) -> TemplateKey:
    return TemplateKey(one.api_version, one.kind, one.namespace or None, one.name)


def _acts(one: Decided) -> bool:
    return any(step.action not in ("none", "keep") for step in one.steps)


def _is(obj: Object, kinds: set[str]) -> bool:
    return obj["apiVersion"] == POLICY_API and obj["kind"] in kinds


def _placed(obj: Object, state: State) -> Object:
    """The object with the namespace that it gets where it names none."""
    namespaced = state.known_kinds.get((obj["apiVersion"], obj["kind"]))
    obj = settled.with_data(obj)
    if namespaced and not obj["metadata"].get("namespace"):
        return {**obj, "metadata": {**obj["metadata"], "namespace": "default"}}
    return obj


def _merged(existing: list[Object], given: list[Object]) -> list[Object]:
    found = {(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]): obj for obj in existing}
    for obj in given:
        found[obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]] = obj
    return list(found.values())


def _decide_all(
    after: dict[TemplateKey, Object], policies: list[Object], state: State
) -> dict[TemplateKey, tuple[policy.Match | None, Decision, list[str]]]:
    """First what policies select, then what that requires."""
    found: dict[TemplateKey, tuple[policy.Match | None, Decision, list[str]]] = {}
    required: dict[TemplateKey, list[tuple[TemplateKey, Object]]] = {}
    matches = {key: policy.select(obj, policies) for key, obj in after.items()}
    for key, match in matches.items():
        if match is None:
            continue
        decision = decide(after[key], match, [], state.bindings.get(key), _situation(key, state))
        found[key] = (match, decision, [])
        if decision.spec.get("propagateDeps"):
            for one in sent.interpreter(after[key]).references(after[key]):
                needed = TemplateKey(one.api_version, one.kind, one.namespace, one.name)
                required.setdefault(needed, []).append((key, decision.spec))
    for key in after:
        parents = required.get(key, [])
        match = matches[key]
        if match is not None and not parents:
            continue
        snapshots = [_snapshot(parent, spec) for parent, spec in parents]
        decision = decide(after[key], match, snapshots, state.bindings.get(key), _situation(key, state))
        found[key] = (match, decision, [str(parent) for parent, _ in parents])
    return found


def _snapshot(parent: TemplateKey, spec: Object) -> Object:
    space, name = parent.binding
    return {"name": name, "clusters": spec.get("clusters") or [], **({"namespace": space} if space else {})}


def _situation(key: TemplateKey, state: State) -> Situation:
    present = frozenset(cluster for cluster, one in state.copies if one == key)
    return Situation(
        clusters=state.clusters, lost_for={}, present=present, replaced=False,
        failover_seconds=state.failover_seconds, wall=state.wall,
    )  # fmt: skip


def _describe(
    key: TemplateKey, template: Object, match: policy.Match | None, decision: Decision, required_by: list[str],
    rules: list[Object], state: State,
) -> Decided:  # fmt: skip
    found = decision.placement
    targets = _targets(key, decision.spec, state)
    views = {view.name: view for view in state.clusters}
    steps = []
    pruned = sent.prune(template)
    matching = overrides.matching(template, rules)
    divided = match is not None and strategy(decision.spec.get("placement") or {}) != "duplicated"
    completions = sent.divide_completions(template, targets) if divided else {}
    for name, count in targets.items():
        if name in views:
            steps.append(_in_cluster(key, template, pruned, views[name], matching, count, completions.get(name),
                                     decision.spec, state))  # fmt: skip
    for cluster, one in state.copies:
        if one == key and cluster not in targets:
            steps.append(_leaving(key, cluster, match, decision))
    message = found.message if found is not None else _unselected(match, required_by, key, state)
    replicas = sent.interpreter(template).replicas(template)
    return Decided(
        api_version=key.api_version, kind=key.kind, name=key.name, namespace=key.namespace or "",
        policy=match.label if match is not None else "", why=match.why if match is not None else "",
        affinity=found.affinity if found is not None else "", division=found.division if found is not None else "",
        reason=found.reason if found is not None else "", message=message, replicas=replicas,
        unplaced=found.unplaced if found is not None else 0, targets=targets,
        verdicts=tuple(Verdict(one.cluster, one.chosen, one.reason, one.score) for one in found.verdicts)
        if found is not None else (),
        required_by=tuple(required_by), steps=tuple(sorted(steps, key=lambda step: step.where)),
    )  # fmt: skip


def _targets(key: TemplateKey, spec: Object, state: State) -> dict[str, int | None]:
    """As the hub's Works: what the decision says, what requires it, and namespaces everywhere."""
    targets: dict[str, int | None] = {}
    for snapshot in spec.get("requiredBy") or ():
        for item in snapshot.get("clusters") or ():
            targets[item["name"]] = None
    for item in spec.get("clusters") or ():
        targets[item["name"]] = item.get("replicas")
    everywhere = key.kind == "Namespace" and key.api_version == "v1" and not names.is_reserved(key.name)
    if everywhere and not targets and key.name != "default":
        targets = dict.fromkeys((view.name for view in state.clusters), None)
    return dict(sorted(targets.items()))


def _unselected(match: policy.Match | None, required_by: list[str], key: TemplateKey, state: State) -> str:
    if required_by:
        return f"goes along with {', '.join(required_by)}"
    if key.kind == "Namespace":
        return "namespaces exist in every cluster"
    if key in state.bindings:
        return "no policy selects it: nothing manages the copies that exist"
    return "no policy selects it" + (": it stays on the hub" if state.mode == "hub" else "")


def _in_cluster(
    key: TemplateKey, template: Object, pruned: Object, view: ClusterView, rules: list[Object], replicas: int | None,
    completions: int | None, spec: Object, state: State,
) -> Step:  # fmt: skip
    try:
        manifest, applied_rules = sent.manifest_for(pruned, view, rules, replicas=replicas, completions=completions)
    except UserError as error:
        return Step(view.name, "unknown", key.api_version, key.kind, key.name, key.namespace or "", replicas,
                    reason=error.message)  # fmt: skip
    live = state.live.get((view.name, key), state.copies.get((view.name, key)))
    wanted = manifest
    if state.mode == "hub":
        wanted = sent.marked(manifest, work=key.work, work_namespace=names.execution_namespace(view.name),
                             generation=0, uid="")  # fmt: skip
    result = applied(live, wanted) if isinstance(live, dict) else wanted
    step = _step(view.name, key, manifest, live, result, replicas=replicas, rules=tuple(applied_rules))
    foreign = state.mode == "hub" and isinstance(live, dict) and _is_foreign(live)
    if foreign and spec.get("conflictResolution") != "Overwrite":
        return Step(view.name, "conflict", key.api_version, key.kind, key.name, key.namespace or "", replicas,
                    reason="exists there and is not managed by this hub; conflictResolution is Abort")  # fmt: skip
    if work_spec(manifest, spec, view.name).get("suspendDispatching"):
        return Step(view.name, "keep", key.api_version, key.kind, key.name, key.namespace or "", replicas,
                    reason="dispatching to this cluster is suspended")  # fmt: skip
    return step


def _is_foreign(live: Object) -> bool:
    if live["kind"] == "Namespace" or "uid" not in live["metadata"]:
        return False  # a namespace is shared; without uid it is a Work's manifest
    return (live["metadata"].get("labels") or {}).get(names.MANAGED) != "true"


def _leaving(key: TemplateKey, cluster: str, match: policy.Match | None, decision: Decision) -> Step:
    base = (key.api_version, key.kind, key.name, key.namespace or "")
    if match is None and not decision.spec.get("requiredBy"):
        return Step(cluster, "keep", *base, reason="nothing manages it any more")
    tasks = decision.spec.get("gracefulEvictionTasks") or ()
    if any(task["fromCluster"] == cluster for task in tasks):
        return Step(cluster, "delete", *base, reason="once its replacement is Ready")
    return Step(cluster, "delete", *base, reason="no longer placed here; within the destruction budget")


def applied(live: Object | None, config: Object) -> Object:
    """The object after a server-side apply of ours, as far as the built-in schemas say; a plain merge for others."""
    group, _, version = config["apiVersion"].rpartition("/")
    node = schema_for(group, version, config["kind"])
    if node is None:
        return config if live is None else deep_merge(live, config)
    try:
        canonical, _ = decode(config, node)
        if live is None:
            return dict(canonical)
        schema = Schema(node, config["apiVersion"])
        return server_side.apply(live, canonical, schema, manager=FIELD_MANAGER, now="", force=True)
    except (DecodeError, AtollError):
        return config if live is None else dict(merge(live, config, node))


def deep_merge(live: Any, config: Any) -> Any:
    """Maps merged, everything else replaced."""
    if isinstance(live, dict) and isinstance(config, dict):
        return {**live, **{key: deep_merge(live.get(key), value) for key, value in config.items()}}
    return config


def _step(
    where: str, key: TemplateKey, manifest: Object, live: Object | Unknown | None, result: Object, *,
    replicas: int | None = None, rules: tuple[str, ...] = (),
) -> Step:  # fmt: skip
    base = (key.api_version, key.kind, key.name, key.namespace or "", replicas, rules)
    if isinstance(live, Unknown):
        return Step(where, "unknown", *base, manifest=manifest, reason=live.reason)
    if live is None:
        return Step(where, "create", *base, manifest=manifest)
    group, _, version = key.api_version.rpartition("/")
    differing = [
        one
        for one in diff(live, result, schema_for(group, version, key.kind))
        if names.PREFIX not in one.path and "managedFields" not in one.path
    ]
    found = tuple(settled.shown(key.kind, one) for one in differing if not settled.is_settled(one))
    if not found:
        return Step(where, "none", *base, manifest=manifest)
    return Step(where, "change", *base, changes=found, manifest=manifest)


def _reads(state: State) -> list[Read]:
    found = []
    for (where, key), obj in state.live.items():
        found.append(_read(where, key, digest_of(obj)))
    for obj in [*state.policies, *state.overrides]:
        key = TemplateKey(POLICY_API, obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"])
        if ("hub", key) not in state.live:
            found.append(_read("hub", key, digest(obj)))
    for view in state.clusters:
        found.append(Read(view.name, "", "Cluster", "", view.name, cluster_digest(view)))
    return found


def digest_of(obj: Object | Unknown | None) -> str:
    if isinstance(obj, Unknown):
        return "unknown"
    return digest(obj)


def _read(where: str, key: TemplateKey, version: str) -> Read:
    return Read(where, key.api_version, key.kind, key.namespace or "", key.name, version)


def changed_reads(before: tuple[Read, ...], now: tuple[Read, ...]) -> list[str]:
    """What differs between two sets of reads, for people."""
    old = {(one.where, one.api_version, one.kind, one.namespace, one.name): one.digest for one in before}
    new = {(one.where, one.api_version, one.kind, one.namespace, one.name): one.digest for one in now}
    found = []
    for identity in sorted(old.keys() | new.keys()):
        if old.get(identity, "") != new.get(identity, ""):
            where, _, kind, space, name = identity
            found.append(f"{kind} {space + '/' if space else ''}{name} on {where}")
    return found
