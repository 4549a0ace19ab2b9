"""Balloons and autoscaling in virtual time: warm nodes, growth, shrinking, stock-outs, renewal, replacement, kills."""

from __future__ import annotations

import asyncio
from typing import Any

from health_world import HealthWorld, health_world
from kills import killed_at_every_turn

from atoll.capacity import names
from atoll.capacity.autoscale.plan import has_work
from atoll.capacity.autoscale.shape import is_balloon
from atoll.capacity.nodes import has_taint
from atoll.kinds.builtin import DEPLOYMENTS, NODES, POD_DISRUPTION_BUDGETS, PODS
from atoll.objects.meta import labels
from atoll.runtime.virtual import run_virtual

POOL = "name: h100, node: {cpu: 96, memory: 1Ti, gpus: 8}, pricePerHour: 98"


def play(main: Any, *parts: str, seed: int = 1) -> None:
    async def whole() -> None:
        async with health_world(parts=parts or ("autoscale",), seed=seed) as world:
            await asyncio.sleep(2)  # the default service account
            lost = watch_removals(world)
            await main(world)
            assert lost == [], "a node went with work on it"

    run_virtual(whole())


def watch_removals(world: HealthWorld) -> list[str]:
    """Nodes that were removed while work was on them."""
    found: list[str] = []
    pods = world.informers.of(PODS)

    def look(old: Any, new: Any) -> None:
        if new is None and has_work(pods.by_index("node", old["metadata"]["name"])):
            found.append(old["metadata"]["name"])

    world.informers.of(NODES).add_handler(look)
    return found


async def nodes(world: HealthWorld) -> list[Any]:
    return [it for it in (await world.client.list(NODES)).items if names.MACHINE in labels(it)]


async def count(world: HealthWorld, wanted: int, seconds: float = 900) -> None:
    async def holds() -> bool:
        return len(await nodes(world)) == wanted

    await world.until(holds, seconds)


async def balloons(world: HealthWorld) -> list[Any]:
    pods = (await world.client.list(PODS, names.SYSTEM_NAMESPACE)).items
    return [pod for pod in pods if is_balloon(pod) and pod["status"].get("phase") == "Running"]


async def warm(world: HealthWorld, wanted: int) -> None:
    async def holds() -> bool:
        return len(await balloons(world)) == wanted

    await world.until(holds, 900)


def test_a_spare_node_is_warm_and_work_takes_it_at_once() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{{{POOL}, max: 10, spare: 1}}]")
        await warm(world, 1)
        began = world.clock.monotonic()
        await world.pod("work", gpus=8)
        await world.running("work")
        assert world.clock.monotonic() - began < 5, "it did not wait for a machine to boot"
        await warm(world, 1)
        assert len(await nodes(world)) == 2
        await world.client.delete(PODS, "work", "default")
        await count(world, 1, 1200)
        assert len(await balloons(world)) == 1
        text = world.assembly.metrics.text()
        assert "atoll_autoscale_price_per_hour 98" in text and 'steps_total{step="remove",why="idle"} 1' in text

    play(main, "health", "autoscale")


def test_hundreds_join_at_a_pace_and_leave_when_they_are_idle() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"{{joiningAtOnce: 5, createsPerMinute: 30, pools: [{{{POOL}, max: 60}}]}}")
        most = 0

        def look(old: Any, new: Any) -> None:
            nonlocal most
            if new is not None and old is None:
                recent = [it for it in world.informers.of(NODES) if has_taint(it, "node.kubernetes.io/not-ready")]
                most = max(most, len(recent))

        world.informers.of(NODES).add_handler(look)
        for number in range(50):
            await world.pod(f"work-{number}", gpus=4)
        await count(world, 25, 3600)
        await asyncio.sleep(30)
        pods = (await world.client.list(PODS, "default")).items
        assert all(pod["status"]["phase"] == "Running" for pod in pods)
        assert most <= 5
        for number in range(50):
            await world.client.delete(PODS, f"work-{number}", "default")
        await count(world, 0, 3600)

    play(main)


def test_another_pool_is_taken_where_the_cheap_one_has_no_stock() -> None:
    async def main(world: HealthWorld) -> None:
        spot = f"{{{POOL.replace('h100', 'spot').replace('98', '30')}, max: 5, simulated: {{stock: 1}}}}"
        await world.configure(autoscale=f"pools: [{spot}, {{{POOL}, max: 5}}]")
        for number in range(3):
            await world.pod(f"work-{number}", gpus=8)
        for number in range(3):
            await world.until(lambda number=number: running(world, f"work-{number}"), 900)
        pools = sorted(labels(it)[names.POOL_LABEL] for it in await nodes(world))
        assert pools == ["h100", "h100", "spot"]

    play(main)


async def running(world: HealthWorld, name: str) -> bool:
    return (await world.client.get(PODS, name, "default"))["status"].get("phase") == "Running"


def test_old_nodes_are_renewed_and_work_moves_by_eviction() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{{{POOL}, max: 4, min: 2, maxAgeSeconds: 7200}}]")
        await count(world, 2)
        first = {it["metadata"]["name"] for it in await nodes(world)}
        await asyncio.sleep(9000)
        await count(world, 2)
        assert not first & {it["metadata"]["name"] for it in await nodes(world)}
        assert await world.events("Leaving")

    play(main)


