"""Jobs that stop as one: when a member is lost, all stop, and resume from the last checkpoint. Pure.

An MPI-style group is a Job whose pods carry `atoll.dev/stop-as-one: "true"` and say how often they save
(`checkpoint.py`): with `completionMode: Indexed` and a headless Service its members have stable names, ranks and
addresses of their own. Its state is the annotation atoll.dev/group of the Job, so that a controller that was away when
a member was lost sees it all the same: once all members ran, the newest one's time of creation is noted; when fewer
than all of that generation are alive, one was lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.base.names import SAVED_SECONDS
from atoll.capacity import names
from atoll.capacity.health.checkpoint import interval, last_checkpoint, started
from atoll.capacity.health.model import Object
from atoll.capacity.nodes import annotation

_SETTLE_SECONDS = 1.0  # times of creation are whole seconds


class Group(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """`until`: members of this generation were created no later; `since`: they all ran from then on.

    `stopping`: pods created no later are to go. `saved_seconds`: work that is in a checkpoint; `lost_seconds`: work
    that was done again, or will be.
    """

    until: str = ""
    since: str = ""
    stopping: str = ""
    saved_seconds: float = 0.0
    lost_seconds: float = 0.0
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class GroupView:
    """A Job, its pods, and how many must run together."""

    job: Object
    pods: list[Object]
    now: float
    simulated: bool

    @property
    def size(self) -> int:
        spec, status = self.job["spec"], self.job.get("status") or {}
        parallelism = int(spec.get("parallelism", 1))
        completions = spec.get("completions")
        left = parallelism if completions is None else int(completions) - int(status.get("succeeded") or 0)
        return min(parallelism, left)


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do, at most until `again_seconds`."""

    again_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """Write this state. `lost_pod_seconds`: what the stop that it tells of has cost, over all members."""

    group: Group
    lost_pod_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Stop:
    """These pods go, so that all begin anew."""

    pods: tuple[Object, ...]


Step = Rest | Note | Stop


def is_group(job: Object) -> bool:
    """Whether its pods stop as one."""
    template = job["spec"]["template"]
    return annotation(template if "metadata" in template else {"metadata": {}}, names.STOP_AS_ONE) == "true"


def group_of(job: Object) -> Group:
    """A state that can't be read is that of a job that has not begun."""
    text = annotation(job, names.GROUP)
    try:
        return msgspec.json.decode(text, type=Group) if text else Group()
    except (msgspec.DecodeError, ValueError):
        return Group()


def note(job: Object, group: Group) -> Object:
    """A patch of the Job."""
    annotations: dict[str, str] = {names.GROUP: msgspec.json.encode(group).decode()}
    if group.saved_seconds:
        annotations[SAVED_SECONDS] = f"{group.saved_seconds:g}"
    version = job["metadata"]["resourceVersion"]
    return {"metadata": {"resourceVersion": version, "annotations": annotations}}


def plan_group(view: GroupView) -> Step:
    """The next step."""
    group, status = group_of(view.job), view.job.get("status") or {}
    if "deletionTimestamp" in view.job["metadata"] or view.job["spec"].get("suspend") or _is_finished(status):
        return Rest()
    alive = [pod for pod in view.pods if _is_alive(pod)]
    if group.stopping:
        bound = parse_rfc3339(group.stopping)
        left = tuple(pod for pod in alive if _created(pod) <= bound)
        return Stop(left) if left else Note(msgspec.structs.replace(group, stopping=""))
    if int(status.get("succeeded") or 0):
        return Rest()  # it is about to end: who has ended can't begin anew
    if group.until:
        bound = parse_rfc3339(group.until)
        if sum(_created(pod) <= bound for pod in alive) >= view.size:
            return Rest()
        return _stop(view, group)
    running = [pod for pod in alive if (pod.get("status") or {}).get("phase") == "Running"]
    if len(running) < view.size or len(alive) != len(running):
        return Rest()
    newest = max(_created(pod) for pod in running)
    if view.now < newest + _SETTLE_SECONDS:
        return Rest(newest + _SETTLE_SECONDS - view.now)
    since = min(at for pod in running if (at := started(pod)) is not None)
    return Note(msgspec.structs.replace(group, until=rfc3339(newest), since=rfc3339(since)))


def _stop(view: GroupView, group: Group) -> Note:
    since = parse_rfc3339(group.since)
    at = max(since, min((left for pod in view.pods if (left := _lost_at(pod)) is not None), default=view.now))
    saved = _saved(view, since, at)
    lost = at - since - saved
    following = msgspec.structs.replace(
        group,
        until="",
        since="",
        stopping=rfc3339(view.now),
        saved_seconds=group.saved_seconds + saved,
        lost_seconds=group.lost_seconds + lost,
        restarts=group.restarts + 1,
    )
    return Note(following, lost * view.size)


def _saved(view: GroupView, since: float, at: float) -> float:
    """Seconds of the work since `since` that are in the last checkpoint before `at`."""
    if view.simulated:
        template = view.job["spec"]["template"]
        every = interval(template if "metadata" in template else {"metadata": {}})
        return math.floor((at - since) / every) * every if every else 0.0
    written = [last for pod in view.pods if (last := last_checkpoint(pod, at, simulated=False)) is not None]
    return max(0.0, min(at, max(written, default=since)) - since)


def _is_alive(pod: Object) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return "deletionTimestamp" not in pod["metadata"] and phase not in ("Succeeded", "Failed")


def _created(pod: Object) -> float:
    return parse_rfc3339(pod["metadata"]["creationTimestamp"])


def _lost_at(pod: Object) -> float | None:
    """When a member that is lost stopped to work, as far as it can be seen still."""
    metadata = pod["metadata"]
    if "deletionTimestamp" in metadata:
        grace = float(metadata.get("deletionGracePeriodSeconds") or 0)
        return parse_rfc3339(metadata["deletionTimestamp"]) - grace
    if (pod.get("status") or {}).get("phase") != "Failed":
        return None
    for item in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = ((item.get("state") or {}).get("terminated") or {}).get("finishedAt")
        if ended:
            return parse_rfc3339(ended)
    return None


def _is_finished(status: Object) -> bool:
    conditions = status.get("conditions") or ()
    return any(item["type"] in ("Complete", "Failed") and item["status"] == "True" for item in conditions)
