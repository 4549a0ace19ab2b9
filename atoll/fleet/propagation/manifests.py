"""From a template to what is sent to one member: pruned, with its share of replicas, overridden, marked. Pure."""

from __future__ import annotations

from typing import Any

from atoll.fleet import names
from atoll.fleet.model import ClusterView
from atoll.fleet.propagation.interpreters import batch, network, others, workloads
from atoll.fleet.propagation.interpreters.table import Interpreter, strip_server_fields
from atoll.fleet.propagation.overrides import override
from atoll.objects.meta import copy
from atoll.scheduling.division import webster

Object = dict[str, Any]
_TABLE: dict[tuple[str, str], Interpreter] = {**workloads.TABLE, **batch.TABLE, **network.TABLE, **others.TABLE}
_UNKNOWN = Interpreter()


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def interpreter(obj: Object) -> Interpreter:
    """The table entry for an object's kind; the generic one for kinds that nobody described."""
    return interpreter_of(obj.get("apiVersion") or "", obj.get("kind") or "")


def interpreter_of(api_version: str, kind: str) -> Interpreter:
    return _TABLE.get((group_of(api_version), kind), _UNKNOWN)


def prune(template: Object) -> Object:
    """The template as a person would have written it: a private deep copy."""
    out: Object = copy(strip_server_fields(template))
    if out.get("kind") == "Service" and out.get("apiVersion") == "v1":
        asked = network.asked_node_ports(template)
        for port in out["spec"].get("ports") or ():
            if port.get("nodePort") not in asked:
                port.pop("nodePort", None)
    interpreter(out).prune(out)
    return out


def divide_completions(template: Object, shares: dict[str, int | None]) -> dict[str, int]:
    """A divided Job's completions per cluster, in proportion to its parallelism there; {} for anything else."""
    from_spec = (template.get("spec") or {}).get("completions")
    if template.get("kind") != "Job" or from_spec is None:
        return {}
    weights = {name: share for name, share in shares.items() if share}
    if not weights:
        return {}
    return webster(int(from_spec), weights).shares


def manifest_for(
    pruned: Object,
    cluster: ClusterView,
    policies: list[Object],
    *,
    replicas: int | None,
    completions: int | None = None,
) -> tuple[Object, list[str]]:
    """What the cluster gets, and the names of the override policies that had a say. Raises UserError for a bad rule."""
    if replicas is not None:
        revised = dict(pruned)
        revised["spec"] = dict(pruned["spec"])
        interpreter(pruned).set_replicas(revised, replicas)
        if completions is not None:
            revised["spec"]["completions"] = completions
        pruned = revised
    return override(pruned, policies, cluster)


def marked(manifest: Object, *, work: str, work_namespace: str, generation: int, uid: str) -> Object:
    """The manifest with the label by which members' copies are watched and the annotations that lead back."""
    metadata = dict(manifest["metadata"])
    metadata["labels"] = {**(metadata.get("labels") or {}), names.MANAGED: "true"}
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        names.WORK_NAME: work,
        names.WORK_NAMESPACE: work_namespace,
        names.TEMPLATE_GENERATION: str(generation),
        names.TEMPLATE_UID: uid,
    }
    return {**manifest, "metadata": metadata}
