"""Settings of the nodes' tests: the key preflight.yaml of the ConfigMap atoll-system/atoll-health."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from atoll.capacity.health.model import Object
from atoll.capacity.health.settings import CONFIG_MAP, Share, allowed
from atoll.capacity.nodes import has_gpus
from atoll.objects.meta import labels

__all__ = ["CONFIG_MAP", "KEY", "PreflightSettings", "applies"]

KEY: Final = "preflight.yaml"
Positive = Annotated[float, Meta(gt=0)]
_FEW, _PART = 4, "1%"
_DCGM = "nvcr.io/nvidia/cloud-native/dcgm:4.2.3-1-ubuntu22.04"


class Periodic(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """GPU tests of nodes in service: each node's GPUs once in `every_seconds`, where they are free.

    `parallelism`: how many nodes at once, a number or a share of those with GPUs; without one a hundredth, but four in
    a small fleet: at a test each quarter of an hour that is all of any fleet in a day or so.
    """

    enabled: bool = True
    schedule: str = "*/15 * * * *"
    every_seconds: Positive = 604800.0
    parallelism: Share | None = None
    gpus: Annotated[int, Meta(ge=1)] = 1
    run_seconds: Positive = 300.0  # what a simulated node takes for it
    image: str = _DCGM
    command: tuple[str, ...] = ("sh", "-c", "nv-hostengine && dcgmi diag -r 3")

    def at_once(self, nodes: int) -> int:
        """Of so many nodes with GPUs."""
        if self.parallelism is not None:
            return allowed(self.parallelism, nodes)
        return max(_FEW, allowed(_PART, nodes))


class PreflightSettings(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`node_selector`: the nodes that must pass; without one, those that have GPUs."""

    enabled: bool = True
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    image: str = _DCGM
    command: tuple[str, ...] = ("sh", "-c", "nv-hostengine && dcgmi diag -r 2")
    idle_image: str = "registry.k8s.io/pause:3.10"
    attempts: Annotated[int, Meta(ge=1)] = 2
    timeout_seconds: Positive = 1800.0
    joining_seconds: Positive = 600.0  # a node that young without work is new, where no admission has marked it
    periodic: Periodic = Periodic()


def applies(node: Object, settings: PreflightSettings) -> bool:
    """Whether the node must pass before work lands on it."""
    if not settings.enabled:
        return False
    if settings.node_selector:
        own = labels(node)
        return all(own.get(key) == value for key, value in settings.node_selector.items())
    return has_gpus(node)
