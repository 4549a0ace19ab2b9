"""The hub's tests with the hub on a real kube-apiserver, over two real members beside a sandbox cluster of ours.

The stories are those of tests/simulation, run as they are written; real_lab.py puts real clusters under them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "simulation"))
import test_failover
import test_guard
import test_propagation
from control_plane import available
from fleet_lab import POLICY, deployment, divided, policy
from real_lab import RealLab, World, real_lab, world

from atoll.kinds import hub as kinds
from atoll.kinds.builtin import DEPLOYMENTS

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not available(), reason="the real programs are not built (tests/real/build.py)"),
]

MODULES = (test_propagation, test_failover, test_guard)
ELSEWHERE = {
    "test_replicas_of_a_lost_member_run_elsewhere": "its seconds are virtual; below a member is stopped for real",
    "test_the_same_seed_gives_the_same_history_in_fresh_interpreters": "of virtual time",
    "test_ready_does_not_dip_when_a_member_comes_back": "of virtual time",
    "test_when_all_vanish_at_once_the_hub_is_the_suspect": "a minute, and sub-second moments",
    "test_the_default_is_thirty_seconds": "half a minute",
    "test_the_cascade_of_a_namespace_is_held_too_but_templates_deleted_by_name_are_not": "half a minute",
    "test_unplaced_replicas_say_why_and_are_placed_once_there_is_room": "needs a fleet of one",
    "test_a_rebalance_forgets_what_stands": "needs a fleet of two",
    "test_a_kind_that_discovery_shows_late_is_propagated_all_the_same": "a real hub's discovery can't be held back",
}
STORIES = [
    (module, name) for module in MODULES for name in vars(module) if name.startswith("test_") and name not in ELSEWHERE
]


def _name(value: Any) -> str:
    return value if isinstance(value, str) else getattr(value, "__name__", "").removeprefix("test_")


def test_what_is_left_out_exists() -> None:
    assert set(ELSEWHERE) <= {name for module in MODULES for name in vars(module)}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.mark.parametrize(("module", "name"), STORIES, ids=_name)
def test_story(module: ModuleType, name: str, there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fleet_lab", lambda **options: real_lab(there, **options))
    monkeypatch.setattr(module, "run_virtual", asyncio.run)
    monkeypatch.setattr(kinds, "CLUSTERS", kinds.STORED_CLUSTERS)
    getattr(module, name)()


async def living(lab: RealLab, *members: str) -> dict[str, int]:
    """Replicas of the Deployment in members that answer."""
    found = {}
    for name in members:
        live = await lab.in_member(name, DEPLOYMENTS, "web")
        found[name] = live["spec"]["replicas"]
    return found


@pytest.mark.parametrize(("lost", "how"), [("member1", "stop"), ("member2", "kill"), ("member3", "stop")])
def test_replicas_of_a_lost_api_server_run_elsewhere(lost: str, how: str, there: World) -> None:
    """Its process is stopped or killed for real; its pods go on, unseen; the surplus goes when it is back."""
    others = [name for name in ("member1", "member2", "member3") if name != lost]

    async def story() -> None:
        async with real_lab(there, test_failover.FAST) as lab:
            await lab.client.create(POLICY, policy(**divided(**test_failover.ONE_SECOND)))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: test_failover.ready(lab, 9))
            back = there.stop(lost) if how == "stop" else there.kill(lost)
            try:
                began = lab.clock.monotonic()
                await lab.until(lambda: test_failover.ready(lab, 6))
                await lab.until(lambda: test_failover.ready(lab, 9))
                print(f"{how} {lost}: all Ready elsewhere after {lab.clock.monotonic() - began:.1f} s")
                assert sorted((await living(lab, *others)).values()) == [4, 5]
                await lab.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 12}}, "default")
                await lab.until(lambda: test_failover.ready(lab, 12))
            finally:
                back()
            await lab.until(lambda: everywhere(lab, 4))
            assert await lab.ready("web") == 12

    async def everywhere(lab: RealLab, each: int) -> bool:
        return await lab.replicas("web") == dict.fromkeys(("member1", "member2", "member3"), each)

    asyncio.run(story())
