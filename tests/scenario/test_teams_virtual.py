"""Teams in virtual time: taints follow the ConfigMap, low priority borrows and yields, other work leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from health_world import GPUS, HealthWorld, health_world
from kills import killed_at_every_turn

from atoll.base.errors import Forbidden
from atoll.capacity import names
from atoll.capacity.settings import parse
from atoll.capacity.teams.plan import is_out, owner_of
from atoll.capacity.teams.policy import policy
from atoll.capacity.teams.settings import TeamSettings
from atoll.cluster.nodes.simulated.model import SimulatedGroup
from atoll.kinds.builtin import NAMESPACES, NODES, PODS, PRIORITY_CLASSES
from atoll.kinds.resource import Resource
from atoll.objects.meta import annotations, labels
from atoll.runtime.virtual import run_virtual

NODES_OF = SimulatedGroup(6, "gpu", cpu="64", resources=GPUS.resources, labels={"pool": "h100"})

EIGHT = {"limits": {"nvidia.com/gpu": "8"}}


def amounts(**teams: int) -> str:
    lines = [f"{{name: {name}, selector: {{pool: h100}}, amount: {amount}}}" for name, amount in teams.items()]
    return f"teams: [{', '.join(lines)}]"


def play(main: Any, *parts: str) -> None:
    async def whole() -> None:
        async with health_world(NODES_OF, parts=parts or ("teams",)) as world:
            await asyncio.sleep(5)
            await main(world)

    run_virtual(whole())


async def held(world: HealthWorld) -> Counter[str]:
    nodes = (await world.client.list(NODES)).items
    assert all(labels(node).get(names.TEAM, "") == owner_of(node) for node in nodes)
    return Counter(team for node in nodes if (team := owner_of(node)))


async def allotted(world: HealthWorld, seconds: float = 30, **teams: int) -> None:
    """The invariant: taints equal to the allotment within 30 seconds."""

    async def holds() -> bool:
        nodes = (await world.client.list(NODES)).items
        return Counter(team for node in nodes if (team := owner_of(node))) == Counter(teams)

    await world.until(holds, seconds)
    await held(world)


async def work(world: HealthWorld, name: str, team: str = "", priority: str = "", gpus: int = 8) -> Any:
    container = {"name": "c", "image": "i", "resources": {"limits": {"nvidia.com/gpu": str(gpus)}}}
    spec: Any = {"containers": [container]} | ({"priorityClassName": priority} if priority else {})
    told = {names.TEAM: team} if team else {}
    return await world.client.create(PODS, {"metadata": {"name": name, "labels": told}, "spec": spec}, "default")


async def low_priority(world: HealthWorld) -> None:
    await world.client.create(PRIORITY_CLASSES, {"metadata": {"name": "borrow"}, "value": -10})


def test_taints_follow_the_config_map_with_few_moves() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(teams=amounts(red=3, blue=2))
        await allotted(world, red=3, blue=2)
        before = {node["metadata"]["name"]: owner_of(node) for node in (await world.client.list(NODES)).items}
        await world.configure(teams=amounts(red=2, blue=3))
        await allotted(world, red=2, blue=3)
        after = {node["metadata"]["name"]: owner_of(node) for node in (await world.client.list(NODES)).items}
        assert sum(before[name] != after[name] for name in before) == 1, "one of red's becomes blue's"
        await world.client.delete(NODES, next(name for name, team in after.items() if team == "red"))
        await allotted(world, red=2, blue=3)
        await world.configure(teams="teams: [")
        await asyncio.sleep(60)
        assert await held(world) == Counter(red=2, blue=3), "a mistake changes nothing"
        await world.configure(teams="teams: []")
        await allotted(world)
        assert 'atoll_team_changes_total{to="red"}' in world.assembly.metrics.text()

    play(main)


def test_a_team_borrows_and_gives_back_at_once() -> None:
    async def main(world: HealthWorld) -> None:
        await low_priority(world)
        await world.configure(teams=amounts(red=3, blue=3))
        await allotted(world, red=3, blue=3)
        for number in range(6):
            await work(world, f"low-{number}", "red", "borrow")
            await world.running(f"low-{number}")
        pod = await work(world, "other", "green")
        await asyncio.sleep(5)
        pod = await world.client.get(PODS, "other", "default")
        assert pod["status"]["phase"] == "Pending", "who is in no team lands nowhere"
        began = world.clock.monotonic()
        for number in range(3):
            await work(world, f"own-{number}", "blue")
        for number in range(3):
            pod = await world.running(f"own-{number}")
            assert owner_of(await world.node(pod["spec"]["nodeName"])) == "blue"
        assert world.clock.monotonic() - began < 10
        left = [pod["metadata"]["name"] for pod in (await world.client.list(PODS, "default")).items]
        assert sum(name.startswith("low-") for name in left) == 3

    play(main)


def test_the_namespace_names_the_team_too() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(teams=amounts(red=6))
        await allotted(world, red=6)
        told = {"metadata": {"labels": {names.TEAM: "red"}}}
        await world.client.patch(NAMESPACES, "default", told)
        await work(world, "own")
        await world.running("own")

    play(main)


def test_work_that_the_new_team_does_not_know_leaves() -> None:
    async def main(world: HealthWorld) -> None:
        for number in range(6):
            await work(world, f"any-{number}")
            await world.running(f"any-{number}")
        await world.configure(teams=amounts(red=2))
        await allotted(world, red=2)
        await asyncio.sleep(10)
        pods = (await world.client.list(PODS, "default")).items
        places = [owner_of(await world.node(pod["spec"]["nodeName"])) for pod in pods]
        assert places == [""] * 4

    play(main)


def test_a_sick_node_is_mended_and_stays_the_teams() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(6)
        await world.configure(teams=amounts(red=6))
        await allotted(world, red=6)
        await world.fault("gpu-0", '[{"gpu": 0, "kind": "xid", "value": 48}]')

        async def mended() -> bool:
            node = await world.node("gpu-0")
            told = node["metadata"]["annotations"]
            return names.REPAIRS in told and [taint["key"] for taint in node["spec"]["taints"]] == [names.TEAM]

        await world.until(mended)

    play(main, "health", "teams")


def test_on_other_api_servers_a_policy_gives_the_tolerations() -> None:
    group = "admissionregistration.k8s.io"

    async def main(world: HealthWorld) -> None:
        bound = parse("teams: [{name: red, selector: {}, amount: 1, namespaces: [default]}]", TeamSettings)
        elsewhere = parse("teams: [{name: blue, selector: {}, amount: 1, namespaces: [x, y]}]", TeamSettings)
        plurals = [
            f"{kind}admissionpolic{ending}" for kind in ("mutating", "validating") for ending in ("ies", "ybindings")
        ]
        made = policy(TeamSettings((*bound.teams, *elsewhere.teams)))
        for plural, obj in zip(plurals, made, strict=True):
            await world.client.create(Resource(group, "v1", plural, obj["kind"], False), obj)
        await low_priority(world)
        await asyncio.sleep(2)
        own = await work(world, "own", "red")
        low = await work(world, "low", "", "borrow")
        other = await work(world, "other")
        equal = {"key": names.TEAM, "operator": "Equal", "value": "red", "effect": "NoSchedule"}
        assert equal in own["spec"]["tolerations"]
        assert {"key": names.TEAM, "operator": "Exists", "effect": "NoSchedule"} in low["spec"]["tolerations"]
        assert all(item["key"] != names.TEAM for item in other["spec"]["tolerations"])
        with pytest.raises(Forbidden, match="may not use nodes of the team blue"):
            await work(world, "forged", "blue")
        await world.client.patch(PODS, "own", {"metadata": {"labels": {"seen": "yes"}}}, "default")
        with pytest.raises(Forbidden, match="may not use nodes of the team blue"):
            await world.client.patch(PODS, "own", {"metadata": {"labels": {names.TEAM: "blue"}}}, "default")
        for item in ({"value": "blue"}, {"operator": "Exists"}):
            spec = {"containers": [{"name": "c", "image": "i"}], "tolerations": [{"key": names.TEAM, **item}]}
            with pytest.raises(Forbidden, match="may not use nodes of the team blue"):
                await world.client.create(PODS, {"metadata": {"name": "forged"}, "spec": spec}, "default")

    play(main, "none")


def test_a_team_is_for_its_namespaces() -> None:
    async def main(world: HealthWorld) -> None:
        await world.configure(teams="teams: [{name: red, selector: {pool: h100}, amount: 2, namespaces: [research]}]")
        await allotted(world, red=2)
        with pytest.raises(Forbidden, match='pods "forged" is forbidden: namespace default may not use nodes of the'):
            await work(world, "forged", "red")
        await work(world, "plain")
        tolerations = (await world.client.get(PODS, "plain", "default"))["spec"]["tolerations"]
        forged = {"key": names.TEAM, "value": "red", "effect": "NoSchedule"}
        with pytest.raises(Forbidden, match="of the team red"):
            patch = {"spec": {"tolerations": [*tolerations, forged]}}
            await world.client.patch(PODS, "plain", patch, "default")
        with pytest.raises(Forbidden, match="of the team red"):
            await world.client.patch(PODS, "plain", {"metadata": {"labels": {names.TEAM: "red"}}}, "default")

    play(main)


def test_a_pod_of_before_its_namespace_was_barred_can_end() -> None:
    """A Job's pod has a finalizer, which its controller takes away."""

    async def main(world: HealthWorld) -> None:
        await world.configure(teams=amounts(red=2))
        await allotted(world, red=2)
        await work(world, "own", "red")
        await world.configure(teams="teams: [{name: red, selector: {pool: h100}, amount: 2, namespaces: [research]}]")
        await asyncio.sleep(1)
        changed = {"metadata": {"labels": {"seen": "yes"}, "finalizers": ["x.y/z"]}}
        await world.client.patch(PODS, "own", changed, "default")
        with pytest.raises(Forbidden, match="of the team red"):
            await work(world, "late", "red")

    play(main)


