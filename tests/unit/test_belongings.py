"""What a part has hung up goes with it."""

from __future__ import annotations

import asyncio

from atoll.base.belongings import at_end, belongings, outside
from atoll.base.metrics import Metrics


def test_the_last_thing_hung_up_goes_first_also_after_a_fault() -> None:
    gone: list[str] = []
    try:
        with belongings():
            at_end(lambda: gone.append("first"))
            at_end(lambda: gone.append("second"))
            raise RuntimeError
    except RuntimeError:
        assert gone == ["second", "first"]
    at_end(lambda: gone.append("never"))
    assert gone == ["second", "first"]


def test_tasks_of_a_part_belong_to_it_and_those_outside_do_not() -> None:
    gone: list[str] = []

    async def hang_up(name: str) -> None:
        at_end(lambda: gone.append(name))

    async def main() -> None:
        with belongings():
            await asyncio.create_task(hang_up("inside"))
            await asyncio.create_task(hang_up("outside"), context=outside())
        assert gone == ["inside"]

    asyncio.run(main())


def test_metrics_are_refreshed_by_the_living_only() -> None:
    metrics = Metrics()
    refreshed: list[str] = []
    metrics.on_scrape(lambda: refreshed.append("for ever"))
    with belongings():
        metrics.on_scrape(lambda: refreshed.append("once"))
        metrics.text()
    metrics.text()
    assert refreshed == ["for ever", "once", "for ever"]
