"""Kubernetes' own Workload and PodGroup (`scheduling.k8s.io/v1alpha2`): alpha in 1.36, served only where asked for."""

from __future__ import annotations

from typing import Final

from atoll.kinds.catalog import ApiResource, Subresource
from atoll.kinds.resource import Resource

GROUP: Final = "scheduling.k8s.io"
WORKLOADS: Final = Resource(GROUP, "v1alpha2", "workloads", "Workload")
WORKLOAD_POD_GROUPS: Final = Resource(GROUP, "v1alpha2", "podgroups", "PodGroup")
_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def api_resources() -> tuple[ApiResource, ...]:
    """What `runtime-config scheduling.k8s.io/v1alpha2=true` makes the real server serve."""
    status = Subresource("status", "PodGroup", ("get", "patch", "update"))
    return (
        ApiResource(WORKLOAD_POD_GROUPS, "podgroup", _VERBS, subresources=(status,), list_kind="PodGroupList"),
        ApiResource(WORKLOADS, "workload", _VERBS, list_kind="WorkloadList"),
    )
