"""The device port's contract: simulated GPUs, NVML's calls on a stand-in, and this machine's GPUs where it has some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from nvml_stand_in import Board, StandIn

from atoll.cluster.gpus.mig import plan_layout
from atoll.cluster.gpus.model import annotation, parse_gpus, parse_machine
from atoll.cluster.gpus.nvml import NvmlDevices, open_nvml
from atoll.cluster.gpus.port import DevicePort, NoSuchDevice
from atoll.cluster.gpus.simulated import SimulatedDevices
from atoll.cluster.gpus.survey import Survey
from atoll.objects.gpu_faults import GpuFault
from atoll.testing.contracts.devices import DeviceContract

THREE = parse_gpus(annotation(parse_machine("h100:2,l4:1")), "n")


class TestSimulated(DeviceContract):
    def opened(self) -> DevicePort:
        return SimulatedDevices(lambda: Survey(gpus=THREE))


class TestNvmlsCalls(DeviceContract):
    """Against a stand-in: which functions are called, and what is made of their answers."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> Iterator[None]:
        for name in ("nvidia0", "nvidia4", "nvidiactl", "nvidia-uvm"):
            (tmp_path / name).touch()
        self._folder = tmp_path
        yield

    def opened(self) -> DevicePort:
        return NvmlDevices(StandIn([Board("GPU-a", 0), Board("GPU-b", 4)]), None, self._folder)


_REAL, _WHY = open_nvml()
if _REAL is not None:
    _REAL.close()


@pytest.mark.skipif(_REAL is None, reason=f"the hardware run was not done: {_WHY}")
class TestThisMachinesGpus(DeviceContract):
    def opened(self) -> DevicePort:
        found, _ = open_nvml()
        assert found is not None
        return found


def test_instances_are_devices_too() -> None:
    layout = plan_layout(THREE[:1], "all-balanced", {})
    port = SimulatedDevices(lambda: Survey(gpus=THREE, layout=layout))
    instance = layout[0][0].uuid
    assert port.allocate("a", [instance]).env == {"NVIDIA_VISIBLE_DEVICES": instance}


def test_a_simulated_nodes_faults_are_spread_over_its_gpus() -> None:
    port = SimulatedDevices(lambda: Survey(gpus=THREE[:2], faults=(GpuFault("lost"), GpuFault("xid", 79, 1))))
    assert port.faults() == [GpuFault("lost", 0, 0), GpuFault("lost", 0, 1), GpuFault("xid", 79, 1)]


def test_a_node_has_those_of_the_machine_that_it_was_given(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia4", "nvidiactl"):
        (tmp_path / name).touch()
    module = StandIn([Board("GPU-a", 0), Board("GPU-b", 4)])
    port = NvmlDevices(module, ["GPU-b"], tmp_path)
    assert [(gpu.index, gpu.minor, gpu.type.name, gpu.simulated) for gpu in port.devices()] == [(0, 4, "h200", False)]
    access = port.allocate("a", ["GPU-b"])
    assert [Path(path).name for path in access.files] == ["nvidia4", "nvidiactl"]
    with pytest.raises(NoSuchDevice):
        port.allocate("a", ["GPU-a"])
    with pytest.raises(NoSuchDevice, match="no GPU GPU-z"):
        NvmlDevices(module, ["GPU-z"])
    port.close()
    assert module.shut


def test_what_nvml_says_is_wrong() -> None:
    first, second, third = Board("GPU-a", 0), Board("GPU-b", 1), Board("GPU-c", 2, ecc=None)
    module = StandIn([first, second, third])
    port = NvmlDevices(module)
    assert port.faults() == []
    module.raise_xid(second, 31)
    module.raise_xid(second, 79)
    first.ecc = 2
    assert port.faults() == [GpuFault("ecc", 2, 0), GpuFault("xid", 79, 1)]
    second.lost = True
    assert port.faults()[1] == GpuFault("lost", 0, 1)
    (reading, gone, plain) = port.readings(Survey(gpus=tuple(port.devices())), [], 0.0)
    assert (reading.utilization, reading.power, reading.sm_clock, reading.ecc_uncorrected) == (37.0, 75.5, 1980, 2)
    assert gone.lost and not plain.lost and plain.ecc_uncorrected == 0


def test_where_there_is_no_gpu_the_reason_is_told() -> None:
    found, why = open_nvml()
    assert (
        found is not None or "nvidia-ml-py is not installed" in why or "NVML does not answer" in why or "no GPU" in why
    )
