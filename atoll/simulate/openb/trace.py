"""Reading the trace's node and pod lists (CSV), with errors that name file, line, column and what to do.

Columns as Alibaba publishes them (cluster-trace-gpu-v2023): nodes `sn, cpu_milli, memory_mib, gpu, model`; pods `name,
cpu_milli, memory_mib, num_gpu, gpu_milli` and, in some lists, `gpu_spec`: models joined by `|`, empty for any. Other
columns are not looked at. Nodes without a GPU are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from atoll.base.errors import UserError
from atoll.scheduling.devices.model import WHOLE, Machine, Request
from atoll.simulate.csvfile import Line, lines, unique

NODE_COLUMNS = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
POD_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
_MOST_DEVICES = 63


@dataclass(frozen=True, slots=True)
class Trace:
    """GPU nodes, and pods ordered by name."""

    machines: tuple[Machine, ...]
    pods: tuple[Request, ...]

    @property
    def gpus(self) -> int:
        return sum(machine.devices for machine in self.machines)


def read(nodes: Path, pods: Path) -> Trace:
    """Both lists. Raises UserError."""
    machines, models = _read_nodes(nodes)
    return Trace(tuple(machines), tuple(_read_pods(pods, nodes, models)))


def _read_nodes(path: Path) -> tuple[list[Machine], set[str]]:
    machines: list[Machine] = []
    names: dict[str, int] = {}
    for line in lines(path, NODE_COLUMNS):
        unique(line, "sn", names)
        devices = line.amount("gpu", _MOST_DEVICES)
        cpu, memory = line.amount("cpu_milli"), line.amount("memory_mib")
        if devices:
            machines.append(Machine(line.text("sn"), cpu, memory, devices, line.text("model")))
    if not machines:
        raise UserError(
            f"{path}, column gpu: no node has a GPU", hint="give a list with at least one node whose gpu > 0"
        )
    return machines, {machine.model for machine in machines}


def _read_pods(path: Path, nodes: Path, models: set[str]) -> list[Request]:
    named: list[tuple[str, Request]] = []
    names: dict[str, int] = {}
    for line in lines(path, POD_COLUMNS):
        unique(line, "name", names)
        count, milli = line.amount("num_gpu"), line.amount("gpu_milli", WHOLE)
        if (count == 0) != (milli == 0):
            raise line.wrong(
                "gpu_milli", f"{milli} does not go with num_gpu {count}", "0 for pods without GPU, else 1 to 1000 a GPU"
            )
        request = Request(
            line.amount("cpu_milli"),
            line.amount("memory_mib"),
            count,
            milli,
            _models(line, nodes, models) if count else frozenset(),
        )
        named.append((line.text("name"), request))
    if not any(request.gpu_milli for _, request in named):
        raise UserError(f"{path}, column num_gpu: no pod asks for a GPU", hint="give a list with GPU pods")
    return [request for _, request in sorted(named, key=lambda item: item[0])]


def _models(line: Line, nodes: Path, models: set[str]) -> frozenset[str]:
    found = frozenset(part.strip() for part in (line.values.get("gpu_spec") or "").split("|")) - {""}
    unknown = sorted(found - models)
    if unknown:
        raise line.wrong(
            "gpu_spec",
            f"unknown GPU model {unknown[0][:40]!r}",
            f"{nodes} has {', '.join(sorted(models))}; join several by |, or leave it empty for any",
        )
    return found
