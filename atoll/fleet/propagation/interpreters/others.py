"""Claims, volumes, disruption budgets, autoscalers, accounts, roles: kinds with one thing or two of their own."""

from __future__ import annotations

from typing import Any

from atoll.fleet.propagation.interpreters.table import HEALTHY, UNHEALTHY, Aggregation, Interpreter, Reference

Object = dict[str, Any]


def _prune_claim(obj: Object) -> None:
    annotations = obj["metadata"].get("annotations") or {}
    for key in [key for key in annotations if key.startswith(("volume.kubernetes.io/", "volume.beta.kubernetes.io/"))]:
        del annotations[key]


def _aggregate_claim(given: Aggregation) -> Object | None:
    known = given.known()
    if not known:
        return {"phase": "Pending"} if given.items else None
    phases = {item.status.get("phase") or "Pending" for item in known}
    if len(known) < len(given.items):
        phases.add("Pending")
    status: Object = {"phase": next(phase for phase in ("Lost", "Pending", "Bound") if phase in phases | {"Bound"})}
    if phases == {"Bound"}:
        for field in ("accessModes", "capacity"):
            if field in known[0].status:
                status[field] = known[0].status[field]
    return status


def _health_claim(live: Object) -> str:
    return HEALTHY if (live.get("status") or {}).get("phase") == "Bound" else UNHEALTHY


def _prune_volume(obj: Object) -> None:
    reference = obj["spec"].get("claimRef")
    if reference:
        obj["spec"]["claimRef"] = {key: reference[key] for key in ("namespace", "name") if key in reference}


def _aggregate_volume(given: Aggregation) -> Object | None:
    phases = [item.status.get("phase") for item in given.known()]
    order = ("Failed", "Pending", "Available", "Released", "Bound")
    phase = next((phase for phase in order if phase in phases), None)
    return {"phase": phase} if phase else None


_BUDGET_FIELDS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def _aggregate_disruption_budget(given: Aggregation) -> Object | None:
    known = given.known()
    if not known:
        return None
    status: Object = {field: sum(int(item.status.get(field) or 0) for item in known) for field in _BUDGET_FIELDS}
    status["observedGeneration"] = given.template["metadata"].get("generation") or 0
    return status


def _health_disruption_budget(live: Object) -> str:
    status = live.get("status") or {}
    return HEALTHY if (status.get("currentHealthy") or 0) >= (status.get("desiredHealthy") or 0) else UNHEALTHY


def _aggregate_autoscaler(given: Aggregation) -> Object | None:
    known = given.known()
    if not known:
        return None
    return {
        field: sum(int(item.status.get(field) or 0) for item in known)
        for field in ("currentReplicas", "desiredReplicas")
    }


def _autoscaler_references(obj: Object) -> list[Reference]:
    target = obj["spec"].get("scaleTargetRef") or {}
    if not target.get("apiVersion"):
        return []
    return [Reference(target["apiVersion"], target["kind"], obj["metadata"].get("namespace"), target["name"])]


def _prune_account(obj: Object) -> None:
    obj.pop("secrets", None)  # each member makes its own token Secrets


def _prune_role(obj: Object) -> None:
    if obj.get("aggregationRule"):
        obj.pop("rules", None)  # filled in by a controller of each member


def _prune_namespace(obj: Object) -> None:
    obj.pop("spec", None)
    labels = obj["metadata"].get("labels")
    if labels:
        labels.pop("kubernetes.io/metadata.name", None)
        if not labels:
            del obj["metadata"]["labels"]


def _no_status(_: Aggregation) -> Object | None:
    return None


TABLE: dict[tuple[str, str], Interpreter] = {
    ("", "PersistentVolumeClaim"): Interpreter(
        prune=_prune_claim, aggregate=_aggregate_claim, health=_health_claim
    ),
    ("", "PersistentVolume"): Interpreter(prune=_prune_volume, aggregate=_aggregate_volume),
    ("policy", "PodDisruptionBudget"): Interpreter(
        aggregate=_aggregate_disruption_budget, health=_health_disruption_budget
    ),
    ("autoscaling", "HorizontalPodAutoscaler"): Interpreter(
        aggregate=_aggregate_autoscaler, references=_autoscaler_references
    ),
    ("", "ServiceAccount"): Interpreter(prune=_prune_account, aggregate=_no_status),
    ("rbac.authorization.k8s.io", "ClusterRole"): Interpreter(prune=_prune_role, aggregate=_no_status),
    ("", "Namespace"): Interpreter(prune=_prune_namespace, aggregate=_no_status),
    ("", "ConfigMap"): Interpreter(aggregate=_no_status),
    ("", "Secret"): Interpreter(aggregate=_no_status),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): Interpreter(aggregate=_no_status),
}  # fmt: skip
