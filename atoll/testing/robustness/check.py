"""What must hold over a recorded history, of any Kubernetes API server.

Versions order the changes, so linearizability needs no search: a write happens at its version; a read happens at some
version at which it would have been answered so. In the order of their returns each operation is given the earliest
such version that is not before that of any operation which had returned when it was called. Where there is none, the
history is not linearizable. Writes whose answer was lost happen where their change is seen, or not at all.

The rest is about watches: each delivers the changes of its scope after its start, each once, in order, and a bookmark
says only what is true.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator

from atoll.testing.robustness.history import NOT_SENT, UNKNOWN, Delivered, History, Operation, Seen, Stream
from atoll.testing.robustness.truth import Change, Truth, Violation, truth_of, writer_of


def check(history: History, *, dump: Iterable[Change] = (), expired_ok: bool = False) -> list[Violation]:
    """All violations. `expired_ok`: the server may forget its history (410) within the run."""
    truth = truth_of(history, dump)
    made = writer_of(truth, history)
    found = [*truth.violations, *_life_of_objects(truth), *_writes_are_there(truth, history, made)]
    found += _preconditions(truth, made)
    found += _linearizable(truth, history, made)
    for stream in history.streams:
        found += _stream(truth, stream, expired_ok)
    return found


def _life_of_objects(truth: Truth) -> Iterator[Violation]:
    """Created, changed, deleted, in that order; a uid lives once."""
    for key, changes in truth.by_key.items():
        there: Seen | None = None
        dead: set[str] = set()
        for change in changes:
            obj = change.object
            if obj.uid in dead:
                yield Violation("no resurrection", f"{key}: {change} after its deletion")
            elif (change.type == "ADDED") == (there is not None):
                yield Violation("no gap", f"{key}: {change} while it was {there or 'absent'}")
            elif there is not None and there.uid != obj.uid:
                yield Violation("no resurrection", f"{key}: {change} while {there} was there")
            elif change.type == "DELETED" and there is not None and there.value != obj.value:
                yield Violation("no gap", f"{key}: {change} does not carry the last state {there}")
            if change.type == "DELETED":
                dead.add(obj.uid)
                there = None
            else:
                there = obj


def _writes_are_there(truth: Truth, history: History, made: dict[int, Operation]) -> Iterator[Violation]:
    """What was acknowledged happened, what was refused did not."""
    effects = {operation.value: version for version, operation in made.items()}
    deletions = {c.object.uid: v for v, c in truth.changes.items() if c.type == "DELETED"}
    for operation in history.operations:
        if not operation.writes:
            continue
        if operation.verb == "delete":
            if operation.known and not operation.error and operation.uid not in deletions:
                yield Violation("nothing acknowledged is lost", f"{operation}: nobody saw the deletion")
            continue
        refused = operation.error and operation.error != UNKNOWN
        if refused and operation.value in effects:
            yield Violation("a refused write does nothing", f"{operation} is version {effects[operation.value]}")


def _preconditions(truth: Truth, made: dict[int, Operation]) -> Iterator[Violation]:
    """A compare-and-swap replaces the version that it named."""
    for version, operation in made.items():
        before = truth.before(operation.key, version)
        if operation.precondition and (before is None or before.object.version != operation.precondition):
            yield Violation("compare-and-swap", f"{operation} is version {version}, over {before}")


def _linearizable(truth: Truth, history: History, made: dict[int, Operation]) -> Iterator[Violation]:
    placed = _Placed()
    effects = {operation.value: version for version, operation in made.items()}
    deletions = {c.object.uid: v for v, c in truth.changes.items() if c.type == "DELETED"}
    steps: list[tuple[int, Operation | Delivered]] = [(op.returned, op) for op in history.operations if op.known]
    steps += [(item.at, item) for stream in history.streams for item in stream.delivered]
    for _, step in sorted(steps, key=lambda pair: pair[0]):
        if isinstance(step, Delivered):
            placed.put(step.at, step.version)  # who saw a change of that version can't see less from then on
            continue
        least = placed.before(step.called)
        point = _earliest(truth, step, least, effects, deletions)
        if point is None:
            yield Violation("linearizability", f"{step}: fits no version from {least} on{_hint(truth, step)}")
        else:
            placed.put(step.returned, point)
    for operation in history.operations:
        if operation.error == UNKNOWN and operation.value in effects:
            least = placed.before(operation.called)
            if effects[operation.value] <= least:
                text = f"{operation} is version {effects[operation.value]}, but {least} was seen before it was called"
                yield Violation("linearizability", text)
        elif operation.error == NOT_SENT and operation.value in effects:
            yield Violation("a refused write does nothing", f"{operation} is version {effects[operation.value]}")


def _hint(truth: Truth, operation: Operation) -> str:
    changes = truth.by_key.get(operation.key, [])
    return "" if not changes else f"; the key's last changes: {[(c.type, c.object.version) for c in changes[-4:]]}"


class _Placed:
    """The highest version placed up to each moment; moments only grow."""

    def __init__(self) -> None:
        self._moments: list[int] = []
        self._highest: list[int] = []

    def put(self, moment: int, version: int) -> None:
        self._moments.append(moment)
        self._highest.append(max(version, self._highest[-1] if self._highest else 0))

    def before(self, moment: int) -> int:
        at = bisect_right(self._moments, moment)
        return self._highest[at - 1] if at else 0


def _earliest(
    truth: Truth, operation: Operation, least: int, effects: dict[str, int], deletions: dict[str, int]
) -> int | None:
    """The first version from `least` on at which the operation would have been answered so."""
    if operation.writes and not operation.error:
        version = deletions.get(operation.uid) if operation.verb == "delete" else effects.get(operation.value)
        return version if version is not None and version > least else None
    if operation.verb == "list":
        return _list_point(truth, operation, least)
    point: int | None = least
    while point is not None:
        if _fits(operation, truth.present(operation.key, point)):
            return point
        point = truth.next_change(operation.key, point)
    return None


def _fits(operation: Operation, there: Seen | None) -> bool:
    """Whether the operation would have been answered so, had this been there."""
    if not operation.error:
        return there == operation.found[0]
    if operation.error == "AlreadyExists":
        return there is not None
    if operation.error == "NotFound":
        return there is None
    if operation.error == "Conflict":
        return there is None or there.version != operation.precondition
    return True  # refused for a reason that is not about the state


def _list_point(truth: Truth, operation: Operation, least: int) -> int | None:
    if operation.error:
        return least
    state = truth.state(operation.resource, operation.namespace, operation.version)
    if {item.key: item for item in operation.found} != state:
        return None
    if operation.stale_ok:
        return max(least, operation.version)
    return operation.version if operation.version >= least else None


# -- watches


def _stream(truth: Truth, stream: Stream, expired_ok: bool) -> Iterator[Violation]:
    expected = list(_expected(truth, stream))
    versions = [version for _, version, _ in expected]
    at, reached = 0, stream.since
    for item in stream.delivered:
        if item.version < reached or (item.version == reached and item.type != "BOOKMARK"):
            rule = (
                "no duplicate"
                if any(i.version == item.version and i is not item for i in stream.delivered)
                else "order"
            )
            yield Violation(f"watch: {rule}", f"{stream}: {item} after version {reached} was delivered")
            return
        if item.type == "BOOKMARK":
            if at < len(versions) and versions[at] <= item.version:
                text = f"{stream}: a bookmark of {item.version} before {expected[at]} was delivered"
                yield Violation("watch: a bookmark is not ahead", text)
                return
            reached = item.version
            continue
        if at == len(versions) or versions[at] > item.version:
            yield Violation("watch: nothing from nowhere", f"{stream}: {item} never happened in its scope")
            return
        if versions[at] < item.version:
            yield Violation("watch: no gap", f"{stream}: {item} came, {expected[at]} did not")
            return
        kind, _, obj = expected[at]
        if item.type != kind or item.object is None or (not stream.colour and item.object != obj):
            yield Violation("watch: what happened", f"{stream}: {item}, but it was {kind} {obj}")
            return
        at, reached = at + 1, item.version
    if stream.ended in ("Expired", "Gone") and not expired_ok:
        yield Violation("resume", f"{stream}: told that {stream.since} is too old")


def _expected(truth: Truth, stream: Stream) -> Iterator[tuple[str, int, Seen]]:
    """(type, version, object) of what the watch must deliver."""
    start = bisect_right(truth.versions, stream.since)
    for version in truth.versions[start:]:
        change = truth.changes[version]
        obj = change.object
        if obj.resource != stream.resource or stream.namespace not in ("", obj.namespace):
            continue
        if not stream.colour:
            yield change.type, version, obj
            continue
        before = truth.present(obj.key, version - 1)
        was = before is not None and before.colour == stream.colour
        now = change.type != "DELETED" and obj.colour == stream.colour
        if was or now:
            yield ("MODIFIED" if was and now else "ADDED" if now else "DELETED"), version, obj
