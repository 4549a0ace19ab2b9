"""One leads; the next takes over; nobody leads twice at a time."""

import asyncio

from atoll.base.chance import Chance
from atoll.base.errors import Unreachable
from atoll.client.port import Object
from atoll.kinds.builtin import LEASES
from atoll.kinds.resource import Resource
from atoll.runtime.lease import LeaderElection, LeaseOptions
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import new_cluster

OPTIONS = LeaseOptions(namespace="default", name="tests")


class CutOff:
    """A client that can be cut off from its server."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.cut = False

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        return await self._call("get", resource, name, namespace)

    async def create(self, resource: Resource, obj: Object, namespace: str | None = None) -> Object:
        return await self._call("create", resource, obj, namespace)

    async def update(self, resource: Resource, obj: Object) -> Object:
        return await self._call("update", resource, obj)

    async def _call(self, verb: str, *args: object) -> Object:
        if self.cut:
            raise Unreachable("cut off")
        answer: Object = await getattr(self._inner, verb)(*args)
        return answer


def test_the_second_waits_and_takes_over_within_the_lease() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        made = await new_cluster(clock=clock)
        log: list[tuple[str, str, float]] = []
        clients = {name: CutOff(made.client) for name in ("one", "two")}
        elections = {
            name: LeaderElection(client, name, clock, Chance(1), OPTIONS)  # type: ignore[arg-type]
            for name, client in clients.items()
        }

        async def lead(name: str) -> None:
            log.append((name, "starts", loop.time()))
            try:
                await asyncio.Event().wait()
            finally:
                log.append((name, "stops", loop.time()))

        tasks = []
        for name, election in elections.items():
            tasks.append(loop.create_task(election.run(lambda name=name: lead(name))))
            await asyncio.sleep(0.1)
        await asyncio.sleep(60)
        assert [(name, what) for name, what, _ in log] == [("one", "starts")]
        assert elections["two"].leader == "one"
        clients["one"].cut = True
        cut_at = loop.time()
        await asyncio.sleep(30)
        assert [(name, what) for name, what, _ in log[1:]] == [("one", "stops"), ("two", "starts")]
        stopped, began = log[1][2], log[2][2]
        assert stopped <= began
        assert began - cut_at <= OPTIONS.duration_seconds + 2 * OPTIONS.retry_seconds
        assert elections["two"].transitions == elections["one"].transitions + 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run_virtual(main())


def test_work_that_is_done_gives_the_lease_back() -> None:
    async def main() -> Object:
        clock = LoopClock(asyncio.get_running_loop())
        made = await new_cluster(clock=clock)

        async def nothing() -> None:
            return None

        await LeaderElection(made.client, "one", clock, Chance(1), OPTIONS).run(nothing)
        return await made.client.get(LEASES, "tests", "default")

    assert not run_virtual(main())["spec"].get("holderIdentity")
