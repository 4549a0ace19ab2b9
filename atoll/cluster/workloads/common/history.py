"""ControllerRevisions: the templates that a StatefulSet or DaemonSet had (pkg/controller/history). The plan is pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atoll.base.errors import AlreadyExists, Conflict, NotFound
from atoll.client.port import Client
from atoll.cluster.workloads.common.hashing import template_hash
from atoll.kinds.builtin import CONTROLLER_REVISIONS
from atoll.objects import meta
from atoll.objects.meta import Object, labels, owner_reference

HASH_LABEL = "controller-revision-hash"


@dataclass(frozen=True, slots=True)
class History:
    """`write` is to be created (no uid yet) or updated; None where `newest` stands already."""

    newest: Object
    write: Object | None
    collisions: int


def revision_data(template: Object) -> Object:
    """What `kubectl rollout undo` applies as a strategic merge patch; keys in order: clients compare its bytes."""
    return {"spec": {"template": _sorted({**template, "$patch": "replace"})}}


def _sorted(value: Any) -> Any:
    """As Go writes a map, all the way down."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def template_of(revision: Object) -> Object:
    template: Object = dict(((revision.get("data") or {}).get("spec") or {}).get("template") or {})
    template.pop("$patch", None)
    return template


def in_order(revisions: Iterable[Object]) -> list[Object]:
    return sorted(
        revisions,
        key=lambda item: (
            int(item.get("revision") or 0),
            item["metadata"].get("creationTimestamp") or "",
            item["metadata"]["name"],
        ),
    )


def plan_history(owner: Object, revisions: list[Object], *, hash_label: str) -> History:
    """`revisions` in order. A template seen before gets the next number instead of a new object."""
    template = owner["spec"]["template"]
    data = revision_data(template)
    collisions = int((owner.get("status") or {}).get("collisionCount") or 0)
    number = int(revisions[-1].get("revision") or 0) + 1 if revisions else 1
    equal = [item for item in revisions if item.get("data") == data]
    if equal and equal[-1] is revisions[-1]:
        return History(equal[-1], None, collisions)
    if equal:
        renumbered = {**equal[-1], "revision": number}
        return History(renumbered, renumbered, collisions)
    made = _new(owner, template, data, number, collisions, hash_label)
    return History(made, made, collisions)


def _new(owner: Object, template: Object, data: Object, number: int, collisions: int, hash_label: str) -> Object:
    code = template_hash(template, collisions)
    metadata = owner["metadata"]
    given = ((template.get("metadata") or {}).get("labels")) or {}
    made: Object = {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {
            "name": f"{metadata['name'][:223]}-{code}",
            "namespace": metadata["namespace"],
            "labels": {**given, hash_label: code},
            "ownerReferences": [owner_reference(owner)],
        },
        "data": data,
        "revision": number,
    }
    if meta.annotations(owner):
        made["metadata"]["annotations"] = dict(meta.annotations(owner))
    return made


async def apply_history(client: Client, owner: Object, history: History, *, hash_label: str) -> tuple[Object, int]:
    """Write the newest revision; a name that is taken by other data is avoided by counting the collision.

    Returns the revision and the collisions so far.
    """
    if history.write is None:
        return history.newest, history.collisions
    namespace = owner["metadata"]["namespace"]
    if "uid" in history.write["metadata"]:
        return await client.update(CONTROLLER_REVISIONS, history.write), history.collisions
    made, collisions = history.write, history.collisions
    for _ in range(16):
        try:
            return await client.create(CONTROLLER_REVISIONS, made, namespace), collisions
        except AlreadyExists:
            present = await client.get(CONTROLLER_REVISIONS, made["metadata"]["name"], namespace)
            if present.get("data") == made["data"]:
                return present, collisions
            collisions += 1
            template = owner["spec"]["template"]
            made = _new(owner, template, made["data"], int(made["revision"]), collisions, hash_label)
    raise Conflict(f"no free name for a revision of {owner['metadata']['name']}")


def superfluous(revisions: Iterable[Object], live: set[str], limit: int | None) -> list[Object]:
    """The oldest of those whose name isn't live, beyond the limit."""
    idle = [item for item in revisions if item["metadata"]["name"] not in live]
    excess = len(idle) - (10 if limit is None else limit)
    return idle[:excess] if excess > 0 else []


async def remove(client: Client, revisions: Iterable[Object]) -> None:
    for item in revisions:
        metadata = item["metadata"]
        try:
            await client.delete(CONTROLLER_REVISIONS, metadata["name"], metadata.get("namespace"))
        except NotFound:
            continue


def hash_of(revision: Object, hash_label: str = HASH_LABEL) -> str:
    return labels(revision).get(hash_label, "")
