"""The kinds of a hub: their CRDs (package data, made by tools/generate_crds.py) and shorthand to name them."""

from __future__ import annotations

import importlib.resources
from typing import Any, Final

import orjson

from atoll.base.names import INERT_ANNOTATION
from atoll.kinds.resource import Resource

CLUSTERS = Resource("cluster.karmada.io", "v1alpha1", "clusters", "Cluster", False)
# On a real kube-apiserver: a CRD and an APIService can't share a group version, so this is the storage.
STORED_CLUSTERS = Resource("fleet.atoll.dev", "v1alpha1", "clusters", "Cluster", False)
PROPAGATION_POLICIES = Resource("policy.karmada.io", "v1alpha1", "propagationpolicies", "PropagationPolicy")
CLUSTER_PROPAGATION_POLICIES = Resource(
    "policy.karmada.io", "v1alpha1", "clusterpropagationpolicies", "ClusterPropagationPolicy", False
)
OVERRIDE_POLICIES = Resource("policy.karmada.io", "v1alpha1", "overridepolicies", "OverridePolicy")
CLUSTER_OVERRIDE_POLICIES = Resource(
    "policy.karmada.io", "v1alpha1", "clusteroverridepolicies", "ClusterOverridePolicy", False
)
RESOURCE_BINDINGS = Resource("work.karmada.io", "v1alpha2", "resourcebindings", "ResourceBinding")
CLUSTER_RESOURCE_BINDINGS = Resource(
    "work.karmada.io", "v1alpha2", "clusterresourcebindings", "ClusterResourceBinding", False
)
WORKS = Resource("work.karmada.io", "v1alpha1", "works", "Work")
WORKLOAD_REBALANCERS = Resource("apps.karmada.io", "v1alpha1", "workloadrebalancers", "WorkloadRebalancer", False)
CLUSTER_PROFILES = Resource("multicluster.x-k8s.io", "v1alpha1", "clusterprofiles", "ClusterProfile")
DESTRUCTION_BUDGETS = Resource("fleet.atoll.dev", "v1alpha1", "destructionbudgets", "DestructionBudget", False)

# Kinds that are served, so that users' manifests apply, but that nothing acts upon yet: writes say so.
_INERT: Final = {
    "clustertaintpolicies.policy.karmada.io": "cluster taints follow the clusters' health only",
    "cronfederatedhpas.autoscaling.karmada.io": "replicas are not scaled by it",
    "federatedhpas.autoscaling.karmada.io": "replicas are not scaled by it",
    "federatedresourcequotas.policy.karmada.io": "quotas are not divided over clusters",
    "multiclusteringresses.networking.karmada.io": "no ingress is made from it",
    "multiclusterservices.networking.karmada.io": "no service is exported by it",
    "placementdecisions.multicluster.x-k8s.io": "nothing reads or writes it",
    "remedies.remedy.karmada.io": "no remedy is carried out",
    "resourceinterpretercustomizations.config.karmada.io": "Lua interpreters are not run",
    "resourceinterpreterwebhookconfigurations.config.karmada.io": "interpreter webhooks are not called",
    "serviceexports.multicluster.x-k8s.io": "no service is exported by it",
    "serviceimports.multicluster.x-k8s.io": "no service is imported by it",
}

_EMBEDDED_ONLY: Final = "clusters.cluster.karmada.io"
_REAL_ONLY: Final = "clusters.fleet.atoll.dev"


def custom_resource_definitions(*, real: bool = False) -> list[dict[str, Any]]:
    """The CRDs that a hub needs; `real` for one on a kube-apiserver, where Cluster is stored under our own group."""
    left_out = _EMBEDDED_ONLY if real else _REAL_ONLY
    folder = importlib.resources.files("atoll.kinds") / "data" / "crds"
    files = sorted(folder.iterdir(), key=lambda file: file.name)
    found = [orjson.loads(file.read_bytes()) for file in files if file.name != f"{left_out}.json"]
    for crd in found:
        why = _INERT.get(crd["metadata"]["name"])
        if why:
            crd["metadata"].setdefault("annotations", {})[INERT_ANNOTATION] = why
    return found
