"""Events go an hour after they were last written, however old what they tell of is."""

import asyncio

from atoll.base.chance import Chance
from atoll.base.clock import rfc3339
from atoll.client.port import Object
from atoll.cluster.workloads.common.context import Context
from atoll.cluster.workloads.housekeeping.expiry import EventExpiry
from atoll.kinds.builtin import EVENTS
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster


def test_an_event_lives_an_hour_from_its_last_write() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        client = (await new_cluster(clock=clock)).client
        informers = Informers(client)
        task = loop.create_task(EventExpiry(Context(lambda _: client, informers, clock, Chance(1))).run())
        informers.start()

        async def left() -> set[str]:
            return {item["metadata"]["name"] for item in (await client.list(EVENTS)).items}

        for name in ("quiet", "repeated"):
            event: Object = {
                "metadata": {"name": name},
                "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
                "lastTimestamp": rfc3339(clock.wall() - 86400),
            }
            await client.create(EVENTS, event, "default")
        await asyncio.sleep(3000)
        assert await left() == {"quiet", "repeated"}
        again = await client.get(EVENTS, "repeated", "default")
        await client.update(EVENTS, {**again, "count": 2, "lastTimestamp": rfc3339(clock.wall())})
        await asyncio.sleep(900)
        assert await left() == {"repeated"}
        await asyncio.sleep(3600)
        assert await left() == set()
        task.cancel()

    run_virtual(main())
