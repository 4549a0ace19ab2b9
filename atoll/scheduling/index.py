"""Which nodes fit one kind of pod and how good each is, kept up to date instead of computed again for each pod.

Placing a pod changes one node. So for each kind of pod (same template, same relation to its own and to others'
selectors) an `Index` remembers, per node, what its own filters and scores say, and groups nodes that do not differ
in what remains: topology values, counts of pods near by, taints and preferences. A decision looks at each *group*
once and takes the best node of the best group; it then costs as much as there are groups, not nodes. The result
equals evaluating every node (tests/property/test_scheduling_index.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from atoll.scheduling import counts, filters, scores, status
from atoll.scheduling.counts import TopologyCount
from atoll.scheduling.kind import Entry, Group, Kind, Verdict, by_key, included
from atoll.scheduling.pod import HOSTNAME, SpreadConstraint, Template
from atoll.scheduling.state import ClusterState, NodeState
from atoll.scheduling.status import Status


class Index:
    """The feasible nodes of one kind of pod."""

    def __init__(self, state: ClusterState, kind: Kind) -> None:
        self.kind = kind
        self._state = state
        self._entries: dict[str, Entry] = {}
        self._groups: dict[tuple[object, ...], Group] = {}
        self._position = state.journal_end
        self._structure = state.structure
        self._images_version = state.images_version
        self._why: tuple[int, dict[str, Status]] | None = None
        template = kind.template
        self._hard = [TopologyCount(item.topology_key, counts.spread_pods(item), self._eligible(item, kind.hard))
                      for item in kind.hard]  # fmt: skip
        self._soft = [TopologyCount(item.topology_key, counts.spread_pods(item), self._soft_eligible(item))
                      for item in kind.soft]  # fmt: skip
        self._soft_ids = set(map(id, self._soft))
        self._near = [TopologyCount(term.topology_key, counts.pods_of_all(template.affinity))
                      for term in template.affinity]  # fmt: skip
        self._apart = [TopologyCount(term.topology_key, counts.pods_of_term(term)) for term in template.anti_affinity]
        self._against = [TopologyCount(key, counts.existing_anti(terms)) for key, terms in by_key(kind.against)]
        self._liked = self._weights()
        self._counts = [*self._hard, *self._soft, *self._near, *self._apart, *self._against, *self._liked]
        self._keys: list[str] = []
        self._own: list[TopologyCount] = []
        self._per_node()
        self._fill()

    # construction

    def _eligible(self, constraint: SpreadConstraint, group: list[SpreadConstraint]) -> Callable[[NodeState], bool]:
        template = self.kind.template
        keys = [item.topology_key for item in group]

        def eligible(node: NodeState) -> bool:
            if not all(key in node.labels for key in keys):
                return False
            return included(constraint, template, node)

        return eligible

    def _soft_eligible(self, constraint: SpreadConstraint) -> Callable[[NodeState], bool]:
        if constraint.topology_key == HOSTNAME:  # upstream counts the node itself, whatever the policies say
            return lambda _node: True
        if self.kind.require_all:
            return self._eligible(constraint, self.kind.soft)
        template = self.kind.template
        return lambda node: included(constraint, template, node)

    def _weights(self) -> list[TopologyCount]:
        own = self.kind.template.preferred
        keys = sorted({term.topology_key for _, term in own} | {term.topology_key for term in self.kind.liked})
        return [
            TopologyCount(
                key,
                counts.weights(
                    [item for item in own if item[1].topology_key == key],
                    frozenset(term for term in self.kind.liked if term.topology_key == key),
                ),
            )
            for key in keys
        ]

    def _per_node(self) -> bool:
        """Find which counts belong to single nodes; True when that has changed."""
        nodes = self._state.nodes.values()
        unique: dict[str, bool] = {}
        for key in {count.key for count in self._counts}:
            values = [node.labels[key] for node in nodes if key in node.labels]
            unique[key] = len(set(values)) == len(values)
        changed = False
        for count in self._counts:
            own = unique[count.key] or (id(count) in self._soft_ids and count.key == HOSTNAME)
            changed = changed or own != count.per_node
            count.per_node = own
        self._own = [count for count in self._counts if count.per_node]
        self._keys = sorted({count.key for count in self._counts if not count.per_node})
        return changed

    def _fill(self) -> None:
        self._entries.clear()
        self._groups.clear()
        for node in self._state.nodes.values():
            self._update(node)

    # staying up to date

    def sync(self) -> None:
        """Catch up with the cluster."""
        state = self._state
        if self._images_version != state.images_version or self._position < state.journal_start:
            self._images_version = state.images_version
            self._structure = state.structure
            self._position = state.journal_end
            self._per_node()
            self._resync(list(self._entries))
            self._fill()
            return
        if self._position == state.journal_end:
            return
        changed = state.journal[self._position - state.journal_start :]
        self._position = state.journal_end
        if self._structure != state.structure:
            self._structure = state.structure
            if self._per_node():
                self._resync(list(self._entries))
                self._fill()
                return
        for name in changed if len(changed) < 3 else dict.fromkeys(changed):
            node = state.nodes.get(name)
            if node is None:
                self._drop(name)
            else:
                self._update(node)

    def _resync(self, names: list[str]) -> None:
        for name in names:
            if name not in self._state.nodes:
                for count in self._counts:
                    count.drop(name)

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._leave(entry)
            for count in self._counts:
                count.drop(name)

    def _update(self, node: NodeState) -> None:
        for count in self._counts:
            count.update(node)
        entry = self._entries.get(node.name)
        if entry is None or entry.node is not node:
            if entry is not None:
                self._leave(entry)
            entry = self._entries[node.name] = Entry(node)
        template = self.kind.template
        if entry.version != node.version:
            self._static(entry, template, node)
        entry.local = entry.early or filters.dynamic(template, node) or entry.late
        if entry.local is not None:
            self._leave(entry)
            return
        score = scores.least_allocated(template, node) + scores.balanced(template, node) + entry.images
        signature = self._signature(entry)
        group = entry.group
        if group is not None and group.signature == signature:
            if entry.score == score and entry.pods == len(node.pods):
                return
        else:
            self._leave(entry)
            group = self._groups.get(signature)
            if group is None:
                group = self._groups[signature] = Group(signature, entry.taints, entry.preference, node)
            group.size += 1
            entry.group = group
        entry.score = score
        entry.pods = len(node.pods)
        entry.stamp += 1
        heapq.heappush(group.heap, (-score, entry.pods, node.order, entry.stamp))
        if len(group.heap) > 4 * group.size + 64:
            self._sweep(group)

    def _static(self, entry: Entry, template: Template, node: NodeState) -> None:
        entry.version = node.version
        entry.early = filters.static(template, node)
        entry.late = self.kind.volumes.check(node.name, node.labels)
        entry.taints = filters.intolerable(template, node) if node.taints else 0
        entry.preference = filters.preference(template, node) if template.preferred_nodes else 0
        state = self._state
        entry.images = scores.images(template, node, state.image_nodes, len(state.nodes)) if state.image_nodes else 0

    def _signature(self, entry: Entry) -> tuple[object, ...]:
        labels = entry.node.labels
        return (
            entry.taints,
            entry.preference,
            *[labels.get(key) for key in self._keys],
            *[self._soft_count(count, entry.node) for count in self._own],
        )

    def _leave(self, entry: Entry) -> None:
        group = entry.group
        if group is None:
            return
        group.size -= 1
        entry.group = None
        entry.stamp += 1
        if group.size == 0:
            del self._groups[group.signature]
        elif group.node is entry.node:
            group.node = self._first(group).node

    def _first(self, group: Group) -> Entry:
        """The best node of a group: the highest score, then the fewest pods, then the node order."""
        heap = group.heap
        while True:
            _, _, order, stamp = heap[0]
            entry = self._entries.get(order[1])
            if entry is not None and entry.stamp == stamp and entry.group is group:
                return entry
            heapq.heappop(heap)

    def _sweep(self, group: Group) -> None:
        live = []
        for item in group.heap:
            entry = self._entries.get(item[2][1])
            if entry is not None and entry.stamp == item[3] and entry.group is group:
                live.append(item)
        heapq.heapify(live)
        group.heap = live

    # deciding

    def best(self) -> str | None:
        """The name of the best feasible node."""
        verdicts = self._verdicts()
        if not verdicts:
            return None
        if len(verdicts) == 1:
            return self._first(verdicts[0].group).node.name
        chosen: tuple[int, int, tuple[float, str]] | None = None
        for verdict, extra in zip(verdicts, self._extras(verdicts), strict=True):
            entry = self._first(verdict.group)
            rank = (-(entry.score + extra), entry.pods, entry.node.order)
            if chosen is None or rank < chosen:
                chosen = rank
        assert chosen is not None
        return chosen[2][1]

    def totals(self) -> dict[str, int]:
        """The final score of every feasible node (for explaining, and for tests)."""
        verdicts = self._verdicts()
        extra = {id(v.group): e for v, e in zip(verdicts, self._extras(verdicts), strict=True)}
        return {
            name: entry.score + extra[id(entry.group)]
            for name, entry in self._entries.items()
            if entry.group is not None and id(entry.group) in extra
        }

    def _verdicts(self) -> list[Verdict]:
        groups = list(self._groups.values())
        if self._hard or self._near or self._apart or self._against:
            floors = [count.least(item.min_domains) for count, item in zip(self._hard, self.kind.hard, strict=True)]
            anywhere = any(count.total for count in self._near)
            groups = [group for group in groups if self._around(group.node, floors, anywhere) is None]
        if not groups:
            return []
        spreads = self._spreads(groups) if self._soft else [None] * len(groups)
        liked = self._liked
        return [
            Verdict(group, spread, sum([count.at(group.node) or 0 for count in liked]) if liked else 0)
            for group, spread in zip(groups, spreads, strict=True)
        ]

    def _spreads(self, groups: list[Group]) -> list[int | None]:
        """PodTopologySpread's raw score of each group; None for nodes that lack a required key."""
        soft = self.kind.soft
        taking = groups
        if self.kind.require_all:
            keys = [item.topology_key for item in soft]
            taking = [group for group in groups if all(key in group.node.labels for key in keys)]
        weights = []
        for item in soft:
            if item.topology_key == HOSTNAME:
                size = sum(group.size for group in taking)
            elif any(count.key == item.topology_key and count.per_node for count in self._soft):
                labelled = [group for group in taking if item.topology_key in group.node.labels]
                size = sum(group.size for group in labelled) + (len(labelled) < len(taking))
            else:
                size = len({group.node.labels.get(item.topology_key, "") for group in taking})
            weights.append(scores.spread_weight(size))
        members = {id(group) for group in taking}
        found: list[int | None] = []
        for group in groups:
            if id(group) not in members:
                found.append(None)
                continue
            parts = []
            for count, item, weight in zip(self._soft, soft, weights, strict=True):
                number = self._soft_count(count, group.node)
                if number is not None:
                    parts.append((number, item.max_skew, weight))
            found.append(scores.spread(parts))
        return found

    def _soft_count(self, count: TopologyCount, node: NodeState) -> int | None:
        """The count at a node's value; by upstream's rule that of the node itself where the key is the hostname."""
        if count.key != HOSTNAME or id(count) not in self._soft_ids:
            return count.at(node)
        mine = count.of(node)
        return None if mine is None else mine[1]

    def _extras(self, verdicts: list[Verdict]) -> list[int]:
        """Normalised and weighted scores of the groups, beyond what each node scores by itself."""
        spreads = [verdict.spread for verdict in verdicts if verdict.spread is not None]
        low, high = (min(spreads), max(spreads)) if spreads else (0, 0)
        liked = [verdict.affinity for verdict in verdicts]
        least, most = min(liked, default=0), max(liked, default=0)
        taints = max((verdict.group.taints for verdict in verdicts), default=0)
        preference = max((verdict.group.preference for verdict in verdicts), default=0)
        extras = []
        for group, spread, affinity in verdicts:
            extra = scores.TAINT_WEIGHT * scores.normal_down(group.taints, taints)
            extra += scores.NODE_AFFINITY_WEIGHT * scores.normal_up(group.preference, preference)
            if spread is not None:
                extra += scores.SPREAD_WEIGHT * scores.normal_spread(spread, low, high)
            extra += scores.POD_AFFINITY_WEIGHT * scores.normal_affinity(affinity, least, most)
            extras.append(extra)
        return extras

    def _around(
        self, node: NodeState, floors: list[int], anywhere: bool, variant: NodeState | None = None
    ) -> Status | None:
        """PodTopologySpread and InterPodAffinity."""
        kind = self.kind
        for count, item, mine, floor in zip(self._hard, kind.hard, kind.hard_self, floors, strict=True):
            number = count.at(node, variant)
            if number is None:
                return status.SPREAD_LABEL
            if number + mine - floor > item.max_skew:
                return status.SPREAD
        if self._near:
            there = True
            for count in self._near:
                number = count.at(node, variant)
                if number is None:
                    return status.AFFINITY
                there = there and number > 0
            if not there and (anywhere or not kind.affinity_self):
                return status.AFFINITY
        for count in self._apart:
            if (count.at(node, variant) or 0) > 0:
                return status.ANTI_AFFINITY
        for count in self._against:
            if (count.at(node, variant) or 0) > 0:
                return status.EXISTING_ANTI_AFFINITY
        return None

    # asking about single nodes

    def status(self, name: str) -> Status | None:
        """Why a node does not fit as it is; None when it fits."""
        entry = self._entries[name]
        if entry.local is not None:
            return entry.local
        return self._look_around(entry.node, None)

    def what_if(self, variant: NodeState) -> Status | None:
        """Would the node fit if its pods were those of `variant` (a changed clone of it)?"""
        template, entry = self.kind.template, self._entries[variant.name]
        local = entry.early or filters.dynamic(template, variant) or entry.late
        return local if local is not None else self._look_around(variant, variant)

    def _look_around(self, node: NodeState, variant: NodeState | None) -> Status | None:
        floors = [
            count.least(item.min_domains, variant) for count, item in zip(self._hard, self.kind.hard, strict=True)
        ]
        return self._around(node, floors, any(count.sum(variant) for count in self._near), variant)

    def statuses(self) -> dict[str, Status]:
        """Why each node does not fit; those that do are left out. Shared until the cluster changes."""
        if self._why is not None and self._why[0] == self._position:
            return self._why[1]
        floors = [count.least(item.min_domains) for count, item in zip(self._hard, self.kind.hard, strict=True)]
        anywhere = any(count.total for count in self._near)
        found: dict[str, Status] = {}
        for name, entry in self._entries.items():
            why = entry.local or self._around(entry.node, floors, anywhere)
            if why is not None:
                found[name] = why
        self._why = (self._position, found)
        return found

    def without(self, names: list[str]) -> str | None:
        """The best node other than these."""
        for name in names:
            entry = self._entries.get(name)
            if entry is not None:
                self._leave(entry)
        try:
            return self.best()
        finally:
            for name in names:
                node = self._state.nodes.get(name)
                if node is not None:
                    self._update(node)
