"""No gang is half placed: of pods that belong together, as many as make sense have places, or none.

Members are bound one after the other, and one that can't be bound gives the others' places back after the group's
time-out; so a gang may be half placed for that long, and no longer, but for while the API server is away. A gang that
was whole once may lose members to a fault and get them back one by one. Looked at: Jobs that are gangs (with a queue,
or annotated `atoll.dev/gang: "true"`), JobSets, LeaderWorkerSets' groups, PodGroups of coscheduling, Volcano and
Kubernetes (v1alpha2), Kueue's pod groups. What is made stage by stage (a JobSet in order, workers after their leader)
is a gang stage by stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.store.port import Store
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod, pod_of
from atoll.simulate.membership import DECLARED, NONE, Member, Needs, needs_of

Object = dict[str, Any]
Owner = tuple[str, str, str]  # (kind, namespace, name)
Group = tuple[str, str, str, str]  # (kind, namespace, name, task: of a gang in stages)
_TIMEOUT_SECONDS = 60.0
_SLACK_SECONDS = 30.0  # until the places of a gang that timed out are free again


@dataclass(slots=True)
class _Gang:
    owner: Owner
    size: int = 0  # as its pods say
    placed: dict[str, str] = field(default_factory=dict)  # uids of pods that hold a place, and their tasks
    done: dict[str, str] = field(default_factory=dict)  # of those that have done their work
    whole: bool = False
    half_since: float | None = None


class Gangs(Invariant):
    name = "gangs"
    resources = tuple(DECLARED)

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._store = store
        self._tell = tell
        self._needs: dict[Owner, Needs] = {}
        self._gangs: dict[Group, _Gang] = {}
        self._of: dict[Owner, set[Group]] = {}
        self._half: dict[Group, None] = {}

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        pod = new if new is not None else old
        assert pod is not None
        if self._half:
            self._look(now)  # as it was until this commit: it may be the one that comes too late
        member = _member(pod)
        if member is not None:
            group, gang = self._gang(pod.key[0], member)
            gang.size = max(gang.size, member.size)
            gang.placed.pop(pod.uid, None)
            if new is not None and new.holds and not new.deleting:
                gang.placed[pod.uid] = member.task
            if new is not None and new.phase == "Succeeded":
                gang.done[pod.uid] = member.task
            self._judge(group, gang, now)

    def _gang(self, space: str, member: Member) -> tuple[Group, _Gang]:
        owner = (member.kind, space, member.owner or member.name)
        staged = self._needs.get(owner, NONE).staged
        group = (member.kind, space, member.name, member.task if staged else "")
        gang = self._gangs.get(group)
        if gang is None:
            gang = self._gangs[group] = _Gang(owner)
            self._of.setdefault(owner, set()).add(group)
        return group, gang

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        kind, obj = DECLARED[resource], new or old or {}
        owner = (kind, obj["metadata"].get("namespace") or "", obj["metadata"]["name"])
        if self._half:
            self._look(now)
        if new is None:
            self._needs.pop(owner, None)
            for group in self._of.pop(owner, ()):
                self._gangs.pop(group, None)
                self._half.pop(group, None)
            return
        needs = needs_of(kind, new)
        if needs != self._needs.get(owner):
            self._needs[owner] = needs
            for group in sorted(self._of.get(owner, ())):
                self._judge(group, self._gangs[group], now)

    def _wanted(self, group: Group, gang: _Gang) -> dict[str, int]:
        """Members that make sense by task; none: not known to be a gang."""
        needs = dict(self._needs.get(gang.owner, NONE).tasks)
        if group[0] == "kueue":
            needs = {"": gang.size}
        elif group[0] == "leaderworkerset" and needs and gang.size:
            needs["worker"] = gang.size - 1  # its revision may have another size than the newest
        if group[3]:
            needs = {group[3]: needs.get(group[3], 0)}
        return {task: count for task, count in needs.items() if count > 0}

    def _is_whole(self, group: Group, gang: _Gang) -> bool:
        wanted = self._wanted(group, gang)
        tasks = [*gang.placed.values(), *(task for uid, task in gang.done.items() if uid not in gang.placed)]
        enough = len(tasks) >= sum(wanted.values())
        return enough and all(tasks.count(task) >= count for task, count in wanted.items() if task)

    def _judge(self, group: Group, gang: _Gang, now: float) -> None:
        if not gang.placed:
            gang.whole, gang.half_since = False, None
        elif self._is_whole(group, gang):
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
            patience = self._needs.get(gang.owner, NONE).patience or _TIMEOUT_SECONDS
            if gang.half_since is None:
                continue
            since = now - gang.half_since
            if now - max(gang.half_since, self._ledger.answers_since) > patience + _SLACK_SECONDS:
                have = f"{len(gang.placed)} of {sum(self._wanted(group, gang).values())} pods"
                self._tell(f"{_called(group)}: {have} have had places for {since:.0f} s", now)
                gang.half_since = now  # told again when as much time has passed

    def full(self, now: float) -> None:
        """What is declared and who has a place, counted anew."""
        self._look(now)
        declared: dict[Owner, Needs] = {}
        for resource, kind in DECLARED.items():
            for record in self._store.scan(resource):
                declared[kind, record.key.namespace, record.key.name] = needs_of(kind, record.object)
        for owner in sorted(self._needs.keys() | declared.keys()):
            if self._needs.get(owner) != declared.get(owner):
                self._tell(f"{owner[0]} {owner[1]}/{owner[2]} asks for other members than its changes said", now)
        placed: dict[Group, dict[str, str]] = {}
        for record in self._store.scan("pods"):
            pod = pod_of(record.object)
            member = _member(pod)
            if member is not None and pod.holds and not pod.deleting:
                group, _ = self._gang(pod.key[0], member)
                placed.setdefault(group, {})[pod.uid] = member.task
        for group, gang in self._gangs.items():
            if gang.placed != placed.get(group, {}):
                self._tell(f"{_called(group)}: counted {len(gang.placed)} placed pods by changes", now)


def _called(group: Group) -> str:
    return f"{group[0]} {group[1]}/{group[2]}" + (f" ({group[3]})" if group[3] else "")


def _member(pod: Pod) -> Member | None:
    if pod.gang is not None:
        return pod.gang
    return Member("job", pod.job, pod.job) if pod.job else None
