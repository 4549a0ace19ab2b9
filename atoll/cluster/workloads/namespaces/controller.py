"""The loop of namespace deletion: status Terminating, delete pods, then all else, then finalize."""

from __future__ import annotations

from atoll.base.errors import ApiError, AtollError, Conflict, NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.common.discovery import deletable_in_namespaces, served_resources
from atoll.cluster.workloads.namespaces.plan import Remaining, conditions_after
from atoll.kinds.builtin import NAMESPACES
from atoll.kinds.resource import Resource
from atoll.objects.meta import is_deleting
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

NAME = "namespace-controller"
FINALIZER = "kubernetes"
_MOST_WAIT_SECONDS = 8.0


class NamespaceController:
    """Looks again soon while content remains, and ever later while it stays the same."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._clock = context.clock
        self._namespaces = context.informers.of(NAMESPACES)
        self._passes: dict[Key, int] = {}
        self.loop: Controller[Key] = Controller(NAME, self._reconcile, workers=10, wait_for=(self._namespaces,))
        self._namespaces.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._passes.pop((None, (old or {})["metadata"]["name"]), None)
        elif is_deleting(new):
            self.loop.queue.add((None, new["metadata"]["name"]))

    async def _reconcile(self, name: Key) -> float | None:
        try:
            namespace = await self._client.get(NAMESPACES, name[1])
        except NotFound:
            return None
        if not is_deleting(namespace) or not namespace["spec"].get("finalizers"):
            return None
        if (namespace.get("status") or {}).get("phase") != "Terminating":
            namespace = await self._write_status(namespace, {**(namespace.get("status") or {}), "phase": "Terminating"})
        remaining = await self._delete_content(name[1])
        status = namespace.get("status") or {}
        before = status.get("conditions") or []
        after = conditions_after(before, remaining, self._clock.wall())
        if after != before:
            namespace = await self._write_status(namespace, {**status, "conditions": after})
        if remaining.objects or remaining.errors or remaining.discovery_error:
            passes = self._passes[name] = self._passes.get(name, 0) + 1
            return float(min(0.02 * 2 ** min(passes, 16), _MOST_WAIT_SECONDS))
        await self._finalize(namespace)
        return None

    async def _write_status(self, namespace: Object, status: Object) -> Object:
        return await self._client.update(NAMESPACES, {**namespace, "status": status}, subresource="status")

    async def _finalize(self, namespace: Object) -> None:
        finalizers = [item for item in namespace["spec"]["finalizers"] if item != FINALIZER]
        changed = {**namespace, "spec": {**namespace["spec"], "finalizers": finalizers}}
        try:
            await self._client.update(NAMESPACES, changed, subresource="finalize")
        except NotFound:
            return

    async def _delete_content(self, namespace: str) -> Remaining:
        remaining = Remaining()
        try:
            resources = deletable_in_namespaces(await served_resources(self._client))
        except AtollError as error:
            remaining.discovery_error = error.message
            return remaining
        for resource in resources:
            await self._delete_all(resource, namespace, remaining)
            if resource.group_resource == "pods" and remaining.objects:
                break  # what pods use (secrets, accounts …) stays until they are gone
        return remaining

    async def _delete_all(self, resource: Resource, namespace: str, remaining: Remaining) -> None:
        try:
            if not (await self._client.list(resource, namespace, limit=1)).items:
                return
            answer = await self._client.raw("DELETE", resource.path(namespace), query="propagationPolicy=Background")
            if answer.status == 405:
                await self._delete_each(resource, namespace)
            elif answer.status >= 400 and answer.status != 404:
                remaining.errors.append(f"deleting {resource.group_resource} answered {answer.status}")
            left = (await self._client.list(resource, namespace)).items
        except (NotFound, Conflict):
            return
        except ApiError as error:
            remaining.errors.append(error.message)
            return
        if left:
            remaining.objects[f"{resource.plural}.{resource.group}"] = len(left)
        for item in left:
            for finalizer in item["metadata"].get("finalizers") or ():
                remaining.finalizers[finalizer] = remaining.finalizers.get(finalizer, 0) + 1

    async def _delete_each(self, resource: Resource, namespace: str) -> None:
        for item in (await self._client.list(resource, namespace)).items:
            try:
                await self._client.delete(resource, item["metadata"]["name"], namespace)
            except NotFound:
                continue
