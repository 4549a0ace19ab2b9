"""Whether pods could run on a flavour's nodes, by its taints and labels."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atoll.capacity.queueing.model import Flavor, Object
from atoll.scheduling.matching import NodeSelector, tolerates


def is_indifferent(template: Object, flavor: Flavor) -> bool:
    """Whether they could run there without a look at labels and tolerations."""
    spec = template.get("spec") or {}
    return not (flavor.taints or spec.get("nodeSelector") or spec.get("affinity"))


def fits_flavor(template: Object, flavor: Flavor, label_keys: Collection[str]) -> str:
    """Why not; "" where they could. Only `label_keys` decide, those of the flavours to choose from."""
    spec = template.get("spec") or {}
    tolerations = [*(spec.get("tolerations") or ()), *flavor.tolerations]
    for taint in flavor.taints:
        if taint["effect"] != "PreferNoSchedule" and not any(tolerates(item, taint) for item in tolerations):
            return f"untolerated taint {_shown(taint)} in flavor {flavor.name}"
    selector = spec.get("nodeSelector") or {}
    if any(key in label_keys and flavor.labels.get(key) != value for key, value in selector.items()):
        return f"flavor {flavor.name} doesn't match node affinity"
    required = _required(spec, label_keys)
    if required is not None and not NodeSelector(required)("", flavor.labels):
        return f"flavor {flavor.name} doesn't match node affinity"
    return ""


def _required(spec: Object, label_keys: Collection[str]) -> Object | None:
    """The required node affinity, as far as flavours decide; None where a term says nothing of their labels."""
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not affinity:
        return None
    terms: list[Any] = []
    for term in affinity.get("nodeSelectorTerms") or ():
        kept = [item for item in term.get("matchExpressions") or () if item["key"] in label_keys]
        if not kept:
            return None
        terms.append({"matchExpressions": kept})
    return {"nodeSelectorTerms": terms}


def _shown(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint['key']}{value}:{taint['effect']}"
