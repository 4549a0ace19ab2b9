"""Which nodes of one domain the members of a gang get, in as few narrower domains as will do.

Members of one shape are counted: how many each node takes. Where they look at each other (affinity between pods,
topology spread), or nodes have devices in common, they are placed one by one; those that must be near each other (a Job
that has a rack for itself) in one domain after the other, the tightest that has room for them first. Where several
share a ResourceClaim that has no devices yet, the first of them decides where those are, the roomiest nodes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from atoll.scheduling.arrays import Ints, Rows, np
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.evaluation import Evaluation
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo, Term
from atoll.scheduling.trial import Undo, place, trial

_MOST_STARTS = 16  # nodes on which a shared claim is tried

Groups = list[tuple[list[PodInfo], Evaluation]]
Filled = dict[str, int]  # member uid → row


def by_shape(planner: Planner, members: Sequence[PodInfo]) -> Groups | None:
    """Members by shape, in order of first appearance; None where a member's claims can't be resolved."""
    found: dict[int, tuple[list[PodInfo], Evaluation]] = {}
    last: tuple[PodInfo, Evaluation] | None = None
    for pod in members:
        spec = pod.obj.get("spec") or {}
        plain = "volumes" not in spec and "resourceClaims" not in spec
        if last is not None and plain and last[0].template is pod.template and last[0].pods is pod.pods:
            evaluation: Evaluation | None = last[1]
        else:
            evaluation = planner.evaluation(pod)
        if evaluation is None:
            return None
        last = (pod, evaluation) if plain else None
        found.setdefault(id(evaluation), ([], evaluation))[0].append(pod)
    return list(found.values())


def fill(planner: Planner, levels: Sequence[str], groups: Groups, rows: Rows) -> Filled | None:
    """All members on these rows; None: not all fit. `levels`: node labels, wide to narrow."""
    shared = _shared(groups)
    if shared:
        return _from_the_first(planner, levels, groups, rows, shared)
    if any(evaluation.refusals.look_around for _, evaluation in groups):
        return _one_by_one(planner, groups, rows)
    try:
        return _by_room(planner, levels, groups, rows)
    except AllocationError:  # of devices that nodes have in common: each node alone had enough
        return _one_by_one(planner, groups, rows)


def _shared(groups: Groups) -> set[str]:
    """Claims without devices that several members name."""
    users: Counter[str] = Counter()
    for pods, evaluation in groups:
        for claim in evaluation.shape.devices.shared:
            users[claim] += len(pods)
    return {claim for claim, count in users.items() if count > 1}


def _from_the_first(
    planner: Planner, levels: Sequence[str], groups: Groups, rows: Rows, shared: set[str]
) -> Filled | None:
    pods, evaluation = next(group for group in groups if shared.intersection(group[1].shape.devices.shared))
    first = pods[0]
    others = [pod for some, _ in groups for pod in some if pod is not first]
    room = evaluation.room(rows)
    starts = rows[np.argsort(-room, kind="stable")][: min(_MOST_STARTS, int(np.count_nonzero(room)))]
    for row in starts.tolist():
        with trial() as undos, suppress(AllocationError):
            undos.append(place(planner, first, planner.nodes.names[row]))
            rest = by_shape(planner, others)
            planner.nodes.follow()
            found = None if rest is None else fill(planner, levels, rest, rows)
            if found is not None:
                return {first.uid: row, **found}
    return None


def _by_room(planner: Planner, levels: Sequence[str], groups: Groups, rows: Rows) -> Filled | None:
    """Shape after shape, by how many members each node takes. Raises AllocationError."""
    if len(groups) == 1 and not groups[0][1].shape.devices.takes_devices:
        pods, evaluation = groups[0]
        return _assign(planner, levels, pods, evaluation, rows)
    found: Filled = {}
    with trial() as undos:
        for pods, evaluation in groups:
            planner.nodes.follow()
            evaluation.sync()
            some = _assign(planner, levels, pods, evaluation, rows)
            if some is None:
                return None
            found.update(some)
            for pod in pods:
                undos.append(place(planner, pod, planner.nodes.names[some[pod.uid]]))
    return found


def _network_order(planner: Planner, levels: Sequence[str], rows: list[int]) -> list[int]:
    """Rows by the values of all levels, then by name."""
    nodes = planner.nodes

    def path(row: int) -> tuple[str, ...]:
        node = nodes.nodes[row]
        labels = {} if node is None else node.labels
        return (*(labels.get(level, "") for level in levels), nodes.names[row])

    return sorted(rows, key=path)


def _assign(
    planner: Planner, levels: Sequence[str], pods: list[PodInfo], evaluation: Evaluation, rows: Rows
) -> Filled | None:
    room = evaluation.room(rows)
    if int(np.minimum(room, len(pods)).sum()) < len(pods):
        return None
    taken = _descend(planner, levels, rows, room, len(pods))
    found: Filled = {}
    members = iter(pods)
    for row in _network_order(planner, levels, list(taken)):
        for _ in range(taken[row]):
            found[next(members).uid] = row
    return found


def _descend(planner: Planner, levels: Sequence[str], rows: Rows, room: Ints, wanted: int) -> dict[int, int]:
    """How many members each row takes: as few domains of each narrower level as will do."""
    nodes = planner.nodes
    parts: list[tuple[Rows, int]] = [(rows, wanted)]
    rooms = np.zeros(nodes.size, np.int64)
    rooms[rows] = np.minimum(room, wanted)
    for level in levels:
        ids = nodes.label(level).ids
        narrower: list[tuple[Rows, int]] = []
        for inside, number in parts:
            mine = ids.take(inside)
            domains, places = np.unique(mine, return_inverse=True)
            sums = np.zeros(len(domains), np.int64)
            np.add.at(sums, places, rooms.take(inside))
            for domain, share in fewest_domains(sums, number):
                narrower.append((inside[places == domain], share))
        parts = narrower
    found: dict[int, int] = {}
    for inside, number in parts:
        for at, share in fewest_domains(rooms.take(inside), number):
            found[int(inside[at])] = share
    return found


def fewest_domains(sums: Ints, wanted: int) -> list[tuple[int, int]]:
    """(domain, members): the roomiest first, and the last as small as it can be. The sums suffice for all."""
    found: list[tuple[int, int]] = []
    order = np.argsort(-sums, kind="stable")
    ordered = sums.take(order)
    for at in range(len(order)):
        rest = ordered[at:]
        if rest[0] >= wanted:
            tightest = int(np.count_nonzero(rest >= wanted)) - 1
            tightest = int((rest == rest[tightest]).nonzero()[0][0])  # the first of equals
            found.append((int(order[at + tightest]), wanted))
            break
        found.append((int(order[at]), int(rest[0])))
        wanted -= int(rest[0])
    return found


def _one_by_one(planner: Planner, groups: Groups, rows: Rows) -> Filled | None:
    """Each member on its best node, given those before it; who must be near each other, in one domain with room."""
    found: Filled = {}
    with trial() as undos:
        for some in _by_affinity(groups):
            for domain in _domains(planner, some, rows):
                with trial() as tried:
                    placed = _on_their_best(planner, some, domain, tried)
                    if placed is None:
                        continue
                    undos += tried
                    tried.clear()
                found.update(placed)
                break
            else:
                return None
    return found


def _by_affinity(groups: Groups) -> list[Groups]:
    """Shapes that want to be near the same pods."""
    found: dict[tuple[Term, ...], Groups] = {}
    for pods, evaluation in groups:
        found.setdefault(tuple(evaluation.shape.template.affinity), []).append((pods, evaluation))
    return list(found.values())


def _domains(planner: Planner, groups: Groups, rows: Rows) -> list[Rows]:
    """Where those that want to be near the same pods can go; if those pods are they themselves, the tightest first."""
    keys = {term.topology_key for _, evaluation in groups for term in evaluation.shape.template.affinity}
    if len(keys) != 1 or not all(evaluation.shape.affinity_self for _, evaluation in groups):
        return [rows]
    column, wanted = planner.nodes.label(keys.pop()), sum(len(pods) for pods, _ in groups)
    ids = column.ids.take(rows)
    there = ids >= 0
    sums, spare = np.zeros(len(column.values), np.int64), np.zeros(len(column.values), np.int64)
    for pods, _ in groups:
        evaluation = planner.evaluation(pods[0])  # as it is by now
        if evaluation is None:
            return []
        room = np.zeros_like(sums)
        np.add.at(room, ids[there], np.minimum(evaluation.room(rows), len(pods))[there])
        sums += np.minimum(room, len(pods))
        spare += room
    enough = (sums >= wanted).nonzero()[0]
    return [rows[ids == domain] for domain in enough[np.argsort(spare[enough], kind="stable")].tolist()]


def _on_their_best(planner: Planner, groups: Groups, rows: Rows, undos: list[Undo]) -> Filled | None:
    """Places them; `undos` takes that back, also where not all fit."""
    others = np.ones(planner.nodes.size, np.bool_)
    others[rows] = False
    barred = others.nonzero()[0].tolist()
    found: Filled = {}
    for pods, _ in groups:
        for pod in pods:
            evaluation = planner.evaluation(pod)  # the members before it may have changed its shape
            row = None if evaluation is None else evaluation.best(barred)
            if row is None:
                return None
            found[pod.uid] = row
            try:
                undos.append(place(planner, pod, planner.nodes.names[row]))
            except AllocationError:
                return None
    return found
