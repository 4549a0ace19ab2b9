"""What a simulated kubelet waits for, and that it keeps nothing of what it waits for no more."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.cluster.nodes.simulated.fast import POD_STAGES
from atoll.cluster.nodes.simulated.functions import Addresses, PodFunctions
from atoll.cluster.nodes.stages.player import Agenda, StagePlayer, Surroundings
from atoll.kinds.builtin import PODS
from atoll.runtime.virtual import run_virtual


class Weak(dict[str, Any]):
    """A dict that can be looked at without keeping it."""


def running(name: str, seconds: str) -> Weak:
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "1", "controller": True}
    metadata = {"name": name, "namespace": "n", "ownerReferences": [owner], "resourceVersion": "1"}
    metadata["annotations"] = {"atoll.dev/run-seconds": seconds}
    return Weak(metadata=metadata, spec={"containers": []}, status={"phase": "Running"})


def test_an_agenda_calls_back_in_order_but_not_what_was_called_off() -> None:
    called: list[int] = []

    async def main() -> None:
        agenda = Agenda()
        now = asyncio.get_running_loop().time()
        entries = [agenda.at(now + number, lambda number=number: called.append(number)) for number in range(300)]
        for number, entry in enumerate(entries):
            if number % 3:
                agenda.call_off(entry)
                agenda.call_off(entry)
        await asyncio.sleep(100)
        for entry in entries[:100]:
            agenda.call_off(entry)  # of those that are done, nothing is left
        await asyncio.sleep(300)

    run_virtual(main())
    assert called == list(range(0, 300, 3))


def test_a_pod_that_is_gone_is_not_kept_until_its_time_would_be_over() -> None:
    async def main() -> None:
        clock = ManualClock()
        functions = PodFunctions(Addresses("172.30.0.0/16", "10.244.0.0/16", lambda name: None), clock, None)
        around = Surroundings(None, None, clock, Chance(1))  # type: ignore[arg-type]
        agenda = Agenda()
        player = StagePlayer(PODS, POD_STAGES, functions, around, agenda)
        kept = []
        for number in range(1000):
            pod = running(f"p-{number}", "86400")
            kept.append(weakref.ref(pod))
            player.observe(pod)
            del pod
        assert all(item() is not None for item in kept)
        for number in range(900):
            player.forget(("n", f"p-{number}"))
        gc.collect()
        assert [item() is not None for item in kept] == [False] * 900 + [True] * 100
        assert len(agenda._heap) <= 264
        agenda.close()

    run_virtual(main())
