"""Nodes that cost more than they carry: one is emptied where all that runs on it fits elsewhere, at no loss. Pure.

Cluster Autoscaler's rule: less than half of a node asked for, for ten minutes. Its pods must be made anew by somebody,
lose no work (those of Jobs declare checkpoints), keep nothing on the node, and be let go by their
PodDisruptionBudgets; `cluster-autoscaler.kubernetes.io/safe-to-evict` says so for a pod, or forbids it. What can't be
known counts as a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atoll.base import quantity
from atoll.capacity import names
from atoll.capacity.autoscale.model import Object
from atoll.capacity.autoscale.shape import is_balloon, needs
from atoll.capacity.autoscale.trial import Surroundings, Trial
from atoll.capacity.health import checkpoint
from atoll.capacity.nodes import GPU, annotation, is_over, work_on
from atoll.objects import meta
from atoll.scheduling.matching import label_selector

SAFE = "cluster-autoscaler.kubernetes.io/safe-to-evict"


def share_asked_for(node: Object, pods: Iterable[Object]) -> float:
    """Of a node: its GPUs where it has some, else the greater share of CPU and memory. 1 where that can't be told."""
    have = _have(node)
    resources = (GPU,) if have.get(GPU) else ("cpu", "memory")
    asked: dict[str, int] = {}
    for pod in pods:
        if not is_over(pod):
            for name, amount in needs(pod).items():
                asked[name] = asked.get(name, 0) + amount
    return max((asked.get(name, 0) / have[name] if have.get(name) else 1.0) for name in resources)


def stays(pod: Object) -> str:
    """Why a pod may not be moved to save a node; "" where it may."""
    told = annotation(pod, SAFE)
    if told == "false":
        return "it is not safe to evict"
    if told == "true":
        return ""
    owner = meta.controller_of(pod)
    if owner is None:
        return "nobody would make it anew"
    if annotation(pod, names.STOP_AS_ONE):
        return "its whole group would stop"
    if owner["kind"] == "Job" and checkpoint.interval(pod) is None:
        return "its work would be lost"
    if pod["metadata"].get("namespace") == "kube-system":
        return "it is the cluster's own"
    if any("emptyDir" in volume or "hostPath" in volume for volume in pod["spec"].get("volumes") or ()):
        return "it keeps something on its node"
    return ""


def may_leave(pods: Sequence[Object], budgets: Sequence[Object]) -> bool:
    """Whether all work of a node may go, wherever to."""
    moving = _moving(pods)
    return not any(is_balloon(pod) or stays(pod) for pod in moving) and _let_go(moving, budgets)


def fits_elsewhere(node: Object, pods: Sequence[Object], around: Surroundings) -> bool:
    """Whether all work of the node fits on the other nodes as they are."""
    trial = Trial(around)
    trial.take_in(around.nodes, around.pods, but=(node["metadata"]["name"],))
    largest = sorted(_moving(pods), key=lambda pod: sorted(needs(pod).items()), reverse=True)
    return all(trial.put(_unbound(pod)) is not None for pod in largest)


def _moving(pods: Sequence[Object]) -> list[Object]:
    return [pod for pod in work_on(pods) if "deletionTimestamp" not in pod["metadata"]]


def _let_go(moving: Sequence[Object], budgets: Sequence[Object]) -> bool:
    """Whether each budget allows all of its pods here to go at once."""
    for budget in budgets:
        matches = label_selector(budget["spec"].get("selector"))
        namespace = budget["metadata"].get("namespace")
        own = [pod for pod in moving if pod["metadata"].get("namespace") == namespace and matches(meta.labels(pod))]
        status = budget.get("status") or {}
        if own and len(own) > int(status.get("disruptionsAllowed") or 0):
            return False
    return True


def _unbound(pod: Object) -> Object:
    """As its successor will be."""
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return {**pod, "metadata": {**pod["metadata"], "uid": f"next-{pod['metadata'].get('uid')}"}, "spec": spec}


def _have(node: Object) -> dict[str, int]:
    """Resource → nano-units."""
    allocatable = (node.get("status") or {}).get("allocatable") or {}
    return {name: quantity.parse(value) for name, value in allocatable.items() if name in (GPU, "cpu", "memory")}
