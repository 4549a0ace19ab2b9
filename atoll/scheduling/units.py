"""What goes or stays as one, kept at hand: gangs, and pods by themselves, with what makes one go before another.

A choice among the work of tens of thousands of nodes looks at units instead of pods. `Work` follows the state's
journals: it looks again at nodes where a pod came, went, started or got other annotations, and adds up a gang again
only where it has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from atoll.scheduling.gang import Gang
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.state import ClusterState
from atoll.scheduling.tenants import started

Rank = tuple[int, int, float, str]
KeyOf = Callable[[PodInfo], Hashable]
"""Which gang a pod belongs to; "" or None for none."""
NameOf = Callable[[PodInfo, Hashable], str]
"""What that gang is called; "" where its members go one by one. Asked each time, as it may change."""
PriorityOf = Callable[[PodInfo, Hashable], int | None]
"""What that gang's members go by; None: each by its own. Asked each time too."""


@dataclass(slots=True)
class Unit:
    """A gang, or a pod by itself, with the nodes that its pods are on."""

    name: str
    pods: list[tuple[PodInfo, str]]
    own_priority: int | None = None

    @property
    def priority(self) -> int:
        return max(pod.priority for pod, _ in self.pods) if self.own_priority is None else self.own_priority

    @property
    def rank(self) -> Rank:
        """What goes first: unimportant, small, started late."""
        return self.priority, len(self.pods), -min(started(pod) for pod, _ in self.pods), self.name


@dataclass(slots=True, eq=False)
class _Fellows:
    """Members of one gang, or pods of one priority that have none; by uid, with the nodes that they are on."""

    key: tuple[Hashable, int]  # of the gang and 0, or "" and the priority
    pods: dict[str, tuple[PodInfo, str]] = field(default_factory=dict)
    ranked: tuple[Rank, Unit] | None = None  # until one comes or goes

    def as_one(self, name: str, own: int | None, mine: set[str]) -> tuple[Rank, Unit] | None:
        """All but `mine`; None where there are no others. `own`: the gang's priority."""
        if not mine.isdisjoint(self.pods):
            unit = Unit(name, [(pod, node) for uid, (pod, node) in self.pods.items() if uid not in mine], own)
            return (unit.rank, unit) if unit.pods else None
        if self.ranked is None or (self.ranked[1].name, self.ranked[1].own_priority) != (name, own):
            unit = Unit(name, list(self.pods.values()), own)
            self.ranked = unit.rank, unit
        return self.ranked

    def each(self, own: int | None, mine: set[str], priority: int) -> Iterator[tuple[Rank, Unit]]:
        """Those that are less important."""
        for uid, (pod, node) in self.pods.items():
            if (pod.priority if own is None else own) < priority and uid not in mine:
                unit = Unit(f"{pod.template.namespace}/{pod.name}", [(pod, node)], own)
                yield unit.rank, unit


class Work:
    """All units of a state."""

    def __init__(
        self,
        state: ClusterState,
        key_of: KeyOf,
        name_of: NameOf = lambda pod, key: str(key),
        priority_of: PriorityOf = lambda pod, key: None,
    ) -> None:
        self._state = state
        self._priority_of = priority_of
        self._key_of = key_of
        self._name_of = name_of
        self._positions: tuple[int, int] | None = None
        self._on: dict[str, dict[str, tuple[PodInfo, _Fellows]]] = {}  # by node and uid, as last seen
        self._fellows: dict[tuple[Hashable, int], _Fellows] = {}

    def below(self, gang: Gang) -> list[Unit]:
        """All that is less important than a gang and none of its own; what goes first at the head.

        A pod's object may be an older one of the pod's.
        """
        self._follow()
        mine = {pod.uid for pod in gang.pods if pod.uid in self._state.pod_nodes}
        found = sorted(self._less_important(gang, gang.priority, mine), key=lambda item: item[0])
        return [unit for _, unit in found]

    def _less_important(self, gang: Gang, priority: int, mine: set[str]) -> Iterator[tuple[Rank, Unit]]:
        for fellows in self._fellows.values():
            key, level = fellows.key
            any_pod = next(iter(fellows.pods.values()))[0]
            name = self._name_of(any_pod, key) if key else ""
            own = self._priority_of(any_pod, key) if key else None
            if name:
                ranked = fellows.as_one(name, own, mine) if name != gang.name else None
                if ranked is not None and ranked[0][0] < priority:
                    yield ranked
            elif key or level < priority:
                yield from fellows.each(own, mine, priority)

    # following the state

    def _follow(self) -> None:
        state = self._state
        changed: list[Iterable[str] | None] = [None]
        if self._positions is not None:
            placed, restarted = self._positions
            changed = [state.journal.since(placed), state.restarted.since(restarted)]
        if None in changed:
            changed = [list(self._on), state.nodes]
        self._positions = state.journal.end, state.restarted.end
        names = dict.fromkeys(name for some in changed if some is not None for name in some)
        for name in names:
            self._take_off(name)
        for name in names:
            self._take_on(name)

    def _take_off(self, name: str) -> None:
        """Those that are not on the node any more, or not as they were."""
        there, seen = self._pods_on(name), self._on.get(name, {})
        for uid in [uid for uid, (pod, _) in seen.items() if there.get(uid) is not pod]:
            _, fellows = seen.pop(uid)
            del fellows.pods[uid]
            fellows.ranked = None
            if not fellows.pods:
                del self._fellows[fellows.key]
        if not seen:
            self._on.pop(name, None)

    def _take_on(self, name: str) -> None:
        for uid, pod in self._pods_on(name).items():
            seen = self._on.setdefault(name, {})
            if uid not in seen:
                gang = self._key_of(pod)
                key = (gang, 0) if gang else ("", pod.priority)
                fellows = self._fellows.get(key) or self._fellows.setdefault(key, _Fellows(key))
                fellows.pods[uid] = pod, name
                fellows.ranked = None
                seen[uid] = pod, fellows

    def _pods_on(self, name: str) -> Mapping[str, PodInfo]:
        node = self._state.nodes.get(name)
        return {} if node is None else node.pods
