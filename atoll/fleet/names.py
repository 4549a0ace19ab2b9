"""The labels, annotations, taints and condition types by which the parts of a hub know each other's work."""

from __future__ import annotations

import hashlib
from typing import Final

from atoll.base.names import FINALIZER, FLEET_GROUP, LABEL_PREFIX

__all__ = ["FINALIZER", "LABEL_PREFIX"]

PREFIX: Final = f"{FLEET_GROUP}/"

# On a template: which policy claimed it (Karmada's own keys, so that its users' tools find them).
POLICY_NAMESPACE: Final = "propagationpolicy.karmada.io/namespace"
POLICY_NAME: Final = "propagationpolicy.karmada.io/name"
CLUSTER_POLICY_NAME: Final = "clusterpropagationpolicy.karmada.io/name"
CLAIMS: Final = (POLICY_NAMESPACE, POLICY_NAME, CLUSTER_POLICY_NAME)

UNMANAGED: Final = f"{PREFIX}unmanaged"  # why nothing manages the copies any more
DELETING: Final = f"{PREFIX}deleting"  # what a deletion still waits for
ORPHAN: Final = f"{PREFIX}orphan"  # the user: "true" or cluster names; copies there are left behind
FAILBACK: Final = f"{PREFIX}failback"  # on a policy: Always or Never; default by the kind of division

# On a Work and on what it applies.
MANAGED: Final = f"{PREFIX}managed"
MANAGED_SELECTOR: Final = f"{MANAGED}=true"
WORK_NAMESPACE: Final = f"{PREFIX}work-namespace"
WORK_NAME: Final = f"{PREFIX}work"
MADE: Final = f"{PREFIX}made-by-hub"  # on a member's namespace: nobody else made it, so it goes with the hub's
TEMPLATE_UID: Final = f"{PREFIX}template-uid"
TEMPLATE_GENERATION: Final = f"{PREFIX}template-generation"
BINDING: Final = f"{PREFIX}binding"
KIND: Final = f"{PREFIX}kind"
CONFLICT: Final = f"{PREFIX}conflict-resolution"
FORGET: Final = f"{PREFIX}forget"  # on a Work: its copy is left behind when the Work goes
RETAIN_REPLICAS: Final = "resourcetemplate.karmada.io/retain-replicas"
SKIP_NAMESPACE: Final = "namespace.karmada.io/skip-auto-propagation"

NOT_READY_TAINT: Final = "cluster.karmada.io/not-ready"
UNREACHABLE_TAINT: Final = "cluster.karmada.io/unreachable"

CREDENTIALS_NAMESPACE: Final = "karmada-cluster"  # Secrets of members, as `atoll join` writes them
SYSTEM_NAMESPACE: Final = "atoll-system"
MEMBER_NAMESPACE: Final = "atoll-system"  # in a member: the hub's service account

_EXECUTION_PREFIX: Final = "karmada-es-"


def execution_namespace(cluster: str) -> str:
    """Where a cluster's Works live."""
    return f"{_EXECUTION_PREFIX}{cluster}"


def cluster_of(namespace: str | None) -> str | None:
    """The cluster whose Works live in that namespace."""
    if namespace and namespace.startswith(_EXECUTION_PREFIX):
        return namespace.removeprefix(_EXECUTION_PREFIX)
    return None


def binding_name(kind: str, name: str) -> str:
    """As upstream: NAME-kind, e.g. nginx-deployment (cut and hashed where that is too long for a name)."""
    full = f"{name}-{kind.lower()}".replace(":", ".")
    if len(full) <= 253:
        return full
    return f"{full[:242]}-{_digest(full)}"


def work_name(group: str, kind: str, namespace: str | None, name: str) -> str:
    """One Work per template and cluster, always under the same name."""
    identity = "/".join((group, kind, namespace or "", name))
    return f"{name.replace(':', '.')[:200]}-{_digest(identity)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def is_reserved(namespace: str) -> bool:
    """Namespaces that belong to a cluster or to a hub, never propagated: kube-*, karmada-*, atoll-system."""
    return namespace.startswith(("kube-", "karmada-")) or namespace == SYSTEM_NAMESPACE
