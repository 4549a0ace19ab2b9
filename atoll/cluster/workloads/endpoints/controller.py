"""The loops of Endpoints and EndpointSlices; both are woken by the same changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import Forbidden, NotFound
from atoll.client.port import Client, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.selectors import Matcher, compile_map
from atoll.cluster.workloads.endpoints import selection, slices
from atoll.cluster.workloads.endpoints.slices import plan_slices
from atoll.cluster.workloads.endpoints.subsets import plan_endpoints
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES
from atoll.objects.meta import is_deleting, key, labels
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informer, Informers, Key

_PODS_PER_SECOND = 20_000
_MOST_DELAY_SECONDS = 0.5


class ServicePods:
    """The Services, the pods that they select, and who must look when one of them changes."""

    def __init__(self, informers: Informers) -> None:
        self.services = informers.of(SERVICES)
        self.pods = informers.of(PODS)
        for informer in (self.services, self.pods):
            informer.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self._matchers: dict[str, tuple[object, Matcher]] = {}

    def follow(self, loop: Controller[Key]) -> None:
        def service_changed(old: Object | None, new: Object | None) -> None:
            if new is None and old is not None:
                self._matchers.pop(old["metadata"]["uid"], None)
            loop.queue.add(key(new or old or {}))

        def pod_changed(old: Object | None, new: Object | None) -> None:
            namespace = (new or old or {})["metadata"].get("namespace")
            if not self.services.index_size("namespace", namespace):
                return
            if old is not None and new is not None and selection.relevant(old) == selection.relevant(new):
                return
            delay = self.pods.index_size("namespace", namespace) / _PODS_PER_SECOND
            for service in self.services.by_index("namespace", namespace):
                matches = self.matcher(service)
                if matches is not None and any(item is not None and matches(labels(item)) for item in (old, new)):
                    loop.queue.add_after(key(service), min(max(delay, 0.002), _MOST_DELAY_SECONDS))

        self.services.add_handler(service_changed)
        self.pods.add_handler(pod_changed)

    def matcher(self, service: Object) -> Matcher | None:
        """None for a Service without a selector."""
        selector = service["spec"].get("selector")
        if not selector or service["spec"].get("type") == "ExternalName":
            return None
        known = self._matchers.get(service["metadata"]["uid"])
        if known is None or known[0] != selector:
            known = self._matchers[service["metadata"]["uid"]] = (selector, compile_map(selector))
        return known[1]

    def of(self, service: Object, matches: Matcher) -> list[Object]:
        found = self.pods.by_index("namespace", service["metadata"].get("namespace"))
        return [pod for pod in found if matches(labels(pod))]


class EndpointSliceController:
    """Keeps the slices of each Service that has a selector."""

    def __init__(self, context: Context) -> None:
        self.name = "endpointslice-controller"
        self._client = context.client(self.name)
        self._clock = context.clock
        self._source = ServicePods(context.informers)
        self._nodes = context.informers.of(NODES)
        self._slices = context.informers.of(ENDPOINT_SLICES)
        self._slices.add_index("service", _service_of)
        self._unseen: dict[Key, dict[str, str]] = {}
        self.loop: Controller[Key] = Controller(
            self.name,
            self._reconcile,
            workers=5,
            wait_for=(self._source.services, self._source.pods, self._slices, self._nodes),
        )
        self._source.follow(self.loop)
        self._slices.add_handler(self._slice_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        item = new or old or {}
        for service in _service_of(item):
            waiting = self._unseen.get(service, {})
            uid = item["metadata"]["uid"]
            if uid in waiting and (new is None or _version(new) >= int(waiting[uid] or 0)):
                del waiting[uid]
            self.loop.queue.add(service)

    async def _reconcile(self, name: Key) -> float | None:
        service = self._source.services.by_key(name)
        if service is None or is_deleting(service):
            self._unseen.pop(name, None)
            return None
        matches = self._source.matcher(service)
        if matches is None:
            return None
        if self._unseen.get(name):
            return 0.5  # its own writes aren't in the cache yet; their events wake it
        plan = plan_slices(
            service,
            self._source.of(service, matches),
            [item for item in self._slices.by_index("service", name) if not is_deleting(item)],
            self._zone,
            rfc3339(self._clock.wall()),
        )
        unseen = self._unseen.setdefault(name, {})
        space = service["metadata"]["namespace"]

        async def write(call: Awaitable[Object]) -> None:
            made = await call
            cached = self._slices.get(made["metadata"]["name"], space)
            if cached is None or _version(cached) < _version(made):
                unseen[made["metadata"]["uid"]] = made["metadata"]["resourceVersion"]

        async def delete(item: Object) -> None:
            try:
                await self._client.delete(ENDPOINT_SLICES, item["metadata"]["name"], space)
            except NotFound:
                return
            if self._slices.get(item["metadata"]["name"], space) is not None:
                unseen[item["metadata"]["uid"]] = ""

        writes = [
            *(write(self._client.create(ENDPOINT_SLICES, item, space)) for item in plan.create),
            *(write(self._client.update(ENDPOINT_SLICES, item)) for item in plan.update),
            *(delete(item) for item in plan.delete),
        ]
        for result in await asyncio.gather(*writes, return_exceptions=True):
            if isinstance(result, BaseException) and not (
                isinstance(result, Forbidden) and namespace_terminates(result)
            ):
                raise result
        return None

    def _zone(self, node: str) -> str:
        found = self._nodes.get(node)
        return labels(found).get("topology.kubernetes.io/zone", "") if found is not None else ""


def _version(item: Object) -> int:
    return int(item["metadata"]["resourceVersion"])


def _service_of(item: Object) -> tuple[Key, ...]:
    found = labels(item)
    if found.get(slices.MANAGED_LABEL) != slices.MANAGER:
        return ()
    return ((item["metadata"].get("namespace"), found.get(slices.SERVICE_LABEL, "")),)


class EndpointsController:
    """Keeps the (old) Endpoints of each Service that has a selector, and removes it with the Service."""

    def __init__(self, context: Context) -> None:
        self.name = "endpoint-controller"
        self._client: Client = context.client(self.name)
        self._clock: Clock = context.clock
        self._source = ServicePods(context.informers)
        self._endpoints: Informer = context.informers.of(ENDPOINTS)
        self.loop: Controller[Key] = Controller(
            self.name,
            self._reconcile,
            workers=5,
            wait_for=(self._source.services, self._source.pods, self._endpoints),
        )
        self._source.follow(self.loop)
        self._endpoints.add_handler(self._endpoints_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _endpoints_changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or old is None:
            self.loop.queue.add(key(new or old or {}))

    async def _reconcile(self, name: Key) -> float | None:
        service = self._source.services.by_key(name)
        existing = self._endpoints.by_key(name)
        if service is None:
            if existing is not None and labels(existing).get("endpoints.kubernetes.io/managed-by"):
                await self._ignoring_absence(self._client.delete, ENDPOINTS, name[1], name[0])
            return None
        matches = self._source.matcher(service)
        if matches is None:
            return None
        members = self._source.of(service, matches)
        made = plan_endpoints(service, members, existing, rfc3339(self._clock.wall()))
        if made is None:
            return None
        if existing is not None:
            await self._client.update(ENDPOINTS, made)
            return None
        try:
            await self._client.create(ENDPOINTS, made, name[0])
        except Forbidden as error:
            if not namespace_terminates(error):
                raise
        return None

    async def _ignoring_absence(self, call: Callable[..., Awaitable[Object]], *arguments: object) -> None:
        try:
            await call(*arguments)
        except NotFound:
            return
