"""What is read of GPUs and hosts, and what it means: XIDs, DCGM's page, conditions, kernel log lines, notices."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from atoll.capacity.health.dcgm import DcgmReadings, parse_page
from atoll.capacity.health.findings import gpu_findings
from atoll.capacity.health.host import host_findings, of_kernel_line
from atoll.capacity.health.model import Finding, GpuReading, NodeReading, worst
from atoll.capacity.health.readings import SimulatedReadings
from atoll.capacity.health.remedy import left_over
from atoll.capacity.health.settings import HealthSettings, allowed
from atoll.capacity.health.summary import why
from atoll.capacity.health.xid import CATALOGUE
from atoll.capacity.settings import SettingsError, parse
from atoll.client.port import RawResponse
from atoll.objects.kernel_log import TABLE

SETTINGS = HealthSettings()
PAGE = """
# HELP DCGM_FI_DEV_GPU_TEMP GPU temperature (in C).
# TYPE DCGM_FI_DEV_GPU_TEMP gauge
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",modelName="NVIDIA H100 80GB HBM3",Hostname="n0"} 41
DCGM_FI_DEV_GPU_TEMP{gpu="1",UUID="GPU-b",modelName="odd } \\"name\\"",Hostname="n0",pod="p{0}"} 97
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",Hostname="n0"} 0
DCGM_FI_DEV_XID_ERRORS{gpu="1",UUID="GPU-b",Hostname="n0",err_code="79",err_msg="fallen"} 79
DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{gpu="0",UUID="GPU-a",Hostname="n0"} 2
DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL{gpu="0",UUID="GPU-a",Hostname="n0"} 7
DCGM_FI_DEV_ROW_REMAP_PENDING{gpu="0",UUID="GPU-a",Hostname="n0"} 1
DCGM_EXP_XID_ERRORS_COUNT{gpu="2",UUID="GPU-c",Hostname="n0",window_size_in_ms="300000",xid="94"} 1
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-z",Hostname="n1"} 30
DCGM_FI_DEV_GPU_TEMP{gpu="3",UUID="GPU-q",Hostname="n0"} not-a-number
"""


def node(gpus: int = 8, *, simulated: bool = True, **metadata: Any) -> Any:
    labels = {"nvidia.com/gpu.count": str(gpus)} | ({"atoll.dev/simulated": "true"} if simulated else {})
    return {
        "metadata": {"name": "n0", **metadata, "labels": {**labels, **metadata.get("labels", {})}},
        "spec": {},
        "status": {"capacity": {"nvidia.com/gpu": str(gpus)}},
    }


def codes(findings: list[Finding]) -> list[str]:
    return [item.code for item in findings]


@pytest.mark.parametrize(
    ("number", "severity", "remedy"),
    [(13, "application", "none"), (31, "application", "none"), (43, "notice", "none"), (48, "degraded", "reset"),
     (63, "notice", "none"), (64, "degraded", "reset"), (74, "degraded", "reset"), (79, "fatal", "reboot"),
     (94, "application", "none"), (95, "fatal", "reset"), (119, "fatal", "reset"), (54, "fatal", "replace")],
)  # fmt: skip
def test_xids_are_what_nvidias_catalogue_says(number: int, severity: str, remedy: str) -> None:
    row = CATALOGUE[number]
    assert (row.number, row.severity, row.remedy) == (number, severity, remedy)


def test_the_exporters_page_is_read_per_gpu_and_host() -> None:
    found = {reading.index: reading for reading in parse_page(PAGE, "n0")}
    assert found[0] == GpuReading(0, "GPU-a", celsius=41.0, uncorrected=2, nvlink_errors=7, remap_pending=True)
    assert (found[1].uuid, found[1].xid, found[1].celsius) == ("GPU-b", 79, 97.0)
    assert found[2].xid == 94
    assert 3 not in found, "a value that is none says nothing, not even that the GPU is there"
    assert parse_page("garbage\n<html>") == []


MIG = """
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"} 94
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",GPU_I_PROFILE="1g.10gb",GPU_I_ID="9"} 48
DCGM_FI_DEV_XID_ERRORS{gpu="0",UUID="GPU-a",GPU_I_PROFILE="3g.40gb",GPU_I_ID="2"} 0
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"} 99
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",GPU_I_PROFILE="1g.10gb",GPU_I_ID="9"} 99
DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-a",GPU_I_PROFILE="3g.40gb",GPU_I_ID="2"} 99
DCGM_EXP_XID_ERRORS_COUNT{gpu="1",UUID="GPU-b",xid="94"} 1
DCGM_EXP_XID_ERRORS_COUNT{gpu="1",UUID="GPU-b",xid="79"} 1
"""


def test_instances_are_judged_each_for_itself() -> None:
    found = gpu_findings(node(2), NodeReading(tuple(parse_page(MIG))), SETTINGS)
    assert [(item.code, item.message.partition(":")[0]) for item in found] == [
        ("Overheated", "GPU 0"), ("XID94", "GPU 0 instance 7"), ("XID48", "GPU 0 instance 9"), ("XID79", "GPU 1"),
    ]  # fmt: skip
    chosen = worst(found)
    assert chosen is not None and chosen.code == "XID79", "an application's error hides no other, whatever its number"


def test_findings_of_a_reading() -> None:
    reading = NodeReading(tuple(parse_page(PAGE, "n0")))
    found = gpu_findings(node(4), reading, SETTINGS)
    assert codes(found) == ["UncorrectedECC", "XID79", "Overheated", "XID94", "GPULost"]
    assert [item.remedy for item in found] == ["reset", "reboot", "wait", "none", "reboot"]
    assert found[-1].message.startswith("not visible: GPU 3")
    assert worst(found).code == "GPULost"  # of equal remedies by name; both are urgent


def test_nothing_is_made_of_what_is_not_known() -> None:
    unknown = NodeReading((GpuReading(0, xid=999),))
    assert [(item.code, item.remedy) for item in gpu_findings(node(1), unknown, SETTINGS)] == [("XID999", "none")]
    assert gpu_findings(node(8, simulated=False), NodeReading(()), SETTINGS) == [], "an exporter without GPUs"
    shared = node(8, simulated=False, labels={"nvidia.com/gpu.replicas": "4"})
    del shared["metadata"]["labels"]["nvidia.com/gpu.count"]
    assert gpu_findings(shared, NodeReading((GpuReading(0),)), SETTINGS) == []


def test_instances_and_slices_are_no_gpus_that_are_missing() -> None:
    """With the MIG strategy `single` feature discovery's count is of instances; a capacity has slices in it."""
    one = NodeReading((GpuReading(0),))
    instances = node(7, simulated=False, labels={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"})
    assert gpu_findings(instances, one, SETTINGS) == []
    slices = node(8, simulated=False)
    del slices["metadata"]["labels"]["nvidia.com/gpu.count"]
    assert gpu_findings(slices, one, SETTINGS) == []
    assert codes(gpu_findings(node(2, simulated=False), one, SETTINGS)) == ["GPULost"]


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("KubeletUnhealthy", "reboot"), ("ContainerRuntimeUnhealthy", "reboot"), ("KubeletProblem", "reboot"),
     ("ContainerRuntimeProblem", "reboot"), ("UnhealthyNvidiaDevicePlugin", "reboot"), ("XfsShutdown", "reboot")],
)  # fmt: skip
def test_conditions_of_node_problem_detectors(kind: str, remedy: str) -> None:
    found = node()
    found["status"]["conditions"] = [{"type": kind, "status": "True", "reason": "Why"}]
    assert [(item.code, item.remedy) for item in host_findings(found)] == [(kind, remedy)]
    found["status"]["conditions"][0]["status"] = "False"
    assert host_findings(found) == []


