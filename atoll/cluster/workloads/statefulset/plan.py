"""A StatefulSet and its pods → the next steps, and the status (stateful_set_control.go). Pure.

Ordered sets take one step at a time, and only once the pods before are available; parallel ones take all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.history import template_of
from atoll.cluster.workloads.statefulset import identity
from atoll.objects.meta import Object, is_deleting, labels

MOST_PER_SYNC = 500
"""Pods created in one pass: a set of millions is a number in a manifest, not a list in memory."""
ClaimLookup = Callable[[str], Object | None]


@dataclass(frozen=True, slots=True)
class CreatePod:
    """First the claims, then the pod."""

    pod: Object
    claims: list[Object]


@dataclass(frozen=True, slots=True)
class CreateClaims:
    pod: Object
    claims: list[Object]


@dataclass(frozen=True, slots=True)
class DeletePod:
    pod: Object


@dataclass(frozen=True, slots=True)
class UpdatePod:
    pod: Object


@dataclass(frozen=True, slots=True)
class UpdateClaim:
    claim: Object


Step = CreatePod | CreateClaims | DeletePod | UpdatePod | UpdateClaim


@dataclass(slots=True)
class Plan:
    steps: list[Step] = field(default_factory=list)
    status: Object = field(default_factory=dict)
    again_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Revisions:
    """The one that all pods had, and the one that they are to have."""

    current: Object
    update: Object


def plan_stateful_set(
    owner: Object, pods: list[Object], revisions: Revisions, collisions: int, claim: ClaimLookup, now: float
) -> Plan:
    """`pods` are the set's own; `claim(name)` finds a PersistentVolumeClaim in its namespace."""
    work = _Work(owner, pods, revisions, claim, now)
    if not is_deleting(owner) and work.settle():
        work.roll()
    return Plan(work.steps, _status(owner, pods, revisions, collisions, now), work.again_seconds)


