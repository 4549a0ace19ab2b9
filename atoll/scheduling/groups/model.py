"""Values: a group's key, what it asks for, and the port of a dialect.

A dialect says which group a pod names, and what that group asks for. It decides nothing and looks at nothing but the
objects that it is given: placement of the group is `scheduling/gang.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from atoll.kinds.resource import Resource

Object = dict[str, Any]
TIMEOUT_SECONDS: Final = 60.0  # where the group says nothing: the coscheduling plugin's permitWaitingTimeSeconds


@dataclass(frozen=True, slots=True)
class GroupKey:
    """`dialect` is the name of the one who read it."""

    dialect: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Topology:
    """Node labels whose value all pods must share (`required`) or had better share (`preferred`).

    Of slices, each `slice_size` neighbours in rank must share a value of `slice_level`.
    """

    required: str = ""
    preferred: str = ""
    slice_level: str = ""
    slice_size: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """What a gang asks for.

    `least`: so many members run, or none. `tasks`: of each task at least so many. `resources`: what the cluster must
    have free before it is tried (milli-CPU, bytes, counts). `topology` holds for all members together; what pods ask
    for one by one comes on top. `timeout_seconds`: how long it may hold room without being whole. `goes_whole`:
    preemption takes all of it (None: if it is a gang), or each pod by itself. `priority`: what preemption goes by
    (None: its pods').
    """

    least: int
    tasks: Mapping[str, int] = field(default_factory=dict)
    resources: Mapping[str, int] = field(default_factory=dict)
    topology: Topology = Topology()
    timeout_seconds: float = TIMEOUT_SECONDS
    goes_whole: bool | None = None
    priority: int | None = None

    @property
    def is_preempted_whole(self) -> bool:
        return self.is_gang if self.goes_whole is None else self.goes_whole

    @property
    def is_gang(self) -> bool:
        """Whether there is anything that its pods must have in common: else each is placed by itself."""
        return self.least > 1 or bool(self.resources or self.topology.required or self.topology.preferred)


@dataclass(frozen=True, slots=True)
class Missing:
    """The group can't be judged yet: `lack` in a few words, and the `change` that would help."""

    lack: str
    change: str


class Dialect(Protocol):
    """One way in which users say that pods belong together."""

    name: str

    @property
    def kind(self) -> Resource | None:
        """The kind whose object of the group's namespace and `owner_name` describes the group; None: the pods do."""
        ...

    def group_name(self, pod: Object) -> str | None:
        """The group that the pod names; None: none in this dialect."""
        ...

    def owner_name(self, name: str) -> str:
        """The name of the object that describes the group."""
        ...

    def group(self, name: str, owner: Object | None, pods: Sequence[Object]) -> Group | Missing | None:
        """What it asks for, of its object (as far as there is one) and its pods; None: those pods are no gang."""
        ...

    def task(self, pod: Object) -> str:
        """The name under which `Group.tasks` counts the pod."""
        ...


class SimpleDialect:
    """What most dialects have in common: the object has the group's name, and pods have no tasks."""

    kind: Resource | None = None

    def owner_name(self, name: str) -> str:
        return name

    def task(self, pod: Object) -> str:
        return ""
