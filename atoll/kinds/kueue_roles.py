"""The ClusterRoles that Kueue's installation has for people (its page "Set up RBAC"), under its names.

`kueue-batch-admin-role` and `kueue-batch-user-role` are aggregated from roles of single kinds by the labels
rbac.kueue.x-k8s.io/batch-admin and batch-user, so that an administrator's own roles may join them.
"""

from __future__ import annotations

from typing import Any, Final

from atoll.kinds import kueue

Object = dict[str, Any]
_API: Final = "rbac.authorization.k8s.io"
_VISIBILITY: Final = "visibility.kueue.x-k8s.io"
_LOOK: Final = ("get", "list", "watch")
_CHANGE: Final = ("create", "delete", "get", "list", "patch", "update", "watch")
_ADMIN, _USER = ("batch-admin",), ("batch-admin", "batch-user")
_ROLES: Final[tuple[tuple[str, str, str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...]] = (
    ("clusterqueue-editor", kueue.GROUP, "clusterqueues", _CHANGE, _ADMIN, ()),
    ("clusterqueue-viewer", kueue.GROUP, "clusterqueues", _LOOK, _ADMIN, ("admin",)),
    ("cohort-editor", kueue.GROUP, "cohorts", _CHANGE, _ADMIN, ()),
    ("cohort-viewer", kueue.GROUP, "cohorts", _LOOK, _ADMIN, ()),
    ("job-editor", "batch", "jobs", _CHANGE, _USER, ()),
    ("job-viewer", "batch", "jobs", _LOOK, _ADMIN, ()),
    ("jobset-editor", "jobset.x-k8s.io", "jobsets", _CHANGE, _USER, ()),
    ("jobset-viewer", "jobset.x-k8s.io", "jobsets", _LOOK, _ADMIN, ()),
    ("localqueue-editor", kueue.GROUP, "localqueues", _CHANGE, _ADMIN, ()),
    ("localqueue-viewer", kueue.GROUP, "localqueues", _LOOK, _USER, ("admin", "edit", "view")),
    ("pending-workloads-cq-viewer", _VISIBILITY, "clusterqueues/pendingworkloads", _LOOK, _ADMIN, ()),
    ("pending-workloads-lq-viewer", _VISIBILITY, "localqueues/pendingworkloads", _LOOK, _USER, ()),
    ("resourceflavor-editor", kueue.GROUP, "resourceflavors", _CHANGE, _ADMIN, ()),
    ("resourceflavor-viewer", kueue.GROUP, "resourceflavors", _LOOK, _ADMIN, ("admin",)),
    ("topology-editor", kueue.GROUP, "topologies", _CHANGE, _ADMIN, ()),
    ("topology-viewer", kueue.GROUP, "topologies", _LOOK, _ADMIN, ()),
    ("workload-editor", kueue.GROUP, "workloads", _CHANGE, _ADMIN, ()),
    ("workload-viewer", kueue.GROUP, "workloads", _LOOK, _USER, ()),
)
"""(name, group, resource, verbs, who has it, the cluster's own roles that have it too)."""


def cluster_roles() -> list[Object]:
    """Those of the two kinds of people hold what they aggregate, also where no controller keeps them so."""
    singles = [_single(*role) for role in _ROLES]
    return [*singles, *(_aggregated(who, singles) for who in _USER)]


def _single(
    name: str, group: str, resource: str, verbs: tuple[str, ...], people: tuple[str, ...], own: tuple[str, ...]
) -> Object:
    rules = [{"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}]
    if "/" not in resource:
        rules.append({"apiGroups": [group], "resources": [f"{resource}/status"], "verbs": ["get"]})
    labels = {_label(who): "true" for who in people} | {f"{_API}/aggregate-to-{role}": "true" for role in own}
    return {**_role(f"kueue-{name}-role", labels), "rules": rules}


def _aggregated(who: str, singles: list[Object]) -> Object:
    rules = [rule for role in singles if _label(who) in role["metadata"]["labels"] for rule in role["rules"]]
    return {
        **_role(f"kueue-{who}-role", {}),
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {_label(who): "true"}}]},
        "rules": [rule for place, rule in enumerate(rules) if rule not in rules[:place]],
    }


def _role(name: str, labels: dict[str, str]) -> Object:
    own = {"app.kubernetes.io/name": "kueue"}
    return {"apiVersion": f"{_API}/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {**own, **labels}}}


def _label(who: str) -> str:
    return f"rbac.{kueue.GROUP}/{who}"
