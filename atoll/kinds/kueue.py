"""Kueue's kinds (kueue.x-k8s.io): shorthand to name them, and their CRDs (package data, tools/generate_crds.py)."""

from __future__ import annotations

import importlib.resources
from typing import Any, Final

import orjson

from atoll.base.names import CONVERSION_ANNOTATION
from atoll.kinds.resource import Resource

GROUP: Final = "kueue.x-k8s.io"
VERSION: Final = "v1beta2"

CLUSTER_QUEUES = Resource(GROUP, VERSION, "clusterqueues", "ClusterQueue", False)
COHORTS = Resource(GROUP, VERSION, "cohorts", "Cohort", False)
LOCAL_QUEUES = Resource(GROUP, VERSION, "localqueues", "LocalQueue")
RESOURCE_FLAVORS = Resource(GROUP, VERSION, "resourceflavors", "ResourceFlavor", False)
WORKLOADS = Resource(GROUP, VERSION, "workloads", "Workload")
WORKLOAD_PRIORITY_CLASSES = Resource(GROUP, VERSION, "workloadpriorityclasses", "WorkloadPriorityClass", False)
ADMISSION_CHECKS = Resource(GROUP, VERSION, "admissionchecks", "AdmissionCheck", False)
TOPOLOGIES = Resource(GROUP, VERSION, "topologies", "Topology", False)
PROVISIONING_CONFIGS = Resource(GROUP, VERSION, "provisioningrequestconfigs", "ProvisioningRequestConfig", False)
MULTIKUEUE_CONFIGS = Resource(GROUP, VERSION, "multikueueconfigs", "MultiKueueConfig", False)
MULTIKUEUE_CLUSTERS = Resource(GROUP, VERSION, "multikueueclusters", "MultiKueueCluster", False)

QUEUE_LABEL: Final = f"{GROUP}/queue-name"
PRIORITY_CLASS_LABEL: Final = f"{GROUP}/priority-class"
MANAGED_LABEL: Final = f"{GROUP}/managed"
JOB_UID_LABEL: Final = f"{GROUP}/job-uid"
POD_GROUP_LABEL: Final = f"{GROUP}/pod-group-name"
POD_GROUP_SERVING: Final = f"{GROUP}/pod-group-serving"  # annotation: it never ends by itself
POD_GROUP_FAST: Final = f"{GROUP}/pod-group-fast-admission"
POD_GROUP_TOTAL: Final = f"{GROUP}/pod-group-total-count"
POD_INDEX_LABEL: Final = f"{GROUP}/pod-group-pod-index"  # its rank in its pod set
RETRIABLE_IN_GROUP: Final = f"{GROUP}/retriable-in-group"
POD_PARENT: Final = f"{GROUP}/pod-suspending-parent"  # annotation: of what kind the pods of a template are
ROLE_HASH: Final = f"{GROUP}/role-hash"
MIN_PARALLELISM: Final = f"{GROUP}/job-min-parallelism"
COMPLETIONS_EQUAL: Final = f"{GROUP}/job-completions-equal-parallelism"
MAX_EXEC_LABEL: Final = f"{GROUP}/max-exec-time-seconds"
PROVISIONING_PREFIX: Final = f"provreq.{GROUP}/"  # of annotations: parameters of a job's ProvisioningRequests
ADMISSION_GATE: Final = f"{GROUP}/admission"
TOPOLOGY_GATE: Final = f"{GROUP}/topology"
TOPOLOGY_LABEL: Final = f"{GROUP}/tas"  # of pods that are placed by topology
MULTIKUEUE: Final = f"{GROUP}/multikueue"  # its checks' controller, and who manages jobs that run elsewhere
PREBUILT_LABEL: Final = f"{GROUP}/prebuilt-workload-name"
POD_SET_LABEL: Final = f"{GROUP}/podset"
CLUSTER_QUEUE_LABEL: Final = f"{GROUP}/cluster-queue-name"  # of pods: in which they have quota
LOCAL_QUEUE_LABEL: Final = f"{GROUP}/local-queue-name"
REQUIRED_TOPOLOGY: Final = f"{GROUP}/podset-required-topology"
PREFERRED_TOPOLOGY: Final = f"{GROUP}/podset-preferred-topology"
UNCONSTRAINED_TOPOLOGY: Final = f"{GROUP}/podset-unconstrained-topology"
SLICE_TOPOLOGY: Final = f"{GROUP}/podset-slice-required-topology"
SLICE_SIZE: Final = f"{GROUP}/podset-slice-size"
SLICE_LAYERS: Final = f"{GROUP}/podset-slice-required-topology-constraints"
POD_SET_GROUP: Final = f"{GROUP}/podset-group-name"
WORKLOAD_ANNOTATION: Final = f"{GROUP}/workload"
WAITS_FOR_PODS: Final = "WaitingForReplacementPods"  # a condition of Workloads
FINALIZER: Final = f"{GROUP}/resource-in-use"
POD_FINALIZER: Final = f"{GROUP}/managed"


def custom_resource_definitions() -> list[dict[str, Any]]:
    """What a cluster with queueing serves; the API server converts between the versions itself."""
    folder = importlib.resources.files("atoll.kinds") / "data" / "queueing"
    found = [orjson.loads(file.read_bytes()) for file in sorted(folder.iterdir(), key=lambda file: file.name)]
    for crd in found:
        crd["metadata"]["annotations"] = {CONVERSION_ANNOTATION: "internal"}
    return found
