"""DCGM metrics of simulated GPUs: names and labels, values that follow pods, seeds and faults; `gpu top` reads them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from atoll.cluster.gpus.advertise import advertise
from atoll.cluster.gpus.allotment import status_of
from atoll.cluster.gpus.claims import claimed_devices, device_of
from atoll.cluster.gpus.dcgm import METRICS, exposition
from atoll.cluster.gpus.meters import Meter
from atoll.cluster.gpus.mig import plan_layout
from atoll.cluster.gpus.model import annotation, parse_gpus, parse_machine
from atoll.cluster.gpus.readings import MEMORY, UTILIZATION, readings
from atoll.cluster.gpus.settings import PluginConfig, Sharing
from atoll.cluster.gpus.survey import Survey
from atoll.cluster.gpus.top import device_rows, node_row, parse_exposition
from atoll.objects.gpu_faults import GpuFault

GPUS = parse_gpus(annotation(parse_machine("h100:2,l4:1")), "n")
NOW = 1_700_000_000.0


def survey(**more) -> Survey:
    return Survey(gpus=GPUS, advertised=advertise(GPUS, more.get("layout", {}), PluginConfig("mixed")), **more)


def pod(name: str, *ids: str, phase: str = "Running", **annotations: str) -> dict:
    status = {"name": "c", "allocatedResourcesStatus": status_of({"nvidia.com/gpu": ids}, ())}
    return {
        "metadata": {"name": name, "namespace": "d", "uid": f"uid-{name}", "annotations": annotations},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"phase": phase, "containerStatuses": [status]},
    }


def metrics_text(node, found, pods, wall, claimed=None) -> str:
    return exposition(node, readings(found, pods, wall, claimed))


def values(text: str, name: str) -> dict[str, float]:
    return {labels["gpu"]: value for found, labels, value in parse_exposition(text) if found == name}


def test_names_and_labels_are_the_exporters():
    text = metrics_text("n", survey(), [pod("p", GPUS[0].uuid)], NOW)
    busy, idle, _ = [item for item in parse_exposition(text) if item[0] == "DCGM_FI_DEV_GPU_TEMP"]
    assert busy[1] == {
        "gpu": "0", "UUID": GPUS[0].uuid, "pci_bus_id": "00000000:10:00.0", "device": "nvidia0",
        "modelName": "NVIDIA H100 80GB HBM3", "Hostname": "n", "DCGM_FI_DRIVER_VERSION": "580.95.05",
        "container": "c", "namespace": "d", "pod": "p",
    }  # fmt: skip
    assert "pod" not in idle[1]
    assert {"DCGM_FI_DEV_XID_ERRORS", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL"} <= {
        m[0] for m in METRICS
    }
    assert len({name for name, *_ in METRICS}) == len(METRICS)


# NVIDIA/dcgm-exporter, etc/default-counters.csv
DEFAULT_COUNTERS = """
SM_CLOCK MEM_CLOCK MEMORY_TEMP GPU_TEMP POWER_USAGE TOTAL_ENERGY_CONSUMPTION PCIE_TX_THROUGHPUT PCIE_RX_THROUGHPUT
PCIE_REPLAY_COUNTER GPU_UTIL MEM_COPY_UTIL ENC_UTIL DEC_UTIL XID_ERRORS FB_FREE FB_USED NVLINK_BANDWIDTH_TOTAL
VGPU_LICENSE_STATUS UNCORRECTABLE_REMAPPED_ROWS CORRECTABLE_REMAPPED_ROWS ROW_REMAP_FAILURE
"""
# dcp-metrics-included.csv
PROFILING = ("GR_ENGINE_ACTIVE", "PIPE_TENSOR_ACTIVE", "DRAM_ACTIVE", "PCIE_TX_BYTES", "PCIE_RX_BYTES")


def test_all_of_the_exporters_default_counters_are_there():
    text = exposition("n", Meter().read(lambda wall: readings(survey(), [pod("p", GPUS[0].uuid)], wall), NOW))
    named = {name for name, *_ in parse_exposition(text)}
    assert {f"DCGM_FI_DEV_{name}" for name in DEFAULT_COUNTERS.split()} <= named
    assert {f"DCGM_FI_PROF_{name}" for name in PROFILING} <= named


def load_of(*pods):
    return lambda wall: readings(survey(), list(pods), wall)


def test_energy_is_the_integral_of_the_power_and_only_grows():
    meter, mine = Meter(), load_of(pod("p", GPUS[0].uuid))
    first = meter.read(mine, NOW)
    assert [reading.totals.energy_millijoules for reading in first] == [0, 0, 0]
    fine = sum(mine(NOW + second + 0.5)[0].power for second in range(600)) * 1000
    last = 0
    for after in (15, 30, 31, 31, 200, 600):
        energy = meter.read(mine, NOW + after)[0].totals.energy_millijoules
        assert energy >= last
        last = energy
    assert last == pytest.approx(fine, rel=0.005)
    assert meter.read(mine, NOW - 50)[0].totals.energy_millijoules == last, "a clock that was set back"


def test_what_comes_and_goes_between_two_looks_is_counted():
    meter, idle = Meter(), load_of()
    pair = load_of(pod("p", GPUS[0].uuid, GPUS[1].uuid))
    meter.read(idle, NOW)
    meter.turn(pair, NOW + 10)
    meter.turn(idle, NOW + 110)
    used = [reading.totals for reading in meter.read(idle, NOW + 120)]
    watts = sum(pair(NOW + 10 + second)[0].power for second in range(100)) + 20 * idle(NOW)[0].power
    assert used[0].energy_millijoules == pytest.approx(watts * 1000, rel=0.01)
    assert used[0].pcie_received_kb > used[0].pcie_sent_kb > 1_000_000
    assert used[0].nvlink_mb > 1000 * 100, "two GPUs of one pod talk"
    assert used[2].pcie_sent_kb == used[2].nvlink_mb == 0
    alone = Meter()
    alone.read(load_of(pod("q", GPUS[0].uuid)), NOW)
    assert alone.read(idle, NOW + 60)[0].totals.nvlink_mb == 0, "one GPU has nobody to talk to"


def test_counters_of_the_whole_gpu_with_mig():
    layout = {0: plan_layout(GPUS[:1], "all-balanced", {})[0]}
    small = layout[0][0]
    meter = Meter()
    load = lambda wall: readings(survey(layout=layout), [pod("p", small.uuid)], wall)
    meter.read(load, NOW)
    found = [reading for reading in meter.read(load, NOW + 60) if reading.gpu.index == 0]
    assert len(found) > 1 and len({reading.totals for reading in found}) == 1
    assert found[0].totals.energy_millijoules == pytest.approx(found[0].power * 60_000, rel=0.1)


def test_values_follow_from_pods_and_time_alone():
    mine = [pod("p", GPUS[0].uuid), pod("q", GPUS[2].uuid, **{UTILIZATION: "40", MEMORY: "8Gi"})]
    text = metrics_text("n", survey(), mine, NOW)
    assert text == metrics_text("n", survey(), mine, NOW)
    assert text != metrics_text("n", survey(), mine, NOW + 20)
    busy = values(text, "DCGM_FI_DEV_GPU_UTIL")
    assert 70 <= busy["0"] <= 100 and busy["1"] == 0 and busy["2"] == 40
    assert values(text, "DCGM_FI_DEV_FB_USED")["2"] == 8192 + 23034 // 200
    memory = {gpu: values(text, f"DCGM_FI_DEV_FB_{kind}")[gpu] for kind in ("USED", "FREE") for gpu in "0"}
    assert memory["0"] > 0
    total = values(text, "DCGM_FI_DEV_FB_USED")["1"] + values(text, "DCGM_FI_DEV_FB_FREE")["1"]
    assert total == 81559
    power = values(text, "DCGM_FI_DEV_POWER_USAGE")
    assert power["0"] > 5 * power["1"] and power["0"] <= 700
    assert values(text, "DCGM_FI_DEV_GPU_TEMP")["0"] > values(text, "DCGM_FI_DEV_GPU_TEMP")["1"]
    waiting = metrics_text("n", survey(), [pod("p", GPUS[0].uuid, phase="Pending")], NOW)
    assert values(waiting, "DCGM_FI_DEV_GPU_UTIL")["0"] == 0 and 'pod="p"' in waiting
    ended = metrics_text("n", survey(), [pod("p", GPUS[0].uuid, phase="Failed")], NOW)
    assert 'pod="p"' not in ended


def test_faults_show():
    faults = (GpuFault("xid", 31, 0), GpuFault("ecc", 3, 0), GpuFault("thermal", 97, 1), GpuFault("nvlink", 12))
    text = metrics_text("n", survey(faults=faults), [pod("p", GPUS[1].uuid)], NOW)
    assert values(text, "DCGM_FI_DEV_XID_ERRORS") == {"0": 48, "1": 0, "2": 0}
    assert values(text, "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL")["0"] == 3
    assert values(text, "DCGM_FI_DEV_GPU_TEMP")["1"] == 97
    assert values(text, "DCGM_FI_DEV_SM_CLOCK")["1"] < 1980, "too hot to run at full speed"
    assert values(text, "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL") == {"0": 12, "1": 12}, "an L4 has no NVLink"
    lost = metrics_text("n", survey(faults=(GpuFault("lost", 0, 1),)), [], NOW)
    assert values(lost, "DCGM_FI_DEV_XID_ERRORS")["1"] == 79
    assert "1" not in values(lost, "DCGM_FI_DEV_GPU_TEMP")


def test_instances_and_time_slices_are_told_apart():
    layout = {0: plan_layout(GPUS[:1], "all-balanced", {})[0]}
    small, *_ = layout[0]
    text = metrics_text("n", survey(layout=layout), [pod("p", small.uuid)], NOW)
    samples = [labels for name, labels, _ in parse_exposition(text) if name == "DCGM_FI_PROF_GR_ENGINE_ACTIVE"]
    assert [labels.get("GPU_I_PROFILE") for labels in samples[:4]] == ["1g.10gb", "1g.10gb", "2g.20gb", "3g.40gb"]
    assert samples[0]["pod"] == "p" and "pod" not in samples[1]
    assert set(values(text, "DCGM_FI_DEV_GPU_UTIL")) == {"1", "2"}, "not given of a GPU that is partitioned"
    shared = [pod("a", f"{GPUS[2].uuid}::0"), pod("b", f"{GPUS[2].uuid}::1")]
    sliced = parse_exposition(metrics_text("n", survey(), shared, NOW))
    found = [labels for name, labels, _ in sliced if name == "DCGM_FI_DEV_GPU_UTIL" and labels["gpu"] == "2"]
    assert [(labels["pod"], labels["vgpu"]) for labels in found] == [("a", "0"), ("b", "1")]
    whole = readings(survey(), shared, NOW)[2]
    assert whole.utilization == 100.0, "two that are busy share one device"


def test_who_shares_by_mps_has_its_part_and_no_more():
    shared = {"nvidia.com/gpu": Sharing(4)}
    pods = [pod("a", f"{GPUS[0].uuid}::0"), pod("b", f"{GPUS[0].uuid}::1")]
    by_turns = readings(survey(config=PluginConfig(shared=shared)), pods, NOW)[0]
    parts = readings(survey(config=PluginConfig(shared=shared, mps=True)), pods, NOW)[0]
    assert [holder.utilization for holder in parts.holders] == [25.0, 25.0] and parts.utilization == 50.0
    assert by_turns.utilization == 100.0
    assert parts.memory_used <= parts.memory_total / 2 < by_turns.memory_used


def test_what_claims_have_is_busy_too():
    spec = {
        "resourceClaims": [
            {"name": "g", "resourceClaimTemplateName": "t"},
            {"name": "w", "resourceClaimName": "whole"},
        ],
        "containers": [{"name": "c", "resources": {"claims": [{"name": "g"}, {"name": "w", "request": "r"}]}}],
    }
    status = {"phase": "Running", "resourceClaimStatuses": [{"name": "g", "resourceClaimName": "made"}]}
    metadata = {"name": "p", "namespace": "d", "uid": "u"}

    def claim(name, *devices):
        results = [{"request": "r", "driver": "gpu.nvidia.com", "pool": "n", "device": it} for it in devices]
        allocation = {"allocation": {"devices": {"results": results}}}
        return {"metadata": {"name": name, "namespace": "d"}, "status": allocation}

    claims = [claim("made", "gpu-0-mig-1g10gb-19-2"), claim("whole", "gpu-2"), claim("others", "gpu-1")]
    pods = [{"metadata": metadata, "spec": spec, "status": status}]
    text = metrics_text("n", survey(), pods, NOW, claimed_devices(GPUS, "n", pods, claims))
    rows = device_rows(text)
    assert [(row.gpu, row.profile, row.pods) for row in rows] == [
        (0, "1g.10gb", ["d/p"]),
        (1, "", []),
        (2, "", ["d/p"]),
    ]
    assert claimed_devices(GPUS, "n", pods, []) == {}
    assert device_of(GPUS, "gpu-9") is None and device_of(GPUS, "nic-0") is None


def test_top_puts_a_node_together():
    faults = (GpuFault("xid", 79, 0), GpuFault("lost", 0, 2))
    rows = device_rows(metrics_text("n", survey(faults=faults), [pod("p", GPUS[1].uuid)], NOW))
    assert [(row.gpu, row.pods, row.faults) for row in rows] == [
        (0, [], ["xid 79"]), (1, ["d/p"], []), (2, [], ["xid 79", "lost"]),
    ]  # fmt: skip
    node = node_row("n", rows)
    assert (node.gpus, node.used, node.faults) == (3, 1, ("gpu 0: xid 79", "gpu 2: xid 79, lost"))
    assert node.memory_total == 2 * 81559
    assert node.model == "NVIDIA H100 80GB HBM3, NVIDIA L4"
    assert node_row("m", [], "the exporter answered 503").note == "the exporter answered 503"
    assert node_row("m", []).temperature is None


def test_top_reads_what_nvidias_exporter_prints():
    text = (
        "# HELP DCGM_FI_DEV_GPU_UTIL GPU utilization (in %).\n# TYPE DCGM_FI_DEV_GPU_UTIL gauge\n"
        'DCGM_FI_DEV_GPU_UTIL{gpu="0",UUID="GPU-1",device="nvidia0",modelName="NVIDIA L40S",Hostname="h",'
        'container="vllm",namespace="default",pod="mistral"} 73\n'
        'DCGM_FI_DEV_FB_USED{gpu="0",UUID="GPU-1"} 1024\nDCGM_FI_DEV_FB_FREE{gpu="0",UUID="GPU-1"} 3072\n'
        'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1"} 45\nnot a sample\nDCGM_FI_DEV_GPU_TEMP{gpu="0"} x\n'
    )
    (row,) = device_rows(text)
    assert (row.utilization, row.memory_total, row.temperature, row.pods) == (73, 4096, 45, ["default/mistral"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus is not installed")
def test_prometheus_own_parser_takes_it():
    layout = {0: plan_layout(GPUS[:1], "all-balanced", {})[0]}
    text = metrics_text("n", survey(layout=layout, faults=(GpuFault("ecc", 3, 1),)), [pod("p", GPUS[1].uuid)], NOW)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    # 3: names that its linter would not choose, which are DCGM's; what can't be parsed is 1
    assert done.returncode == 3, done.stderr
    assert "error while linting" not in done.stderr
    broken = subprocess.run(
        ["promtool", "check", "metrics"], input=text + "DCGM{", text=True, capture_output=True, check=False
    )
    assert broken.returncode == 1
