"""The APIServices that name a Service, by group version; read again when an APIService has changed."""

from __future__ import annotations

import base64

from msgspec import Struct

from atoll.cluster.apiserver.discovery import version_order
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.store.port import Store

API_SERVICES = "apiservices.apiregistration.k8s.io"
AVAILABLE = "Available"


class Backend(Struct, frozen=True):
    """Who answers a group version."""

    name: str  # the APIService's
    group: str
    version: str
    namespace: str
    service: str
    port: int
    ca_pem: bytes
    insecure: bool
    group_priority: int
    version_priority: int
    available: bool

    @property
    def server_name(self) -> str:
        """The name that its certificate must have."""
        return f"{self.service}.{self.namespace}.svc"

    @property
    def path(self) -> str:
        return f"/apis/{self.group}/{self.version}"

    @property
    def address(self) -> tuple[str, str, int, bytes, bool]:
        """Equal for APIServices that one server answers."""
        return self.namespace, self.service, self.port, self.ca_pem, self.insecure


class Backends:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._read_at = 0
        self._by_version: dict[tuple[str, str], Backend] = {}

    def all(self) -> dict[tuple[str, str], Backend]:
        """By (group, version), those of higher priority first. Shared: do not change."""
        changed = self._store.last_change(API_SERVICES)
        if changed != self._read_at:
            found = [backend for record in self._store.scan(API_SERVICES) if (backend := backend_of(record.object))]
            found.sort(key=lambda item: (-item.group_priority, item.group, -item.version_priority,
                                         version_order(item.version)))  # fmt: skip
            self._by_version = {(item.group, item.version): item for item in found}
            self._read_at = changed
        return self._by_version

    def find(self, group: str, version: str) -> Backend | None:
        return self.all().get((group, version))


def backend_of(api_service: Object) -> Backend | None:
    """None: the API server answers it itself."""
    spec = api_service.get("spec") or {}
    service = spec.get("service")
    if service is None:
        return None
    return Backend(
        name=api_service["metadata"]["name"],
        group=spec.get("group") or "",
        version=spec.get("version") or "",
        namespace=service["namespace"],
        service=service["name"],
        port=service.get("port") or 443,
        ca_pem=base64.b64decode(spec.get("caBundle") or ""),
        insecure=bool(spec.get("insecureSkipTLSVerify")),
        group_priority=spec.get("groupPriorityMinimum") or 0,
        version_priority=spec.get("versionPriority") or 0,
        available=is_available(api_service),
    )


def is_available(api_service: Object) -> bool:
    conditions = (api_service.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == AVAILABLE and item.get("status") == "True" for item in conditions)
