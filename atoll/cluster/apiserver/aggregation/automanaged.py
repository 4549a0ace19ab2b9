"""Which APIServices the API server keeps of itself: one a built-in group version, one a group version that CRDs serve.

Pure. Names, labels, priorities and the table of what is done when are upstream's (kube-aggregator's autoregister
controller, kube-apiserver's crd registration): built-in ones are put right once a start and are then the operator's,
those of CRDs are put right at every change. What a person wrote, without the label, is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum

from atoll.cluster.apiserver.ports import Object

AUTOMANAGED = "kube-aggregator.kubernetes.io/automanaged"
ON_START, ALWAYS = "onstart", "true"
_CUSTOM_PRIORITIES = (1000, 100)
_USUAL_VERSION = 15
_GROUPS = {
    "": 18000, "apps": 17800, "events.k8s.io": 17750, "authentication.k8s.io": 17700, "authorization.k8s.io": 17600,
    "autoscaling": 17500, "batch": 17400, "certificates.k8s.io": 17300, "networking.k8s.io": 17200, "policy": 17100,
    "rbac.authorization.k8s.io": 17000, "storage.k8s.io": 16800, "apiextensions.k8s.io": 16700,
    "admissionregistration.k8s.io": 16700, "scheduling.k8s.io": 16600, "coordination.k8s.io": 16500,
    "node.k8s.io": 16300, "discovery.k8s.io": 16200, "resource.k8s.io": 16200, "flowcontrol.apiserver.k8s.io": 16100,
}  # fmt: skip
_VERSIONS = {
    ("", "v1"): 1, ("autoscaling", "v2"): 30, ("resource.k8s.io", "v1"): 21, ("flowcontrol.apiserver.k8s.io", "v1"): 21,
}  # fmt: skip


class Step(Enum):
    NOTHING = "nothing"
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"


def built_in(group_versions: Iterable[tuple[str, str]]) -> dict[str, Object]:
    """By name; group versions that have no priority upstream (apiregistration's own, ours) are not listed."""
    found = {}
    for group, version in group_versions:
        if group in _GROUPS:
            priorities = _GROUPS[group], _VERSIONS.get((group, version), _USUAL_VERSION)
            made = _api_service(group, version, priorities, ON_START)
            found[made["metadata"]["name"]] = made
    return found


def custom(crd: Object) -> dict[str, Object]:
    """What a CRD wants, by name."""
    spec = crd["spec"]
    served = [version["name"] for version in spec["versions"] if version.get("served")]
    wanted = [_api_service(spec["group"], version, _CUSTOM_PRIORITIES, ALWAYS) for version in served]
    return {item["metadata"]["name"]: item for item in wanted}


def versions_of(crd: Object) -> list[str]:
    """The names of all APIServices that a CRD has to do with, served or not."""
    spec = crd["spec"]
    return [f"{version['name']}.{spec['group']}" for version in spec["versions"]]


def _api_service(group: str, version: str, priorities: tuple[int, int], managed: str) -> Object:
    spec = {"version": version, "groupPriorityMinimum": priorities[0], "versionPriority": priorities[1]}
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {AUTOMANAGED: managed}},
        "spec": {"group": group, **spec} if group else spec,
    }


def plan(wanted: Object | None, current: Object | None, *, at_start: Collection[str], synced: bool) -> Step:
    """`at_start`: the names that were there when this server started; `synced`: this one has been right since then."""
    if current is None:
        once_done = synced and _managed(wanted) == ON_START
        return Step.NOTHING if wanted is None or once_done else Step.CREATE
    managed = _managed(current)
    if managed not in (ON_START, ALWAYS) or (synced and _managed(wanted) == ON_START):
        return Step.NOTHING
    if managed == ON_START and (synced or current["metadata"]["name"] not in at_start):
        return Step.NOTHING
    if wanted is None:
        return Step.DELETE
    return Step.NOTHING if current["spec"] == wanted["spec"] else Step.UPDATE


def _managed(api_service: Object | None) -> str:
    labels = ((api_service or {}).get("metadata") or {}).get("labels") or {}
    return str(labels.get(AUTOMANAGED, ""))
