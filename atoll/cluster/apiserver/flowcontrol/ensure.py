"""What must be written so that the default objects are as they should be. Pure (registry/flowcontrol/ensurer).

A mandatory object's spec is put right always; a suggested one's while its annotation says so, or, where it says
nothing sensible, while its spec is the first (generation 1). Objects annotated as ours that are none of ours go.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from atoll.cluster.apiserver.flowcontrol.defaults import (
    AUTO_UPDATE,
    MANDATORY_FLOWS,
    MANDATORY_LEVELS,
    SUGGESTED_FLOWS,
    SUGGESTED_LEVELS,
)

Object = dict[str, Any]
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
DEFAULTS = (*SUGGESTED_LEVELS, *SUGGESTED_FLOWS, *MANDATORY_LEVELS, *MANDATORY_FLOWS)
_MANDATORY = frozenset((item["kind"], item["metadata"]["name"]) for item in (*MANDATORY_LEVELS, *MANDATORY_FLOWS))
_OURS = frozenset((item["kind"], item["metadata"]["name"]) for item in DEFAULTS)


def is_mandatory(obj: Object) -> bool:
    return (obj["kind"], obj["metadata"]["name"]) in _MANDATORY


def revised(current: Object, default: Object) -> Object | None:
    """The object as it should be written; None where it may stay."""
    annotated = _boolean((current["metadata"].get("annotations") or {}).get(AUTO_UPDATE))
    update_spec = is_mandatory(default) or annotated is True
    if not update_spec and annotated is None:
        update_spec = current["metadata"].get("generation") == 1
    spec = current["spec"]
    if update_spec and not _same_spec(default, current):
        spec = default["spec"]
    if annotated is update_spec and spec is current["spec"]:
        return None
    annotations = dict(current["metadata"].get("annotations") or {})
    if annotated is not update_spec:
        annotations[AUTO_UPDATE] = "true" if update_spec else "false"
    return {**current, "metadata": {**current["metadata"], "annotations": annotations}, "spec": spec}


def unwanted(current: Iterable[Object]) -> list[Object]:
    """What an older version made and this one does not know."""
    return [
        obj
        for obj in current
        if (obj["kind"], obj["metadata"]["name"]) not in _OURS
        and _boolean((obj["metadata"].get("annotations") or {}).get(AUTO_UPDATE)) is True
    ]


def _same_spec(default: Object, current: Object) -> bool:
    """The exempt level's shares and lendable percent are an operator's to change."""
    mine, found = default["spec"], current["spec"]
    if default["kind"] == "PriorityLevelConfiguration" and mine["type"] == "Exempt":
        return bool(found.get("type") == "Exempt" and "limited" not in found)
    return bool(mine == found)


def _boolean(text: str | None) -> bool | None:
    if text in _TRUE:
        return True
    return False if text in _FALSE else None
