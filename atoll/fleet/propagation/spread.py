"""spreadConstraints: how many regions, zones, providers, label values and clusters a template is spread over. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atoll.fleet.model import ClusterView

if TYPE_CHECKING:
    from atoll.fleet.propagation.placement import Question

Object = dict[str, Any]


def select(
    question: Question, fit: list[ClusterView], keeping: list[ClusterView], room: dict[str, int]
) -> tuple[list[ClusterView], dict[str, str], str]:
    """The clusters chosen of those that fit, why others were not, and the problem if the constraints can't be met.

    Clusters that keep what they hold count as chosen already.
    """
    constraints = [item for item in question.placement.get("spreadConstraints") or () if item]
    if not constraints:
        return fit, {}, ""
    by_cluster = [item for item in constraints if _field(item) == "cluster"]
    by_group = [item for item in constraints if _field(item) != "cluster"]
    reasons: dict[str, str] = {}
    candidates = fit
    for constraint in by_group:
        candidates, dropped = _with_group(candidates, constraint)
        reasons |= dropped
    ranked = sorted(candidates, key=lambda one: _rank(question, one, room))
    least = max((int(item.get("minGroups") or 1) for item in by_cluster), default=0)
    most = min((int(item["maxGroups"]) for item in by_cluster if item.get("maxGroups")), default=len(ranked) + 99)
    for constraint in by_group:
        ranked, dropped, problem = _choose_groups(constraint, ranked, keeping, room, most)
        reasons |= dropped
        if problem:
            return [], reasons, problem
    chosen = _choose_clusters(ranked, by_group, max(0, most - len(keeping)), question, room)
    if len(chosen) + len(keeping) < least:
        count = len(chosen) + len(keeping)
        return [], reasons, f"the number of feasible clusters {count} is less than spreadConstraint's minGroups {least}"
    for one in ranked:
        if one not in chosen:
            reasons[one.name] = f"the spread constraint takes at most {most} clusters, others rank higher"
    return sorted(chosen, key=lambda one: one.name), reasons, ""


def _field(constraint: Object) -> str:
    if constraint.get("spreadByLabel"):
        return f"label:{constraint['spreadByLabel']}"
    return str(constraint.get("spreadByField") or "cluster")


def _values(constraint: Object, cluster: ClusterView) -> tuple[str, ...]:
    label = constraint.get("spreadByLabel")
    if label:
        return (cluster.labels[label],) if label in cluster.labels else ()
    return cluster.field(_field(constraint))


def _rank(question: Question, cluster: ClusterView, room: dict[str, int]) -> tuple[bool, int, str]:
    """Those that hold it already, then the roomiest, then by name."""
    stands = cluster.name in question.standing and not question.fresh
    return not stands, -room.get(cluster.name, 0), cluster.name


def _with_group(clusters: list[ClusterView], constraint: Object) -> tuple[list[ClusterView], dict[str, str]]:
    named = [one for one in clusters if _values(constraint, one)]
    dropped = {one.name: f"has no {_field(constraint)} to spread by" for one in clusters if one not in named}
    return named, dropped


def _choose_groups(
    constraint: Object, ranked: list[ClusterView], keeping: list[ClusterView], room: dict[str, int], most_clusters: int
) -> tuple[list[ClusterView], dict[str, str], str]:
    """The clusters of as many of the best groups as the constraint takes."""
    what = _field(constraint)
    least, most = int(constraint.get("minGroups") or 1), int(constraint.get("maxGroups") or 0) or None
    groups: dict[str, list[ClusterView]] = {}
    for one in ranked:
        for value in _values(constraint, one):
            groups.setdefault(value, []).append(one)
    held = {value for one in keeping for value in _values(constraint, one)}
    if len(groups.keys() | held) < least:
        return [], {}, f"the number of feasible {what}s {len(groups.keys() | held)} is less than minGroups {least}"
    best_first = {one.name: number for number, one in enumerate(ranked)}

    def order(value: str) -> tuple[bool, int, int, str]:
        members = groups[value]
        space = sum(room.get(one.name, 0) for one in members)
        return value not in held, -space, min(best_first[one.name] for one in members), value

    limit = min(most if most is not None else len(groups), max(most_clusters, least))
    taken = sorted(groups, key=order)[: max(limit, 0)]
    chosen = [one for one in ranked if any(value in taken for value in _values(constraint, one))]
    reason = f"the spread constraint takes at most {limit} {what}s, others rank higher"
    return chosen, {one.name: reason for one in ranked if one not in chosen}, ""


def _choose_clusters(
    ranked: list[ClusterView], by_group: list[Object], most: int, question: Question, room: dict[str, int]
) -> list[ClusterView]:
    """At most `most`: first the best of each group, then by rank; enough room before rank where room is counted."""
    if len(ranked) <= most:
        return ranked
    chosen: list[ClusterView] = []
    for constraint in by_group:
        seen = {value for one in chosen for value in _values(constraint, one)}
        for one in ranked:
            values = _values(constraint, one)
            if one not in chosen and len(chosen) < most and not seen.intersection(values):
                chosen.append(one)
                seen.update(values)
    for one in ranked:
        if len(chosen) >= most:
            break
        if one not in chosen:
            chosen.append(one)
    return chosen
