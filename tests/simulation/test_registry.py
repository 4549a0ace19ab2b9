"""Joining and leaving, in virtual time."""

import asyncio
from typing import Any

import pytest
from fleet_lab import POLICY, FleetLab, deployment, divided, fleet_lab, policy

from atoll.base.errors import NotFound, UserError
from atoll.fleet.registry.join import Joining, join, plan_join, unjoin
from atoll.fleet.registry.roles import Allowed
from atoll.kinds import hub as kinds
from atoll.kinds.builtin import CLUSTER_ROLES, DEPLOYMENTS, NAMESPACES, SECRETS, SERVICE_ACCOUNTS
from atoll.runtime.virtual import run_virtual


async def _absent(lab: FleetLab, name: str) -> bool:
    return await lab.get(kinds.CLUSTERS, name, None) is None


async def _ready(lab: FleetLab, wanted: int) -> bool:
    return await lab.ready("web") == wanted


async def _give_token(lab: FleetLab, name: str) -> None:
    """What a member's token controller does."""
    member = lab.members[name].client
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "atoll-system"}}
    await member.create(NAMESPACES, space)
    metadata = {"name": "atoll-hub", "namespace": "atoll-system"}
    await member.create(
        SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"token": "dG9rZW4="}}
    )


def test_join_makes_and_unjoin_cleans_both_sides() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            await _give_token(lab, "member3")
            member = lab.members["member3"].client
            joined = await join(lab.client, member, Joining("member3", "https://member3", region="eu"))
            assert joined["spec"]["region"] == "eu"
            assert joined["spec"]["id"]
            assert await member.get(CLUSTER_ROLES, "atoll-hub")
            assert (await lab.client.get(SECRETS, "member3", "karmada-cluster"))["data"]["token"]
            await lab.until(lambda: _ready(lab, 9))
            await unjoin(lab.client, "member3")
            await lab.until(lambda: _absent(lab, "member3"))
            assert await lab.replicas("web") == {"member1": 5, "member2": 4}
            with pytest.raises(NotFound):
                await member.get(CLUSTER_ROLES, "atoll-hub")
            account = await member.get(SERVICE_ACCOUNTS, "atoll-hub", "atoll-system")
            owners = [(owner["kind"], owner["name"]) for owner in account["metadata"]["ownerReferences"]]
            assert owners == [("ClusterRole", "atoll-hub")], "the member's garbage collector takes the rest away"
            with pytest.raises(NotFound):
                await lab.client.get(SECRETS, "member3", "karmada-cluster")
            await lab.until(lambda: _gone(lab))
            with pytest.raises(UserError, match="no cluster is joined as member3"):
                await unjoin(lab.client, "member3")

    async def _gone(lab: FleetLab) -> bool:
        return await lab.get(NAMESPACES, "karmada-es-member3", None) is None

    run_virtual(story())


def test_every_cluster_has_a_profile_as_long_as_it_is_there() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            await lab.until(lambda: _healthy(lab, "member1"))
            await lab.until(lambda: _healthy(lab, "member2"))
            lab.cut("member2")
            await lab.until(lambda: _healthy(lab, "member2", "False"))
            lab.heal("member2")
            await _give_token(lab, "member2")
            await lab.until(lambda: _healthy(lab, "member2"))
            await unjoin(lab.client, "member2")
            await lab.until(lambda: _absent(lab, "member2"))
            assert [one["metadata"]["name"] for one in (await lab.client.list(kinds.CLUSTER_PROFILES)).items] == [
                "member1"
            ]

    async def _healthy(lab: FleetLab, name: str, wanted: str = "True") -> bool:
        profile = await lab.get(kinds.CLUSTER_PROFILES, name, "atoll-system")
        conditions = ((profile or {}).get("status") or {}).get("conditions") or ()
        return any(item["type"] == "ControlPlaneHealthy" and item["status"] == wanted for item in conditions)

    run_virtual(story())


def test_a_lost_member_is_let_go_by_force_only() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            lab.cut("member1")
            await lab.until(lambda: _ready(lab, 6))
            await unjoin(lab.client, "member1")
            await asyncio.sleep(10)
            cluster = await lab.client.get(kinds.CLUSTERS, "member1")
            leaving = [item for item in cluster["status"]["conditions"] if item["type"] == "Leaving"]
            assert "--force" in leaving[0]["message"]
            assert await lab.ready("web") == 9
            await unjoin(lab.client, "member1", force=True)
            await lab.until(lambda: _absent(lab, "member1"))

    run_virtual(story())


def test_the_same_cluster_is_not_joined_twice() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            await _give_token(lab, "member1")
            member = lab.members["member1"].client
            await join(lab.client, member, Joining("member1", "https://member1"))
            with pytest.raises(UserError, match="joined already, as member1"):
                await join(lab.client, member, Joining("other", "https://member1"))

    run_virtual(story())


def test_an_allow_list_reads_its_kinds_and_writes_them_where_it_may() -> None:
    async def story() -> list[Any]:
        async with fleet_lab(members=1) as lab:
            allow = [Allowed.parse("Deployment,shop"), Allowed.parse("ConfigMap")]
            return await plan_join(lab.members["member1"].client, allow)

    made = {(obj["kind"], obj["metadata"].get("namespace", "")): obj for obj in run_virtual(story())}
    assert made["Role", "shop"]["rules"] == [
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create", "update", "patch", "delete"]}
    ]
    rules = made["ClusterRole", ""]["rules"]
    assert not any("*" in rule.get("resources", ()) for rule in rules)
    by_resource = {rule["resources"][0]: rule["verbs"] for rule in rules if "resources" in rule}
    assert by_resource["deployments"] == ["get", "list", "watch"]
    assert "create" in by_resource["configmaps"]
