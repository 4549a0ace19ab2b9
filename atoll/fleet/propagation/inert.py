"""Fields of a policy that are accepted, so that users' manifests apply, but that nothing acts upon yet."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
_FIELDS = (
    (("failover", "application"), "applications are not moved for their own health"),
    (("failover", "cluster", "purgeMode"), "what a lost cluster ran is removed when it is back"),
    (("failover", "cluster", "statePreservation"), "no state is carried over in a failover"),
    (("placement", "workloadAffinity"), "workloads do not attract each other to clusters"),
    (("schedulePriority",), "bindings are decided on as they come"),
    (("schedulerName",), "there is one scheduler"),
)


def inert_fields(policy: Object) -> list[str]:
    """A line for each such field that the policy sets."""
    found = []
    for path, why in _FIELDS:
        value: Any = policy.get("spec") or {}
        for part in path:
            value = value.get(part) if isinstance(value, dict) else None
        if value not in (None, "", {}, "default-scheduler"):
            found.append(f"spec.{'.'.join(path)}: stored, but {why}")
    return found
