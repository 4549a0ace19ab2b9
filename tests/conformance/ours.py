"""A throw-away cluster of ours with process nodes, for the suite: state in a folder of its own, gone at the end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import image_roots
from programs import cache_folder

from atoll.app import launch
from atoll.app.fleetspec import ClusterSpec, FleetSpec
from atoll.app.state import fleet_state
from atoll.cluster.nodes.process.doctor import diagnose

NAME = "conformance"


@contextmanager
def our_cluster(nodes: int) -> Iterator[Path]:
    """Its administrator's kubeconfig. The nodes are without taints; the images are the suite's."""
    found = diagnose()
    if found.mode != "bridge":
        raise RuntimeError(f"conformance needs pods with addresses of their own (run as root): {found.reason}")
    with tempfile.TemporaryDirectory(prefix="atoll-conformance-", ignore_cleanup_errors=True) as folder:
        os.environ["XDG_STATE_HOME"] = folder
        name = f"conformance-{os.getpid()}"
        state = fleet_state(name)
        try:
            launch.start(state, _spec(name, nodes), print)
            yield launch.member_kubeconfig(state, NAME)
        finally:
            launch.stop(state, purge=True)


def _spec(name: str, nodes: int) -> FleetSpec:
    spec = ClusterSpec(NAME, process_nodes=nodes, process_nodes_tainted=False)
    return FleetSpec(name, (spec,), hub=False, images=tuple(image_roots.catalogue(cache_folder())))
