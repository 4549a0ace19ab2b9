"""A cache of one resource kept true by list and watch, as client-go's shared informer.

Guarantees: handlers see every state change in order, after the cache has it; a broken watch resumes from its
last version, and only where that is gone it lists again and tells the difference. `synced` is set once the
first list is in the cache. It refuses to guess: while it can't reach the server it keeps what it had and
says so by `healthy`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress

from atoll.base.backoff import Backoff
from atoll.base.belongings import at_end, outside
from atoll.base.errors import ApiError, AtollError, Gone
from atoll.client.port import Client, Object
from atoll.kinds.resource import Resource

Key = tuple[str | None, str]
Handler = Callable[[Object | None, Object | None], None]
IndexFunction = Callable[[Object], Iterable[Hashable]]

log = logging.getLogger(__name__)


class Informer:
    """handler(old, new): (None, new) added, (old, new) changed, (old, None) deleted."""

    def __init__(
        self,
        client: Client,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page_size: int = 2000,
        transform: Callable[[Object], Object] | None = None,
    ) -> None:
        self.resource = resource
        self._transform = transform
        self.synced = asyncio.Event()
        self.answered = asyncio.Event()  # synced, or the server has said that it does not serve this
        self.healthy = False
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._page_size = page_size
        self._objects: dict[Key, Object] = {}
        self._handlers: list[Handler] = []
        self._indexers: dict[str, IndexFunction] = {}
        self._indices: dict[str, dict[Hashable, dict[Key, None]]] = {}
        self._standing: dict[Key, tuple[tuple[Hashable, ...], ...]] = {}  # under which values each object is, by index
        self._version: str | None = None
        self._progress = 0  # lists and events so far
        self._backoff = Backoff(first_seconds=0.05, most_seconds=5.0)

    def add_handler(self, handler: Handler) -> None:
        """Called for each change; for what is cached already, at once. It goes with the part that adds it
        (`atoll.base.belongings`)."""
        self._handlers.append(handler)
        at_end(lambda: self.remove_handler(handler))
        for obj in list(self._objects.values()):
            handler(None, obj)

    def remove_handler(self, handler: Handler) -> None:
        """It is called no more."""
        if handler in self._handlers:
            self._handlers.remove(handler)

    def add_index(self, name: str, function: IndexFunction) -> None:
        """`by_index(name, value)` then gives the objects for which `function` yields that value."""
        if name in self._indexers:
            return
        self._indexers[name] = function
        self._indices[name] = {}
        for key, obj in self._objects.items():
            values = tuple(function(obj))
            self._standing[key] = (*self._standing.get(key, ()), values)
            for value in values:
                self._indices[name].setdefault(value, {})[key] = None

    def get(self, name: str, namespace: str | None = None) -> Object | None:
        return self._objects.get((namespace, name))

    def by_key(self, key: Key) -> Object | None:
        return self._objects.get(key)

    def by_index(self, name: str, value: Hashable) -> list[Object]:
        return [self._objects[key] for key in self._indices[name].get(value, ())]

    def index_values(self, name: str) -> list[Hashable]:
        """The values for which `by_index` gives any."""
        return [value for value, found in self._indices[name].items() if found]

    def index_size(self, name: str, value: Hashable) -> int:
        """How many objects `by_index` would give."""
        return len(self._indices[name].get(value, ()))

    def __iter__(self) -> Iterator[Object]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def resource_version(self) -> str | None:
        """The version up to which the cache is true."""
        return self._version

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            before = self._progress
            try:
                if self._version is None:
                    await self._list()
                self.healthy = True
                await self._watch()
            except Gone:
                self._version = None
            except AtollError as error:
                self.healthy = False
                if isinstance(error, ApiError) and error.code == 404:
                    self.answered.set()
                    log.debug("%s is not served yet", self.resource.group_resource)
                else:
                    log.info("informer %s: %s", self.resource.group_resource, error)
            except Exception:  # a fault of ours: what the cache has may be wrong, so list again
                self.healthy = False
                self._version = None
                log.exception("informer %s", self.resource.group_resource)
            if self._progress != before:
                failures = 0
                if self.healthy:
                    continue
            await asyncio.sleep(self._backoff.delay(failures))
            failures += 1

    async def _list(self) -> None:
        items: list[Object] = []
        token: str | None = None
        while True:
            page = await self._client.list(
                self.resource,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                limit=self._page_size,
                continue_token=token,
            )
            items += page.items
            token = page.continue_token
            if not token:
                break
        fresh = {_key(obj): self._kept(obj) for obj in items}
        for key in [key for key in self._objects if key not in fresh]:
            self._set(key, None)
        for key, obj in fresh.items():
            old = self._objects.get(key)
            if old is None or _version(old) != _version(obj):
                self._set(key, obj)
        self._version = page.resource_version
        self._progress += 1
        self.synced.set()
        self.answered.set()

    async def _watch(self) -> None:
        assert self._version is not None
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        try:
            async for event in events:
                if event.type == "DELETED":
                    self._set(_key(event.object), None, self._kept(event.object))
                elif event.type != "BOOKMARK":
                    self._set(_key(event.object), self._kept(event.object))
                self._version = _version(event.object)
                self._progress += 1
        finally:
            closing = getattr(events, "aclose", None)
            if closing is not None:
                with suppress(RuntimeError):
                    await closing()

    def _kept(self, obj: Object) -> Object:
        """What is cached of an object; a transform must keep metadata's namespace, name and resourceVersion."""
        return obj if self._transform is None else self._transform(obj)

    def _set(self, key: Key, new: Object | None, last: Object | None = None) -> None:
        old = self._objects.get(key)
        if old is None and new is None:
            return
        if old is not None and new is not None and _uid(old) != _uid(new):
            self._set(key, None)  # a namesake: the old one's deletion was missed
            old = None
        if self._indexers:
            self._index(key, new)
        if new is not None:
            self._objects[key] = new
        else:
            del self._objects[key]
        before = (last or old) if new is None else old
        for handler in self._handlers:
            try:
                handler(before, new)
            except Exception:  # a fault of ours in one handler must not stop the others
                log.exception("handler of %s for %s", self.resource.group_resource, key)

    def _index(self, key: Key, new: Object | None) -> None:
        """Take an object's newest state into each index; what it stood under before is remembered, not asked again."""
        nowhere: tuple[tuple[Hashable, ...], ...] = ((),) * len(self._indexers)
        before = self._standing.get(key, nowhere)
        if new is None:
            after = nowhere
            self._standing.pop(key, None)
        else:
            after = tuple([tuple(function(new)) for function in self._indexers.values()])
            if after == before:
                return
            self._standing[key] = after
        for buckets, old_values, values in zip(self._indices.values(), before, after, strict=True):
            if old_values == values:
                continue
            for value in old_values:
                bucket = buckets.get(value)
                if bucket is not None:
                    bucket.pop(key, None)
                    if not bucket:
                        del buckets[value]
            for value in values:
                buckets.setdefault(value, {})[key] = None


