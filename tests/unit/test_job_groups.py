"""Jobs that stop as one: when a generation is complete, when a member is lost, what is saved and what is lost."""

from __future__ import annotations

from typing import Any

import msgspec

from atoll.base.clock import rfc3339
from atoll.capacity import names
from atoll.capacity.health import groups
from atoll.capacity.health.groups import Group, GroupView, Note, Rest, Stop, plan_group

NOW = 1_700_000_000.0


def job(group: Group | None = None, size: int = 3, **status: Any) -> Any:
    told = {names.GROUP: msgspec.json.encode(group).decode()} if group is not None else {}
    template = {"metadata": {"annotations": {names.STOP_AS_ONE: "true", names.CHECKPOINT_EVERY: "100"}}}
    spec = {"parallelism": size, "completions": size, "template": template}
    return {"metadata": {"name": "j", "resourceVersion": "1", "annotations": told}, "spec": spec, "status": status}


def pod(name: str, ago: float = 500, phase: str = "Running", **metadata: Any) -> Any:
    at = rfc3339(NOW - ago)
    return {
        "metadata": {"name": name, "creationTimestamp": at, **metadata},
        "status": {"phase": phase, "startTime": at},
    }


def plan(obj: Any, *pods: Any, simulated: bool = True) -> Any:
    return plan_group(GroupView(obj, list(pods), NOW, simulated))


COMPLETE = Group(until=rfc3339(NOW - 490), since=rfc3339(NOW - 500))


def test_a_generation_is_noted_once_all_of_it_run() -> None:
    assert plan(job(), pod("a"), pod("b")) == Rest()
    assert plan(job(), pod("a"), pod("b"), pod("c", phase="Pending")) == Rest()
    assert plan(job(), pod("a"), pod("b"), pod("c", ago=490)) == Note(COMPLETE)
    assert plan(job(), pod("a"), pod("b"), pod("c", ago=0)) == Rest(1.0), "one of the same second may follow"


def test_a_lost_member_stops_the_others_and_what_is_saved_is_known() -> None:
    found = plan(job(COMPLETE), pod("a"), pod("b"), pod("new", ago=2))
    assert isinstance(found, Note)
    assert (found.group.until, found.group.restarts) == ("", 1)
    assert (found.group.saved_seconds, found.group.lost_seconds) == (500.0, 0.0)
    gone = pod("c", deletionTimestamp=rfc3339(NOW - 30), deletionGracePeriodSeconds=20)
    found = plan(job(COMPLETE), pod("a"), pod("b"), gone)
    assert isinstance(found, Note)
    assert (found.group.saved_seconds, found.group.lost_seconds) == (400.0, 50.0), "it stopped 450 s in"
    assert found.lost_pod_seconds == 150.0
    stopping = found.group
    assert plan(job(stopping), pod("a"), pod("new", ago=0), gone) == Stop((pod("a"), pod("new", ago=0)))
    assert plan(job(stopping), gone) == Note(msgspec.structs.replace(stopping, stopping=""))


def test_a_whole_generation_rests() -> None:
    assert plan(job(COMPLETE), pod("a"), pod("b"), pod("c", ago=490)) == Rest()
    assert plan(job(COMPLETE, succeeded=1), pod("a"), pod("b")) == Rest(), "it is about to end"
    assert plan(job(COMPLETE, conditions=[{"type": "Complete", "status": "True"}])) == Rest()
    suspended = job(COMPLETE)
    suspended["spec"]["suspend"] = True
    assert plan(suspended) == Rest()


def test_what_a_real_job_wrote_counts() -> None:
    written = {"annotations": {names.LAST_CHECKPOINT: rfc3339(NOW - 60)}}
    found = plan(job(COMPLETE), pod("a", **written), pod("b"), simulated=False)
    assert isinstance(found, Note) and (found.group.saved_seconds, found.group.lost_seconds) == (440.0, 60.0)
    nothing = plan(job(COMPLETE), pod("a"), pod("b"), simulated=False)
    assert isinstance(nothing, Note) and nothing.group.lost_seconds == 500.0


def test_the_state_survives_on_the_job() -> None:
    noted = groups.note(job(), Group(saved_seconds=400.0, restarts=1))
    told = noted["metadata"]["annotations"]
    assert told["atoll.dev/saved-seconds"] == "400"
    assert groups.group_of({"metadata": {"annotations": told}}) == Group(saved_seconds=400.0, restarts=1)
    assert groups.group_of({"metadata": {"annotations": {names.GROUP: "no json"}}}) == Group()
    assert groups.is_group(job()) and not groups.is_group({"metadata": {}, "spec": {"template": {"spec": {}}}})