def test_a_broken_machine_is_replaced_by_another() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{{{POOL}, max: 4, min: 2}}]")
        await count(world, 2)
        await asyncio.sleep(60)
        bad = (await nodes(world))[0]["metadata"]["name"]
        await world.fault(bad, '[{"gpu": 0, "kind": "xid", "value": 54}]')

        async def replaced() -> bool:
            found = [it for it in await nodes(world) if labels(it).get(names.PREFLIGHT) == "passed"]
            return len(found) == 2 and bad not in {it["metadata"]["name"] for it in found}

        await world.until(replaced, 1800)

    play(main, "health", "autoscale")


def test_a_pod_that_no_pool_can_serve_is_told_why() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"pools: [{{{POOL}, max: 4}}]")
        await world.pod("huge", gpus=16)
        await asyncio.sleep(60)
        (told,) = await world.events("NotTriggeredScaleUp")
        assert told["message"] == "no pool helps: it is larger than a node of h100"
        assert await nodes(world) == []

    play(main)


def deployment(name: str, gpus: int) -> Any:
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"metadata": {"name": name}, "spec": spec}


async def ready(world: HealthWorld, name: str, wanted: int = 2) -> None:
    async def holds() -> bool:
        found = await world.client.get(DEPLOYMENTS, name, "default")
        return int((found.get("status") or {}).get("readyReplicas") or 0) == wanted

    await world.until(holds, 900)


async def two_that_do_little(world: HealthWorld) -> None:
    """Each with a pod of three GPUs: the five others are free again."""
    for name, gpus in (("large", 5), ("web", 3)):
        await world.client.create(DEPLOYMENTS, deployment(name, gpus), "default")
        await ready(world, name)
    assert len(await nodes(world)) == 2
    await world.client.patch(DEPLOYMENTS, "large", {"spec": {"replicas": 0}}, "default")
    await ready(world, "large", 0)


def test_two_nodes_that_do_little_become_one_when_the_budget_allows() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(autoscale=f"{{underusedSeconds: 60, pools: [{{{POOL}, max: 4}}]}}")
        budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}}
        await world.client.create(POD_DISRUPTION_BUDGETS, {"metadata": {"name": "b"}, "spec": budget}, "default")
        await two_that_do_little(world)
        await asyncio.sleep(1200)
        assert len(await nodes(world)) == 2, "no pod may go"
        patch = {"spec": {"minAvailable": 1}}
        await world.client.patch(POD_DISRUPTION_BUDGETS, "b", patch, "default")
        await count(world, 1, 600)
        await ready(world, "web")
        assert 'steps_total{step="remove",why="underused"} 1' in world.assembly.metrics.text()
        await asyncio.sleep(1200)
        assert len(await nodes(world)) == 1, "and it stays so"

    play(main)


def test_killed_at_every_turn_a_node_that_does_little_is_emptied() -> None:
    async def scenario(world: HealthWorld) -> None:
        async def whole() -> None:
            pool = f"{{{POOL}, max: 3, min: 1, {FAST}}}"
            await world.configure(autoscale=f"{{underusedSeconds: 5, idleSeconds: 600, pools: [{pool}]}}")
            await two_that_do_little(world)
            await count(world, 1, 300)
            await ready(world, "web")

        await without_loss(world, whole)

    assert killed_at_every_turn(scenario, parts=("autoscale",)) > 80


FAST = "simulated: {bootSeconds: 2, bootJitterSeconds: 1}"


async def without_loss(world: HealthWorld, scenario: Any) -> None:
    await asyncio.sleep(2)  # the default service account
    lost = watch_removals(world)
    await scenario()
    assert lost == [], "a node went with work on it"


def test_killed_at_every_turn_no_work_is_lost_and_no_machine_is_left() -> None:
    async def scenario(world: HealthWorld) -> None:
        async def whole() -> None:
            await world.configure(autoscale=f"{{idleSeconds: 10, pools: [{{{POOL}, max: 3, {FAST}}}]}}")
            await world.pod("work", gpus=8)
            await world.until(lambda: running(world, "work"), 120)
            await world.client.delete(PODS, "work", "default")
            await count(world, 0, 200)

        await without_loss(world, whole)

    assert killed_at_every_turn(scenario, parts=("autoscale",)) > 80


def test_killed_at_every_turn_a_balloon_gives_way_and_comes_back() -> None:
    async def scenario(world: HealthWorld) -> None:
        async def whole() -> None:
            await world.configure(autoscale=f"{{idleSeconds: 10, pools: [{{{POOL}, max: 2, spare: 1, {FAST}}}]}}")
            await warm(world, 1)
            await world.pod("work", gpus=8)
            await world.until(lambda: running(world, "work"), 30)
            await warm(world, 1)
            assert len(await nodes(world)) == 2

        await without_loss(world, whole)

    assert killed_at_every_turn(scenario, parts=("autoscale",)) > 80


def test_killed_at_every_turn_a_broken_machine_is_replaced_once() -> None:
    async def scenario(world: HealthWorld) -> None:
        async def whole() -> None:
            await world.configure(autoscale=f"pools: [{{{POOL}, max: 3, min: 1, {FAST}}}]", preflight="enabled: false")
            await count(world, 1)
            await asyncio.sleep(5)
            (bad,) = [it["metadata"]["name"] for it in await nodes(world)]
            await world.fault(bad, '[{"gpu": 0, "kind": "xid", "value": 54}]')

            async def replaced() -> bool:
                return bad not in {it["metadata"]["name"] for it in await nodes(world)}

            await world.until(replaced, 300)
            await count(world, 1, 60)

        await without_loss(world, whole)

    assert killed_at_every_turn(scenario, parts=("health", "autoscale")) > 50
