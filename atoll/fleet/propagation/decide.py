"""From a template and its policy to the binding's spec. Pure: the same values give the same spec."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from atoll.base import quantity
from atoll.base.clock import rfc3339
from atoll.fleet import names
from atoll.fleet.continuity import evictions, tolerance
from atoll.fleet.model import ClusterView, Placement, Requirements
from atoll.fleet.propagation import manifests
from atoll.fleet.propagation.interpreters.batch import is_finished
from atoll.fleet.propagation.interpreters.pods import requirements
from atoll.fleet.propagation.interpreters.table import pod_spec
from atoll.fleet.propagation.placement import Question, place
from atoll.fleet.propagation.policy import Match
from atoll.scheduling.resources import CPU

Object = dict[str, Any]
SCHEDULED = f"{names.PREFIX}scheduled"  # on a binding: what the last decision was, and of what
_DEFAULT_SCHEDULER = "default-scheduler"


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a decision looks at beside the template."""

    clusters: list[ClusterView]
    lost_for: Mapping[str, float]  # clusters observed not ready, and for how long
    present: frozenset[str]  # clusters that have a copy
    replaced: bool  # every target runs what it was given
    failover_seconds: float
    wall: float
    counts: Mapping[str, int] = field(default_factory=dict)  # replicas that clusters say they have
    reserved: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    spec: Object
    scheduled: Object  # the SCHEDULED annotation's value
    placement: Placement | None
    again_seconds: float | None  # when time alone may change it


def scheduled_of(binding: Object | None) -> Object:
    text = ((binding or {}).get("metadata", {}).get("annotations") or {}).get(SCHEDULED)
    found = orjson.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def replica_requirements(needs: Requirements, namespace: str | None, pod: Object | None) -> Object:
    """spec.replicaRequirements as upstream has it."""
    out: Object = {}
    claim: Object = {}
    if needs.node_affinity:
        claim["hardNodeAffinity"] = needs.node_affinity
    if needs.node_selector:
        claim["nodeSelector"] = dict(needs.node_selector)
    if needs.tolerations:
        claim["tolerations"] = list(needs.tolerations)
    if claim:
        out["nodeClaim"] = claim
    if needs.requests:
        out["resourceRequest"] = {
            key: quantity.from_milli(value) if key == CPU else str(value) for key, value in needs.requests.items()
        }
    if namespace:
        out["namespace"] = namespace
    if pod and pod.get("priorityClassName"):
        out["priorityClassName"] = pod["priorityClassName"]
    return out


def decide(
    template: Object, match: Match | None, required_by: list[Object], binding: Object | None, situation: Situation
) -> Decision:
    """The binding's spec. Without a match the template is there only because others require it."""
    old: Object = (binding or {}).get("spec") or {}
    spec: Object = {"resource": _reference(template)}
    for key in ("rescheduleTriggeredAt",):
        if key in old:
            spec[key] = old[key]
    if required_by:
        spec["requiredBy"] = required_by
    interpreter = manifests.interpreter(template)
    replicas = interpreter.replicas(template)
    if match is None:
        spec |= {"conflictResolution": old.get("conflictResolution", "Abort")}
        if replicas is not None:
            spec["replicas"] = replicas
        return Decision(spec, {}, None, None)
    policy = match.policy["spec"]
    if _is_lazy(policy, template, binding):
        policy = {**policy, **{key: old[key] for key in ("placement",) if key in old}}
    pod = pod_spec(template)
    needs = requirements(pod)
    if replicas is not None:
        spec["replicas"] = replicas
        spec["replicaRequirements"] = replica_requirements(needs, template["metadata"].get("namespace"), pod)
    placement = policy.get("placement") or {}
    spec["placement"] = placement
    spec["schedulerName"] = policy.get("schedulerName") or _DEFAULT_SCHEDULER
    spec["conflictResolution"] = policy.get("conflictResolution") or "Abort"
    for key in ("propagateDeps", "failover", "preserveResourcesOnDeletion", "suspension"):
        if policy.get(key):
            spec[key] = policy[key]
    if policy.get("association") and "propagateDeps" not in spec:
        spec["propagateDeps"] = True
    if ((old.get("suspension") or {}).get("scheduling")) and binding is not None:
        spec["suspension"] = {**(spec.get("suspension") or {}), "scheduling": True}
        spec |= {key: old[key] for key in ("clusters", "gracefulEvictionTasks") if key in old}
        return Decision(spec, scheduled_of(binding), None, None)
    return _scheduled(template, match, spec, old, binding, replicas, needs, situation)


