"""The contract of `atoll.cluster.gpus.port.DevicePort`: what any source of GPUs does for a node.

    class TestMine(DeviceContract):
        def opened(self):
            return MyDevices()

It holds for simulated GPUs and for those of a machine (NVML); at least one GPU must be there. Nothing is changed on a
GPU: it is read, and given to holders that run nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.cluster.gpus.port import DeviceInUse, DevicePort, NoSuchDevice
from atoll.cluster.gpus.survey import Survey


class DeviceContract:
    """Subclass it, and give it `opened`."""

    def opened(self) -> DevicePort:
        """A port that nobody else uses, with at least one GPU."""
        raise NotImplementedError

    @pytest.fixture
    def port(self) -> Iterator[DevicePort]:
        found = self.opened()
        yield found
        found.close()

    def test_devices_are_counted_from_zero_and_stay_as_they_are(self, port: DevicePort) -> None:
        devices = port.devices()
        assert [gpu.index for gpu in devices] == list(range(len(devices))) and devices
        assert len({gpu.uuid for gpu in devices}) == len(devices) == len({gpu.minor for gpu in devices})
        assert all(gpu.uuid.startswith("GPU-") and gpu.type.memory_mib > 0 for gpu in devices)
        assert all(gpu.type.product and gpu.type.compute > (0, 0) for gpu in devices)
        assert list(port.devices()) == list(devices)

    def test_a_container_is_told_of_its_own_and_sees_no_other(self, port: DevicePort) -> None:
        devices = port.devices()
        for gpu in devices:
            access = port.allocate(f"holder-{gpu.index}", [gpu.uuid])
            assert access.env == {"NVIDIA_VISIBLE_DEVICES": gpu.uuid}
            own = [Path(path).name for path in access.files]
            assert not {f"nvidia{other.minor}" for other in devices if other is not gpu} & set(own)
            assert all(Path(path).exists() for path in access.files)

    def test_none_is_given_twice(self, port: DevicePort) -> None:
        first = port.devices()[0].uuid
        port.allocate("a", [first])
        with pytest.raises(DeviceInUse, match="in use by a"):
            port.allocate("b", [first])
        with pytest.raises(DeviceInUse):
            port.allocate("b", [first], shared=True)
        assert port.allocate("a", [first]).env["NVIDIA_VISIBLE_DEVICES"] == first
        port.release("a")
        port.release("a")
        port.allocate("b", [first])

    def test_what_is_refused_gives_nothing(self, port: DevicePort) -> None:
        uuids = [gpu.uuid for gpu in port.devices()]
        with pytest.raises(NoSuchDevice, match="GPU-none"):
            port.allocate("a", [uuids[0], "GPU-none"])
        port.allocate("b", uuids)
        with pytest.raises(DeviceInUse):
            port.allocate("a", uuids)
        port.release("b")
        assert port.allocate("a", uuids).env["NVIDIA_VISIBLE_DEVICES"].split(",") == uuids

    def test_sharers_share_and_only_they(self, port: DevicePort) -> None:
        first = port.devices()[0].uuid
        port.allocate("a", [first], shared=True)
        port.allocate("b", [first], shared=True)
        with pytest.raises(DeviceInUse):
            port.allocate("c", [first])
        port.release("a")
        port.release("b")
        port.allocate("c", [first])

    def test_nothing_asked_for_is_nothing_seen(self, port: DevicePort) -> None:
        access = port.allocate("a", [])
        assert access.env == {"NVIDIA_VISIBLE_DEVICES": ""} and access.files == ()

    def test_faults_name_their_gpu(self, port: DevicePort) -> None:
        known = range(len(port.devices()))
        assert all(fault.gpu in known for fault in port.faults())

    def test_readings_are_of_every_gpu_and_within_its_means(self, port: DevicePort) -> None:
        devices = port.devices()
        found = port.readings(Survey(gpus=tuple(devices)), [], 0.0)
        assert [reading.gpu.uuid for reading in found] == [gpu.uuid for gpu in devices]
        for reading in found:
            assert 0 <= reading.memory_used <= reading.memory_total
            assert 0 <= reading.utilization <= 100
            assert reading.holders == () and reading.power >= 0
