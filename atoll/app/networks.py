"""Which address ranges the clusters of this machine take: none that is routed here, none that was just promised.

A range is routed only once its cluster's bridge is up; until then a promise stands in a file under a lock, so that two
fleets which start at the same moment do not choose the same.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from atoll.app.fleetspec import FleetSpec, with_networks
from atoll.cluster.network.netlink import networks_in_use

_PROMISE_SECONDS = 60.0


def choose_networks(fleet: FleetSpec, known: Mapping[str, tuple[str, str]]) -> FleetSpec:
    """The fleet with ranges for all its clusters; `known`: those that clusters had before, by name."""
    with _promises() as file:
        now = time.time()
        promised = {cidr: until for cidr, until in _read(file.read()).items() if until > now}
        own = {cidr for pair in known.values() for cidr in pair}
        taken = networks_in_use() + [ipaddress.IPv4Network(cidr) for cidr in promised if cidr not in own]
        chosen = with_networks(fleet, known=known, taken=taken)
        for cluster in chosen.clusters:
            promised |= {cluster.pod_cidr: now + _PROMISE_SECONDS, cluster.service_cidr: now + _PROMISE_SECONDS}
        file.truncate(0)
        json.dump(promised, file)
    return chosen


def give_back(fleet: FleetSpec) -> None:
    """Nothing of the fleet is left: its ranges need not be kept for it until their promise ends."""
    freed = {cidr for cluster in fleet.clusters for cidr in (cluster.pod_cidr, cluster.service_cidr)}
    with _promises() as file:
        kept = {cidr: until for cidr, until in _read(file.read()).items() if cidr not in freed}
        file.truncate(0)
        json.dump(kept, file)


@contextmanager
def _promises() -> Iterator[TextIO]:
    """The file of promises, locked, at its beginning; what is written is appended."""
    folder = Path(tempfile.gettempdir()) / f"atoll-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "networks.json").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def _read(text: str) -> dict[str, float]:
    try:
        return {str(ipaddress.IPv4Network(cidr)): float(until) for cidr, until in json.loads(text or "{}").items()}
    except (ValueError, AttributeError, TypeError):
        return {}  # a damaged file promises nothing
