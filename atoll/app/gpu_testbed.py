"""A GPU testbed: kind's configuration and a machine's GPUs → a cluster whose workers have them.

`plan_testbed` is pure. What a cluster was made from is kept in a ConfigMap of its own, so that the same command
finds it and another configuration for the same name is an error rather than a surprise.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from atoll.app.fleetspec import ClusterSpec, NodeGroup, ProcessNodeSpec
from atoll.base.errors import NotFound, UserError
from atoll.client.port import Client
from atoll.cluster.gpus.kindconfig import KindConfig, node_names, select_devices
from atoll.cluster.gpus.model import ANNOTATION, Gpu, annotation, declare, parse_gpus
from atoll.cluster.gpus.slices import ANNOTATION as DRA_ANNOTATION
from atoll.cluster.gpus.slices import Mode
from atoll.kinds.builtin import CONFIGMAPS

MACHINE = "this-machine"  # simulated GPUs are those of one machine, as nvidia-smi would list them
CONFIG_MAP, NAMESPACE = "atoll-gpu-testbed", "kube-system"
_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, slots=True)
class Testbed:
    """What was asked for."""

    name: str
    config: KindConfig
    machine: tuple[Gpu, ...]
    dra: Mode = "partitions"
    process: bool = False  # workers run processes
    queueing: bool = False
    batch: bool = False
    health: bool = False

    @property
    def real(self) -> bool:
        return any(not gpu.simulated for gpu in self.machine)

    @property
    def record(self) -> dict[str, str]:
        """The ConfigMap's data."""
        counts = [f"{name}:{len(list(found))}" for name, found in groupby(gpu.type.name for gpu in self.machine)]
        parts = {"queueing": self.queueing, "batch": self.batch, "health": self.health}
        options = {"dra": self.dra, "process": self.process, "real": self.real, **parts}
        return {"cluster.yaml": self.config.text, "machine": ",".join(counts), "options": json.dumps(options)}


def simulated_machine(entries: Sequence[Mapping[str, object]]) -> tuple[Gpu, ...]:
    """The GPUs of the simulated machine, counted over all its types. Entries as `parse_machine` gives them."""
    counted: list[dict[str, object]] = []
    first = 0
    for entry in entries:
        count = int(str(entry["count"]))
        counted.append({"type": entry["type"], "machine": MACHINE, "indices": list(range(first, first + count))})
        first += count
    return parse_gpus(annotation(counted), MACHINE)


def plan_testbed(wanted: Testbed) -> ClusterSpec:
    """The cluster: a node for each of the configuration's, a process node where GPUs are real. Raises UserError."""
    config = wanted.config
    chosen = select_devices(config, [gpu.uuid for gpu in wanted.machine])
    groups: list[NodeGroup] = []
    workers: list[ProcessNodeSpec] = []
    for node, name, indices in zip(config.nodes, node_names(config, wanted.name), chosen, strict=True):
        labels, taints = dict(node.labels), []
        if node.role == "control-plane":
            labels[_CONTROL_PLANE] = ""
            if len(config.nodes) > 1:
                taints = [{"key": _CONTROL_PLANE, "effect": "NoSchedule"}]
        gpus = [wanted.machine[index] for index in indices]
        annotations: dict[str, str] = {DRA_ANNOTATION: wanted.dra} if gpus else {}
        if node.role == "worker" and wanted.real:
            workers.append(ProcessNodeSpec(name, labels, annotations, tuple(gpu.uuid for gpu in gpus)))
            continue
        if gpus:
            annotations[ANNOTATION] = annotation(_entries(gpus))
        if node.role == "worker" and wanted.process:
            workers.append(ProcessNodeSpec(name, labels, annotations))
            continue
        groups.append(NodeGroup(1, "64", "512Gi", labels=labels, taints=taints, annotations=annotations, names=(name,)))
    return ClusterSpec(
        wanted.name,
        simulated=tuple(groups),
        named_process_nodes=tuple(workers),
        process_nodes_tainted=False,
        pod_cidr=config.pod_subnet,
        service_cidr=config.service_subnet,
        port=config.api_port,
        queueing=wanted.queueing,
        batch=wanted.batch,
        health=wanted.health,
    )


async def keep_configuration(client: Client, wanted: Testbed) -> bool:
    """Write down what the cluster was made from; False if that was there. Raises UserError where it differs."""
    try:
        found = await client.get(CONFIGMAPS, CONFIG_MAP, NAMESPACE)
    except NotFound:
        metadata = {"name": CONFIG_MAP, "namespace": NAMESPACE}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": wanted.record}
        await client.create(CONFIGMAPS, config_map, NAMESPACE)
        return True
    different = difference(found.get("data") or {}, wanted.record)
    if different:
        raise UserError(
            f"the cluster {wanted.name!r} was made from another configuration:\n{different}",
            hint=f"atoll gpu down {wanted.name} removes it; or give this one another --name",
        )
    return False


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """The lines that differ, as diff shows them; "" when none does."""
    lines = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, "").splitlines(), after.get(key, "").splitlines()
        lines += list(difflib.unified_diff(old, new, f"{key} (kept)", f"{key} (given)", n=0, lineterm=""))
    return "\n".join(f"  {line}" for line in lines if not line.startswith("@@"))


def _entries(gpus: Sequence[Gpu]) -> list[dict[str, object]]:
    return [
        declare(kind, machine=MACHINE, indices=[gpu.minor for gpu in found])
        for kind, found in groupby(gpus, key=lambda gpu: gpu.type)
    ]
