"""What the hub's service account may do in a member: everything, or only some kinds in some namespaces. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll.base.errors import UserError
from atoll.fleet.names import MEMBER_NAMESPACE
from atoll.kinds.resource import Resource

Object = dict[str, Any]
ACCOUNT = "atoll-hub"
_GROUP = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_WRITE = ["create", "update", "patch", "delete"]


@dataclass(frozen=True, slots=True)
class Allowed:
    """One `--allow KIND,NAMESPACE`; namespace "" or "*" means all of them."""

    kind: str
    namespace: str = ""

    @classmethod
    def parse(cls, text: str) -> Allowed:
        """From KIND,NAMESPACE or KIND. Raises UserError."""
        kind, _, namespace = text.partition(",")
        if not kind.strip():
            raise UserError(f"--allow {text!r} names no kind", hint="e.g. --allow Deployment,shop or --allow ConfigMap")
        return cls(kind.strip(), "" if namespace.strip() == "*" else namespace.strip())


def objects(allowed: Sequence[tuple[Allowed, Resource]] = ()) -> list[Object]:
    """What is made in the member, in order: the cluster role first, which owns the rest, so that all goes with it.

    Without `allowed` the hub may do everything there.
    With it the hub reads those kinds everywhere (it watches what it manages) and writes them only where it is allowed.
    """
    rules = _everything() if not allowed else _base() + _reads(allowed)
    found: list[Object] = [
        {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRole", "metadata": _named(), "rules": rules},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MEMBER_NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _named(MEMBER_NAMESPACE)},
        {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
         "metadata": {**_named(MEMBER_NAMESPACE), "annotations": {"kubernetes.io/service-account.name": ACCOUNT}}},
    ]  # fmt: skip
    found.append(_binding("ClusterRoleBinding", _named(), "ClusterRole"))
    for namespace, resources in sorted(_by_namespace(allowed).items()):
        metadata = _named(namespace)
        role = {"apiVersion": f"{_GROUP}/v1", "kind": "Role", "metadata": metadata, "rules": [
            {"apiGroups": [one.group], "resources": [one.plural], "verbs": _WRITE} for one in resources]}  # fmt: skip
        found += [role, _binding("RoleBinding", metadata, "Role")]
    return found


def owned(obj: Object, role: Object) -> Object:
    """The object as the cluster role's own: the member's garbage collector takes it away with the role."""
    owner = {"apiVersion": role["apiVersion"], "kind": "ClusterRole", "name": ACCOUNT, "uid": role["metadata"]["uid"]}
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [owner]}}


def _named(namespace: str = "") -> Object:
    labels = {"app.kubernetes.io/managed-by": "atoll"}
    return {"name": ACCOUNT, **({"namespace": namespace} if namespace else {}), "labels": labels}


def _everything() -> list[Object]:
    return [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["get"]},
    ]


def _base() -> list[Object]:
    """Health, discovery, what the cluster's summary is made from, and the right to take itself away."""
    return [
        {"apiGroups": [_GROUP], "resources": ["clusterroles"], "resourceNames": [ACCOUNT], "verbs": ["delete"]},
        {"nonResourceURLs": ["/readyz", "/livez", "/version", "/api", "/api/*", "/apis", "/apis/*", "/openapi/*"],
         "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": _READ},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": [*_READ, "create", "patch"]},
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": _READ},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": _READ},
    ]  # fmt: skip


def _reads(allowed: Sequence[tuple[Allowed, Resource]]) -> list[Object]:
    rules = []
    for resource in sorted({one for _, one in allowed}, key=lambda one: one.group_resource):
        everywhere = any(item == resource and not rule.namespace for rule, item in allowed)
        verbs = _READ + _WRITE if everywhere or not resource.namespaced else _READ
        rules.append({"apiGroups": [resource.group], "resources": [resource.plural], "verbs": verbs})
    return rules


def _by_namespace(allowed: Sequence[tuple[Allowed, Resource]]) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for rule, resource in allowed:
        if rule.namespace and resource.namespaced:
            found.setdefault(rule.namespace, []).append(resource)
    return found


def _binding(kind: str, metadata: Object, role: str) -> Object:
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": MEMBER_NAMESPACE}
    return {
        "apiVersion": f"{_GROUP}/v1", "kind": kind, "metadata": metadata, "subjects": [subject],
        "roleRef": {"apiGroup": _GROUP, "kind": role, "name": ACCOUNT},
    }  # fmt: skip