def test_people_are_told_that_nobody_looks() -> None:
    unseen = node()
    assert why(unseen).startswith("nobody has looked at its GPUs")
    unseen["status"]["conditions"] = [{"type": "GPUHealthy", "status": "True", "reason": "NoFault"}]
    assert why(unseen) == ""


def test_a_setting_may_judge_an_xid_otherwise() -> None:
    settings = parse("remedies: {94: reset, 79: none}", HealthSettings)
    reading = NodeReading((GpuReading(0, xid=94), GpuReading(1, xid=79)))
    assert [item.remedy for item in gpu_findings(node(2), reading, settings)] == ["reset", "none"]


def test_simulated_readings_are_a_function_of_the_annotation() -> None:
    faults = (
        '[{"gpu": 1, "kind": "lost"}, {"kind": "thermal", "value": 99}, {"gpu": 0, "kind": "nvlink", "value": 500}]'
    )
    reading = asyncio.run(SimulatedReadings().read(node(2, annotations={"atoll.dev/gpu-faults": faults})))
    assert reading is not None and [gpu.index for gpu in reading.gpus] == [0]
    assert codes(gpu_findings(node(2), reading, SETTINGS)) == ["Overheated", "NVLinkErrors", "GPULost"]
    broken = node(2, annotations={"atoll.dev/gpu-faults": "no json"})
    assert asyncio.run(SimulatedReadings().read(broken)) is None, "what can't be read is no reading"
    assert asyncio.run(SimulatedReadings().read(node(2, simulated=False))) is None


