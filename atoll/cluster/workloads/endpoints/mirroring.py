"""Endpoints that a user keeps for a Service without a selector, mirrored as EndpointSlices (KEP 0752).

What is labelled skip-mirror, or led to by no such Service, has no mirror; a mirror goes with its Endpoints.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from atoll.base.errors import Forbidden, NotFound
from atoll.client.port import Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.endpoints.slices import MANAGED_LABEL, SERVICE_LABEL
from atoll.cluster.workloads.replicaset.controller import namespace_terminates
from atoll.kinds.builtin import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from atoll.objects.meta import annotations as annotations_of
from atoll.objects.meta import is_deleting, key, labels, owner_reference
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

MANAGER = "endpointslicemirroring-controller.k8s.io"
_SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_NOT_COPIED = ("endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration")
_MOST_ADDRESSES = 1000  # of a subset


def is_mirrored(endpoints: Object | None, service: Object | None) -> bool:
    if endpoints is None or service is None or is_deleting(endpoints) or is_deleting(service):
        return False
    if labels(endpoints).get(_SKIP) == "true" or _LEADER in annotations_of(endpoints):
        return False
    return not service["spec"].get("selector") and service["spec"].get("type") != "ExternalName"


def mirrored_slices(endpoints: Object) -> list[Object]:
    """The slices that show the Endpoints: one for each subset and family. Pure."""
    out = []
    for subset in endpoints.get("subsets") or []:
        found = [(item, True) for item in subset.get("addresses") or []]
        found += [(item, False) for item in subset.get("notReadyAddresses") or []]
        families: dict[str, list[Object]] = {}
        for address, ready in found[:_MOST_ADDRESSES]:
            family = f"IPv{ipaddress.ip_address(address['ip']).version}"
            families.setdefault(family, []).append(_endpoint(address, ready))
        out += [_slice(endpoints, family, items, subset.get("ports") or []) for family, items in families.items()]
    return out


def _endpoint(address: Object, ready: bool) -> Object:
    out: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            out[name] = address[name]
    return out


def _slice(endpoints: Object, family: str, items: list[Object], ports: Iterable[Object]) -> Object:
    name = endpoints["metadata"]["name"]
    metadata: Object = {
        "generateName": f"{name}-",
        "namespace": endpoints["metadata"]["namespace"],
        "labels": {**labels(endpoints), SERVICE_LABEL: name, MANAGED_LABEL: MANAGER},
        "ownerReferences": [owner_reference({"apiVersion": "v1", "kind": "Endpoints", **endpoints})],
    }
    copied = {name: value for name, value in annotations_of(endpoints).items() if name not in _NOT_COPIED}
    if copied:
        metadata["annotations"] = copied
    shown = [{"name": "", "protocol": "TCP", **port} for port in ports]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": items,
        "ports": shown,
    }


def _compared(wanted: list[Object], present: list[Object]) -> tuple[list[Object], list[Object]]:
    """(what is to be made, what is there and not wanted); of two equal ones one is wanted."""
    missing, loose = [], list(present)
    for item in wanted:
        found = next((other for other in loose if _content(other) == _content(item)), None)
        if found is None:
            missing.append(item)
        else:
            loose.remove(found)
    return missing, loose


def _content(item: Object) -> tuple[object, ...]:
    return (
        item["addressType"], item.get("endpoints") or [], item.get("ports") or [], labels(item), annotations_of(item),
    )  # fmt: skip


class EndpointSliceMirroringController:
    """Keeps the mirrors of each Endpoints object."""

    def __init__(self, context: Context) -> None:
        self.name = "endpointslicemirroring-controller"
        self._client = context.client(self.name)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._services = context.informers.of(SERVICES)
        self._slices = context.informers.of(ENDPOINT_SLICES)
        self._slices.add_index("mirror", _mirror_of)
        self.loop: Controller[Key] = Controller(
            self.name, self._reconcile, workers=1, wait_for=(self._endpoints, self._services, self._slices)
        )
        self._endpoints.add_handler(self._changed)
        self._services.add_handler(self._changed)
        self._slices.add_handler(self._slice_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        name = key(new or old or {})
        if self._slices.by_index("mirror", name) or is_mirrored(
            self._endpoints.by_key(name), self._services.by_key(name)
        ):
            self.loop.queue.add(name)

    def _slice_changed(self, old: Object | None, new: Object | None) -> None:
        for name in _mirror_of(new or old or {}):
            self.loop.queue.add(name)

    async def _reconcile(self, name: Key) -> float | None:
        endpoints, space = self._endpoints.by_key(name), name[0]
        mirrored = endpoints is not None and is_mirrored(endpoints, self._services.by_key(name))
        wanted = mirrored_slices(endpoints) if endpoints is not None and mirrored else []
        present = [item for item in self._slices.by_index("mirror", name) if not is_deleting(item)]
        missing, loose = _compared(wanted, present)
        try:
            for item in missing:
                reused = next((other for other in loose if other["addressType"] == item["addressType"]), None)
                if reused is None:
                    await self._client.create(ENDPOINT_SLICES, item, space)
                    continue
                loose.remove(reused)
                metadata = {**reused["metadata"], "labels": item["metadata"]["labels"]}
                metadata["annotations"] = item["metadata"].get("annotations") or {}
                await self._client.update(ENDPOINT_SLICES, {**item, "metadata": metadata})
            for item in loose:
                await self._client.delete(ENDPOINT_SLICES, item["metadata"]["name"], space)
        except NotFound:
            return 0.1
        except Forbidden as error:
            if not namespace_terminates(error):
                raise
        return None


def _mirror_of(item: Object) -> tuple[Key, ...]:
    found = labels(item)
    if found.get(MANAGED_LABEL) != MANAGER:
        return ()
    return ((item["metadata"].get("namespace"), found.get(SERVICE_LABEL, "")),)