class _Work:
    def __init__(self, owner: Object, pods: list[Object], revisions: Revisions, claim: ClaimLookup, now: float) -> None:
        self.owner = owner
        self.revisions = revisions
        self.claim = claim
        self.now = now
        self.minimum = int(owner["spec"].get("minReadySeconds") or 0)
        self.ordered = owner["spec"].get("podManagementPolicy") != "Parallel"
        self.steps: list[Step] = []
        self.again_seconds: float | None = None
        self.present = {identity.ordinal(pod): pod for pod in pods if identity.ordinal(pod) >= 0}
        start = identity.first_ordinal(owner)
        self.wanted = range(start, start + identity.replicas(owner))
        self.condemned = [
            self.present[number] for number in sorted(self.present, reverse=True) if number not in self.wanted
        ]

    def is_available(self, pod: Object | None) -> bool:
        if pod is None or is_deleting(pod):
            return False
        wait = health.available_in(pod, self.minimum, self.now)
        if wait:
            self.again_seconds = min(wait, self.again_seconds or wait)
        return wait == 0.0

    def settle(self) -> bool:
        """Make the pods that should be there; then end those that should not. True if nothing is left to wait for."""
        for number in self.wanted:
            if (self._replica_blocks(number) and self.ordered) or len(self.steps) >= MOST_PER_SYNC:
                return False
        first_unhealthy = self._first_unhealthy()
        for pod in self.condemned:
            self._fix_claims(pod)
        blocked = False
        for pod in self.condemned:
            blocked = self._condemned_blocks(pod, first_unhealthy) and self.ordered
            if blocked:
                break
        return not blocked

    def _replica_blocks(self, number: int) -> bool:
        pod = self.present.get(number)
        if pod is None:
            return self._create(number)
        if health.is_finished(pod):
            if not is_deleting(pod):
                self.steps.append(DeletePod(pod))
            return True
        if health.phase(pod) == "Pending":
            missing = self._missing_claims(number)
            if missing:
                self.steps.append(CreateClaims(pod, missing))
        if self.ordered and not self.is_available(pod):
            return True
        if not identity.identity_matches(pod):
            name = pod["metadata"]["name"]
            fixed = {**labels(pod), identity.NAME_LABEL: name, identity.INDEX_LABEL: str(number)}
            self.steps.append(UpdatePod({**pod, "metadata": {**pod["metadata"], "labels": fixed}}))
        self._fix_claims(pod)
        return False

    def _create(self, number: int) -> bool:
        revision = self.revisions.current if self._stays_old(number) else self.revisions.update
        pod = identity.new_pod(self.owner, template_of(revision), revision["metadata"]["name"], number)
        for claim in identity.claims(self.owner, number):
            present = self.claim(claim["metadata"]["name"])
            if present is not None and (is_deleting(present) or identity.claim_is_stale(self.owner, pod, present)):
                return True
        self.steps.append(CreatePod(pod, self._missing_claims(number)))
        return True

    def _missing_claims(self, number: int) -> list[Object]:
        return [item for item in identity.claims(self.owner, number) if self.claim(item["metadata"]["name"]) is None]

    def _stays_old(self, number: int) -> bool:
        """Below the partition; or, where none is given, among those that are not updated yet."""
        strategy = self.owner["spec"].get("updateStrategy") or {}
        start = identity.first_ordinal(self.owner)
        rolling = strategy.get("rollingUpdate")
        if strategy.get("type", "RollingUpdate") == "RollingUpdate" and rolling is None:
            return number < start + int((self.owner.get("status") or {}).get("currentReplicas") or 0)
        return rolling is not None and number < start + int(rolling.get("partition") or 0)

    def _fix_claims(self, pod: Object) -> None:
        for template in self.owner["spec"].get("volumeClaimTemplates") or ():
            present = self.claim(identity.claim_name(self.owner, template, identity.ordinal(pod)))
            fixed = identity.claim_with_owners(self.owner, pod, present) if present is not None else None
            if fixed is not None:
                self.steps.append(UpdateClaim(fixed))

    def _first_unhealthy(self) -> Object | None:
        for pod in chain(map(self.present.get, self.wanted), reversed(self.condemned)):
            if not self.is_available(pod):
                return pod
        return None

    def _condemned_blocks(self, pod: Object, first_unhealthy: Object | None) -> bool:
        if is_deleting(pod):
            return True
        if self.ordered and not self.is_available(pod) and pod is not first_unhealthy:
            return True
        self.steps.append(DeletePod(pod))
        return True

    def roll(self) -> None:
        """Replace pods of older revisions, the highest ordinal first, one at a time."""
        strategy = self.owner["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        partition = int((strategy.get("rollingUpdate") or {}).get("partition") or 0)
        update = self.revisions.update["metadata"]["name"]
        for index in range(len(self.wanted) - 1, partition - 1, -1):
            pod = self.present.get(self.wanted[index])
            if pod is None:
                return
            if labels(pod).get(identity.REVISION_LABEL) != update and not is_deleting(pod):
                self.steps.append(DeletePod(pod))
                return
            if not self.is_available(pod):
                return


def _status(owner: Object, pods: list[Object], revisions: Revisions, collisions: int, now: float) -> Object:
    minimum = int(owner["spec"].get("minReadySeconds") or 0)
    names = {"current": revisions.current["metadata"]["name"], "update": revisions.update["metadata"]["name"]}
    ready = available = current = updated = 0
    for pod in pods:
        if health.phase(pod) == "Running" and health.is_ready(pod):
            ready += 1
            available += health.is_available(pod, minimum, now)
        if not is_deleting(pod):
            own = labels(pod).get(identity.REVISION_LABEL)
            current += own == names["current"]
            updated += own == names["update"]
    wanted = identity.replicas(owner)
    is_rolling = (owner["spec"].get("updateStrategy") or {}).get("type", "RollingUpdate") == "RollingUpdate"
    if is_rolling and updated == wanted and ready == wanted and len(pods) == wanted:
        current, names["current"] = updated, names["update"]
    status: Object = {
        "observedGeneration": owner["metadata"].get("generation", 0),
        "replicas": len(pods),
        "availableReplicas": available,
        "currentRevision": names["current"],
        "updateRevision": names["update"],
        "collisionCount": collisions,
    }
    for name, count in (("readyReplicas", ready), ("currentReplicas", current), ("updatedReplicas", updated)):
        if count:
            status[name] = count
    conditions = (owner.get("status") or {}).get("conditions")
    if conditions:
        status["conditions"] = conditions
    return status
