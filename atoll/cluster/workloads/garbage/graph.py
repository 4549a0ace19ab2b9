"""The graph of owners and dependents, by uid, and what each change in it asks for. Pure.

Edges come from ownerReferences. An owner that has been named but not yet seen is a virtual node: someone must look
whether it exists before anything is concluded from its absence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.kinds.resource import Resource
from atoll.objects.meta import Object

ORPHAN = "orphan"
FOREGROUND = "foregroundDeletion"


@dataclass(slots=True, eq=False)
class Node:
    """resource is None for a virtual node, whose coordinates are those of the first reference to it."""

    uid: str
    resource: Resource | None
    namespace: str | None
    name: str
    api_version: str
    kind: str
    owners: list[Object] = field(default_factory=list)
    dependents: dict[str, Node] = field(default_factory=dict)
    deleting: bool = False
    waits_for_dependents: bool = False

    def blocking_dependents(self) -> list[Node]:
        """Those whose reference to this node says blockOwnerDeletion."""
        return [
            node
            for node in self.dependents.values()
            if any(owner["uid"] == self.uid and owner.get("blockOwnerDeletion") for owner in node.owners)
        ]


@dataclass(slots=True)
class Work:
    """Nodes to look at: maybe to delete; or whose dependents are to be orphaned."""

    check: list[Node] = field(default_factory=list)
    orphan: list[Node] = field(default_factory=list)


class Graph:
    """observe() and forget() change the graph and return the work that follows."""

    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def __len__(self) -> int:
        return len(self._nodes)

    def observe(self, resource: Resource, obj: Object) -> Work:
        """An object was added or changed."""
        metadata = obj["metadata"]
        owners: list[Object] = metadata.get("ownerReferences") or []
        work = Work()
        node = self._nodes.get(metadata["uid"])
        if node is None:
            node = Node(metadata["uid"], resource, None, "", "", "")
            self._nodes[node.uid] = node
        before = node.owners
        was_virtual = node.resource is None
        node.resource = resource
        node.namespace, node.name = metadata.get("namespace"), metadata["name"]
        node.api_version, node.kind = resource.api_version, resource.kind
        if was_virtual:
            work.check += [
                child
                for child in node.dependents.values()
                if any(owner["uid"] == node.uid and not _same_coordinates(node, owner, child) for owner in child.owners)
            ]
        if owners != before:
            self._relink(node, before, owners, work)
        self._note_deletion(node, metadata, work)
        return work

    def _relink(self, node: Node, before: list[Object], after: list[Object], work: Work) -> None:
        kept = {owner["uid"] for owner in after}
        known = {owner["uid"]: owner for owner in before}
        node.owners = after
        for owner in before:
            parent = self._nodes.get(owner["uid"])
            if parent is None:
                continue
            if owner["uid"] not in kept:
                parent.dependents.pop(node.uid, None)
                self._drop_if_idle(parent)
            if parent.waits_for_dependents:
                work.check.append(parent)
        for owner in after:
            parent = self._nodes.get(owner["uid"])
            if parent is None:
                parent = Node(
                    owner["uid"], None, node.namespace, owner["name"], owner["apiVersion"], owner.get("kind", "")
                )
                self._nodes[parent.uid] = parent
                work.check.append(parent)
            if owner["uid"] not in known:
                parent.dependents[node.uid] = node
                wrong = parent.resource is not None and not _same_coordinates(parent, owner, node)
                if wrong or parent.waits_for_dependents:
                    work.check.append(node)
        if before and not node.deleting:
            work.check.append(node)

    def _note_deletion(self, node: Node, metadata: Object, work: Work) -> None:
        finalizers = metadata.get("finalizers") or ()
        deleting = "deletionTimestamp" in metadata
        if deleting and ORPHAN in finalizers:
            work.orphan.append(node)
        waits = deleting and FOREGROUND in finalizers
        if waits and not node.waits_for_dependents:
            node.waits_for_dependents = True
            work.check += node.dependents.values()
            work.check.append(node)
        node.deleting = deleting

    def _drop_if_idle(self, node: Node) -> None:
        if node.resource is None and not node.dependents:
            self._nodes.pop(node.uid, None)

    def forget(self, uid: str) -> Work:
        """An object is gone (or a virtual one does not exist)."""
        work = Work()
        node = self._nodes.pop(uid, None)
        if node is None:
            return work
        for owner in node.owners:
            parent = self._nodes.get(owner["uid"])
            if parent is None:
                continue
            parent.dependents.pop(uid, None)
            self._drop_if_idle(parent)
            if parent.waits_for_dependents:
                work.check.append(parent)
        work.check += node.dependents.values()
        return work


def _same_coordinates(parent: Node, reference: Object, child: Node) -> bool:
    """A reference may name an existing uid and yet be wrong: of another name, kind or namespace."""
    if parent.name != reference["name"] or parent.kind != reference.get("kind"):
        return False
    return parent.namespace is None or parent.namespace == child.namespace


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to become of an object with these owners. At most one of delete and drop_owners is set."""

    delete: str = ""  # Background, Foreground or Orphan
    drop_owners: frozenset[str] = frozenset()
    unblock_first: bool = False


def judge(
    obj: Object,
    node: Node,
    absent: Iterable[str],
    waiting: Iterable[str],
) -> Verdict:
    """`absent` owners certainly don't exist; `waiting` ones are deleted in the foreground; the others are solid."""
    references = obj["metadata"].get("ownerReferences") or []
    dangling, waits = frozenset(absent), frozenset(waiting)
    if not references:
        return Verdict()
    if any(owner["uid"] not in dangling and owner["uid"] not in waits for owner in references):
        return Verdict(drop_owners=dangling | waits)
    if waits and node.dependents:
        cycle = any(child.waits_for_dependents for child in node.dependents.values())
        return Verdict(delete="Foreground", unblock_first=cycle)
    finalizers = obj["metadata"].get("finalizers") or ()
    if ORPHAN in finalizers:
        return Verdict(delete="Orphan")
    return Verdict(delete="Foreground" if FOREGROUND in finalizers else "Background")
