"""The health of allotted devices in a pod's status (KEP-4680), as kubelet keeps it up to date. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atoll.cluster.gpus.advertise import Unit
from atoll.cluster.gpus.allotment import PREFIX

Object = dict[str, Any]


def device_health(pod: Mapping[str, Any], units: Iterable[Unit]) -> Object | None:
    """A merge patch of the pod's status with its version as the precondition; None when it says what is so."""
    status = pod.get("status") or {}
    healthy = {unit.id: unit.healthy for unit in units}
    changed: Object = {}
    for kind in ("containerStatuses", "initContainerStatuses"):
        before = status.get(kind) or []
        after = [_container(item, healthy) for item in before]
        if after != before:
            changed[kind] = after
    return {"metadata": {"resourceVersion": pod["metadata"]["resourceVersion"]}, "status": changed} if changed else None


def _container(container: Object, healthy: Mapping[str, bool]) -> Object:
    resources = container.get("allocatedResourcesStatus")
    if not resources:
        return container
    return {**container, "allocatedResourcesStatus": [_resource(item, healthy) for item in resources]}


def _resource(resource: Object, healthy: Mapping[str, bool]) -> Object:
    if not resource["name"].startswith(PREFIX):
        return resource
    words = {True: "Healthy", False: "Unhealthy", None: "Unknown"}  # None: no longer advertised
    items = [{**item, "health": words[healthy.get(item["resourceID"])]} for item in resource.get("resources") or ()]
    return {**resource, "resources": items}
