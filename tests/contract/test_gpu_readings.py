"""One contract for both ways of reading GPUs: simulated nodes' own, and the exporter's page of the same faults."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from atoll.capacity.health.dcgm import DcgmReadings
from atoll.capacity.health.findings import gpu_findings
from atoll.capacity.health.model import NodeReading, worst
from atoll.capacity.health.readings import GpuReadings, SimulatedReadings
from atoll.capacity.health.settings import HealthSettings
from atoll.client.port import RawResponse
from atoll.cluster.gpus.dcgm import exposition
from atoll.cluster.gpus.readings import readings
from atoll.cluster.gpus.settings import Settings
from atoll.cluster.gpus.survey import survey

FAULTS = {
    "none": ("", None),
    "an application's error": ('[{"gpu": 1, "kind": "xid", "value": 31}]', None),
    "fallen off": ('[{"gpu": 1, "kind": "xid", "value": 79}]', "reboot"),
    "not visible": ('[{"gpu": 2, "kind": "lost"}]', "reboot"),
    "memory": ('[{"gpu": 0, "kind": "ecc", "value": 3}]', "reset"),
    "hot": ('[{"gpu": 0, "kind": "thermal", "value": 99}]', "wait"),
    "links": ('[{"gpu": 3, "kind": "nvlink", "value": 500}]', "reset"),
}


def node(faults: str) -> Any:
    labels = {
        "atoll.dev/simulated": "true", "nvidia.com/gpu.count": "4", "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
    }  # fmt: skip
    told = {"atoll.dev/gpus": '[{"type": "h100", "count": 4}]'} | ({"atoll.dev/gpu-faults": faults} if faults else {})
    return {
        "metadata": {"name": "n0", "uid": "u", "labels": labels, "annotations": told},
        "status": {"capacity": {"nvidia.com/gpu": "4"}, "allocatable": {"nvidia.com/gpu": "4"}},
    }


class Exporter:
    """The page of a node's exporter, as Atoll's own writes it; and its pod."""

    def __init__(self) -> None:
        self.node = node("")

    async def raw(self, method: str, path: str, **more: Any) -> RawResponse:
        text = exposition("n0", readings(survey(self.node, Settings()), [], 1_700_000_000.0))
        return RawResponse(200, {}, text.encode())

    def by_index(self, name: str, value: str) -> list[Any]:
        labels = {"app.kubernetes.io/name": "dcgm-exporter"}
        return [{"metadata": {"name": "e", "namespace": "gpu", "labels": labels}, "status": {"phase": "Running"}}]


def read(way: str, faults: str) -> NodeReading | None:
    exporter = Exporter()
    readings: GpuReadings = SimulatedReadings()
    if way == "dcgm":
        readings = DcgmReadings(exporter, exporter)  # type: ignore[arg-type]

    async def twice() -> NodeReading | None:
        await readings.read(node(""))  # counters count from here
        exporter.node = node(faults)
        return await readings.read(exporter.node)

    return asyncio.run(twice())


@pytest.mark.parametrize("way", ["simulated", "dcgm"])
@pytest.mark.parametrize("what", FAULTS)
def test_the_same_faults_call_for_the_same(way: str, what: str) -> None:
    faults, remedy = FAULTS[what]
    found = read(way, faults)
    assert found is not None
    told = worst(gpu_findings(node(faults), found, HealthSettings()))
    assert (None if told is None else told.remedy) == remedy
