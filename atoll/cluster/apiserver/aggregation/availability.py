"""The `Available` condition of an APIService in upstream's reasons (kube-aggregator, remote availability). Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from atoll.cluster.apiserver.aggregation.backends import AVAILABLE, Backend
from atoll.cluster.apiserver.ports import Object


class Availability(Struct, frozen=True):
    status: str  # True, False, Unknown
    reason: str
    message: str


PASSED = Availability("True", "Passed", "all checks passed")
LOCAL = Availability("True", "Local", "Local APIServices are always available")


def check(backend: Backend, service: Object | None, slices: Sequence[Object]) -> Availability | None:
    """What already the Service and its endpoints say; None: the server is to be asked."""
    where = f'service/{backend.service} in "{backend.namespace}"'
    if service is None:
        return Availability("False", "ServiceNotFound", f"{where} is not present")
    spec = service.get("spec") or {}
    if spec.get("type", "ClusterIP") != "ClusterIP":
        return None
    port = next((item for item in spec.get("ports") or () if item.get("port") == backend.port), None)
    if port is None:
        return Availability("False", "ServicePortError", f"{where} is not listening on port {backend.port}")
    if not slices:
        return Availability("False", "EndpointsNotFound", f"cannot find endpointslices for {where}")
    name = port.get("name") or ""
    if not any(_has_endpoint(item, name) for item in slices):
        text = f'endpointslices for {where} have no addresses with port name "{name}"'
        return Availability("False", "MissingEndpoints", text)
    return None


def _has_endpoint(found: Object, port_name: str) -> bool:
    ready = any((item.get("conditions") or {}).get("ready", True) is not False for item in found.get("endpoints") or ())
    ports = found.get("ports") or ()
    return ready and any((item.get("name") or "") == port_name and item.get("port") for item in ports)


def with_condition(api_service: Object, found: Availability, now: str) -> Object | None:
    """The APIService with that condition; None: it has it."""
    status: Object = dict(api_service.get("status") or {})
    conditions = list(status.get("conditions") or ())
    standing = next((item for item in conditions if item.get("type") == AVAILABLE), None)
    told = {"status": found.status, "reason": found.reason, "message": found.message}
    if standing is not None and {key: standing.get(key, "") for key in told} == told:
        return None
    since = standing["lastTransitionTime"] if standing is not None and standing["status"] == found.status else now
    condition = {"type": AVAILABLE, "status": found.status, "lastTransitionTime": since,
                 "reason": found.reason, "message": found.message}  # fmt: skip
    others = [item for item in conditions if item.get("type") != AVAILABLE]
    status["conditions"] = [*others, condition]
    return {**api_service, "metadata": dict(api_service["metadata"]), "status": status}