def _scheduled(
    template: Object, match: Match, spec: Object, old: Object, binding: Object | None, replicas: int | None,
    needs: Requirements, situation: Situation,
) -> Decision:  # fmt: skip
    placement = spec["placement"]
    before = scheduled_of(binding)
    fingerprint = _fingerprint(placement)
    same = bool(before) and before.get("of") == fingerprint and old.get("replicas") == replicas
    standing = {item["name"]: item.get("replicas") for item in old.get("clusters") or ()}
    lost, evicted, again = _driven_out(placement, situation, standing)
    failback = (match.policy["metadata"].get("annotations") or {}).get(names.FAILBACK, "")
    fresh = spec.get("rescheduleTriggeredAt", "") > before.get("rebalanced", "")
    affinity = "" if failback == "Always" or not before else str(before.get("affinity") or "")
    question = Question(
        template["apiVersion"], template["kind"], placement, replicas, needs, standing, affinity,
        frozenset(evicted), frozenset(lost), fresh, situation.reserved,
    )  # fmt: skip
    found = place(question, situation.clusters)
    finished = template["kind"] == "Job" and is_finished(template)
    if standing and finished:
        here = {cluster.name for cluster in situation.clusters if not cluster.deleting}
        stays = {name: count for name, count in standing.items() if name in here}
        found = replace(found, targets=stays, unplaced=0, reason="Success", message="It is finished, and stays.")
        lost, evicted = {}, {}
    targets = found.targets
    if failback == "Never" and same and not fresh and standing and not (set(standing) & (set(lost) | set(evicted))):
        names_now = {cluster.name for cluster in situation.clusters}
        if set(standing) <= names_now and not before.get("unplaced"):
            targets = dict(standing)
    if targets or replicas == 0:
        spec["clusters"] = [
            {"name": name} if count is None else {"name": name, "replicas": count} for name, count in targets.items()
        ]
    tasks = evictions.revise(
        old, targets, lost=lost, evicted=evicted, shifting=same or fresh, present=set(situation.present),
        done=situation.replaced, now=rfc3339(situation.wall), counts=situation.counts,
    )  # fmt: skip
    if tasks and not finished:
        spec["gracefulEvictionTasks"] = tasks
    scheduled: Object = {"of": fingerprint, "reason": found.reason, "message": found.message[:900]}
    if found.affinity:
        scheduled["affinity"] = found.affinity
    if found.unplaced:
        scheduled["unplaced"] = found.unplaced
    if spec.get("rescheduleTriggeredAt"):
        scheduled["rebalanced"] = spec["rescheduleTriggeredAt"]
    return Decision(spec, scheduled, found, again)


def _driven_out(
    placement: Object, situation: Situation, standing: Mapping[str, int | None]
) -> tuple[dict[str, str], dict[str, str], float | None]:
    """Clusters lost for this policy, clusters that a taint drives it out of, and seconds till that may change."""
    lost: dict[str, str] = {}
    evicted: dict[str, str] = {}
    waits: list[float] = []
    limit = tolerance.not_ready_seconds(placement, situation.failover_seconds)
    for name, seconds in situation.lost_for.items():
        if limit is None:
            continue
        if seconds >= limit:
            lost[name] = f"cluster {name} has not been ready for {limit:g} s"
        elif name in standing:
            waits.append(limit - seconds + 0.001)
    for cluster in situation.clusters:
        if cluster.name in standing and cluster.deleting:
            evicted[cluster.name] = f"cluster {cluster.name} is leaving the fleet"
        elif cluster.name in standing and cluster.taints:
            why, later = tolerance.evicted(placement, cluster, situation.wall)
            if why:
                evicted[cluster.name] = why
            elif later is not None:
                waits.append(later)
    return lost, evicted, min(waits, default=None)


def _reference(template: Object) -> Object:
    metadata = template["metadata"]
    out = {"apiVersion": template["apiVersion"], "kind": template["kind"], "name": metadata["name"]}
    for key in ("namespace", "uid", "resourceVersion"):
        if metadata.get(key):
            out[key] = metadata[key]
    return out


def _is_lazy(policy: Object, template: Object, binding: Object | None) -> bool:
    """A lazily activated policy takes effect only with a change of the template itself."""
    if policy.get("activationPreference") != "Lazy" or binding is None:
        return False
    seen = (binding["metadata"].get("annotations") or {}).get(names.TEMPLATE_GENERATION)
    return seen == str(template["metadata"].get("generation") or 0)


def _fingerprint(placement: Object) -> str:
    return hashlib.sha256(orjson.dumps(placement, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def same_spec(one: Object, other: Object) -> bool:
    """Equal but for the template's resourceVersion, which every status write changes."""
    if one.keys() != other.keys():
        return False
    for key, value in one.items():
        if key == "resource":
            mine = {name: item for name, item in value.items() if name != "resourceVersion"}
            its = {name: item for name, item in other[key].items() if name != "resourceVersion"}
            if mine != its:
                return False
        elif value != other[key]:
            return False
    return True
