"""Which pods stand behind a Service, and on which ports. Pure."""

from __future__ import annotations

from typing import Any

from atoll.cluster.workloads.common import pods
from atoll.objects.meta import Object

HEADLESS_LABEL = "service.kubernetes.io/headless"
CHANGE_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
_DISCOVERABLE_ALL = "service.alpha.kubernetes.io/tolerate-unready-endpoints"


def addresses(pod: Object) -> list[str]:
    status = pod.get("status") or {}
    found = [item["ip"] for item in status.get("podIPs") or () if item.get("ip")]
    return found or ([status["podIP"]] if status.get("podIP") else [])


def belongs(pod: Object, *, terminating_too: bool) -> bool:
    """It has an address, has not ended and (unless asked for) isn't on its way out."""
    if not addresses(pod) or pods.is_finished(pod):
        return False
    return terminating_too or "deletionTimestamp" not in pod["metadata"]


def publishes_unready(service: Object) -> bool:
    annotated = (service["metadata"].get("annotations") or {}).get(_DISCOVERABLE_ALL) == "true"
    return annotated or bool(service["spec"].get("publishNotReadyAddresses"))


def is_headless(service: Object) -> bool:
    return service["spec"].get("clusterIP") in (None, "", "None")


def relevant(pod: Object) -> tuple[Any, ...]:
    """What a change must touch to matter here."""
    spec, metadata = pod["spec"], pod["metadata"]
    return (
        tuple(addresses(pod)),
        pods.is_ready(pod),
        "deletionTimestamp" in metadata,
        pods.is_finished(pod),
        spec.get("nodeName"),
        spec.get("hostname"),
        metadata.get("labels"),
    )


def ports(service: Object, pod: Object) -> list[Object]:
    """The Service's ports as numbers of this pod; a name that the pod lacks is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        number = _number(port, pod)
        if number is None:
            continue
        made = {"name": port.get("name") or "", "port": number, "protocol": port.get("protocol") or "TCP"}
        if port.get("appProtocol"):
            made["appProtocol"] = port["appProtocol"]
        found.append(made)
    return found


def _number(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort")
    if target is None or target in (0, ""):
        return int(port["port"])
    if isinstance(target, int):
        return target
    protocol = port.get("protocol") or "TCP"
    spec = pod["spec"]
    sidecars = [item for item in spec.get("initContainers") or () if item.get("restartPolicy") == "Always"]
    for container in [*spec.get("containers", ()), *sidecars]:
        for declared in container.get("ports") or ():
            if declared.get("name") == target and (declared.get("protocol") or "TCP") == protocol:
                return int(declared["containerPort"])
    return None


def hostname(service: Object, pod: Object) -> str | None:
    """Set where the pod names a hostname and this Service as its subdomain."""
    spec, metadata = pod["spec"], pod["metadata"]
    if not spec.get("hostname") or spec.get("subdomain") != service["metadata"]["name"]:
        return None
    return str(spec["hostname"]) if metadata.get("namespace") == service["metadata"].get("namespace") else None


def target(pod: Object) -> Object:
    metadata = pod["metadata"]
    return {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"], "uid": metadata["uid"]}
