"""What a claim's own strategy refuses by namespace and user, and the time that a device's taint was added.

Admin access needs a label on the namespace (KEP-5018); allocating, and speaking of a driver's devices, needs leave of
its own on the synthetic subresources `resourceclaims/binding` and `/driver` (KEP-4817; upstream's
pkg/registry/resource). Refusals are those of validation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.cluster.apiserver.ports import AdmissionRequest, Attributes, Authorizer, Cause, User, decide
from atoll.cluster.apiserver.problems import denied, invalid, not_allowed
from atoll.cluster.store.port import Key, Store

Object = dict[str, Any]

ADMIN_ACCESS = "resource.kubernetes.io/admin-access"
_GROUP = "resource.k8s.io"
_PLURALS = ("resourceclaims", "resourceclaimtemplates", "resourceslices")
_NODE = "authentication.kubernetes.io/node-name"
_NEEDS_LABEL = f"admin access to devices requires the `{ADMIN_ACCESS}: true` label on the containing namespace"


class DeviceAccess:
    resources = frozenset(f"{plural}.{_GROUP}" for plural in _PLURALS)

    def __init__(self, store: Store, clock: Clock, authorizer: Authorizer | None) -> None:
        self._store = store
        self._clock = clock
        self._authorizer = authorizer

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("namespaces",)

    def mutate(self, request: AdmissionRequest) -> None:
        if request.obj is None or request.resource.plural != "resourceslices":
            return
        for device in (request.obj.get("spec") or {}).get("devices") or ():
            for taint in device.get("taints") or ():
                if not taint.get("timeAdded"):
                    taint["timeAdded"] = rfc3339(self._clock.wall())

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        obj, plural = request.obj, request.resource.plural
        if obj is None or plural == "resourceslices":
            return None
        if request.operation == "CREATE":
            spec = obj.get("spec") or {}
            spec = spec if plural == "resourceclaims" else spec.get("spec") or {}
            self._admin_requested(request, spec)
        elif request.subresource == "status" and request.old is not None:
            return self._status(request, obj.get("status") or {}, request.old.get("status") or {})
        return None

    def _admin_requested(self, request: AdmissionRequest, spec: Object) -> None:
        for index, asked in enumerate((spec.get("devices") or {}).get("requests") or ()):
            if (asked.get("exactly") or {}).get("adminAccess"):
                self._need_label(request, f"spec.devices.requests[{index}].adminAccess")

    def _need_label(self, request: AdmissionRequest, path: str) -> None:
        record = self._store.get(Key("namespaces", "", request.namespace))
        labels = (record.object["metadata"].get("labels") or {}) if record is not None else {}
        if labels.get(ADMIN_ACCESS) != "true":
            _refuse(request, [not_allowed(path, _NEEDS_LABEL)])

    async def _status(self, request: AdmissionRequest, status: Object, before: Object) -> None:
        if not any(result.get("adminAccess") for result in _results(before)):
            for index, result in enumerate(_results(status)):
                if result.get("adminAccess"):
                    self._need_label(request, f"status.allocation.devices.results[{index}].adminAccess")
                    break
        if self._authorizer is None:
            return
        causes: list[Cause] = []
        verb = request.verb or "update"
        if _part(status, "allocation") != _part(before, "allocation") or _part(status, "reservedFor") != _part(
            before, "reservedFor"
        ):
            why = await self._refused(request.user, verb, "binding")
            if why:
                told = (
                    'changing status.allocation or status.reservedFor requires resource="resourceclaims/binding",'
                    f' verb="{verb}" permission: {why}'
                )
                causes.append(not_allowed("status.allocation", told))
        if status.get("allocation") is not None:
            causes += await self._drivers(request, verb, status, before)
        if causes:
            _refuse(request, causes)

    async def _drivers(self, request: AdmissionRequest, verb: str, status: Object, before: Object) -> list[Cause]:
        """A driver's devices may be spoken of by who may do so on any node, or on the claim's own."""
        verbs = [f"arbitrary-node:{verb}"]
        node = _node_of(status["allocation"])
        if node and node in request.user.extra.get(_NODE, ()):
            verbs.insert(0, f"associated-node:{verb}")
        causes = []
        for driver in sorted(_changed_drivers(status, before)):
            reasons = [await self._refused(request.user, each, "driver", request.namespace, driver) for each in verbs]
            if all(reasons):
                shown = f"[{' '.join(verbs)}]"
                told = (
                    f'changing status.devices requires resource="resourceclaims/driver", verb="{shown}" permission:'
                    f" {reasons[0]}"
                )
                causes.append(not_allowed("status.devices", told))
        return causes

    async def _refused(self, user: User, verb: str, subresource: str, namespace: str = "", name: str = "") -> str:
        """Why not, "" where it is allowed."""
        assert self._authorizer is not None
        asked = Attributes(user, verb, _GROUP, "v1", "resourceclaims", subresource, namespace, name)
        decision = await decide(self._authorizer, asked)
        return "" if decision.allowed else str(denied(asked, decision.reason))


def _refuse(request: AdmissionRequest, causes: list[Cause]) -> None:
    raise invalid(_GROUP, request.resource.kind, request.name, causes)


def _part(status: Object, field: str) -> Any:
    return status.get(field) or None


def _results(status: Object) -> list[Object]:
    found: list[Object] = ((status.get("allocation") or {}).get("devices") or {}).get("results") or []
    return found


def _changed_drivers(status: Object, before: Object) -> set[str]:
    def by_device(devices: Iterable[Object] | None) -> dict[tuple[str, str, str, str], Object]:
        return {
            (item.get("driver", ""), item.get("pool", ""), item.get("device", ""), item.get("shareID") or ""): item
            for item in devices or ()
        }

    new, old = by_device(status.get("devices")), by_device(before.get("devices"))
    return {key[0] for key in new.keys() | old.keys() if new.get(key) != old.get(key)}


def _node_of(allocation: Object) -> str:
    """The one node that an allocation is tied to, "" for several."""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return ""
    fields = terms[0].get("matchFields") or []
    if len(fields) != 1 or fields[0].get("key") != "metadata.name" or fields[0].get("operator") != "In":
        return ""
    values: list[str] = fields[0].get("values") or []
    return values[0] if len(values) == 1 else ""
