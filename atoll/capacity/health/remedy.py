"""The port by which a node is mended, and its implementations.

A remedy is advanced again and again until it says that it is done, and may be carried on by another process than the
one that began it: what it must know is in the Repair (when it began, its number, the machine's boot) and on the Node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from atoll.base.clock import Clock
from atoll.base.names import NOT_READY
from atoll.capacity import names
from atoll.capacity.health.changes import repaired_number
from atoll.capacity.health.model import LADDER, Object, Remedy, Repair
from atoll.capacity.health.settings import RemedySeconds
from atoll.capacity.health.xid import CATALOGUE
from atoll.capacity.nodes import annotation, is_simulated
from atoll.client.port import Client
from atoll.kinds.builtin import NODES
from atoll.objects.gpu_faults import ANNOTATION, GpuFault, format_faults, parse_faults
from atoll.objects.meta import labels

ASK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """`failed`: why the next remedy is to be tried."""

    done: bool = False
    failed: str = ""
    again_seconds: float | None = None


class Remedies(Protocol):
    """Resets, reboots and replaces."""

    async def advance(self, node: Object, repair: Repair) -> Progress:
        """Begin the remedy, or see how far it is; called again after `again_seconds`. Raises AtollError."""


class RequestedRemedies:
    """Somebody else does it: the annotation atoll.dev/repair is the order.

    Done is what `kubectl annotate node NODE atoll.dev/repaired=NUMBER` says, or a machine that has booted anew since.
    """

    async def advance(self, node: Object, repair: Repair) -> Progress:
        booted = ((node.get("status") or {}).get("nodeInfo") or {}).get("bootID") or ""
        done = repaired_number(node) == repair.number or bool(repair.boot_id and booted and booted != repair.boot_id)
        return Progress(done=done, again_seconds=None if done else ASK_AGAIN_SECONDS)


class SimulatedRemedies:
    """Acts on a simulated node: while it boots it is not ready; afterwards the faults that the remedy mends are gone.

    Replacing one gives it another machine behind the same Node.
    """

    def __init__(self, client: Client, clock: Clock, seconds: Callable[[], RemedySeconds]) -> None:
        self._client = client
        self._clock = clock
        self._seconds = seconds

    async def advance(self, node: Object, repair: Repair) -> Progress:
        left = repair.began + self._seconds().of(repair.remedy) - self._clock.wall()
        down = f"{repair.remedy} is under way" if repair.remedy in ("reboot", "replace") and left > 0 else None
        wanted: dict[str, str | None] = {NOT_READY: down}
        if left <= 0:
            wanted[ANNOTATION] = left_over(annotation(node, ANNOTATION), repair.remedy)
        changed = {key: value for key, value in wanted.items() if (annotation(node, key) or None) != value}
        if changed:
            await self._client.patch(NODES, node["metadata"]["name"], {"metadata": {"annotations": changed}})
        return Progress(done=left <= 0, again_seconds=left if left > 0 else None)


def left_over(text: str, remedy: Remedy) -> str | None:
    """The faults that outlive a remedy; None for none. A value that can't be read goes only with the machine."""
    if not text or remedy == "replace":
        return None
    try:
        faults = [fault for fault in parse_faults(text) if LADDER.index(_mended_by(fault)) > LADDER.index(remedy)]
    except ValueError:
        return text
    return format_faults(faults) if faults else None


def _mended_by(fault: GpuFault) -> Remedy:
    if fault.kind == "xid":
        row = CATALOGUE.get(fault.value)
        return row.remedy if row is not None and row.remedy != "none" else "reset"
    of_kind: dict[str, Remedy] = {"ecc": "reset", "nvlink": "reset", "lost": "reboot", "thermal": "replace"}
    return of_kind[fault.kind]


class RemediesByNode:
    """Simulated nodes are mended by `simulated`, others by `real`; the autoscaler replaces a provider's machines."""

    def __init__(self, simulated: Remedies, real: Remedies) -> None:
        self._simulated = simulated
        self._real = real

    async def advance(self, node: Object, repair: Repair) -> Progress:
        if repair.remedy == "replace" and names.MACHINE in labels(node):
            return Progress(again_seconds=ASK_AGAIN_SECONDS)
        return await (self._simulated if is_simulated(node) else self._real).advance(node, repair)
