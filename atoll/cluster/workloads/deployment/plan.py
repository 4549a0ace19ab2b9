"""A Deployment and its replica sets → what to create, resize and delete, and the status (pkg/controller/deployment).

Pure. Upstream writes as it goes and reads again; here one pass makes one plan, whose last step is the status.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor

from atoll.cluster.workloads.common import conditions
from atoll.cluster.workloads.common.selectors import is_empty
from atoll.cluster.workloads.deployment import revisions
from atoll.cluster.workloads.deployment import status as states
from atoll.cluster.workloads.deployment.status import replicas
from atoll.objects import meta
from atoll.objects.meta import Object, is_deleting


@dataclass(frozen=True, slots=True)
class Create:
    """A new replica set."""

    replica_set: Object


@dataclass(frozen=True, slots=True)
class Update:
    """A changed replica set; `told` is the event's message where its size changes."""

    replica_set: Object
    told: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    replica_set: Object


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order, then the status; `selects_all` refuses the Deployment as upstream does."""

    steps: list[Create | Update | Delete] = field(default_factory=list)
    status: Object | None = None
    revision: str | None = None
    again_seconds: float | None = None
    selects_all: bool = False


def plan_deployment(
    deployment: Object, replica_sets: list[Object], old_pods_remain: Callable[[Object | None], bool], now: float
) -> Plan:
    """`old_pods_remain(new)`: pods of other replica sets are still there (Recreate waits for them)."""
    if is_empty(deployment["spec"].get("selector")):
        return Plan(selects_all=True, status=_observed_only(deployment))
    rollout = _Rollout(deployment, replica_sets, now)
    if is_deleting(deployment):
        return rollout.result(progress=False)
    rollout.note_pause()
    if deployment["spec"].get("paused"):
        rollout.annotate_new()
        rollout.scale()
        rollout.clean_up()
        return rollout.result(progress=False)
    rollout.annotate_new()
    if rollout.was_scaled():
        rollout.scale()
        return rollout.result(progress=False)
    if states.is_rolling(deployment):
        rollout.roll()
    else:
        rollout.recreate(old_pods_remain)
    return rollout.result(progress=True)


def _observed_only(deployment: Object) -> Object | None:
    status = deployment.get("status") or {}
    generation = deployment["metadata"].get("generation", 0)
    return {**status, "observedGeneration": generation} if status.get("observedGeneration", 0) < generation else None


class _Rollout:
    """The plan in the making: working copies of the replica sets and of the conditions."""

    def __init__(self, deployment: Object, replica_sets: list[Object], now: float) -> None:
        self.deployment = deployment
        self.now = now
        self.wanted = replicas(deployment)
        self.surge, self.unavailable = states.surge_and_unavailable(deployment)
        self.steps: list[Create | Update | Delete] = []
        self.conditions: list[Object] = list((deployment.get("status") or {}).get("conditions") or ())
        self.new = revisions.find_new(deployment, replica_sets)
        self.old = sorted((item for item in replica_sets if item is not self.new), key=revisions.by_creation)
        self.revision: str | None = None

    # -- what all ways share

    @property
    def all(self) -> list[Object]:
        return self.old if self.new is None else [*self.old, self.new]

    def note(self, status: str, reason: str, message: str) -> None:
        made = states.condition("Progressing", status, reason, message, self.now)
        self.conditions = conditions.with_condition(self.conditions, made)

    def note_pause(self) -> None:
        if states.deadline(self.deployment) is None:
            return
        current = conditions.find(self.conditions, "Progressing") or {}
        if current.get("reason") == "ProgressDeadlineExceeded":
            return
        is_noted = current.get("reason") == "DeploymentPaused"
        paused = bool(self.deployment["spec"].get("paused"))
        if paused and not is_noted:
            self.note("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not paused and is_noted:
            self.note("Unknown", "DeploymentResumed", "Deployment is resumed")

    def _next_revision(self) -> int:
        return max((revisions.revision(item) for item in self.old), default=0) + 1

    def annotate_new(self) -> None:
        """Bring an existing new replica set up to date: annotations, revision, minReadySeconds."""
        if self.new is None:
            return
        present = meta.annotations(self.new)
        made = revisions.new_annotations(self.deployment, present, self._next_revision(), sizes=None)
        minimum = self.deployment["spec"].get("minReadySeconds") or 0
        if made != present or (self.new["spec"].get("minReadySeconds") or 0) != minimum:
            spec = {**self.new["spec"], "minReadySeconds": minimum}
            if not minimum:
                del spec["minReadySeconds"]
            self._replace(
                self.new, {**self.new, "metadata": {**self.new["metadata"], "annotations": made}, "spec": spec}
            )
        self.revision = made.get(revisions.REVISION)
        has_progress = conditions.find(self.conditions, "Progressing") is not None
        if states.deadline(self.deployment) is not None and not has_progress:
            assert self.new is not None
            self.note("True", "FoundNewReplicaSet", f'Found new replica set "{self.new["metadata"]["name"]}"')

    def create_new(self) -> None:
        number = self._next_revision()
        sizes = (self.wanted, self.wanted + self.surge)
        self.new = revisions.new_replica_set(self.deployment, self._new_size(0), number, sizes)
        self.steps.append(Create(self.new))
        self.revision = str(number)
        if states.deadline(self.deployment) is not None:
            self.note("True", "NewReplicaSetCreated", f'Created new replica set "{self.new["metadata"]["name"]}"')

    def _new_size(self, current: int) -> int:
        if not states.is_rolling(self.deployment):
            return self.wanted
        room = self.wanted + self.surge - sum(map(replicas, self.old)) - current
        return current if room <= 0 else current + min(room, self.wanted - current)

    def resize(self, replica_set: Object, size: int, *, annotate: bool = False) -> bool:
        """Set the size (and, if asked or resized, the size annotations). True if the size changes."""
        before = replicas(replica_set)
        if before == size and not annotate:
            return False
        present = meta.annotations(replica_set)
        made = {**present, **revisions.size_annotations(self.wanted, self.wanted + self.surge)}
        if before == size and made == present:
            return False
        changed = {
            **replica_set,
            "metadata": {**replica_set["metadata"], "annotations": made},
            "spec": {**replica_set["spec"], "replicas": size},
        }
        told = ""
        if before != size:
            way = "up" if before < size else "down"
            told = f"Scaled {way} replica set {replica_set['metadata']['name']} from {before} to {size}"
        self._replace(replica_set, changed, told)
        return before != size

    def _replace(self, before: Object, after: Object, told: str = "") -> None:
        for number, step in enumerate(self.steps):
            if isinstance(step, Update) and step.replica_set is before:
                self.steps[number] = Update(after, told or step.told)
                break
        else:
            self.steps.append(Update(after, told))
        if self.new is before:
            self.new = after
        self.old = [after if item is before else item for item in self.old]

    def clean_up(self) -> None:
        limit = self.deployment["spec"].get("revisionHistoryLimit")
        self.steps += [Delete(item) for item in revisions.superfluous(self.old, limit)]

    def result(self, *, progress: bool) -> Plan:
        present, again = self.conditions, None
        status = states.calculate(self.deployment, self.all, self.new, present, self.now)
        if progress:
            status = states.with_progress(self.deployment, self.all, self.new, status, self.now)
        if progress:
            again = states.seconds_to_deadline(self.deployment, status, self.now)
        return Plan(self.steps, status, self.revision, again)

    # -- resizing the whole

    def was_scaled(self) -> bool:
        """A replica set was sized for another number of wanted replicas."""
        told = (meta.annotations(item).get(revisions.DESIRED, "") for item in self.all if replicas(item))
        return any(text.isdigit() and int(text) != self.wanted for text in told)

    def scale(self) -> None:
        active = [item for item in self.all if replicas(item)]
        if len(active) <= 1:
            only = active[0] if active else (self.new or (self.old[-1] if self.old else None))
            if only is not None:
                self.resize(only, self.wanted)
            return
        if self._is_saturated():
            for item in [item for item in self.old if replicas(item)]:
                self.resize(item, 0)
            return
        if states.is_rolling(self.deployment):
            self._scale_in_proportion(active)

    def _is_saturated(self) -> bool:
        new = self.new
        return (
            new is not None
            and replicas(new) == self.wanted
            and meta.annotations(new).get(revisions.DESIRED) == str(self.wanted)
            and states.total([new], "availableReplicas") == self.wanted
        )

    def _scale_in_proportion(self, active: list[Object]) -> None:
        allowed = self.wanted + self.surge if self.wanted else 0
        to_add = allowed - sum(map(replicas, active))
        newest_first = to_add > 0
        active = sorted(active, key=revisions.by_creation, reverse=newest_first)
        active = sorted(active, key=replicas, reverse=True)
        sizes: list[int] = []
        added = 0
        for item in active:
            share = self._proportion(item, to_add, added) if to_add else 0
            sizes.append(replicas(item) + share)
            added += share
        if to_add:
            sizes[0] = max(0, sizes[0] + to_add - added)
        for item, size in zip(active, sizes, strict=True):
            self.resize(item, size, annotate=True)

    def _proportion(self, item: Object, to_add: int, added: int) -> int:
        size = replicas(item)
        if size == 0 or to_add == added:
            return 0
        if self.wanted == 0:
            share = -size
        else:
            text = meta.annotations(item).get(revisions.MOST, "")
            before = int(text) if text.isdigit() else 0
            before = before or int((self.deployment.get("status") or {}).get("replicas") or 0)
            if before == 0:
                return 0
            share = _round(size * (self.wanted + self.surge) / before) - size
        left = to_add - added
        return min(share, left) if to_add > 0 else max(share, left)

    # -- from one template to the next

    def roll(self) -> None:
        if self.new is None:
            self.create_new()
        elif self._resize_new():
            return
        if self._shrink_old():
            return
        self._clean_up_if_complete()

    def _resize_new(self) -> bool:
        assert self.new is not None
        size = replicas(self.new)
        if size == self.wanted:
            return False
        return self.resize(self.new, self.wanted if size > self.wanted else self._new_size(size))

    def _shrink_old(self) -> bool:
        """Take away what the rules allow: first what is not available anyway, then the rest."""
        active = [item for item in self.old if replicas(item)]
        assert self.new is not None
        if not active:
            return False
        at_least = self.wanted - self.unavailable
        new_unavailable = replicas(self.new) - states.total([self.new], "availableReplicas")
        most = sum(map(replicas, self.all)) - at_least - new_unavailable
        if most <= 0:
            return False
        taken = 0
        for item in active:
            size = replicas(item)
            idle = size - states.total([item], "availableReplicas")
            count = min(most - taken, idle)
            if count > 0:
                self.resize(item, size - count)
                taken += count
        available = states.total([*self.old, self.new], "availableReplicas")
        spare = available - at_least
        gone = 0
        for item in [item for item in self.old if replicas(item)]:
            count = min(replicas(item), spare - gone)
            if count > 0:
                self.resize(item, replicas(item) - count)
                gone += count
        return taken + gone > 0

    def recreate(self, old_pods_remain: Callable[[Object | None], bool]) -> None:
        active = [item for item in self.old if replicas(item)]
        if active:
            for item in active:
                self.resize(item, 0)
            return
        if states.total(self.old, "replicas") or old_pods_remain(self.new):
            return
        if self.new is None:
            self.create_new()
        else:
            self.resize(self.new, self.wanted)
        self._clean_up_if_complete()

    def _clean_up_if_complete(self) -> None:
        if states.is_complete(self.deployment, self.deployment.get("status") or {}):
            self.clean_up()


def _round(number: float) -> int:
    return floor(number + 0.5) if number >= 0 else -floor(-number + 0.5)