@pytest.mark.parametrize(
    ("line", "area", "code", "remedy"),
    [
        ("[123.4] NVRM: Xid (PCI:0000:3b:00): 79, GPU has fallen off the bus.", "gpu", "XID79", "reboot"),
        ("NVRM: Xid (PCI:0000:05:00): 31, Ch 00000010, MMU Fault", "gpu", "XID31", "none"),
        ("INFO: task kworker/0:1:123 blocked for more than 120 seconds.", "kernel", "TaskHung", "none"),
        ("unregister_netdevice: waiting for eth0 to become free", "network", "UnregisterNetDevice", "reboot"),
        ("EXT4-fs (sda1): Remounting filesystem read-only", "disk", "FilesystemIsReadOnly", "reboot"),
        ("Buffer I/O error on dev nvme0n1, logical block 7", "disk", "IOError", "replace"),
        ("nvme nvme0: controller is down; will reset: CSTS=0xffffffff", "disk", "NVMeDown", "reboot"),
    ],
)  # fmt: skip
def test_lines_of_the_kernels_log(line: str, area: str, code: str, remedy: str) -> None:
    found = of_kernel_line(line)
    assert found is not None and (found.area, found.code, found.remedy) == (area, code, remedy)


def test_other_lines_say_nothing() -> None:
    assert of_kernel_line("usb 1-1: new high-speed USB device number 2") is None


def test_what_others_wrote_on_the_node() -> None:
    told = node(
        annotations={"atoll.dev/kernel-log": "Buffer I/O error on dev sda\nfine", "atoll.dev/gpu-test-failed": "x"}
    )
    told["status"]["conditions"] = [
        {"type": "KernelDeadlock", "status": "True", "message": "hung"},
        {"type": "ReadonlyFilesystem", "status": "Unknown"},
        {"type": "StorageReady", "status": "True"},
        {"type": "VMEventScheduled", "status": "True", "message": "Freeze Scheduled"},
    ]
    told["spec"]["taints"] = [{"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"}]
    found = host_findings(told)
    assert [(item.code, item.remedy) for item in found] == [
        ("KernelDeadlock", "reboot"), ("IOError", "replace"), ("GPUTestFailed", "reboot"),
        ("Maintenance", "wait"), ("Maintenance", "wait"),
    ]  # fmt: skip
    assert host_findings(node()) == []


def test_remedies_mend_what_they_can() -> None:
    text = '[{"kind": "xid", "value": 79}, {"kind": "ecc", "value": 1}, {"kind": "thermal", "value": 99}]'
    assert left_over(text, "reset") == '[{"kind": "xid", "value": 79}, {"kind": "thermal", "value": 99}]'
    assert left_over(text, "reboot") == '[{"kind": "thermal", "value": 99}]'
    assert left_over(text, "replace") is None
    assert left_over("no json", "reboot") == "no json"


def test_settings_say_what_is_wrong_with_them() -> None:
    with pytest.raises(SettingsError, match="unknown field `budgets`"):
        parse("budgets: 3", HealthSettings)
    with pytest.raises(SettingsError, match="matching regex"):
        parse("budget: many", HealthSettings)
    with pytest.raises(SettingsError, match="not YAML"):
        parse("a: [", HealthSettings)
    assert [allowed(share, 75) for share in ("10%", 3, "0.1%")] == [7, 3, 1]


