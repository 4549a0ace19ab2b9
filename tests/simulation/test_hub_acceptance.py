"""What a sceptical user tries on a hub, in virtual time."""

import asyncio

from fleet_lab import POLICY, FleetLab, deployment, divided, fleet_lab, policy

from atoll.fleet.plan.planner import make_plan
from atoll.fleet.plan.read import read_clusters
from atoll.kinds.builtin import CONFIGMAPS, DEPLOYMENTS
from atoll.kinds.hub import OVERRIDE_POLICIES, RESOURCE_BINDINGS
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import run_virtual

ALL = {"member1", "member2", "member3"}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
          "data": {"a": "1"}}  # fmt: skip

BAD_OVERRIDE = {
    "apiVersion": "policy.karmada.io/v1alpha1", "kind": "OverridePolicy",
    "metadata": {"name": "bad", "namespace": "default"}, "spec": {
        "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}],
        "overrideRules": [{"targetCluster": {"clusterNames": ["member2"]}, "overriders": {
            "plaintext": [{"path": "/spec/nope/x", "operator": "replace", "value": 1}]}}]}}  # fmt: skip


async def _present(lab: FleetLab, resource: Resource, name: str, members: set[str]) -> bool:
    found = {member for member in lab.members if await lab.in_member(member, resource, name) is not None}
    return found == members


def test_a_deleted_policy_keeps_what_the_workload_needs_and_so_does_a_restart() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            web = deployment()
            web["spec"]["template"]["spec"]["volumes"] = [{"name": "c", "configMap": {"name": "settings"}}]
            await lab.client.create(CONFIGMAPS, CONFIG)
            await lab.client.create(POLICY, policy(propagateDeps=True, **divided()))
            await lab.client.create(DEPLOYMENTS, web)
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", ALL), 5)
            await lab.client.delete(POLICY, "web", "default")
            await asyncio.sleep(5)
            assert await _present(lab, CONFIGMAPS, "settings", ALL)
            await lab.stop_hub()
            lab.start_hub()
            await asyncio.sleep(10)
            assert await _present(lab, CONFIGMAPS, "settings", ALL)

    run_virtual(story())


def test_a_plan_knows_nothing_of_a_cluster_that_does_not_answer() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            lab.cut("member2")
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
            plan = make_plan([space], await read_clusters(lab.wires, [space], lab.clock))
            (decided,) = plan.decided
            assert {step.where: step.action for step in decided.steps} == {"member1": "create", "member2": "unknown"}

    run_virtual(story())


def test_an_override_that_cannot_be_carried_out_is_told_where_the_copies_are_told() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=4))
            await lab.until(lambda: _applied(lab, {"member1": "", "member2": ""}))
            await lab.client.create(OVERRIDE_POLICIES, BAD_OVERRIDE)
            reason = "OverridePolicy default/bad: nothing to replace at /spec/nope/x"
            await lab.until(lambda: _applied(lab, {"member1": "", "member2": reason}))
            await lab.client.delete(OVERRIDE_POLICIES, "bad", "default")
            await lab.until(lambda: _applied(lab, {"member1": "", "member2": ""}))

    async def _applied(lab: FleetLab, wanted: dict[str, str]) -> bool:
        binding = await lab.get(RESOURCE_BINDINGS, "web-deployment")
        items = ((binding or {}).get("status") or {}).get("aggregatedStatus") or []
        return {one["clusterName"]: "" if one["applied"] else one.get("appliedMessage", "?") for one in items} == wanted

    run_virtual(story())
