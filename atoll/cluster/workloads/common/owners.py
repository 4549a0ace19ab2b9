"""Adopting and releasing children (pkg/controller/controller_ref_manager.go): the plan pure, the patches apart."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from atoll.base.errors import Invalid, NotFound
from atoll.client.port import STRATEGIC_PATCH, Client
from atoll.cluster.workloads.common.selectors import Matcher
from atoll.kinds.resource import Resource
from atoll.objects.meta import Object, controller_of, is_deleting, labels, owner_reference
from atoll.runtime.informer import Informer

CONTROLLER_INDEX = "controller"


def index_by_controller(informer: Informer) -> None:
    """Index by the controller's uid; what has none lies under its namespace."""
    informer.add_index(CONTROLLER_INDEX, _controller_or_namespace)


def _controller_or_namespace(obj: Object) -> Iterable[Hashable]:
    owner = controller_of(obj)
    return (owner["uid"] if owner is not None else ("orphan", obj["metadata"].get("namespace")),)


def children(informer: Informer, owner: Object) -> list[Object]:
    """What the owner controls, in the cache."""
    return informer.by_index(CONTROLLER_INDEX, owner["metadata"]["uid"])


def orphans(informer: Informer, namespace: str | None) -> list[Object]:
    """What nothing controls, in that namespace."""
    return informer.by_index(CONTROLLER_INDEX, ("orphan", namespace))


@dataclass(slots=True)
class Claim:
    """owned stays; adopt and release are to be patched."""

    owned: list[Object] = field(default_factory=list)
    adopt: list[Object] = field(default_factory=list)
    release: list[Object] = field(default_factory=list)


def plan_claim(owner: Object, matches: Matcher, controlled: Iterable[Object], free: Iterable[Object]) -> Claim:
    """`controlled` have the owner as their controller, `free` have none."""
    claim = Claim()
    deleting = is_deleting(owner)
    for child in controlled:
        if matches(labels(child)):
            claim.owned.append(child)
        elif not deleting:
            claim.release.append(child)
    if not deleting:
        claim.adopt = [child for child in free if not is_deleting(child) and matches(labels(child))]
    return claim


async def apply_claim(
    client: Client, owner: Object, owner_resource: Resource, claim: Claim, resource: Resource
) -> list[Object]:
    """Carry out adoptions and releases; what the owner has afterwards.

    The owner is read afresh before anything is adopted: one that is gone or being deleted may not adopt.
    """
    owned = claim.owned
    if claim.release:
        await asyncio.gather(*(_release(client, owner, child, resource) for child in claim.release))
    if claim.adopt and await _may_adopt(client, owner, owner_resource):
        adopted = await asyncio.gather(*(_adopt(client, owner, child, resource) for child in claim.adopt))
        owned = [*owned, *(child for child in adopted if child is not None)]
    return owned


async def _may_adopt(client: Client, owner: Object, resource: Resource) -> bool:
    metadata = owner["metadata"]
    try:
        fresh = await client.get(resource, metadata["name"], metadata.get("namespace"))
    except NotFound:
        return False
    return bool(fresh["metadata"]["uid"] == metadata["uid"]) and not is_deleting(fresh)


async def _adopt(client: Client, owner: Object, child: Object, resource: Resource) -> Object | None:
    metadata = child["metadata"]
    patch = {"metadata": {"ownerReferences": [owner_reference(owner)], "uid": metadata["uid"]}}
    try:
        return await client.patch(
            resource, metadata["name"], patch, metadata.get("namespace"), content_type=STRATEGIC_PATCH
        )
    except (NotFound, Invalid):  # gone, or someone else's by now
        return None


async def _release(client: Client, owner: Object, child: Object, resource: Resource) -> None:
    metadata = child["metadata"]
    gone = {"$patch": "delete", "uid": owner["metadata"]["uid"]}
    patch = {"metadata": {"ownerReferences": [gone], "uid": metadata["uid"]}}
    try:
        await client.patch(resource, metadata["name"], patch, metadata.get("namespace"), content_type=STRATEGIC_PATCH)
    except (NotFound, Invalid):
        return
