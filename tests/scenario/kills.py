"""A scenario of capacity's controllers, in which they are killed at every turn of the loop: once for each turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from health_world import HealthWorld, health_world
from turns import killed_before

from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.runtime.virtual import run_virtual

Scenario = Callable[[HealthWorld], Awaitable[None]]


def killed_at_every_turn(
    scenario: Scenario, *groups: SimulatedGroup, share: int = 0, shares: int = 1, **more: Any
) -> int:
    """Killed before turn n, at whatever they await, and started again a moment later; for every n of this share.

    Turns count from the controllers' first start. How many there are without a kill.
    """

    def once(kill_at: int | None) -> int:
        async def main() -> int:
            async with health_world(*groups, start=False, **more) as world:
                with killed_before(kill_at, world.kill, world.start) as turns:
                    world.start()
                    await scenario(world)
            return turns.count

        return run_virtual(main())

    total = once(None)
    for kill_at in range(1 + share, total + 1, shares):
        once(kill_at)
    return total
