"""Which gang each pod belongs to and what that gang asks for, from informers' caches."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import Any

from atoll.kinds.builtin import PODS
from atoll.kinds.resource import Resource
from atoll.runtime.informer import Informer, Informers
from atoll.scheduling.groups.model import Dialect, Group, GroupKey, Missing
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.state import ClusterState
from atoll.scheduling.units import Work

Object = dict[str, Any]
_INDEX = "gang"


class GangBook:
    """`dialects`, the most explicit first: a pod is of the first that it names a group in.

    `topologies`: the kind whose objects tell the levels of the network (Kueue's Topology), where it is served.
    """

    def __init__(self, informers: Informers, dialects: Sequence[Dialect], topologies: Resource | None = None) -> None:
        self._dialects = {dialect.name: dialect for dialect in dialects}
        self._pods = informers.of(PODS)
        self._pods.add_index(_INDEX, self._keys)
        self._owners = {item.name: informers.of(item.kind) for item in dialects if item.kind is not None}
        self._topologies = None if topologies is None else informers.of(topologies)

    def start(self, changed: Callable[[], None]) -> None:
        """`changed` is called when what a group asks for may have become another."""

        def spec(old: Object | None, new: Object | None) -> None:
            if old is None or new is None or old.get("spec") != new.get("spec"):
                changed()

        def lets_in(dialect: Dialect, old: Object | None, new: Object | None) -> None:
            """A change of its status may be what a group waited for (Volcano's phase)."""
            if old is not None and new is not None and old.get("status") != new.get("status"):
                name = new["metadata"]["name"]
                was, now = dialect.group(name, old, ()), dialect.group(name, new, ())
                if isinstance(was, Missing) and not isinstance(now, Missing):
                    changed()

        for informer in self.informers():
            informer.add_handler(spec)
        for name, informer in self._owners.items():
            informer.add_handler(partial(lets_in, self._dialects[name]))

    def informers(self) -> tuple[Informer, ...]:
        """Those that must have listed before anything is decided, but for pods."""
        more = () if self._topologies is None else (self._topologies,)
        return (*dict.fromkeys(self._owners.values()), *more)

    def key(self, pod: Object) -> GroupKey | None:
        for dialect in self._dialects.values():
            name = dialect.group_name(pod)
            if name is not None:
                return GroupKey(dialect.name, pod["metadata"].get("namespace") or "", name)
        return None

    def _keys(self, pod: Object) -> Iterable[GroupKey]:
        key = self.key(pod)
        return () if key is None else (key,)

    def all_keys(self) -> list[GroupKey]:
        """Of all pods, in order."""
        found = {key for pod in self._pods if (key := self.key(pod)) is not None}
        return sorted(found, key=lambda key: (key.namespace, key.name, key.dialect))

    def pods(self, key: GroupKey) -> list[Object]:
        return self._pods.by_index(_INDEX, key)

    def size(self, key: GroupKey) -> int:
        """How many pods name it."""
        return self._pods.index_size(_INDEX, key)

    def group(self, key: GroupKey, pods: Sequence[Object]) -> Group | Missing | None:
        """What it asks for; None: its pods are pods like any other."""
        dialect = self._dialects[key.dialect]
        informer = self._owners.get(key.dialect)
        owner = None if informer is None else informer.get(dialect.owner_name(key.name), key.namespace)
        return dialect.group(key.name, owner, pods)

    def task_of(self, key: GroupKey) -> Callable[[Object], str]:
        return self._dialects[key.dialect].task

    def gang_of(self, pod: PodInfo) -> str:
        """The name of the gang that a pod on a node goes with; "" for none."""
        key = self.key(pod.obj)
        return "" if key is None else self._name_of(pod, key)

    def work(self, state: ClusterState) -> Work:
        """The units of all work on nodes."""
        return Work(state, lambda pod: self.key(pod.obj), self._name_of, self._priority_of)

    def _priority_of(self, pod: PodInfo, key: Hashable) -> int | None:
        assert isinstance(key, GroupKey)
        group = self.group(key, [pod.obj])
        return group.priority if isinstance(group, Group) else None

    def _name_of(self, pod: PodInfo, key: Hashable) -> str:
        assert isinstance(key, GroupKey)
        group = self.group(key, [pod.obj])
        return str(key) if isinstance(group, Group) and group.is_preempted_whole else ""

    def levels(self) -> list[list[str]]:
        """Of each topology, by its name: node labels from wide to narrow."""
        if self._topologies is None:
            return []
        found = sorted(self._topologies, key=lambda item: str(item["metadata"]["name"]))
        return [[level["nodeLabel"] for level in (item.get("spec") or {}).get("levels") or ()] for item in found]
