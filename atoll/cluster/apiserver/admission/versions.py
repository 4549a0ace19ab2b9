"""The objects of a request in the version that a webhook or policy asked for, and back again.

Requests carry objects as they are stored. What admission from outside sees is one served version of them (as upstream
converts to the matched kind), without what only the storage fills in; what it changed is decoded, defaulted and taken
over like anything else that a client sends.
"""

from __future__ import annotations

from atoll.cluster.apiserver.ports import SYSTEM_ADMIN, AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Registry, Served
from atoll.cluster.apiserver.verbs import scale
from atoll.cluster.apiserver.verbs.accept import accept, check, typed
from atoll.kinds import schemas
from atoll.kinds.resource import Resource

_FILLED_ON_CREATE = ("uid", "creationTimestamp")


class Versions:
    """Views of requests over what is served."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def resources(self, request: AdmissionRequest, equivalent: bool) -> list[Resource]:
        """The requested resource and, if asked, those of other versions and groups that are stored with it."""
        found = [request.resource]
        if not equivalent:
            return found
        served = self._registry.of(request.resource)
        if served is None:
            return found
        for other in self._registry.stored_as(served.store_resource):
            has = not request.subresource or other.entry.subresource(request.subresource) is not None
            if has and other.resource != request.resource:
                found.append(other.resource)
        return found

    def kind_of(self, request: AdmissionRequest, resource: Resource) -> tuple[str, str, str]:
        """(group, version, kind) of the object that is shown for `resource`."""
        if request.subresource:
            served = self._registry.of(resource)
            below = None if served is None else served.entry.subresource(request.subresource)
            if below is not None and (below.api_version or below.kind != resource.kind):
                group, _, version = (below.api_version or "v1").rpartition("/")
                return group, version, below.kind
        return resource.group, resource.version, resource.kind

    async def show(
        self, request: AdmissionRequest, resource: Resource, *, mutating: bool
    ) -> tuple[Object | None, Object | None]:
        """(object, old object) as that resource has them. They share parts with the request's: not to be changed.

        Mutating plugins are asked before the storage fills in what is its own.
        """
        if mutating and request.sent is not None:
            return request.sent, await self._show(request, resource, request.old)
        shown = request.obj
        if mutating and shown is not None and request.operation == "CREATE" and not request.subresource:
            metadata = shown.get("metadata") or {}
            kept = {key: value for key, value in metadata.items() if key not in _FILLED_ON_CREATE}
            shown = {**shown, "metadata": kept}
        return await self._show(request, resource, shown), await self._show(request, resource, request.old)

    async def _show(self, request: AdmissionRequest, resource: Resource, obj: Object | None) -> Object | None:
        if obj is None:
            return None
        served = self._registry.of(resource)
        if served is None or not _is_whole(request, served):
            return obj
        if served.converter is not None:
            versioned = await served.converter.converted(obj, resource.api_version)
        else:
            versioned = served.present_object(obj)
        if request.subresource == "scale":
            return scale.scale_of(served, versioned)
        return versioned

    async def take(self, request: AdmissionRequest, resource: Resource, changed: Object) -> None:
        """Make `changed`, private and of that resource's version, the request's object. Raises BadRequest."""
        target = request.obj
        assert target is not None
        served = self._registry.of(resource)
        if request.subresource == "scale" and served is not None:
            replicas = (changed.get("spec") or {}).get("replicas") or 0
            new = scale.with_replicas(served, target, replicas)
            request.sent = changed
        elif served is not None and _is_whole(request, served):
            new = self._decoded(served, changed)
            if request.operation == "CREATE" and not request.subresource:
                _restore(new["metadata"], target["metadata"])
            if served.converter is not None:
                new = await served.converter.converted(new, request.resource.api_version)
            new = served.stored(new)
            served.behaviour.default(new)
        else:
            new = self._other(request, resource, changed)
        if new is not target:
            target.clear()
            target.update(new)

    def _decoded(self, served: Served, changed: Object) -> Object:
        quiet = Context(SYSTEM_ADMIN, field_validation="Ignore")
        return accept(quiet, served, changed)

    def _other(self, request: AdmissionRequest, resource: Resource, changed: Object) -> Object:
        """Objects of the kinds that only subresources know (Binding, Eviction, PodExecOptions …)."""
        group, version, kind = self.kind_of(request, resource)
        node = schemas.schema_for(group, version, kind)
        if node is None:
            return changed
        named = Resource(group, version, "", kind)
        quiet = Context(SYSTEM_ADMIN, field_validation="Ignore")
        return check(quiet, node, typed(changed, named), named.api_version, kind)


def _is_whole(request: AdmissionRequest, served: Served) -> bool:
    """Whether the request's object is the stored kind itself."""
    return request.kind in ("", served.resource.kind)


def _restore(new: Object, before: Object) -> None:
    """What is filled in on create can't be chosen."""
    for field in _FILLED_ON_CREATE:
        if field in before:
            new[field] = before[field]
        else:
            new.pop(field, None)
