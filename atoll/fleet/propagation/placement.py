"""Where a template goes: filter, score, spread, divide. Pure: a snapshot in, a Placement with all its reasons out.

Groups of clusterAffinities are tried in their order, beginning with the one in use. A cluster that may take
nothing new (not ready, tainted) keeps what it holds while its taints are tolerated, and never gets more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.fleet.model import ClusterView, Placement, Requirements, Verdict
from atoll.fleet.propagation import spread
from atoll.fleet.propagation.capacity import available
from atoll.fleet.propagation.selectors import mismatch
from atoll.scheduling import division
from atoll.scheduling.matching import tolerates

Object = dict[str, Any]
STANDING_SCORE = 100


@dataclass(frozen=True, slots=True)
class Question:
    """One template to place."""

    api_version: str
    kind: str
    placement: Object  # spec.placement of the policy
    replicas: int | None = None  # None: a kind without replicas
    needs: Requirements = field(default_factory=Requirements)
    standing: Mapping[str, int | None] = field(default_factory=dict)  # what was decided before
    affinity: str = ""  # the clusterAffinities group in use
    evicting: frozenset[str] = frozenset()  # clusters that are being left: nothing new goes there
    lost: frozenset[str] = frozenset()  # clusters not ready for longer than the policy tolerates
    fresh: bool = False  # ignore what stands (a rebalance was asked for)
    reserved: Mapping[str, int] = field(default_factory=dict)  # replicas on their way to a cluster, not yet seen there


def place(question: Question, clusters: list[ClusterView]) -> Placement:
    """The decision; `targets` is empty when no group of clusters will do."""
    ordered = sorted(clusters, key=lambda cluster: cluster.name)
    groups = _groups(question.placement)
    start = next((number for number, group in enumerate(groups) if group[0] == question.affinity), 0)
    if question.fresh:
        start = 0
    tried: list[Placement] = []
    for name, tiers in groups[start:] + groups[:start]:
        found = _place_in_tiers(question, ordered, name, tiers)
        stays = found.targets and question.standing and not question.fresh
        if stays or found.reason == "Success":
            return found
        tried.append(found)
    return next((found for found in tried if found.targets), tried[0])


def _groups(placement: Object) -> list[tuple[str, list[Object | None]]]:
    """Named groups, each with the tiers that it overflows into."""
    groups = placement.get("clusterAffinities")
    if groups:
        return [(one.get("affinityName", ""), [one, *(one.get("overflowAffinities") or ())]) for one in groups]
    affinity = placement.get("clusterAffinity")
    return [("", [affinity, *((affinity or {}).get("overflowAffinities") or ())])]


def _place_in_tiers(
    question: Question, clusters: list[ClusterView], name: str, tiers: list[Object | None]
) -> Placement:
    """With the first tier alone, and with one more as long as replicas remain unplaced."""
    found = _place_in_group(question, clusters, name, tiers[:1])
    for count in range(2, len(tiers) + 1):
        if found.reason == "Success":
            break
        found = _place_in_group(question, clusters, name, tiers[:count])
    return found


def _outside(affinities: list[Object | None], cluster: ClusterView) -> str:
    """Why the cluster is in none of the affinities; "" when it is in one."""
    reasons = [mismatch(affinity, cluster) for affinity in affinities]
    return "" if "" in reasons else reasons[0]


def _place_in_group(
    question: Question, clusters: list[ClusterView], name: str, affinities: list[Object | None]
) -> Placement:
    reasons: dict[str, str] = {}
    open_: list[ClusterView] = []  # may get something new
    keeping: list[ClusterView] = []  # keeps what it holds
    for cluster in clusters:
        stands = cluster.name in question.standing and not question.fresh
        why = unfit(question, cluster, affinities)
        if not why:
            open_.append(cluster)
            continue
        reasons[cluster.name] = why
        if stands and _may_keep(question, cluster, affinities):
            keeping.append(cluster)
    needs_room = strategy(question.placement) in ("dynamic", "aggregated") and question.replicas is not None
    room = {one.name: _room(question, one) for one in open_} if needs_room else {}
    chosen, spread_reasons, problem = spread.select(question, open_, keeping, room)
    reasons |= spread_reasons
    if problem:
        return _none(question, clusters, reasons, name, problem)
    if not chosen and not keeping:
        return _none(question, clusters, reasons, name, _summary(reasons, len(clusters)))
    return _divided(question, clusters, chosen, keeping, room, reasons, name)


def unfit(question: Question, cluster: ClusterView, affinities: list[Object | None]) -> str:
    """Why nothing new may go to the cluster; "" when it may."""
    why = _outside(affinities, cluster)
    if why:
        return why
    if cluster.deleting:
        return "is leaving the fleet"
    if cluster.name in question.lost:
        return "not ready for longer than the policy tolerates"
    if cluster.name in question.evicting:
        return "the workload is being moved away from it"
    taint = _untolerated(cluster, question.placement.get("clusterTolerations") or ())
    if taint is not None:
        value = f"={taint['value']}" if taint.get("value") else ""
        return f"untolerated taint {{{taint['key']}{value}:{taint['effect']}}}"
    if not cluster.ready:
        return "is not ready"
    if cluster.enablements is not None and (question.api_version, question.kind) not in cluster.enablements:
        return f"does not serve {question.api_version} {question.kind}"
    return ""


def _untolerated(cluster: ClusterView, tolerations: Any) -> Object | None:
    for taint in cluster.taints:
        hard = taint.get("effect") in ("NoSchedule", "NoExecute")
        if hard and not any(tolerates(toleration, taint) for toleration in tolerations):
            return taint
    return None


def _may_keep(question: Question, cluster: ClusterView, affinities: list[Object | None]) -> bool:
    """A cluster keeps what it holds unless the policy no longer means it, it leaves, or the workload is moved."""
    if _outside(affinities, cluster) or cluster.deleting:
        return False
    return cluster.name not in question.lost and cluster.name not in question.evicting


def strategy(placement: Object) -> str:
    """duplicated, static, dynamic or aggregated."""
    scheduling = placement.get("replicaScheduling")
    if not scheduling or scheduling.get("replicaSchedulingType", "Divided") == "Duplicated":
        return "duplicated"
    if scheduling.get("replicaDivisionPreference") == "Aggregated":
        return "aggregated"
    if (scheduling.get("weightPreference") or {}).get("dynamicWeight"):
        return "dynamic"
    return "static"


def _room(question: Question, cluster: ClusterView) -> int:
    """Replicas that fit in; an unknown capacity counts as room for all."""
    if cluster.nodes is None:
        return max(0, question.replicas or 0)
    return max(0, available(cluster.nodes, question.needs) - question.reserved.get(cluster.name, 0))


def _divided(
    question: Question, clusters: list[ClusterView], chosen: list[ClusterView], keeping: list[ClusterView],
    room: dict[str, int], reasons: dict[str, str], group: str,
) -> Placement:  # fmt: skip
    kind = strategy(question.placement)
    room = {one.name: room[one.name] for one in chosen if one.name in room}
    targets: dict[str, int | None]
    unplaced, why = 0, ""
    if question.replicas is None or kind == "duplicated":
        targets = {one.name: question.replicas for one in [*chosen, *keeping]}
        words = "the whole object in each cluster" if question.replicas is None else "the same replicas in each cluster"
    else:
        found, words = _shares(question, kind, chosen, keeping, room)
        targets = {name: share for name, share in found.shares.items() if share > 0 or question.replicas == 0}
        unplaced, why = found.unplaced, found.reason
        for name, share in found.shares.items():
            if share == 0 and question.replicas:
                reasons.setdefault(name, _no_share(name, room))
    verdicts = tuple(_verdict(question, one.name, targets, reasons) for one in clusters)
    reason = "InsufficientCapacity" if unplaced else "Success"
    message = why or "Binding has been scheduled successfully."
    return Placement(dict(sorted(targets.items())), verdicts, group, unplaced, reason, message, words)


def _no_share(name: str, room: dict[str, int]) -> str:
    if room.get(name) == 0:
        return "has no room for another replica"
    return "the division gave it no replica"


def _shares(
    question: Question, kind: str, chosen: list[ClusterView], keeping: list[ClusterView], room: dict[str, int]
) -> tuple[division.Division, str]:
    assert question.replicas is not None
    standing = {} if question.fresh else {name: count or 0 for name, count in question.standing.items()}
    kept_names = {one.name for one in keeping}
    if kind == "static":
        weights = static_weights(question.placement, [*chosen, *keeping])
        found = _static(question.replicas, weights, {name: standing.get(name, 0) for name in kept_names})
        listed = ", ".join(f"{name} {weights[name]}" for name in sorted(weights))
        return found, f"by static weights ({listed})"
    live = {one.name for one in chosen} | kept_names
    stands = {name: count for name, count in standing.items() if name in live and count > 0}
    words = "by available replicas" if kind == "dynamic" else "into as few clusters as possible"
    if sum(stands.values()) > question.replicas:
        cut = division.shrink if kind == "dynamic" else division.aggregate_down
        return cut(question.replicas, stands), f"{words}; what stands was reduced"
    divide = division.grow if kind == "dynamic" else division.aggregate
    listed = ", ".join(f"{name} {room[name]}" for name in sorted(room))
    return divide(question.replicas, stands, room), f"{words} (room: {listed})"


def _static(replicas: int, weights: dict[str, int], kept: dict[str, int]) -> division.Division:
    """Webster's shares; a cluster that may only keep gets no more than it holds, the others divide the rest."""
    full = division.webster(replicas, weights)
    held = {name: min(count, full.shares.get(name, 0)) for name, count in kept.items()}
    if not kept:
        return full
    free = {name: weight for name, weight in weights.items() if name not in kept}
    rest = division.webster(replicas - sum(held.values()), free)
    if rest.unplaced:
        return division.Division({**held, **rest.shares}, rest.unplaced, "no other cluster may take replicas")
    return division.Division({**held, **rest.shares})


