"""ResourceQuota admission: a create (or growth) is charged to every quota that counts it, by compare-and-swap on the
quota's own status, before the object is written. What is charged and then not written is given back by the quota
controller's next recount.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable
from typing import Any

from atoll.base import quantity
from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import Conflict
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest, User
from atoll.cluster.store.port import Record, StaleVersion, Store
from atoll.kinds.schemas import schema_for
from atoll.objects import managed
from atoll.objects import quota as quotas
from atoll.objects.pod_resources import Amounts

Object = dict[str, Any]
_RETRIES = 20
_SUFFIX_BINARY = ("memory", "storage")


class ResourceQuotas:
    resources = None

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def depends_on(self, user: User) -> tuple[str, ...] | None:
        return None if self._store.count("resourcequotas") else ("resourcequotas",)

    def validate(self, request: AdmissionRequest) -> Awaitable[None] | None:
        if not self._store.count("resourcequotas") or not request.namespace or request.obj is None:
            return None
        if not _is_charged(request):
            return None
        delta = self._delta(request)
        return self._charge_to_all(request, delta) if delta else None

    async def _charge_to_all(self, request: AdmissionRequest, delta: Amounts) -> None:
        for _ in range(_RETRIES):
            if await self._charge(request, delta):
                return
        raise Conflict(
            f'Operation cannot be fulfilled on resourcequotas in namespace "{request.namespace}": the quotas keep '
            "changing; please apply your changes to the latest version and try again"
        )

    def _delta(self, request: AdmissionRequest) -> Amounts:
        now = self._clock.wall()
        name = request.resource.group_resource
        assert request.obj is not None
        new = quotas.usage(name, request.obj, now)
        if request.operation == "CREATE" or request.old is None:
            return {key: amount for key, amount in new.items() if amount}
        old = quotas.usage(name, request.old, now)
        grown = {key: amount - old.get(key, 0) for key, amount in new.items()}
        return {key: amount for key, amount in grown.items() if amount > 0}

    async def _charge(self, request: AdmissionRequest, delta: Amounts) -> bool:
        """True when every quota took its charge; False to look again."""
        charges: list[tuple[Record, Object]] = []
        for stored in self._store.scan("resourcequotas", request.namespace):
            record = self._store.newest(stored.key) or stored
            updated = self._charged(request, record.object, delta)
            if updated is not None:
                charges.append((record, updated))
        if request.dry_run:
            return True
        for record, updated in charges:
            try:
                await self._store.write(record.key, record.version, updated)
            except StaleVersion:
                return False
        return True

    def _charged(self, request: AdmissionRequest, quota: Object, delta: Amounts) -> Object | None:
        """The quota with the charge in its status, None if it does not concern it. Raises Forbidden."""
        assert request.obj is not None
        resource = request.resource.group_resource
        name = quota["metadata"]["name"]
        status = quota.get("status") or {}
        hard = status.get("hard") or (quota.get("spec") or {}).get("hard") or {}
        counted = [key for key in hard if quotas.concerns(key, resource)]
        if not counted or not quotas.in_scope(quota, resource, request.obj):
            return None
        if resource == "pods":
            missing = quotas.missing_requests(set(counted), request.obj)
            if missing:
                raise forbidden(request, f"failed quota: {name}: must specify {missing}")
        used = status.get("used") or {}
        if any(key not in used for key in counted):
            unknown = ",".join(sorted(counted))
            raise forbidden(request, f"status unknown for quota: {name}, resources: {unknown}")
        asked = {key: delta[key] for key in counted if key in delta}
        if not asked:
            return None
        over = [key for key in asked if quantity.parse(used[key]) + asked[key] > quantity.parse(hard[key])]
        if over:
            requested = ",".join(f"{key}={_text(key, asked[key])}" for key in sorted(over))
            taken = ",".join(f"{key}={used[key]}" for key in sorted(over))
            limited = ",".join(f"{key}={hard[key]}" for key in sorted(over))
            raise forbidden(
                request, f"exceeded quota: {name}, requested: {requested}, used: {taken}, limited: {limited}"
            )
        total = {key: _text(key, quantity.parse(used[key]) + amount) for key, amount in asked.items()}
        charged = {**quota, "metadata": dict(quota["metadata"]), "status": {**status, "used": {**used, **total}}}
        managed.update(quota, charged, _status_schema(), manager="kube-apiserver", now=rfc3339(self._clock.wall()))
        return charged


@functools.cache
def _status_schema() -> managed.Schema:
    """The charge is a write to the quota's /status by the API server itself."""
    node = schema_for("", "v1", "ResourceQuota")
    assert node is not None
    return managed.Schema(node, "v1", "status", {"f:spec": {".": {}}})


def _is_charged(request: AdmissionRequest) -> bool:
    if request.resource.plural == "resourcequotas" and request.operation != "CREATE":
        return False
    if request.subresource:
        return request.resource.plural == "pods" and request.subresource == "resize"
    if request.operation == "CREATE":
        return True
    return request.operation == "UPDATE" and request.resource.plural in ("services", "persistentvolumeclaims")


def _text(name: str, nano: int) -> str:
    if name.endswith(_SUFFIX_BINARY) and nano % quantity.NANO == 0:
        whole = nano // quantity.NANO
        return quantity.from_units_binary(whole) if whole >= 1024 else str(whole)
    return quantity.from_nano(nano)
