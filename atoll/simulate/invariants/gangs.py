"""No gang is half placed: of pods that belong together, as many as make sense have places, or none.

Members are bound one after the other, and one that can't be bound gives the others' places back after the group's
time-out; so a gang may be half placed for that long, and no longer. A gang that was whole once may lose members to a
fault and get them back one by one. Looked at: Jobs that are gangs (with a queue, or annotated `atoll.dev/gang:
"true"`), coscheduling PodGroups, Kueue's pod groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.store.port import Store
from atoll.kinds import kueue
from atoll.objects import meta
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod, pod_of

Object = dict[str, Any]
Group = tuple[str, str, str]  # (kind, namespace, name)
_JOBS, _POD_GROUPS = "jobs.batch", "podgroups.scheduling.x-k8s.io"
_POD_GROUP_LABEL = "scheduling.x-k8s.io/pod-group"
_GANG = "atoll.dev/gang"
_TIMEOUT_SECONDS = 60.0
_SLACK_SECONDS = 30.0  # until the places of a gang that timed out are free again


@dataclass(slots=True)
class _Gang:
    least: int = 0  # members that make sense; 0: not known to be a gang
    patience: float = _TIMEOUT_SECONDS
    placed: set[str] = field(default_factory=set)  # uids of pods that hold a place
    done: set[str] = field(default_factory=set)  # uids of pods that have done their work
    whole: bool = False
    half_since: float | None = None


class Gangs(Invariant):
    name = "gangs"
    resources = (_JOBS, _POD_GROUPS)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._store = store
        self._tell = tell
        self._gangs: dict[Group, _Gang] = {}
        self._half: dict[Group, None] = {}

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        pod = new if new is not None else old
        assert pod is not None
        group = _group(pod)
        if group is not None:
            gang = self._gangs.setdefault(group, _Gang())
            if group[0] == "kueue" and new is not None:
                gang.least = max(gang.least, new.group_size)
            gang.placed.discard(pod.uid)
            if new is not None and new.holds and not new.deleting:
                gang.placed.add(pod.uid)
            if new is not None and new.phase == "Succeeded":
                gang.done.add(pod.uid)
            self._judge(group, gang, now)
        self._look(now)

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        obj = new or old or {}
        key = (obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        group: Group = ("job" if resource == _JOBS else "group", *key)
        if new is None:
            self._gangs.pop(group, None)
            self._half.pop(group, None)
            return
        gang = self._gangs.setdefault(group, _Gang())
        spec = new.get("spec") or {}
        if resource == _JOBS:
            gang.least = _least_of_job(new)
        else:
            gang.least = int(spec.get("minMember") or 0)
            gang.patience = float(spec.get("scheduleTimeoutSeconds") or _TIMEOUT_SECONDS)
        self._judge(group, gang, now)

    def _judge(self, group: Group, gang: _Gang, now: float) -> None:
        if not gang.placed:
            gang.whole, gang.half_since = False, None
        elif len(gang.placed) + len(gang.done) >= gang.least:
            gang.whole, gang.half_since = True, None
        elif not gang.whole and gang.half_since is None:
            gang.half_since = now
        if gang.half_since is None:
            self._half.pop(group, None)
        else:
            self._half[group] = None

    def _look(self, now: float) -> None:
        for group in list(self._half):
            gang = self._gangs[group]
            if gang.half_since is not None and now - gang.half_since > gang.patience + _SLACK_SECONDS:
                since = now - gang.half_since
                have = f"{len(gang.placed)} of {gang.least} pods"
                self._tell(f"{group[0]} {group[1]}/{group[2]}: {have} have had places for {since:.0f} s", now)
                gang.half_since = now  # told again when as much time has passed

    def full(self, now: float) -> None:
        self._look(now)
        placed: dict[Group, set[str]] = {}
        for record in self._store.scan("pods"):
            pod = pod_of(record.object)
            group = _group(pod)
            if group is not None and pod.holds and not pod.deleting:
                placed.setdefault(group, set()).add(pod.uid)
        for group, gang in self._gangs.items():
            if gang.placed != placed.get(group, set()):
                self._tell(f"{group[0]} {group[1]}/{group[2]}: counted {len(gang.placed)} placed pods by changes", now)


def _group(pod: Pod) -> Group | None:
    space = pod.key[0]
    if _POD_GROUP_LABEL in pod.labels:
        return "group", space, pod.labels[_POD_GROUP_LABEL]
    if kueue.POD_GROUP_LABEL in pod.labels:
        return "kueue", space, pod.labels[kueue.POD_GROUP_LABEL]
    return ("job", space, pod.job) if pod.job else None


def _least_of_job(job: Object) -> int:
    notes = meta.annotations(job)
    if notes.get(_GANG) == "false" or not (notes.get(_GANG) == "true" or meta.labels(job).get(kueue.QUEUE_LABEL)):
        return 0
    spec = job["spec"]
    pods = int(spec.get("parallelism", 1))
    if spec.get("completions") is not None:
        pods = min(pods, int(spec["completions"]))
    least = notes.get(kueue.MIN_PARALLELISM, "")
    return min(pods, int(least)) if least.isdigit() else pods
