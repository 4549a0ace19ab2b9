"""Decisions of one turn are bound in one call; what becomes of each is told of each, whatever goes wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from atoll.base.errors import AtollError, Conflict
from atoll.cluster.scheduler.together import BoundTogether
from atoll.scheduling.plan import Decision


class _Binder:
    def __init__(self, faults: dict[str, Exception]) -> None:
        self.calls: list[list[tuple[str, str]]] = []
        self._faults = faults

    async def bind_all(self, decided: Sequence[tuple[Any, str]]) -> list[AtollError | None]:
        self.calls.append([(pod.name, node) for pod, node in decided])
        await asyncio.sleep(0)
        found = [self._faults.get(pod.name) for pod, _ in decided]
        for fault in found:
            if fault is not None and not isinstance(fault, AtollError):
                raise fault
        return found  # type: ignore[return-value]


def _run(faults: dict[str, Exception], count: int) -> tuple[_Binder, list[str], dict[str, str]]:
    binder, bound, failed = _Binder(faults), [], {}

    async def main() -> None:
        tasks: list[asyncio.Task[None]] = []
        together = BoundTogether(
            binder,  # type: ignore[arg-type]
            8,
            4,
            lambda work: tasks.append(asyncio.ensure_future(work)),
            lambda waiting, gang: bound.append(waiting.pod.name),
            lambda waiting, decision, error: failed.update({waiting.pod.name: error.message}),
        )
        for number in range(count):
            waiting: Any = SimpleNamespace(pod=SimpleNamespace(name=f"p{number}"))
            assert together.add(waiting, Decision(node=f"n{number}"), None)
        assert not together.add(SimpleNamespace(), Decision(node=None), None)  # type: ignore[arg-type]
        together.begin()
        assert together.under_way == count
        await asyncio.gather(*tasks)
        assert together.under_way == 0

    asyncio.run(main())
    return binder, bound, failed


def test_in_batches_each_with_its_own_end() -> None:
    binder, bound, failed = _run({"p1": Conflict("taken"), "p8": Conflict("gone")}, 9)
    assert [len(call) for call in binder.calls] == [4, 4, 1]
    assert binder.calls[0][2] == ("p2", "n2")
    assert bound == ["p0", "p2", "p3", "p4", "p5", "p6", "p7"]
    assert failed == {"p1": "taken", "p8": "gone"}


def test_a_fault_of_a_call_is_a_failure_of_each() -> None:
    _, bound, failed = _run({"p2": ValueError("odd")}, 6)
    assert bound == ["p4", "p5"]
    assert failed == dict.fromkeys(("p0", "p1", "p2", "p3"), "binding: odd")
