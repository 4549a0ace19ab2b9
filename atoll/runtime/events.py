"""Kubernetes Events about what a controller does: fire and forget, counted and thinned out as client-go's recorder.

Three things keep a busy controller from drowning the API: the same event again raises the count of the first one;
more than ten like it within ten minutes (same but for the message) become one "(combined from similar events)";
and one component may tell at most 25 events about an object, plus one every five minutes. Nothing waits for an
event, and one that the server refuses is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Hashable
from dataclasses import dataclass, field
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.client.port import MERGE_PATCH, Client, Object, create_all
from atoll.kinds.builtin import EVENTS

NORMAL = "Normal"
WARNING = "Warning"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Thinning:
    """client-go's correlator defaults (tools/record/events_cache.go)."""

    cache_size: int = 4096
    burst: int = 25
    refill_per_second: float = 1 / 300
    similar_events: int = 10
    similar_seconds: float = 600.0


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


@dataclass(slots=True)
class _Similar:
    messages: set[str] = field(default_factory=set)
    at: float = 0.0


@dataclass(slots=True)
class _Told:
    """What has been written for one key."""

    name: str
    count: int
    first: str
    namespace: str
    created: bool = False


class Correlator:
    """Decides what becomes of each event; pure but for its own memory."""

    def __init__(self, thinning: Thinning | None = None) -> None:
        self._thinning = thinning or Thinning()
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()
        self._similar: OrderedDict[Hashable, _Similar] = OrderedDict()

    def is_spent(self, component: str, about: Object, now: float) -> bool:
        """Whether one more event about this object is one too many, whatever it says."""
        bucket = self._buckets.get((component, _target(about)))
        return bucket is not None and bucket.tokens + (now - bucket.at) * self._thinning.refill_per_second < 1

    def correlate(self, event: Object, now: float) -> tuple[Object, Hashable] | None:
        """The event to write and the key under which repeats are counted; None where it is one too many."""
        about = event["involvedObject"]
        target = _target(about)
        if not self._admit((event["source"]["component"], target), now):
            return None
        group = (target, event["type"], event["reason"], event["reportingComponent"])
        similar = self._recent(group, now)
        similar.messages.add(event["message"])
        if len(similar.messages) < self._thinning.similar_events:
            return event, (group, about.get("fieldPath"), event["message"])
        similar.messages.pop()
        event["message"] = "(combined from similar events): " + event["message"]
        return event, group

    def _admit(self, key: Hashable, now: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(float(self._thinning.burst), now)
            _trim(self._buckets, self._thinning.cache_size)
        refill = (now - bucket.at) * self._thinning.refill_per_second
        bucket.tokens = min(bucket.tokens + refill, float(self._thinning.burst))
        bucket.at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _recent(self, key: Hashable, now: float) -> _Similar:
        similar = self._similar.get(key)
        if similar is None or now - similar.at > self._thinning.similar_seconds:
            similar = self._similar[key] = _Similar()
            _trim(self._similar, self._thinning.cache_size)
        similar.at = now
        return similar


class EventRecorder:
    """Writes events of one component through its client. Needs a running loop; `event` never blocks."""

    def __init__(
        self,
        client: Client,
        component: str,
        clock: Clock,
        chance: Chance,
        *,
        host: str = "",
        thinning: Thinning | None = None,
        concurrency: int = 64,
        most_pending: int = 100_000,
    ) -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._chance = chance.stream(f"events/{component}")
        self._host = host
        self._correlator = Correlator(thinning)
        self._told: OrderedDict[Hashable, _Told] = OrderedDict()
        self._pending: deque[tuple[Object, Hashable]] = deque(maxlen=most_pending)
        self._concurrency = concurrency
        self._task: asyncio.Task[None] | None = None

    def event(self, obj: Object, type: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Tell that `reason` happened to `obj`. `obj` is an object, or an ObjectReference (with `uid` and `name`)."""
        wall, about = self._clock.wall(), _reference(obj)
        if self._correlator.is_spent(self._component, about, wall):
            return
        correlated = self._correlator.correlate(self._build(about, type, reason, message, field_path, wall), wall)
        if correlated is None:
            return
        self._pending.append(correlated)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._drain(), name=f"events-{self._component}")

    async def flush(self) -> None:
        """Wait until everything told so far is written or dropped."""
        if self._task is not None:
            await self._task

    def _build(self, about: Object, type: str, reason: str, message: str, field_path: str, wall: float) -> Object:
        if field_path:
            about["fieldPath"] = field_path
        now = rfc3339(wall)
        source = {"component": self._component, "host": self._host} if self._host else {"component": self._component}
        # upstream's suffix is the time in ns; the low 20 bits are drawn so that two in one instant differ
        suffix = (int(wall * 1e9) & ~0xFFFFF) | self._chance.integer(0, 0xFFFFF)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{about['name']}.{suffix:x}", "namespace": about.get("namespace") or "default"},
            "involvedObject": about,
            "reason": reason,
            "message": message[:1024],
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": type,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }

    async def _drain(self) -> None:
        while self._pending:
            batch: dict[Hashable, Object] = {}
            while self._pending and len(batch) < self._concurrency:
                event, key = self._pending.popleft()
                told = self._told.get(key)
                if told is None:
                    metadata = event["metadata"]
                    told = _Told(metadata["name"], 0, event["firstTimestamp"], metadata["namespace"])
                    self._told[key] = told
                    _trim(self._told, 4096)
                told.count += 1
                event["count"] = told.count
                event["firstTimestamp"] = told.first
                event["metadata"]["name"] = told.name
                batch[key] = event
            fresh: list[tuple[_Told | None, Object]] = []
            again: list[Awaitable[None]] = []
            for key, event in batch.items():
                told = self._told.get(key)
                if told is not None and told.created:
                    again.append(self._repeat(told, event))
                else:
                    fresh.append((told, event))
            if again:
                await asyncio.gather(self._create(fresh), *again)
            else:
                await self._create(fresh)

    async def _repeat(self, told: _Told, event: Object) -> None:
        fields = ("count", "message", "lastTimestamp", "firstTimestamp")
        patch: Any = {name: event[name] for name in fields}
        try:
            await self._client.patch(EVENTS, told.name, patch, told.namespace, content_type=MERGE_PATCH)
        except NotFound:  # its hour was over: start anew
            await self._create([(told, event)])
        except AtollError as error:
            _dropped(error)

    async def _create(self, events: list[tuple[_Told | None, Object]]) -> None:
        if not events:
            return
        made = await create_all(self._client, EVENTS, [event for _, event in events])
        for (told, _), result in zip(events, made, strict=True):
            if isinstance(result, AtollError):
                _dropped(result)
            elif told is not None:
                told.created = True


def _dropped(error: AtollError) -> None:
    expected = isinstance(error, Conflict | NotFound) or getattr(error, "code", 0) == 403
    log.log(logging.DEBUG if expected else logging.INFO, "event dropped: %s", error)


def _target(about: Object) -> tuple[Hashable, ...]:
    return about.get("kind"), about.get("namespace"), about.get("name"), about.get("uid")


def _reference(obj: Object) -> Object:
    metadata = obj.get("metadata")
    if metadata is None:
        return dict(obj)
    reference = {"kind": obj.get("kind", ""), "apiVersion": obj.get("apiVersion", ""), "name": metadata["name"]}
    for source, target in (("namespace", "namespace"), ("uid", "uid"), ("resourceVersion", "resourceVersion")):
        if metadata.get(source):
            reference[target] = metadata[source]
    return reference


def _trim(cache: OrderedDict[Any, Any], size: int) -> None:
    while len(cache) > size:
        cache.popitem(last=False)