def _key(obj: Object) -> Key:
    metadata = obj["metadata"]
    return metadata.get("namespace"), metadata["name"]


def _uid(obj: Object) -> str:
    return str(obj["metadata"].get("uid", ""))


def _version(obj: Object) -> str:
    return str(obj["metadata"]["resourceVersion"])


class Informers:
    """One informer per resource and selector, shared by all controllers of a process."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._informers: dict[tuple[Resource, str | None, str | None, str | None], Informer] = {}
        self._tasks: dict[Informer, asyncio.Task[None]] = {}
        self._running = False

    def of(
        self,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        transform: Callable[[Object], Object] | None = None,
    ) -> Informer:
        """The shared informer; started at once if the others run already. The first caller's transform counts."""
        key = (resource, namespace, label_selector, field_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(
                self.client,
                resource,
                namespace=namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                transform=transform,
            )
            self._informers[key] = informer
            if self._running:
                self._start(informer)
        return informer

    def start(self) -> None:
        self._running = True
        for informer in self._informers.values():
            if informer not in self._tasks:
                self._start(informer)

    def state(self) -> list[tuple[str, bool]]:
        """Each informer's resource, and whether it has seen what there is (or that it is not served)."""
        return [(key[0].group_resource, informer.answered.is_set()) for key, informer in self._informers.items()]

    async def wait_synced(self) -> None:
        for informer in list(self._informers.values()):
            await informer.synced.wait()

    async def drop(self, resource: Resource) -> None:
        """Stop and forget all informers of a resource that is no longer served."""
        keys = [key for key in self._informers if key[0] == resource]
        tasks = [self._tasks.pop(informer, None) for informer in map(self._informers.pop, keys)]
        stopped = [task for task in tasks if task is not None and task is not asyncio.current_task()]
        for task in stopped:
            task.cancel()
        await asyncio.gather(*stopped, return_exceptions=True)

    async def stop(self) -> None:
        self._running = False
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, informer: Informer) -> None:
        name = f"informer-{informer.resource.plural}"
        self._tasks[informer] = asyncio.get_running_loop().create_task(informer.run(), name=name, context=outside())
