"""What is wrong with a node besides its GPUs, from what others wrote on the Node. Pure.

Read are conditions of node-problem-detector (kubernetes/node-problem-detector config/, AKS's additions) and of the EKS
node monitoring agent, lines of the kernel's log (the annotation atoll.dev/kernel-log, written by Atoll's process nodes
and whoever else follows it; their table is `atoll/objects/kernel_log.py`), cloud providers' notices of maintenance (AWS
node termination handler, GKE, AKS), and failed tests. A condition that is Unknown says nothing.
"""

from __future__ import annotations

from atoll.capacity import names
from atoll.capacity.health.model import Area, Finding, Object, Remedy
from atoll.capacity.health.xid import CATALOGUE
from atoll.capacity.nodes import annotation, taints
from atoll.objects.kernel_log import lines_of, problem_of
from atoll.objects.meta import labels

# (type, the status that means trouble) → (area, remedy)
_CONDITIONS: dict[tuple[str, str], tuple[Area, Remedy]] = {
    ("KernelDeadlock", "True"): ("kernel", "reboot"),
    ("CperHardwareErrorFatal", "True"): ("kernel", "replace"),
    ("ReadonlyFilesystem", "True"): ("disk", "reboot"),
    ("XfsShutdown", "True"): ("disk", "reboot"),
    ("FilesystemCorruptionProblem", "True"): ("disk", "replace"),
    ("CorruptDockerOverlay2", "True"): ("disk", "reboot"),
    ("FrequentUnregisterNetDevice", "True"): ("network", "reboot"),
    ("IBLinkFlapping", "True"): ("network", "reboot"),
    ("FrequentKubeletRestart", "True"): ("runtime", "reboot"),
    ("FrequentContainerdRestart", "True"): ("runtime", "reboot"),
    ("FrequentDockerRestart", "True"): ("runtime", "reboot"),
    ("KubeletUnhealthy", "True"): ("runtime", "reboot"),
    ("ContainerRuntimeUnhealthy", "True"): ("runtime", "reboot"),
    ("KubeletProblem", "True"): ("runtime", "reboot"),
    ("ContainerRuntimeProblem", "True"): ("runtime", "reboot"),
    ("GPUMissing", "True"): ("gpu", "reboot"),
    ("NVLinkStatusInactive", "True"): ("gpu", "reset"),
    ("UnhealthyNvidiaDevicePlugin", "True"): ("gpu", "reboot"),
    ("AcceleratedHardwareReady", "False"): ("gpu", "reboot"),
    ("KernelReady", "False"): ("kernel", "reboot"),
    ("StorageReady", "False"): ("disk", "replace"),
    ("NetworkingReady", "False"): ("network", "reboot"),
    ("ContainerRuntimeReady", "False"): ("runtime", "reboot"),
}

_MAINTENANCE_TAINTS = {
    "aws-node-termination-handler/scheduled-maintenance": "AWS: scheduled maintenance",
    "aws-node-termination-handler/spot-itn": "AWS: spot interruption",
    "aws-node-termination-handler/rebalance-recommendation": "AWS: rebalance recommendation",
    "aws-node-termination-handler/asg-lifecycle-termination": "AWS: to be terminated by its group",
    "cloud.google.com/impending-node-termination": "GKE: the host goes into maintenance",
    "cloud.google.com/maintenance-window-started": "GKE: the maintenance window has begun",
}


def host_findings(node: Object) -> list[Finding]:
    """Also those that call for nothing, which are only told."""
    return [*_from_conditions(node), *_from_kernel_log(node), *_from_tests(node), *_from_clouds(node)]


def of_kernel_line(line: str) -> Finding | None:
    """What a line of the kernel's log says; None for one that says nothing of the kind."""
    problem = problem_of(line)
    if problem is None:
        return None
    if not problem.is_xid:
        return Finding(problem.area, problem.reason, line.strip(), problem.remedy)
    row = CATALOGUE.get(int(problem.reason.removeprefix("XID")))
    remedy: Remedy = row.remedy if row is not None else "none"
    return Finding("gpu", problem.reason, line.strip(), remedy, row is not None and row.severity == "fatal")


def _from_conditions(node: Object) -> list[Finding]:
    found = []
    for item in (node.get("status") or {}).get("conditions") or ():
        entry = _CONDITIONS.get((item.get("type"), item.get("status")))
        if entry is not None:
            text = f"{item['type']}: {item.get('message') or item.get('reason') or item['status']}"
            found.append(Finding(entry[0], item["type"], text, entry[1]))
    return found


def _from_kernel_log(node: Object) -> list[Finding]:
    lines = lines_of(annotation(node, names.KERNEL_LOG))
    return [finding for line in lines if (finding := of_kernel_line(line)) is not None]


def _from_tests(node: Object) -> list[Finding]:
    found = []
    if labels(node).get(names.PREFLIGHT) == "failed":
        text = annotation(node, names.PREFLIGHT_REASON) or "its tests failed"
        found.append(Finding("test", "PreflightFailed", text, "reboot"))
    text = annotation(node, names.TEST_FAILED)
    if text:
        found.append(Finding("test", "GPUTestFailed", text, "reboot"))
    return found


def _from_clouds(node: Object) -> list[Finding]:
    told = [_MAINTENANCE_TAINTS[item["key"]] for item in taints(node) if item["key"] in _MAINTENANCE_TAINTS]
    if labels(node).get("cloud.google.com/active-node-maintenance") == "ONGOING":
        told.append("GKE: maintenance is under way")
    for item in (node.get("status") or {}).get("conditions") or ():
        if item.get("type") == "VMEventScheduled" and item.get("status") == "True":
            told.append(f"Azure: {item.get('message') or item.get('reason')}")
    return [Finding("maintenance", "Maintenance", text, "wait") for text in told]
