"""Many nodes that come at once get ranges of their own, and those of nodes that go are given to those that wait."""

import asyncio

from atoll.base.chance import Chance
from atoll.client.port import Client
from atoll.cluster.workloads.common.context import Context, Options
from atoll.cluster.workloads.housekeeping.cluster import NodeAddresses
from atoll.kinds.builtin import NODES
from atoll.runtime.informer import Informers
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster


async def _ranges(client: Client) -> list[str]:
    await asyncio.sleep(1)
    found = [(item.get("spec") or {}).get("podCIDR") for item in (await client.list(NODES)).items]
    return sorted(item for item in found if item)


def test_ranges() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        client = (await new_cluster(clock=clock)).client
        informers = Informers(client)
        options = Options(cluster_cidr="10.0.0.0/18")  # 64 ranges
        task = loop.create_task(NodeAddresses(Context(lambda _: client, informers, clock, Chance(1), options)).run())
        informers.start()
        await asyncio.gather(*(client.create(NODES, {"metadata": {"name": f"n{number}"}}) for number in range(70)))
        given = await _ranges(client)
        assert len(given) == len(set(given)) == 64
        await asyncio.gather(*(client.delete(NODES, f"n{number}") for number in range(6)))
        assert await _ranges(client) == given
        task.cancel()

    run_virtual(main())
