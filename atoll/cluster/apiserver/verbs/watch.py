"""watch: changes after a version as a stream of batches, with bookmarks and initial events.

A watch is a position in the store's history; the store bounds what it keeps, and a watcher that history has
passed ends with 410 so that its client lists again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import ListOptions
from atoll.cluster.apiserver.selection import Selection
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.get import parse_version
from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.store.port import Event, Record, TooNew, TooOld, Watcher

BOOKMARK_SECONDS = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Shown(Struct, frozen=True):
    """One event as this watch shows it: an object that left the selection is DELETED, one that came is ADDED.

    A BOOKMARK has no record, only the version; `initial_end` marks the one after the initial events.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    version: int
    record: Record | None = None
    initial_end: bool = False


class Whole:
    """Events shown as they are, which is how all watches without a selection show them: encoded once for all."""

    __slots__ = ("events",)

    def __init__(self, events: list[Event]) -> None:
        self.events = events

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Shown]:
        return (Shown(event.type, event.version, event.record) for event in self.events)

    @property
    def identity(self) -> tuple[int, int, int]:
        """Equal for the same events of one resource: versions are unique, so no others lie between these."""
        events = self.events
        return events[0].version, events[-1].version, len(events)


Batch = Sequence[Shown] | Whole


def start(
    api: Api, served: Served, namespace: str | None, options: ListOptions, chosen: Selection
) -> AsyncIterator[Batch]:
    """Checked at once (raises BadRequest, Gone, 504 before anything is answered), then batches until closed."""
    if namespace is None and chosen.namespace:
        namespace = chosen.namespace
    asked = 0 if options.resource_version in ("", "0") else parse_version(options.resource_version)
    current = api.store.version
    initial: list[Record] | None = None
    after = min(asked, current)  # from a version to come: what happens till then is left out
    if options.send_initial_events or (not asked and options.send_initial_events is None):
        if asked > current:
            raise problems.too_new(asked, current)
        after = current
        initial = api.scan(served, namespace)
    elif not asked:
        after = current
    try:
        watcher = api.watch(served, after, namespace)
    except TooOld:
        raise problems.too_old(after) from None
    except TooNew:
        raise problems.too_new(after, api.store.version) from None
    return _batches(api, watcher, initial, max(asked, after), options, chosen)


async def _batches(
    api: Api,
    watcher: Watcher,
    initial: list[Record] | None,
    after: int,
    options: ListOptions,
    chosen: Selection,
) -> AsyncIterator[Batch]:
    now = api.clock.monotonic
    ends = None if options.timeout_seconds is None else now() + options.timeout_seconds
    alarm = _Alarm(watcher)
    try:
        if initial is not None:
            await chosen.ready(initial)
            first = [Shown("ADDED", record.version, record) for record in initial if chosen.matches(record)]
            if options.send_initial_events and options.allow_bookmarks:
                first.append(Shown("BOOKMARK", after, initial_end=True))
            initial = None
            if first:
                yield first
                first = []
        everything = chosen.everything
        bookmark = _bookmark_due(api) if options.allow_bookmarks else None
        while True:
            due = bookmark if ends is None or (bookmark is not None and bookmark < ends) else ends
            if due is not None and alarm.due != due:
                alarm.set(due, due - now())
            events = await watcher.next()
            if not events:
                alarm.due = None
                if ends is not None and now() >= ends:
                    return
                if bookmark is not None and now() >= bookmark:
                    yield [Shown("BOOKMARK", max(watcher.version, after))]
                    bookmark = _bookmark_due(api)
                continue
            if events[0].version <= after:
                events = [event for event in events if event.version > after]
                if not events:
                    continue
            if everything:
                yield Whole(events)
                continue
            await chosen.ready(record for event in events for record in event[2:] if record is not None)
            shown = [item for event in events if (item := _shown(event, chosen)) is not None]
            if shown:
                yield shown
    except TooOld:
        raise problems.too_old(watcher.version) from None
    finally:
        alarm.cancel()
        watcher.close()


class _Alarm:
    """Nudges a watcher when a bookmark or the end is due: one timer a watch, not one a wait."""

    __slots__ = ("_handle", "_watcher", "due")

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._handle: asyncio.TimerHandle | None = None
        self.due: float | None = None

    def set(self, due: float, seconds: float) -> None:
        self.cancel()
        self.due = due
        self._handle = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._watcher.nudge)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def _bookmark_due(api: Api) -> float:
    return api.clock.monotonic() + BOOKMARK_SECONDS - api.jitter.uniform(0.0, 5.0)


def _shown(event: Event, chosen: Selection) -> Shown | None:
    if event.type == "ADDED":
        return Shown("ADDED", event.version, event.record) if chosen.matches(event.record) else None
    before = event.previous is not None and chosen.matches(event.previous)
    if event.type == "DELETED":
        return Shown("DELETED", event.version, event.record) if before or chosen.matches(event.record) else None
    now = chosen.matches(event.record)
    if now:
        return Shown("MODIFIED" if before else "ADDED", event.version, event.record)
    if before:
        return Shown("DELETED", event.version, _leaving(event))
    return None


def _leaving(event: Event) -> Record:
    """What left the selection is shown as it was, at the version of the change (as upstream's cacher)."""
    assert event.previous is not None
    old = event.previous.object
    obj = {**old, "metadata": {**old["metadata"], "resourceVersion": str(event.version)}}
    return Loose(event.previous.key, event.version, obj)


def shown_object(served: Served, shown: Shown) -> Object:
    """The event's object as that version shows it; of a DELETED or leaving one with the version of the change."""
    if shown.record is not None:
        return served.present(shown.record)
    metadata: Object = {"resourceVersion": str(shown.version)}
    if shown.initial_end:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    return {"kind": served.resource.kind, "apiVersion": served.resource.api_version, "metadata": metadata}
