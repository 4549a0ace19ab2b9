"""The loop: addresses for Services of type LoadBalancer, as a cloud's controller gives them.

One worker, so that two Services never get one address. What is not of that type any more loses its address.
"""

from __future__ import annotations

from collections.abc import Sequence

from atoll.base.errors import NotFound
from atoll.client.port import MERGE_PATCH, Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.loadbalancers.plan import Port, Refused, addresses_of, choose, is_ours, ports_of
from atoll.kinds.builtin import SERVICES
from atoll.objects.meta import is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

_AGAIN_SECONDS = 30.0


class LoadBalancerController:
    """`pool`: the addresses. `shared`: they are the machine's own, one for many Services."""

    def __init__(self, context: Context, pool: Sequence[str], *, shared: bool = False) -> None:
        self.name = "service-controller"
        self._client = context.client(self.name)
        self._recorder = context.recorder(self.name)
        self._pool = dict.fromkeys(pool)
        self._shared = shared
        self._services = context.informers.of(SERVICES)
        self._given: dict[Key, tuple[str, frozenset[Port]]] = {}
        self._refused: dict[Key, str] = {}
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=1, wait_for=(self._services,))
        self._services.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if any(item is not None and (is_ours(item) or addresses_of(item)) for item in (old, new)):
            self.loop.queue.add(key(new or old or {}))
            if new is None and self._refused:
                for waiting in self._refused:
                    self.loop.queue.add(waiting)

    async def _reconcile(self, name: Key) -> float | None:
        service = self._services.by_key(name)
        if service is None or is_deleting(service) or not is_ours(service):
            self._given.pop(name, None)
            self._refused.pop(name, None)
            other_class = service is not None and service["spec"].get("type") == "LoadBalancer"
            if service is not None and addresses_of(service) and not other_class:
                await self._write(name, None)
            return None
        chosen = choose(service, self._pool, self._taken(name), shared=self._shared)
        if isinstance(chosen, Refused):
            if self._refused.get(name) != chosen.message:
                self._recorder.event(service, "Warning", "SyncLoadBalancerFailed", chosen.message)
            self._refused[name] = chosen.message
            return _AGAIN_SECONDS
        self._refused.pop(name, None)
        self._given[name] = (chosen, ports_of(service))
        if addresses_of(service) != [chosen]:
            await self._write(name, chosen)
            self._recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        return None

    def _taken(self, name: Key) -> dict[str, list[frozenset[Port]]]:
        """What the other Services have, by the cache and by what was written and may not be in it yet."""
        held: dict[Key, tuple[str, frozenset[Port]]] = {}
        for service in self._services:
            if is_ours(service):
                for address in addresses_of(service):
                    held[key(service)] = (address, ports_of(service))
        held.update(self._given)
        out: dict[str, list[frozenset[Port]]] = {}
        for other, (address, ports) in held.items():
            if other != name:
                out.setdefault(address, []).append(ports)
        return out

    async def _write(self, name: Key, address: str | None) -> None:
        ingress = [{"ip": address, "ipMode": "VIP"}] if address is not None else None
        body: Object = {"status": {"loadBalancer": {"ingress": ingress}}}
        try:
            await self._client.patch(SERVICES, name[1], body, name[0], content_type=MERGE_PATCH, subresource="status")
        except NotFound:
            return