def test_a_node_that_is_out_is_replaced_for_its_team() -> None:
    async def main(world: HealthWorld) -> None:
        await world.open(6)
        await world.configure(teams="teams: [{name: red, selector: {pool: h100}, gpus: 13}]")
        await allotted(world, red=2)
        bad = next(node["metadata"]["name"] for node in (await world.client.list(NODES)).items if owner_of(node))
        await world.fault(bad, '[{"gpu": 0, "kind": "xid", "value": 79}]')

        async def serving() -> bool:
            found = [node for node in (await world.client.list(NODES)).items if owner_of(node) == "red"]
            return len(found) == 3 and sum(is_out(node) for node in found) == 1

        await world.until(serving, 30)
        for name in ("one", "two"):
            spec = {
                "nodeSelector": {names.TEAM: "red"},
                "containers": [{"name": "c", "image": "i", "resources": EIGHT}],
            }
            labels_of = {names.TEAM: "red"}
            await world.client.create(PODS, {"metadata": {"name": name, "labels": labels_of}, "spec": spec}, "default")

        async def given_up() -> bool:
            node = await world.node(bad)
            return names.REPAIRS in annotations(node) and not is_out(node) and not owner_of(node)

        await world.until(given_up, 3600)
        await held(world)
        changes = world.assembly.metrics.counter("atoll_team_changes_total", "", ("to",))
        assert changes.of("red").value == 3 and changes.of("").value == 1

    play(main, "health", "teams")


def test_killed_at_every_turn_taints_are_equal_within_thirty_seconds() -> None:
    async def scenario(world: HealthWorld) -> None:
        await asyncio.sleep(2)
        await world.configure(teams=amounts(red=3, blue=2))
        await allotted(world, red=3, blue=2)
        await world.configure(teams=amounts(red=1, blue=4, green=1))
        await allotted(world, red=1, blue=4, green=1)

    assert killed_at_every_turn(scenario, NODES_OF, parts=("teams",)) > 20


def test_killed_at_every_turn_others_work_leaves_a_teams_node() -> None:
    async def scenario(world: HealthWorld) -> None:
        await asyncio.sleep(2)
        for number in range(6):
            await work(world, f"other-{number}")
        await asyncio.sleep(2)
        await world.configure(teams=amounts(red=2))
        await allotted(world, red=2)

        async def left() -> bool:
            return len((await world.client.list(PODS, "default")).items) == 4

        await world.until(left, 30)
        assert world.assembly.metrics.counter("atoll_team_evictions_total", "").of().value <= 2

    assert killed_at_every_turn(scenario, NODES_OF, parts=("teams",)) > 10
