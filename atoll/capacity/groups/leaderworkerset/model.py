"""What is read of a LeaderWorkerSet, its StatefulSets and pods, and what a pass over it decides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from atoll.kinds.batch import LWS
from atoll.objects import meta
from atoll.objects.meta import condition, labels

Object = dict[str, Any]

NAME: Final = f"{LWS}/name"
GROUP_INDEX: Final = f"{LWS}/group-index"
GROUP_KEY: Final = f"{LWS}/group-key"
WORKER_INDEX: Final = f"{LWS}/worker-index"
REVISION: Final = f"{LWS}/template-revision-hash"
SIZE: Final = f"{LWS}/size"
LEADER: Final = f"{LWS}/leader-name"
EXCLUSIVE: Final = f"{LWS}/exclusive-topology"
SUBGROUP_EXCLUSIVE: Final = f"{LWS}/subgroup-exclusive-topology"
SUBGROUP_SIZE: Final = f"{LWS}/subgroup-size"
SUBGROUP_POLICY: Final = f"{LWS}/subgroup-policy-type"
SUBGROUP_INDEX: Final = f"{LWS}/subgroup-index"
SUBGROUP_KEY: Final = f"{LWS}/subgroup-key"
SUBDOMAIN_POLICY: Final = f"{LWS}/subdomainPolicy"


@dataclass(slots=True)
class Group:
    """One replica: its leader, its workers' StatefulSet, and all its pods."""

    index: int
    leader: Object | None = None
    workers: Object | None = None
    pods: list[Object] = field(default_factory=list)

    def is_ready(self, size: int) -> bool:
        if self.leader is None or not is_ready(self.leader) or meta.is_deleting(self.leader):
            return False
        if size == 1:
            return True
        ready = ((self.workers or {}).get("status") or {}).get("readyReplicas") or 0
        return self.workers is not None and self.is_own(self.workers) and int(ready) == size - 1

    def is_own(self, workers: Object) -> bool:
        """Whether that StatefulSet is of the leader that lives now, not of one before it."""
        owner = meta.controller_of(workers)
        return self.leader is not None and owner is not None and owner["uid"] == self.leader["metadata"]["uid"]

    def has(self, revision: str) -> bool:
        return self.leader is not None and labels(self.leader).get(REVISION) == revision


@dataclass(slots=True)
class Plan:
    """One step. `apply`: StatefulSets as they must be; the rest must only exist. `restart`: leaders that go."""

    status: Object
    create: list[Object] = field(default_factory=list)
    apply: list[Object] = field(default_factory=list)
    restart: list[Object] = field(default_factory=list)
    forget: list[Object] = field(default_factory=list)  # ControllerRevisions that no group has any more
    events: list[tuple[str, str, str]] = field(default_factory=list)


def template_of(lws: Object) -> Object:
    """What a revision is of."""
    spec = lws["spec"]
    found = {"leaderWorkerTemplate": spec["leaderWorkerTemplate"]}
    return {**found, "networkConfig": spec["networkConfig"]} if spec.get("networkConfig") else found


def revision_of(lws: Object) -> str:
    text = orjson.dumps(template_of(lws), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha1(text, usedforsecurity=False).hexdigest()[:10]


def replicas(lws: Object) -> int:
    return int(lws["spec"].get("replicas", 1))


def size(template: Object) -> int:
    return int(template["leaderWorkerTemplate"].get("size", 1))


def is_shared(template: Object) -> bool:
    """Whether all groups have one headless service."""
    return bool((template.get("networkConfig") or {}).get("subdomainPolicy", "Shared") == "Shared")


def is_ready(pod: Object) -> bool:
    return (condition(pod, "Ready") or {}).get("status") == "True"


def ordinal(name: str) -> int:
    """The last number of a StatefulSet pod's name; -1 for none."""
    text = name.rpartition("-")[2]
    return int(text) if text.isdigit() else -1


def key_of(namespace: str, name: str) -> str:
    """What makes a group unique in the cluster."""
    return hashlib.sha1(f"{namespace}/{name}".encode(), usedforsecurity=False).hexdigest()
