"""What a process node asks of a device manager: the Protocol by which the app plugs GPUs in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from atoll.cluster.gpus.port import Access

Object = dict[str, Any]
REFUSED = "UnexpectedAdmissionError"  # kubelet's reason where a device manager has not what was promised


class NodeDevices(Protocol):
    """Devices of one node. What a pod was given is in its status, so that a restart keeps it."""

    async def ready(self) -> None:
        """Return once `give` knows what pods hold."""

    def give(self, pod: Mapping[str, Any]) -> Mapping[str, list[Object]]:
        """Container → its status.allocatedResourcesStatus; the same again for the same pod. Raises AtollError."""

    def access(self, pod: Mapping[str, Any], container: str) -> Access:
        """What the container is to be started with. Raises AtollError."""

    def release(self, uid: str) -> None:
        """The pod's containers have ended."""

    def metrics(self) -> str:
        """Prometheus' text of what the devices measure."""
