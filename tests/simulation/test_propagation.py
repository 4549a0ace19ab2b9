"""Propagation end to end, in virtual time."""

from typing import Any

from fleet_lab import POLICY, deployment, divided, fleet_lab, policy

from atoll.kinds.builtin import DEPLOYMENTS
from atoll.runtime.virtual import run_virtual


def test_divided_over_three_members_with_status_back() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=10))
            await lab.until(lambda: _is(lab.ready("web"), 10))
            assert await lab.replicas("web") == {"member1": 4, "member2": 3, "member3": 3}
            live = await lab.client.get(DEPLOYMENTS, "web", "default")
            status = live["status"]
            assert status["observedGeneration"] == live["metadata"]["generation"]
            conditions = {item["type"]: item["status"] for item in status["conditions"]}
            assert conditions == {"Available": "True", "Progressing": "True"}

    run_virtual(story())


async def _is(value: Any, wanted: Any) -> bool:
    return bool(await value == wanted)
