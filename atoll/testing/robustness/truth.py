"""The one order of changes: versions are given to changes one after the other, so everything that was seen must fit it.

It is put together from every source: the answers of writes, every event of every watch and, where there is one, a dump
of the storage. What two of them say differently of one version is a violation already.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import orjson

from atoll.cluster.store import log as logfile
from atoll.cluster.store.log import Entry
from atoll.kinds.builtin import CONFIGMAPS, LEASES
from atoll.testing.robustness.history import History, Operation, Seen, seen

Key = tuple[str, str, str]
NAMESPACES = ("left", "right")  # what is in others is not of the clients
_RESOURCES = (CONFIGMAPS.group_resource, LEASES.group_resource)


@dataclass(frozen=True, slots=True)
class Violation:
    """What must hold and does not."""

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass(frozen=True, slots=True)
class Change:
    """ADDED, MODIFIED or DELETED; a deletion carries the last state with its own version."""

    type: str
    object: Seen
    source: str


def changes_of(entries: Iterable[Entry]) -> Iterator[Change]:
    """The changes in a store's log, oldest first; the log must begin with the store."""
    state: dict[Key, Seen] = {}
    for entry in entries:
        if entry.kind & logfile.RELOCATED or entry.kind == logfile.FLOOR:
            continue
        if entry.resource not in _RESOURCES or entry.namespace not in NAMESPACES:
            continue
        key = (entry.resource, entry.namespace, entry.name)
        if entry.kind == logfile.DELETED:
            obj = replace(state.pop(key), version=entry.version)
        else:
            obj = state[key] = seen(entry.resource, orjson.loads(entry.data))
        yield Change({logfile.ADDED: "ADDED", logfile.MODIFIED: "MODIFIED"}.get(entry.kind, "DELETED"), obj, "the log")


class Truth:
    """Changes by version; for each key its changes in order."""

    def __init__(self) -> None:
        self.changes: dict[int, Change] = {}
        self.violations: list[Violation] = []
        self.versions: list[int] = []
        self.by_key: dict[Key, list[Change]] = {}
        self._key_versions: dict[Key, list[int]] = {}

    def add(self, change: Change) -> None:
        """Raises nothing: a contradiction is kept as a violation."""
        known = self.changes.get(change.object.version)
        if known is None:
            self.changes[change.object.version] = change
        elif (known.type, known.object) != (change.type, change.object):
            self.violations.append(
                Violation(
                    "one version, one change",
                    f"version {change.object.version} is {known.type} {known.object} ({known.source}) and "
                    f"{change.type} {change.object} ({change.source})",
                )
            )

    def settle(self) -> None:
        """All is added: order it."""
        self.versions = sorted(self.changes)
        for version in self.versions:
            change = self.changes[version]
            self.by_key.setdefault(change.object.key, []).append(change)
        self._key_versions = {key: [c.object.version for c in found] for key, found in self.by_key.items()}

    def before(self, key: Key, version: int) -> Change | None:
        """The newest change of a key below a version."""
        at = bisect_left(self._key_versions.get(key, []), version)
        return self.by_key[key][at - 1] if at else None

    def present(self, key: Key, version: int) -> Seen | None:
        """The object at a version."""
        change = self.before(key, version + 1)
        return None if change is None or change.type == "DELETED" else change.object

    def next_change(self, key: Key, version: int) -> int | None:
        """The version of the first change of a key above a version."""
        versions = self._key_versions.get(key, [])
        at = bisect_right(versions, version)
        return versions[at] if at < len(versions) else None

    def state(self, resource: str, namespace: str, version: int) -> dict[Key, Seen]:
        """All objects of a scope at a version."""
        found = {}
        for key in self.by_key:
            if key[0] == resource and namespace in ("", key[1]):
                there = self.present(key, version)
                if there is not None:
                    found[key] = there
        return found


def truth_of(history: History, dump: Iterable[Change] = ()) -> Truth:
    """Everything that the history says of changes."""
    truth = Truth()
    for change in dump:
        truth.add(change)
    for stream in history.streams:
        if stream.colour:
            continue  # its types are of the selection
        for item in stream.delivered:
            if item.object is not None:
                truth.add(Change(item.type, item.object, str(stream)))
    for operation in history.operations:
        if operation.writes and operation.known and not operation.error and operation.verb != "delete":
            kind = "ADDED" if operation.verb == "create" else "MODIFIED"
            truth.add(Change(kind, operation.found[0], str(operation)))
    truth.settle()
    return truth


def writer_of(truth: Truth, history: History) -> dict[int, Operation]:
    """Which write made which version; adds violations for changes that nobody made, or that one made twice."""
    by_value = {op.value: op for op in history.operations if op.writes and op.value}
    made: dict[int, Operation] = {}
    twice: dict[str, int] = {}
    for version in truth.versions:
        change = truth.changes[version]
        if change.type == "DELETED":
            continue
        value = change.object.value
        operation = by_value.get(value)
        if operation is None or operation.key != change.object.key:
            truth.violations.append(Violation("nothing from nowhere", f"{change} was written by nobody"))
            continue
        if value in twice:
            text = f"{operation} took effect at {twice[value]} and at {version}"
            truth.violations.append(Violation("a write happens once", text))
            continue
        twice[value] = version
        made[version] = operation
    return made
