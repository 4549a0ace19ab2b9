"""ResourceSlices of GPU nodes: the driver's names, the API's limits, counters that say what excludes what."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from atoll.base import quantity
from atoll.base.errors import UserError
from atoll.cluster.gpus.mig import most_of, plan_layout
from atoll.cluster.gpus.model import Gpu
from atoll.cluster.gpus.plan import plan_slices
from atoll.cluster.gpus.slices import (
    ANNOTATION,
    HELD_TAINT,
    device_classes,
    gpu_of_device,
    mode_of,
    resource_slices,
)
from atoll.cluster.gpus.survey import Survey, claimed_gpus, pools_of
from atoll.cluster.gpus.types import gpu_type, gpu_types
from atoll.kinds.builtin import DEVICE_CLASSES, RESOURCE_SLICES
from atoll.objects.gpu_faults import GpuFault
from atoll.objects.meta import copy
from atoll.testing.cluster import new_cluster

PARTITIONED = [kind for kind in gpu_types().values() if kind.mig]


def gpus(count: int = 2, name: str = "h100") -> list[Gpu]:
    return [Gpu(index, index, f"GPU-{index}", gpu_type(name)) for index in range(count)]


def devices(slices) -> dict[str, dict]:
    return {device["name"]: device for item in slices for device in item["spec"].get("devices", ())}


def test_a_whole_gpu_as_the_driver_publishes_it():
    (only,) = resource_slices("n", gpus(), {}, "gpus")
    assert only["spec"]["driver"] == "gpu.nvidia.com" and only["spec"]["nodeName"] == "n"
    assert only["spec"]["pool"] == {"name": "n", "generation": 1, "resourceSliceCount": 1}
    assert only["spec"]["devices"][1] == {
        "name": "gpu-1",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": "GPU-1"},
            "productName": {"string": "NVIDIA H100 80GB HBM3"},
            "brand": {"string": "Nvidia"},
            "architecture": {"string": "Hopper"},
            "cudaComputeCapability": {"version": "9.0.0"},
            "driverVersion": {"version": "580.95.5"},
            "cudaDriverVersion": {"version": "13.0.0"},
            "resource.kubernetes.io/pciBusID": {"string": "0000:13:00.0"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:13"},
        },
        "capacity": {"memory": {"value": "81559Mi"}},
    }
    assert resource_slices("n", gpus(), {}, "none") == []


def test_instances_that_exist_take_the_place_of_their_gpu():
    two = gpus()
    layout = {0: plan_layout(two, "all-balanced", {})[0]}
    found = devices(resource_slices("n", two, layout, "gpus"))
    assert sorted(found) == [
        "gpu-0-mig-1g10gb-19-0", "gpu-0-mig-1g10gb-19-1", "gpu-0-mig-2g20gb-14-2", "gpu-0-mig-3g40gb-9-4", "gpu-1",
    ]  # fmt: skip
    instance = found["gpu-0-mig-2g20gb-14-2"]
    assert instance["attributes"]["type"] == {"string": "mig"}
    assert instance["attributes"]["profile"] == {"string": "2g.20gb"}
    assert instance["attributes"]["parentUUID"] == {"string": "GPU-0"}
    assert instance["capacity"]["memory"] == {"value": "20096Mi"}
    assert {name for name in instance["capacity"] if name.startswith("memorySlice")} == {"memorySlice2", "memorySlice3"}


@pytest.mark.parametrize("kind", PARTITIONED, ids=lambda kind: kind.name)
def test_counters_allow_what_the_hardware_can_and_no_overlap(kind):
    gpu = Gpu(0, 0, "GPU-0", kind)
    slices = resource_slices("n", [gpu], {}, "partitions")
    (counters,) = [item["spec"]["sharedCounters"] for item in slices if "sharedCounters" in item["spec"]]
    assert [item["name"] for item in counters] == ["gpu-0-counter-set"]
    have = {name: quantity.parse(value["value"]) for name, value in counters[0]["counters"].items()}
    found = devices(slices)

    def fit(names: list[str]) -> bool:
        used: Counter[str] = Counter()
        for name in names:
            (consumed,) = found[name]["consumesCounters"]
            assert consumed["counterSet"] == "gpu-0-counter-set"
            used.update({key: quantity.parse(value["value"]) for key, value in consumed["counters"].items()})
        return all(used[key] <= have[key] for key in used)

    def name_of(profile, start):
        return f"gpu-0-mig-{profile.name.replace('.', '').replace('+', '-')}-{profile.id}-{start}"

    for profile in kind.mig:
        names = [name_of(profile, start) for start in profile.starts]
        assert fit(names[: most_of(kind, profile)]), profile.name
        assert not fit([names[0], names[0]]) and not fit([names[0], "gpu-0"])
    balanced = plan_layout([gpu], "all-balanced", {})[0]
    assert fit([name_of(device.profile, device.start) for device in balanced])


def test_the_apis_limits_are_kept():
    slices = resource_slices("n", gpus(10), {}, "partitions")
    for item in slices:
        spec = item["spec"]
        assert ("devices" in spec) != ("sharedCounters" in spec)
        assert len(spec.get("devices", ())) <= 64 and len(spec.get("sharedCounters", ())) <= 8
        assert spec["pool"]["resourceSliceCount"] == len(slices)
    assert len(devices(slices)) == 10 * 26
    assert len({item["metadata"]["name"] for item in slices}) == len(slices)
    assert len(resource_slices("n", gpus(64, "l4"), {}, "gpus")) == 1


def test_the_api_takes_them():
    async def main():
        cluster = await new_cluster()
        kinds = [Gpu(place, place, f"GPU-{place}", kind) for place, kind in enumerate(gpu_types().values())]
        for item in resource_slices("n", kinds, {}, "partitions", [GpuFault("xid", 79, 0)], {1}):
            created = await cluster.client.create(RESOURCE_SLICES, item)
            assert created["spec"] == item["spec"], "as the API server keeps it"
        for item in device_classes():
            await cluster.client.create(DEVICE_CLASSES, item)

    asyncio.run(main())


def test_faults_and_the_device_plugins_holdings_taint_devices():
    found = devices(resource_slices("n", gpus(3, "l4"), {}, "gpus", [GpuFault("xid", 79, 0)], {1}))
    assert found["gpu-0"]["taints"] == [{"key": "gpu.nvidia.com/xid", "value": "79", "effect": "NoSchedule"}]
    assert found["gpu-1"]["taints"] == [{"key": HELD_TAINT, "effect": "NoSchedule"}]
    assert "taints" not in found["gpu-2"]


def test_a_pool_changes_as_a_whole_and_only_when_it_must():
    survey = Survey(gpus=tuple(gpus(8)), mode="partitions")
    first, gone = plan_slices("n", survey, [])
    assert len(first) == 5 and gone == []
    assert plan_slices("n", survey, first) == ([], [])
    faulty = Survey(gpus=survey.gpus, mode="partitions", faults=(GpuFault("lost", 0, 0),))
    second, gone = plan_slices("n", faulty, first)
    assert {item["spec"]["pool"]["generation"] for item in second} == {2} and gone == []
    as_kept = copy(second)
    for device in (device for item in as_kept for device in item["spec"].get("devices", ())):
        for taint in device.get("taints", ()):
            taint["timeAdded"] = "2026-11-28T10:00:00Z"
    assert plan_slices("n", faulty, as_kept) == ([], []), "what the API server adds is no difference"
    smaller, gone = plan_slices("n", Survey(gpus=survey.gpus, mode="gpus"), first)
    assert [item["spec"]["pool"]["generation"] for item in smaller] == [2]
    assert gone == [item["metadata"]["name"] for item in first[1:]]


def test_what_claims_have():
    results = [
        {"driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-3-mig-1g10gb-19-0"},
        {"driver": "gpu.nvidia.com", "pool": "n", "device": "gpu-5", "adminAccess": True},
        {"driver": "other.example.com", "pool": "n", "device": "gpu-6"},
        {"driver": "gpu.nvidia.com", "pool": "m", "device": "gpu-7"},
    ]
    claim = {"status": {"allocation": {"devices": {"results": results}}}}
    own = [Gpu(place, minor, f"GPU-{minor}", gpu_type("h100")) for place, minor in enumerate((3, 5, 6, 7))]
    assert claimed_gpus(own, [claim, {}], "n") == {0}
    assert sorted(pools_of(claim)) == ["m", "n"] and pools_of({}) == ()
    assert [gpu_of_device(name) for name in ("gpu-12", "gpu-1-mig-x-1-0", "gpu-x", "nic-1", "gpu-1x")] == [
        12, 1, None, None, None,
    ]  # fmt: skip


def test_what_is_published_is_chosen_by_an_annotation():
    assert mode_of({"metadata": {"name": "n"}}) == "gpus"
    assert mode_of({"metadata": {"name": "n", "annotations": {ANNOTATION: "none"}}}) == "none"
    with pytest.raises(UserError, match="is one of none, gpus, partitions"):
        mode_of({"metadata": {"name": "n", "annotations": {ANNOTATION: "all"}}})
