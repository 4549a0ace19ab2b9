"""On which nodes a DaemonSet's pods run, and the pod for one of them (pkg/controller/daemon). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from atoll.cluster.workloads.common import pods
from atoll.objects.meta import Object, labels
from atoll.scheduling.matching import node_selector, untolerated

_UNHEALTHY = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_NO_NETWORK = ("node.kubernetes.io/network-unavailable", "NoSchedule")
HASH_LABEL = "controller-revision-hash"
GENERATION_LABEL = "pod-template-generation"
GENERATION_ANNOTATION = "deprecated.daemonset.template.generation"


class Fit(NamedTuple):
    """run: pods are to be created here. stay: those that are here may stay."""

    run: bool
    stay: bool


def tolerations(spec: Object) -> list[Object]:
    """The template's, and those that let a daemon live on a node in trouble."""
    wanted = [*_UNHEALTHY, *([_NO_NETWORK] if spec.get("hostNetwork") else [])]
    made = list(spec.get("tolerations") or ())
    for key, effect in wanted:
        toleration = {"key": key, "operator": "Exists", "effect": effect}
        if toleration not in made:
            made.append(toleration)
    return made


def compile_fit(daemon_set: Object) -> Callable[[Object], Fit]:
    """A function of a node."""
    spec = daemon_set["spec"]["template"]["spec"]
    node_name = spec.get("nodeName")
    wanted = list((spec.get("nodeSelector") or {}).items())
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    matches = node_selector(affinity)
    tolerated = tolerations(spec)

    def fit(node: Object) -> Fit:
        own, name = labels(node), node["metadata"]["name"]
        if node_name and node_name != name:
            return Fit(False, False)
        if any(own.get(key) != value for key, value in wanted) or (matches is not None and not matches(name, own)):
            return Fit(False, False)
        taints = (node.get("spec") or {}).get("taints") or []
        if taints and untolerated(taints, tolerated, ("NoExecute", "NoSchedule")):
            return Fit(False, not untolerated(taints, tolerated, ("NoExecute",)))
        return Fit(True, True)

    return fit


def new_pod(daemon_set: Object, revision_hash: str, node_name: str) -> Object:
    """A pod that the scheduler can place on that node only."""
    pod = pods.pod_from_template(daemon_set["spec"]["template"], daemon_set)
    own = {**(pod["metadata"].get("labels") or {}), HASH_LABEL: revision_hash}
    generation = (daemon_set["metadata"].get("annotations") or {}).get(GENERATION_ANNOTATION)
    if generation:
        own[GENERATION_LABEL] = generation
    pod["metadata"]["labels"] = own
    spec = pod["spec"]
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    affinity = dict(spec.get("affinity") or {})
    affinity["nodeAffinity"] = {
        **(affinity.get("nodeAffinity") or {}),
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]},
    }
    pod["spec"] = {**spec, "affinity": affinity, "tolerations": tolerations(spec)}
    return pod


def node_of(pod: Object) -> str:
    """The node it is on or meant for; "" where it names none."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field["key"] == "metadata.name" and field["operator"] == "In" and len(field["values"]) == 1:
                return str(field["values"][0])
    return ""


def is_updated(pod: Object, revision_hash: str, daemon_set: Object) -> bool:
    own = labels(pod)
    generation = (daemon_set["metadata"].get("annotations") or {}).get(GENERATION_ANNOTATION)
    return own.get(HASH_LABEL) == revision_hash or (bool(generation) and own.get(GENERATION_LABEL) == generation)
