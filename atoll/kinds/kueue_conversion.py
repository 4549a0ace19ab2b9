"""Conversion between kueue.x-k8s.io/v1beta1 and v1beta2 (the storage version), which upstream does by webhook.

`convert(obj, api_version)` gives a new object that shares what is unchanged. What the other version has no field for
is dropped, as upstream does: v1beta1's retryDelayMinutes, a LocalQueue's status.flavors, pendingWorkloadsStatus;
v1beta2's concurrentAdmissionPolicy, preemptionGates, quotaManagement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

Object = dict[str, Any]

OLD: Final = "kueue.x-k8s.io/v1beta1"
NEW: Final = "kueue.x-k8s.io/v1beta2"
_SOURCES: Final = {
    "kueue.x-k8s.io/workloadpriorityclass": ("kueue.x-k8s.io", "WorkloadPriorityClass"),
    "scheduling.k8s.io/priorityclass": ("scheduling.k8s.io", "PriorityClass"),
}
_SOURCE_OF: Final = {group: source for source, (group, _) in _SOURCES.items()}
_FUNGIBILITY: Final = {"Borrow": "MayStopSearch", "Preempt": "MayStopSearch"}


def convert(obj: Object, api_version: str) -> Object:
    """The object in that version; itself if it is in it already."""
    if obj.get("apiVersion") == api_version:
        return obj
    converted = {**obj, "apiVersion": api_version}
    steps = _UP if api_version == NEW else _DOWN
    step = steps.get(str(obj.get("kind")))
    if step is not None:
        spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
        step(spec, status)
        converted |= {name: part for name, part in (("spec", spec), ("status", status)) if part or name in obj}
    return converted


def _rename(part: Object, old: str, new: str) -> None:
    if old in part:
        part[new] = part.pop(old)


def _queue_up(spec: Object, status: Object) -> None:
    _rename(spec, "cohort", "cohortName")
    checks = spec.pop("admissionChecks", None)
    if checks and not spec.get("admissionChecksStrategy"):
        spec["admissionChecksStrategy"] = {"admissionChecks": [{"name": name} for name in checks]}
    fungibility = spec.get("flavorFungibility")
    if fungibility:
        spec["flavorFungibility"] = {key: _FUNGIBILITY.get(value, value) for key, value in fungibility.items()}
    status.pop("pendingWorkloadsStatus", None)
    _drop_consumption(status)


def _queue_down(spec: Object, _: Object) -> None:
    _rename(spec, "cohortName", "cohort")
    spec.pop("concurrentAdmissionPolicy", None)


def _cohort_up(_: Object, status: Object) -> None:
    _drop_consumption(status)


def _drop_consumption(status: Object) -> None:
    """In v1beta2 only LocalQueues say what they have consumed."""
    if "fairSharing" in status:
        sharing = dict(status["fairSharing"])
        sharing.pop("admissionFairSharingStatus", None)
        status["fairSharing"] = sharing


def _local_up(_: Object, status: Object) -> None:
    _rename(status, "flavorUsage", "flavorsUsage")
    status.pop("flavors", None)


def _local_down(_: Object, status: Object) -> None:
    _rename(status, "flavorsUsage", "flavorUsage")


def _check_up(spec: Object, _: Object) -> None:
    spec.pop("retryDelayMinutes", None)


def _multi_up(spec: Object, _: Object) -> None:
    source = {name: spec.pop(name) for name in ("kubeConfig", "clusterProfileRef") if name in spec}
    if source:
        spec["clusterSource"] = source


def _multi_down(spec: Object, _: Object) -> None:
    spec.update(spec.pop("clusterSource", None) or {})


def _multi_config_down(spec: Object, _: Object) -> None:
    spec.pop("quotaManagement", None)


def _workload_up(spec: Object, status: Object) -> None:
    name, source = spec.pop("priorityClassName", None), spec.pop("priorityClassSource", "")
    if name and source in _SOURCES:
        group, kind = _SOURCES[source]
        spec["priorityClassRef"] = {"group": group, "kind": kind, "name": name}
    _rename(status, "accumulatedPastExexcutionTimeSeconds", "accumulatedPastExecutionTimeSeconds")
    _assignments(status, slices_of)


def _workload_down(spec: Object, status: Object) -> None:
    reference = spec.pop("priorityClassRef", None)
    if reference:
        spec["priorityClassName"] = reference["name"]
        spec["priorityClassSource"] = _SOURCE_OF.get(reference["group"], "")
    _rename(status, "accumulatedPastExecutionTimeSeconds", "accumulatedPastExexcutionTimeSeconds")
    spec.pop("preemptionGates", None)
    status.pop("preemptionGates", None)
    _assignments(status, domains_of)


def _assignments(status: Object, convert_topology: Callable[[Object], Object]) -> None:
    admission = status.get("admission")
    if not admission or not any(it.get("topologyAssignment") for it in admission.get("podSetAssignments") or ()):
        return
    converted = []
    for assignment in admission["podSetAssignments"]:
        topology = assignment.get("topologyAssignment")
        converted.append({**assignment, "topologyAssignment": convert_topology(topology)} if topology else assignment)
    status["admission"] = {**admission, "podSetAssignments": converted}


def slices_of(topology: Object) -> Object:
    """v1beta1 lists each domain; v1beta2 one column a level, said once where all domains share its value."""
    domains = topology.get("domains") or []
    if not domains:
        return {"levels": topology["levels"], "slices": []}
    columns = [[domain["values"][level] for domain in domains] for level in range(len(topology["levels"]))]
    counts = [domain["count"] for domain in domains]
    slice_ = {
        "domainCount": len(domains),
        "valuesPerLevel": [_column(values, lambda many: {"roots": many}) for values in columns],
        "podCounts": _column(counts, lambda many: many),
    }
    return {"levels": topology["levels"], "slices": [slice_]}


def _column(values: list[Any], many: Callable[[list[Any]], Any]) -> Object:
    return {"universal": values[0]} if len(set(values)) == 1 else {"individual": many(values)}


def domains_of(topology: Object) -> Object:
    """A v1beta2 topologyAssignment as v1beta1 has it."""
    domains = []
    for slice_ in topology.get("slices") or ():
        size = slice_["domainCount"]
        columns = [_values(level, size) for level in slice_["valuesPerLevel"]]
        counts = slice_["podCounts"].get("individual") or [slice_["podCounts"].get("universal")] * size
        domains += [
            {"values": [column[index] for column in columns], "count": count} for index, count in enumerate(counts)
        ]
    return {"levels": topology["levels"], "domains": domains}


def _values(level: Object, size: int) -> list[str]:
    if "universal" in level:
        return [level["universal"]] * size
    individual = level["individual"]
    prefix, suffix = individual.get("prefix") or "", individual.get("suffix") or ""
    return [f"{prefix}{root}{suffix}" for root in individual["roots"]]


_UP: Final[dict[str, Callable[[Object, Object], None]]] = {
    "ClusterQueue": _queue_up,
    "Cohort": _cohort_up,
    "LocalQueue": _local_up,
    "AdmissionCheck": _check_up,
    "MultiKueueCluster": _multi_up,
    "Workload": _workload_up,
}
_DOWN: Final[dict[str, Callable[[Object, Object], None]]] = {
    "ClusterQueue": _queue_down,
    "LocalQueue": _local_down,
    "MultiKueueCluster": _multi_down,
    "MultiKueueConfig": _multi_config_down,
    "Workload": _workload_down,
}
