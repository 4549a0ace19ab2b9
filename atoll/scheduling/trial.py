"""Trial moves on a planner's state: a pod onto a node or off it, and how each is taken back.

A pod that is placed takes the devices of its claims: who comes later in the same trial gets others, and a claim that
it shares with them has its devices where it has put them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from atoll.scheduling.dra.state import assume_plan, release_plan
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.state import ClusterState

Undo = Callable[[], None]


def place(planner: Planner, pod: PodInfo, node: str) -> Undo:
    """The pod onto a node, with its devices. Raises AllocationError: the node can't give it those."""
    plan = planner.claims_on(pod, node)
    if plan is None:
        return hold_room(planner, pod, node)
    planner.assume(pod, node)
    assume_plan(planner.devices, plan, pod.uid, deciding=True)

    def undo() -> None:
        release_plan(planner.devices, plan, pod.uid)
        planner.forgo(pod)

    return undo


def hold_room(planner: Planner, pod: PodInfo, node: str) -> Undo:
    """The pod onto a node, whatever becomes of its claims."""
    planner.assume(pod, node)
    return lambda: planner.forgo(pod)


def lift(state: ClusterState, pod: PodInfo) -> Undo:
    """The pod off its node."""
    node = state.lift(pod.uid)
    assert node is not None
    return lambda: state.place(pod, node)


@contextmanager
def trial() -> Iterator[list[Undo]]:
    """Collects undos; all are done at the end, the last first."""
    undos: list[Undo] = []
    try:
        yield undos
    finally:
        for undo in reversed(undos):
            undo()
