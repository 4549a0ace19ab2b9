"""What containers use, read from /proc: /metrics/resource and /stats/summary, as much as metrics-server asks for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atoll.base.clock import rfc3339
from atoll.cluster.nodes.process.model import NodeContext, Slot

if TYPE_CHECKING:
    from atoll.cluster.nodes.process.worker import PodWorker

Object = dict[str, Any]
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def usage(pid: int | None) -> tuple[float, int]:
    """(CPU seconds, resident bytes) of a process and its descendants that live."""
    if pid is None:
        return 0.0, 0
    cpu, memory = _one(pid)
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return cpu, memory
    for child in children:
        more_cpu, more_memory = usage(int(child))
        cpu, memory = cpu + more_cpu, memory + more_memory
    return cpu, memory


def _one(pid: int) -> tuple[float, int]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # utime, stime and those of waited-for children: fields 14 to 17 of proc(5), counted after the name
        return sum(map(int, fields[11:15])) / _TICKS, int(fields[21]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0.0, 0


def _running(workers: Mapping[str, PodWorker]) -> Iterator[tuple[PodWorker, Slot, float, int]]:
    for worker in workers.values():
        for slot in worker.slots.values():
            if slot.container is not None and slot.container.running:
                cpu, memory = usage(slot.container.main_pid())
                yield worker, slot, cpu, memory


def resource_metrics(context: NodeContext, workers: Mapping[str, PodWorker]) -> str:
    """Prometheus text of the node's, pods' and containers' CPU and memory."""
    stamp = int(context.clock.wall() * 1000)
    cpu_lines, memory_lines, start_lines = [], [], []
    pods: dict[tuple[str, str], list[float]] = {}
    for worker, slot, cpu, memory in _running(workers):
        where = f'namespace="{worker.namespace}",pod="{worker.name}"'
        labels = f'{{container="{slot.name}",{where}}}'
        cpu_lines.append(f"container_cpu_usage_seconds_total{labels} {cpu:.6f} {stamp}")
        memory_lines.append(f"container_memory_working_set_bytes{labels} {memory} {stamp}")
        start_lines.append(f"container_start_time_seconds{labels} {slot.state.running_since}")
        total = pods.setdefault((worker.namespace, worker.name), [0.0, 0.0])
        total[0] += cpu
        total[1] += memory
    out = _block("container_cpu_usage_seconds_total", "counter", cpu_lines)
    out += _block("container_memory_working_set_bytes", "gauge", memory_lines)
    out += _block("container_start_time_seconds", "gauge", start_lines)
    names = {key: f'{{namespace="{key[0]}",pod="{key[1]}"}}' for key in pods}
    cpu_name, memory_name = "pod_cpu_usage_seconds_total", "pod_memory_working_set_bytes"
    out += _block(cpu_name, "counter", [f"{cpu_name}{names[key]} {used[0]:.6f} {stamp}" for key, used in pods.items()])
    out += _block(
        memory_name, "gauge", [f"{memory_name}{names[key]} {used[1]:.0f} {stamp}" for key, used in pods.items()]
    )
    out += _block("node_cpu_usage_seconds_total", "counter", [
        f"node_cpu_usage_seconds_total {sum(used[0] for used in pods.values()):.6f} {stamp}"
    ])  # fmt: skip
    out += _block("node_memory_working_set_bytes", "gauge", [
        f"node_memory_working_set_bytes {sum(used[1] for used in pods.values()):.0f} {stamp}"
    ])  # fmt: skip
    return out


def _block(name: str, kind: str, lines: list[str]) -> str:
    return f"# TYPE {name} {kind}\n" + "".join(f"{line}\n" for line in lines) if lines else ""


def stats_summary(context: NodeContext, workers: Mapping[str, PodWorker]) -> Object:
    """The kubelet's /stats/summary, CPU and memory only."""
    now = rfc3339(context.clock.wall())
    pods: dict[str, Object] = {}
    for worker, slot, cpu, memory in _running(workers):
        reference = {"name": worker.name, "namespace": worker.namespace, "uid": worker.uid}
        pod = pods.setdefault(worker.uid, {"podRef": reference, "startTime": now, "containers": []})
        pod["containers"].append(
            {
                "name": slot.name,
                "startTime": rfc3339(slot.state.running_since or 0),
                "cpu": {"time": now, "usageCoreNanoSeconds": int(cpu * 1e9)},
                "memory": {"time": now, "workingSetBytes": memory, "rssBytes": memory},
            }
        )
    return {"node": {"nodeName": context.name, "startTime": now}, "pods": list(pods.values())}
