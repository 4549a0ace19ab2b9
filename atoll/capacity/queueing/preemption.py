"""Whom a workload may preempt, and the fewest of them (Kueue's classical preemption over hierarchical cohorts).

Candidates are taken in order until the workload fits, by quota and, where its pods are placed by topology, by room in
one domain; then each is put back, the last one first, if it fits all the same. All trial moves are undone before the
answer is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from atoll.capacity.queueing.model import ANY, LOWER, LOWER_OR_NEWER, NEVER, FlavorResource, PreemptionPolicy, Workload
from atoll.capacity.queueing.topology_fit import Places, Unplaced
from atoll.capacity.queueing.tree import Node

IN_QUEUE = "InClusterQueue"
RECLAIM = "InCohortReclamation"
FAIR = "InCohortFairSharing"
WHILE_BORROWING = "InCohortReclaimWhileBorrowing"


class Target(Struct, frozen=True):
    """A victim, its queue's node, and why it may be taken."""

    workload: Workload
    node: Node
    reason: str


class Wish(Struct, frozen=True):
    """Who wants what: `usage` in all, of which `keys` are not there yet."""

    workload: Workload
    node: Node
    usage: Mapping[FlavorResource, int]
    keys: frozenset[FlavorResource]
    places: Places | None = None  # of its pods, where they need some

    @property
    def policy(self) -> PreemptionPolicy:
        assert self.node.queue is not None
        return self.node.queue.preemption

    def take(self, target: Target) -> None:
        """Try it without this victim."""
        target.node.remove_all(target.workload.usage)
        if self.places is not None:
            self.places.remove(target.workload)

    def give_back(self, target: Target) -> None:
        target.node.add_all(target.workload.usage)
        if self.places is not None:
            self.places.add(target.workload)

    def has_places(self) -> bool:
        """Whether its pods would find places as things stand."""
        return self.places is None or not isinstance(self.places.find(), Unplaced)


class _Candidate(Struct, frozen=True):
    target: Target
    meeting: Node | None  # the lowest cohort of both queues; None in the same queue
    only_without_borrowing: bool


def allows(policy: str, wanting: Workload, other: Workload) -> bool:
    """Whether a policy lets `wanting` preempt `other`."""
    if policy == NEVER:
        return False
    if policy == ANY:
        return True
    if other.priority < wanting.priority:
        return policy in (LOWER, LOWER_OR_NEWER)
    newer = other.priority == wanting.priority and (wanting.order_at, wanting.uid) < (other.order_at, other.uid)
    return policy == LOWER_OR_NEWER and newer


def order(wish: Wish, node: Node, other: Workload) -> tuple[bool, bool, int, float, str]:
    """Sorts candidates: those that go anyway, other queues', low priority, and the latest first."""
    return not other.evicted, node is wish.node, other.priority, -other.reserved_at, other.uid


def uses(other: Workload, keys: frozenset[FlavorResource]) -> bool:
    return not keys.isdisjoint(other.usage)


def fits(wish: Wish, borrowing: bool) -> bool:
    """Whether it fits as things stand; without `borrowing`: within its own quota."""
    return has_quota(wish, borrowing) and wish.has_places()


def has_quota(wish: Wish, borrowing: bool) -> bool:
    node = wish.node
    for key, amount in wish.usage.items():
        if not borrowing and node.borrows(key, amount):
            return False
        if amount > node.available(key):
            return False
    return True


def targets(wish: Wish) -> list[Target]:
    """The victims; empty where preemption can't help."""
    advantaged, others, own = _candidates(wish)
    if not (advantaged or others or own):
        return []
    ordered = _ordered(advantaged, others, own)
    for borrowing in _attempts(wish, advantaged, others):
        found = _attempt(wish, ordered, borrowing)
        if found:
            return found
    return []


def _attempts(wish: Wish, advantaged: list[_Candidate], others: list[_Candidate]) -> tuple[bool, ...]:
    """With or without borrowing, in which order: who may not preempt while borrowing must fit his own quota first."""
    forbidden = wish.policy.borrow_policy == NEVER
    under_nominal = all(wish.node.usage.get(key, 0) < wish.node.subtree.get(key, 0) for key in wish.keys)
    if not (advantaged or others) or (forbidden and not under_nominal):
        return (True,)
    if forbidden and not advantaged:
        return (False, True)
    return (True, False)


def _attempt(wish: Wish, ordered: list[_Candidate], borrowing: bool) -> list[Target]:
    """Places are looked for after 1, 2, 4, … victims: who was taken too much is put back."""
    taken: list[Target] = []
    look_at = 1
    fitting = False
    for candidate in ordered:
        if not _still_counts(wish, candidate, borrowing):
            continue
        taken.append(candidate.target)
        wish.take(candidate.target)
        if len(taken) < look_at or not has_quota(wish, borrowing):
            continue
        fitting = wish.has_places()
        if fitting:
            break
        look_at = 2 * len(taken)
    if fitting or (taken and fits(wish, borrowing)):
        put_back(wish, taken, borrowing)
        restore(wish, taken)
        return taken
    restore(wish, taken)
    return []


