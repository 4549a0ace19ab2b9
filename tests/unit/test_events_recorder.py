"""Events are counted, combined and thinned out."""

import asyncio

from atoll.base.chance import Chance
from atoll.client.port import Object
from atoll.kinds.builtin import CONFIGMAPS, EVENTS
from atoll.runtime.events import EventRecorder, Thinning
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster


def tell(messages: list[str], *, thinning: Thinning | None = None) -> list[Object]:
    """The Events after telling these about one ConfigMap, one a second."""

    async def main() -> list[Object]:
        clock = LoopClock(asyncio.get_running_loop())
        made = await new_cluster(clock=clock)
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
        about = await made.client.create(CONFIGMAPS, obj, "default")
        recorder = EventRecorder(made.client, "tester", clock, Chance(1), thinning=thinning)
        for message in messages:
            recorder.event(about, "Normal", "Happened", message)
            await asyncio.sleep(1)
        await recorder.flush()
        return sorted((await made.client.list(EVENTS)).items, key=lambda item: str(item["firstTimestamp"]))

    return run_virtual(main())


def test_an_event_says_who_what_and_when() -> None:
    (event,) = tell(["it did"])
    assert event["metadata"]["namespace"] == "default"
    assert event["metadata"]["name"].startswith("a.")
    assert event["involvedObject"]["kind"] == "ConfigMap"
    assert event["involvedObject"]["uid"]
    assert event["source"] == {"component": "tester"}
    assert event["reportingComponent"] == "tester"
    assert (event["type"], event["reason"], event["message"], event["count"]) == ("Normal", "Happened", "it did", 1)


def test_repeats_raise_the_count() -> None:
    (event,) = tell(["same"] * 4)
    assert event["count"] == 4
    assert event["firstTimestamp"] < event["lastTimestamp"]


def test_many_that_are_alike_become_one() -> None:
    events = tell([f"number {number}" for number in range(14)])
    assert len(events) == 10
    combined = events[-1]
    assert combined["message"] == "(combined from similar events): number 13"
    assert combined["count"] == 5


def test_one_source_may_not_flood() -> None:
    events = tell(["same"] * 20, thinning=Thinning(burst=5))
    assert [event["count"] for event in events] == [5]
