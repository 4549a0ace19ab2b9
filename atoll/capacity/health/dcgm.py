"""GPU readings from NVIDIA's dcgm-exporter, which runs on each GPU node (docs.nvidia.com/datacenter/dcgm).

Its page is fetched through the API server's proxy of the exporter's pod, or of an Atoll process node, whose kubelet
serves the same at /metrics/dcgm; so no network of the nodes is needed. `parse_page` is pure. What a page can't say
stays unknown; one without GPUs, or none at all, is no reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from atoll.base.errors import AtollError
from atoll.base.names import PROCESS_LABEL
from atoll.capacity.health.model import LADDER, GpuReading, NodeReading, Object
from atoll.capacity.health.xid import CATALOGUE
from atoll.client.port import Client
from atoll.objects.meta import labels
from atoll.runtime.informer import Informer

PORT = 9400
_NAMES = frozenset({"dcgm-exporter", "nvidia-dcgm-exporter"})
_LINE = re.compile(r'^([A-Za-z_:][\w:]*)\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}\s+(\S+)')
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LINKS = ("DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "DCGM_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL")


@dataclass(slots=True)
class _Gpu:
    index: int
    instance: str
    uuid: str
    values: dict[str, float] = field(default_factory=dict)
    xids: list[int] = field(default_factory=list)


def parse_page(text: str, host: str = "") -> list[GpuReading]:
    """Readings of the exporter's text format, by GPU and MIG instance. `host`: only GPUs of that Hostname, where pages
    name one.

    NVLink counters are the totals so far (`NodeReading` wants what is new: the caller subtracts).
    """
    found: dict[tuple[int, str], _Gpu] = {}
    for name, told, value in _samples(text):
        index = told.get("gpu", "")
        if not index.isdigit() or (host and told.get("Hostname", host) != host):
            continue
        key = int(index), told.get("GPU_I_ID", "")
        gpu = found.setdefault(key, _Gpu(*key, told.get("UUID", "")))
        if name == "DCGM_EXP_XID_ERRORS_COUNT":
            if value > 0 and told.get("xid", "").isdigit():
                gpu.xids.append(int(told["xid"]))
        else:
            gpu.values[name] = max(value, gpu.values.get(name, value))  # pods that share it have a line each
    return [_reading(gpu) for _, gpu in sorted(found.items())]


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        found = _LINE.match(line) if line.startswith("DCGM_") else None
        if found is None:
            continue
        try:
            yield found[1], dict(_LABEL.findall(found[2])), float(found[3])
        except ValueError:
            continue


def _reading(gpu: _Gpu) -> GpuReading:
    values = gpu.values
    return GpuReading(
        gpu.index,
        gpu.uuid,
        gpu.instance,
        xid=_gravest([int(values.get("DCGM_FI_DEV_XID_ERRORS", 0)), *gpu.xids]),
        celsius=values.get("DCGM_FI_DEV_GPU_TEMP"),
        uncorrected=int(values.get("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", 0)),
        nvlink_errors=int(sum(values.get(name, 0) for name in _LINKS)),
        remap_pending=values.get("DCGM_FI_DEV_ROW_REMAP_PENDING", 0) > 0,
        remap_failed=values.get("DCGM_FI_DEV_ROW_REMAP_FAILURE", 0) > 0,
    )


def _gravest(xids: list[int]) -> int:
    """The one that takes most to mend; of equal ones the first. 0 for none."""

    def weight(number: int) -> tuple[int, bool, bool]:
        row = CATALOGUE.get(number)
        return (0, False, number > 0) if row is None else (LADDER.index(row.remedy), row.severity == "fatal", True)

    return max(xids, key=weight)


class DcgmReadings:
    """Asks the exporter's pod on the node; `pods` needs the index "node"."""

    def __init__(self, client: Client, pods: Informer, every_seconds: float = 30.0) -> None:
        self._client = client
        self._pods = pods
        self._every_seconds = every_seconds
        self._links: dict[tuple[str, str], int] = {}  # (node, GPU) → NVLink errors so far

    async def read(self, node: Object) -> NodeReading | None:
        name = node["metadata"]["name"]
        path = self._path(node)
        if not path:
            return None
        try:
            answer = await self._client.raw("GET", path)
        except AtollError:
            return None
        if answer.status != 200:
            return None
        gpus = parse_page(answer.body.decode(errors="replace"))
        if not gpus:
            return None
        return NodeReading(tuple(self._new_errors(name, gpus)), self._every_seconds)

    def _new_errors(self, node: str, gpus: Iterable[GpuReading]) -> Iterator[GpuReading]:
        for gpu in gpus:
            key, total = (node, f"{gpu.uuid or gpu.index}/{gpu.instance}"), gpu.nvlink_errors
            before = self._links.get(key, total)
            self._links[key] = total
            new = total - before if total >= before else total  # a counter that fell began anew
            yield replace(gpu, nvlink_errors=new)

    def _path(self, node: Object) -> str:
        """Where the page is; "" where there is none."""
        name = node["metadata"]["name"]
        pod = self._exporter(name)
        if pod is not None:
            metadata = pod["metadata"]
            return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}:{PORT}/proxy/metrics"
        return f"/api/v1/nodes/{name}/proxy/metrics/dcgm" if PROCESS_LABEL in labels(node) else ""

    def _exporter(self, node: str) -> Object | None:
        for pod in self._pods.by_index("node", node):
            told = labels(pod)
            exporter = told.get("app.kubernetes.io/name") in _NAMES or told.get("app") in _NAMES
            if exporter and (pod.get("status") or {}).get("phase") == "Running":
                return pod
        return None