def put_back(wish: Wish, taken: list[Target], borrowing: bool) -> None:
    """Take those out of `taken` that are not needed after all, the last one first; by halves, since most are alike."""
    parts = [(0, len(taken))] if taken else []  # a function that calls itself would keep all of it until a collection
    while parts:
        first, last = parts.pop()
        group = taken[first:last]
        for target in group:
            wish.give_back(target)
        if fits(wish, borrowing):
            del taken[first:last]
            continue
        for target in group:
            wish.take(target)
        if last - first > 1:
            middle = (first + last) // 2
            parts += [(first, middle), (middle, last)]


def restore(wish: Wish, taken: Iterable[Target]) -> None:
    for target in taken:
        wish.give_back(target)


def _still_counts(wish: Wish, candidate: _Candidate, borrowing: bool) -> bool:
    """Others' are taken only from those that (still) use more than their own, at every level below the common one."""
    if candidate.meeting is None:
        return True
    if borrowing and candidate.only_without_borrowing:
        return False
    node: Node | None = candidate.target.node
    while node is not None and node is not candidate.meeting:
        if node.within_nominal(wish.keys):
            return False
        node = node.parent
    return True


def _ordered(*groups: list[_Candidate]) -> list[_Candidate]:
    going = [item for group in groups for item in group if item.target.workload.evicted]
    return going + [item for group in groups for item in group if not item.target.workload.evicted]


def _candidates(wish: Wish) -> tuple[list[_Candidate], list[_Candidate], list[_Candidate]]:
    """Those over whom it has the advantage of its own quota, those it may take by priority, those of its own queue."""
    advantaged: list[_Candidate] = []
    others: list[_Candidate] = []
    if wish.policy.reclaim != NEVER:
        fitting, remaining = _within(wish.node, wish.usage)
        skipped: Node | None = None
        for cohort in wish.node.path():
            found = advantaged if fitting else others
            for node in _borrowers(cohort, skipped, wish):
                for other in node.workloads.values():
                    candidate = _classify(wish, node, other, cohort, fitting)
                    if candidate is not None:
                        found.append(candidate)
            enough, remaining = _within(cohort, remaining)
            fitting = fitting or enough
            skipped = cohort
    own = [
        _Candidate(Target(other, wish.node, IN_QUEUE), None, False)
        for other in _allowed_within(wish)
        if uses(other, wish.keys)
    ]
    for group in (advantaged, others, own):
        if len(group) > 1:
            group.sort(key=lambda item: order(wish, item.target.node, item.target.workload))
    return advantaged, others, own


def _allowed_within(wish: Wish) -> list[Workload]:
    """Those of its own queue that it may take by priority."""
    policy, own = wish.policy.within_queue, wish.node.workloads.values()
    if policy == NEVER:
        return []
    priority = wish.workload.priority
    if policy == LOWER:  # the usual one, asked of all that run for each that waits
        return [other for other in own if other.priority < priority]
    return [other for other in own if allows(policy, wish.workload, other)]


def _within(node: Node, usage: Mapping[FlavorResource, int]) -> tuple[bool, dict[FlavorResource, int]]:
    """Whether the node's own quota holds it; and what would have to come from above."""
    fitting = not any(node.borrows(key, amount) for key, amount in usage.items())
    return fitting, {key: max(0, amount - node.local_available(key)) for key, amount in usage.items()}


def _borrowers(cohort: Node, skipped: Node | None, wish: Wish) -> Iterator[Node]:
    """Queues below that use more than their own, and whose cohorts do."""
    for child in cohort.children:
        if child is skipped or child is wish.node or child.within_nominal(wish.keys):
            continue
        if child.queue is not None:
            yield child
        else:
            yield from _borrowers(child, None, wish)


def _classify(wish: Wish, node: Node, other: Workload, meeting: Node, advantage: bool) -> _Candidate | None:
    if not uses(other, wish.keys) or not allows(wish.policy.reclaim, wish.workload, other):
        return None
    if advantage:
        return _Candidate(Target(other, node, RECLAIM), meeting, False)
    policy = wish.policy
    threshold = policy.borrow_threshold
    above = other.priority >= wish.workload.priority or (threshold is not None and other.priority > threshold)
    if policy.borrow_policy == NEVER or above:
        return _Candidate(Target(other, node, RECLAIM), meeting, True)
    return _Candidate(Target(other, node, WHILE_BORROWING), meeting, False)
