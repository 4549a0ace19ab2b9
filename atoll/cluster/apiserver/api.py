"""The Api: one cluster's API without HTTP. Verbs (`verbs/`) are functions over it.

It holds the store, time and chance, what is served, and the ports that `atoll.app` plugs in (admission,
virtual resources, overlays). It decides nothing about who may do what: that is the translation's (`http`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from msgspec import Struct, field

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import Unreachable
from atoll.cluster.apiserver.ports import (
    Admission,
    AdmissionRequest,
    HookCaller,
    HookTarget,
    Object,
    Repeatability,
    User,
)
from atoll.cluster.apiserver.served import Registry, Served
from atoll.cluster.apiserver.verbs.molds import Molds
from atoll.cluster.apiserver.verbs.recasts import Recasts
from atoll.cluster.store.port import Key, Record, Store, Watcher
from atoll.kinds.resource import Resource


class Overlay(Protocol):
    """Interposed on the reads of one resource: records that are made up on read, with no write to the store.

    The simulated nodes' leases are one. Writers see through it by `record` too: what they compare with is the
    store's, so a write to an overlaid object simply takes effect beneath.
    """

    def record(self, key: Key, stored: Record | None) -> Record | None:
        """What a get answers."""

    def records(self, namespace: str | None, stored: list[Record]) -> list[Record]:
        """What a list answers, in (namespace, name) order."""

    def watcher(self, stored: Watcher, after: int, namespace: str | None) -> Watcher:
        """What a watch follows."""


VirtualHandler = Callable[[User, Object, str], Awaitable[Object]]
"""(user, object as sent, namespace) → the answer of a create-only virtual resource (SubjectAccessReview …)."""

TokenRequest = Callable[[User, str, str, Object, bool], Object]
"""(user, name, namespace, object as sent, dry run) → the answered TokenRequest."""


SubresourceHandler = Callable[[str, str, Mapping[str, list[str]]], Object | None]
"""(namespace, name, query) → the answer of a read of a subresource that is made up; None: there is no such object."""


RawHandler = Callable[[User, str, str, str, bytes, dict[str, str]], Awaitable[tuple[int, list[tuple[str, str]], bytes]]]
"""(user, method, path, query, body, headers) → (status, headers, body): the HTTP translation without a socket."""


Follower = Callable[[Key, Record | None], Awaitable[None]]
"""Called after each durable write of a resource (None: deleted), before the write is answered."""


WriteObserver = Callable[[Key, int, bool, float], None]
"""Told of each durable write: (key, the version that it replaced, whether it deletes, seconds that it took)."""


class NoAdmission:
    """Admits all as it is."""

    async def mutate(self, request: AdmissionRequest) -> None:
        return None

    async def validate(self, request: AdmissionRequest) -> None:
        return None

    def mutate_at_once(self, request: AdmissionRequest) -> bool:
        return True

    def validate_at_once(self, request: AdmissionRequest) -> bool:
        return True

    def repeats(self, group_resource: str, user: User, created: Object | None = None) -> Repeatability | None:
        return Repeatability(())


class NoWayOut:
    """The `HookCaller` of an API server without a network (virtual time): every webhook fails to be called."""

    async def post(self, target: HookTarget, body: bytes, timeout_seconds: float) -> tuple[int, str, bytes]:
        raise Unreachable("dial tcp: this API server has no network")


class NodePages(Protocol):
    """What simulated nodes serve at ports of theirs, though no machine stands behind them."""

    def page(self, node: Object, port: str, path: str) -> str | None:
        """The text at a port ("": the kubelet's) and path; None where there is nothing."""


class Hooks(Struct):
    """What the app plugs in; all optional."""

    admission: Admission = field(default_factory=NoAdmission)
    virtual: dict[tuple[str, str], VirtualHandler] = {}
    overlays: dict[str, Overlay] = {}
    subresources: dict[tuple[Resource, str], SubresourceHandler] = {}
    token_request: TokenRequest | None = None
    hook_caller: HookCaller = field(default_factory=NoWayOut)
    node_pages: NodePages | None = None


class Api:
    """See the module. `registry` starts with the built-in kinds; custom ones come and go."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        chance: Chance,
        registry: Registry,
        hooks: Hooks | None = None,
    ) -> None:
        self.store = store
        self.clock = clock
        self.registry = registry
        self.hooks = hooks or Hooks()
        self.raw: RawHandler | None = None
        self.molds, self.custom_molds = Molds(store), Molds(store)
        self.recasts = Recasts(store)
        self.followers: dict[str, Follower] = {}
        self.observe_write: WriteObserver | None = None
        self.uids = chance.stream("uids")
        self.names = chance.stream("names")
        self.jitter = chance.stream("watch")

    def molds_of(self, served: Served) -> Molds:
        """Custom objects have their own: those of pods are not to give way to a custom kind's many."""
        return self.molds if served.custom is None else self.custom_molds

    def overlay(self, group_resource: str, overlay: Overlay) -> None:
        """Interpose on the reads of `group_resource` (e.g. "leases.coordination.k8s.io")."""
        self.hooks.overlays[group_resource] = overlay

    def read(self, served: Served, namespace: str, name: str) -> Record | None:
        """The newest durable record as readers see it."""
        return self.read_key(served.key(namespace, name))

    def read_key(self, key: Key) -> Record | None:
        """The same, by its key in the store."""
        record = self.store.get(key)
        over = self.hooks.overlays.get(key.resource)
        return record if over is None else over.record(key, record)

    def scan(self, served: Served, namespace: str | None, at: int | None = None) -> list[Record]:
        """Raises TooOld, TooNew."""
        records = self.store.scan(served.store_resource, namespace, at)
        over = self.hooks.overlays.get(served.store_resource)
        return records if over is None else over.records(namespace, records)

    def watch(self, served: Served, after: int, namespace: str | None) -> Watcher:
        """Raises TooOld, TooNew."""
        watcher = self.store.watch(served.store_resource, after, namespace)
        over = self.hooks.overlays.get(served.store_resource)
        return watcher if over is None else over.watcher(watcher, after, namespace)
