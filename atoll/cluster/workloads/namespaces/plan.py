"""The conditions of a namespace that is being deleted (pkg/controller/namespace/deletion). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll.base.clock import rfc3339
from atoll.objects.meta import Object

_FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(slots=True)
class Remaining:
    """What a pass over the content found."""

    objects: dict[str, int] = field(default_factory=dict)  # by "plural.group" ("pods." for the core group)
    finalizers: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    discovery_error: str = ""


def conditions_after(present: list[Object], remaining: Remaining, now: float) -> list[Object]:
    """All five conditions, transition times kept where the status stays."""
    wrong = _wrong(remaining)
    result = [item for item in present if item["type"] not in _FINE]
    known = {item["type"]: item for item in present}
    for kind, (reason, message) in _FINE.items():
        status = "True" if kind in wrong else "False"
        reason, message = wrong.get(kind, (reason, message))
        old = known.get(kind)
        at = old["lastTransitionTime"] if old is not None and old["status"] == status else rfc3339(now)
        made = {"type": kind, "status": status, "lastTransitionTime": at, "reason": reason, "message": message}
        result.append(made)
    return result


def _wrong(remaining: Remaining) -> dict[str, tuple[str, str]]:
    wrong: dict[str, tuple[str, str]] = {}
    if remaining.discovery_error:
        wrong["NamespaceDeletionDiscoveryFailure"] = ("DiscoveryFailed", remaining.discovery_error)
    if remaining.errors:
        told = ", ".join(sorted(remaining.errors))
        message = f"Failed to delete all resource types, {len(remaining.errors)} remaining: {told}"
        wrong["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", message)
    if remaining.objects:
        told = ", ".join(sorted(f"{name} has {count} resource instances" for name, count in remaining.objects.items()))
        message = f"Some resources are remaining: {told}"
        wrong["NamespaceContentRemaining"] = ("SomeResourcesRemain", message)
    if remaining.finalizers:
        told = ", ".join(
            sorted(f"{name} in {count} resource instances" for name, count in remaining.finalizers.items())
        )
        message = f"Some content in the namespace has finalizers remaining: {told}"
        wrong["NamespaceFinalizersRemaining"] = ("SomeFinalizersRemain", message)
    return wrong
