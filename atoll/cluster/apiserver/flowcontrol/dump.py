"""/debug/api_priority_and_fairness/…: what the levels, queues and requests are like just now, as upstream's tables."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence

from atoll.cluster.apiserver.flowcontrol.levels import Levels
from atoll.cluster.apiserver.flowcontrol.queues import Queue, Request
from atoll.cluster.apiserver.ports import Attributes

_LEVELS = (
    "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
    "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
)  # fmt: skip
_QUEUES = (
    "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
    "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
)  # fmt: skip
_REQUESTS = (
    "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
    "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
)  # fmt: skip
_DETAILS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")


def dump_levels(levels: Levels) -> str:
    rows = [_LEVELS]
    for name, state in sorted(levels.states.items()):
        queues = state.queues
        active = sum(1 for queue in queues.queues if queue.waiting)
        rows.append((
            name, str(active), _truth(queues.idle), _truth(state.quiescing), str(queues.waiting),
            str(queues.executing + queues.light), str(queues.dispatched), str(queues.rejected), "0",
            str(queues.cancelled),
        ))  # fmt: skip
    return _table(rows)


def dump_queues(levels: Levels) -> str:
    rows = [_QUEUES]
    for name, state in sorted(levels.states.items()):
        for index, queue in enumerate(state.queues.queues):
            waiting = queue.waiting
            rows.append((
                name, str(index), str(len(waiting)), str(len(queue.executing)), str(queue.seats),
                _seat_seconds(queue.next_dispatch), str(sum(item.work.initial_seats for item in waiting)),
                str(sum(item.work.seats for item in waiting)), _seat_seconds(queue.work),
            ))  # fmt: skip
    return _table(rows)


def dump_requests(levels: Levels, details: bool, to_wall: float) -> str:
    """`to_wall`: what to add to monotonic time for the time of day."""
    rows = [_REQUESTS + (_DETAILS if details else ())]
    for name, state in sorted(levels.states.items()):
        for queue, place, request in _requests(state.queues.queues, state.queues.unqueued):
            work = request.work
            row: tuple[str, ...] = (
                name, request.schema, str(queue), str(place), request.flow, _time(request.arrived + to_wall),
                str(work.initial_seats), str(work.final_seats), _duration(work.extra_seconds),
                _time(request.started + to_wall) if request.dispatched else "0001-01-01T00:00:00Z",
            )  # fmt: skip
            rows.append(row + (_described(request.note) if details else ()))
    return _table(rows)


def _requests(queues: Sequence[Queue], unqueued: set[Request]) -> Iterator[tuple[int, int, Request]]:
    for index, queue in enumerate(queues):
        for place, request in enumerate(queue.waiting):
            yield index, place, request
        for request in queue.executing:
            yield index, -1, request
    for request in unqueued:
        yield -1, -1, request


def _described(note: object) -> tuple[str, ...]:
    assert isinstance(note, Attributes)
    version = f"{note.group}/{note.version}" if note.group else note.version
    return (
        note.user.name, note.verb, note.path, note.namespace, note.name, version, note.resource, note.subresource,
    )  # fmt: skip


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of at least eight characters, padded; a comma ends each but the last (Go's tabwriter)."""
    cells = [[*(f"{cell}," for cell in row[:-1]), row[-1]] for row in rows]
    widths = [max(8, *(len(row[column]) + 1 for row in cells)) for column in range(len(cells[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)) + row[-1] + "\n"
        for row in cells
    )


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _seat_seconds(value: float) -> str:
    return f"{value:.8f}ss"


def _time(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}".rstrip("0").rstrip(".") + "Z"


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:g}ms" if seconds else "0s"