class Answers:
    """A client of whom pages are asked; and the pods of a node."""

    def __init__(self, pages: dict[str, list[str]], pods: list[Any]) -> None:
        self.asked: list[str] = []
        self._pages, self._pods = pages, pods

    async def raw(self, method: str, path: str, **more: Any) -> RawResponse:
        self.asked.append(path)
        found = self._pages.get(path)
        return RawResponse(404) if not found else RawResponse(200, {}, found.pop(0).encode())

    def by_index(self, name: str, value: str) -> list[Any]:
        return self._pods


def links(count: int) -> str:
    name = "DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL"
    return f'{name}{{gpu="0",UUID="GPU-a",Hostname="n0"}} {count}\n'


def test_the_exporters_pod_is_asked_through_the_api_server_and_counters_are_told_apart() -> None:
    exporter = {
        "metadata": {"name": "dcgm-1", "namespace": "gpu", "labels": {"app": "nvidia-dcgm-exporter"}},
        "status": {"phase": "Running"},
    }
    path = "/api/v1/namespaces/gpu/pods/dcgm-1:9400/proxy/metrics"
    answers = Answers({path: [links(500), links(650), links(20)]}, [exporter])
    readings = DcgmReadings(answers, answers)  # type: ignore[arg-type]

    async def errors() -> list[int]:
        found = [await readings.read(node(1, simulated=False)) for _ in range(3)]
        return [it.gpus[0].nvlink_errors for it in found if it is not None]

    assert asyncio.run(errors()) == [0, 150, 20], "what was there before is not new; a smaller count began anew"
    assert asyncio.run(readings.read(node(1, simulated=False))) is None, "404 is no reading"
    assert set(answers.asked) == {path}


def test_a_process_node_is_asked_itself_and_a_node_without_exporter_is_not_read() -> None:
    own = "/api/v1/nodes/n0/proxy/metrics/dcgm"
    answers = Answers({own: [links(1)]}, [])
    readings = DcgmReadings(answers, answers)  # type: ignore[arg-type]
    process = node(1, simulated=False, labels={"atoll.dev/process": "true"})
    assert asyncio.run(readings.read(process)) is not None
    assert asyncio.run(readings.read(node(1, simulated=False))) is None and answers.asked == [own]


def test_a_log_made_to_take_long_does_not() -> None:
    """Whoever may annotate a node can't hold up its health."""
    hostile = "Killed process 1 " * 15_000 + "\n" + "x\n" * 100_000 + "nvme nvme0: controller is down"
    began = time.process_time()
    assert codes(host_findings(node(annotations={"atoll.dev/kernel-log": hostile}))) == ["NVMeDown"]
    assert host_findings(node(annotations={"atoll.dev/kernel-log": "mlx5_core " * 25_000})) == []
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "line",
    [
        "Out of memory: Killed process 812 (python3) total-vm:9kB, anon-rss:8kB, file-rss:0kB, shmem-rss:0kB, UID:0",
        "Memory cgroup out of memory: Killed process 7 (a b) (c) total-vm:9kB, anon-rss:8kB, file-rss:0kB",
    ],
)
def test_a_kill_for_memory_is_told_and_calls_for_nothing(line: str) -> None:
    found = of_kernel_line(line)
    assert found is not None and (found.code, found.remedy) == ("OOMKilling", "none")


def test_the_document_has_the_whole_table() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (Path(__file__).parents[2] / "docs" / "health.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    told = {}
    for _, events, condition, remedies in (row for row in rows if len(row) == 4):
        reasons = [reason.strip("` ") for reason in events.split("·")]
        cells = [cell.strip() or "none" for cell in remedies.split("·")]
        for index, reason in enumerate(reasons):
            told[reason] = (condition.strip("`"), cells[index] if len(cells) > 1 else cells[0])
    assert {reason: (condition, remedy) for _, reason, _, remedy, condition in TABLE} == {
        reason: row for reason, row in told.items() if reason != "XIDN"
    }