def static_weights(placement: Object, clusters: list[ClusterView]) -> dict[str, int]:
    """Each cluster's weight: the highest of the entries that mean it. No list, or no match, means all the same."""
    entries = ((placement.get("replicaScheduling") or {}).get("weightPreference") or {}).get("staticWeightList") or ()
    weights = {
        cluster.name: max(
            (int(entry["weight"]) for entry in entries if not mismatch(entry.get("targetCluster"), cluster)), default=0
        )
        for cluster in clusters
    }
    return weights if any(weights.values()) else dict.fromkeys(weights, 1)


def _verdict(question: Question, name: str, targets: dict[str, int | None], reasons: dict[str, str]) -> Verdict:
    score = STANDING_SCORE if name in question.standing and not question.fresh else 0
    if name not in targets:
        return Verdict(name, False, reasons.get(name, "not needed"), score)
    if name in reasons:
        return Verdict(name, True, f"keeps what it holds ({reasons[name]})", score)
    return Verdict(name, True, "fits" + (", holds it already" if score else ""), score)


def _summary(reasons: dict[str, str], total: int) -> str:
    counts: dict[str, int] = {}
    for reason in reasons.values():
        counts[reason] = counts.get(reason, 0) + 1
    listed = ", ".join(f"{count} cluster(s) {reason}" for reason, count in sorted(counts.items()))
    return f"0/{total} clusters are available: {listed or 'there is none'}."


def _none(question: Question, clusters: list[ClusterView], reasons: dict[str, str], group: str, why: str) -> Placement:
    verdicts = tuple(Verdict(one.name, False, reasons.get(one.name, "not considered")) for one in clusters)
    return Placement({}, verdicts, group, question.replicas or 0, "NoClusterFit", why)
