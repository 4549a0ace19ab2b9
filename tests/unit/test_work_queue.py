"""The work queue, the reconcile loop and the virtual loop that carries them."""

import asyncio

import uvloop

from atoll.base.backoff import Backoff
from atoll.base.errors import Conflict
from atoll.runtime.controller import Controller
from atoll.runtime.queue import WorkQueue
from atoll.runtime.virtual import run_virtual


def test_keys_collapse_and_one_in_work_comes_again_afterwards() -> None:
    async def main() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        queue.add("a")
        assert await queue.get() == "a"
        queue.add("a")
        queue.add("b")
        assert await queue.get() == "b"
        queue.done("b")
        waiting = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        assert not waiting.done()
        queue.done("a")
        assert await waiting == "a"

    run_virtual(main())


def test_the_earlier_of_two_delays_wins() -> None:
    async def main() -> float:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 10)
        queue.add_after("a", 3)
        queue.add_after("a", 7)
        await queue.get()
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 3


def test_failures_back_off_until_forgotten() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        queue: WorkQueue[str] = WorkQueue(Backoff(first_seconds=1, most_seconds=3, jitter=0))
        times = []
        for _ in range(4):
            before = loop.time()
            queue.add_rate_limited("a")
            await queue.get()
            queue.done("a")
            times.append(loop.time() - before)
        queue.forget("a")
        assert queue.failures("a") == 0
        return times

    assert run_virtual(main()) == [1, 2, 3, 3]


def test_a_cancelled_waiter_loses_no_key() -> None:
    async def main() -> str:
        queue: WorkQueue[str] = WorkQueue()
        first = asyncio.ensure_future(queue.get())
        second = asyncio.ensure_future(queue.get())
        await asyncio.sleep(0)
        queue.add("a")
        first.cancel()
        return await second

    assert run_virtual(main()) == "a"


def test_the_loop_retries_faults_and_comes_back_when_asked() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        seen: list[tuple[float, str]] = []
        outcomes: list[object] = [Conflict("changed"), ValueError("ours"), 5.0, None]

        async def reconcile(key: str) -> float | None:
            seen.append((loop.time(), key))
            outcome = outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            assert outcome is None or isinstance(outcome, float)
            return outcome

        controller: Controller[str] = Controller("test", reconcile, backoff=Backoff(first_seconds=1, jitter=0))
        controller.queue.add("a")
        task = loop.create_task(controller.run())
        await asyncio.sleep(20)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return seen

    assert run_virtual(main()) == [(0, "a"), (1, "a"), (3, "a"), (8, "a")]


def test_a_timer_of_less_than_a_millisecond_is_one_for_uvloop_too() -> None:
    async def main() -> str:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 0.0001)
        queue.add_after("a", 0.0001)
        return await queue.get()

    assert uvloop.run(main()) == "a"
