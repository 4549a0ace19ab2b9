"""What a sceptical user tries on a hub, in virtual time."""

import asyncio

from fleet_lab import POLICY, FleetLab, deployment, divided, fleet_lab, policy

from atoll.fleet.plan.planner import make_plan
from atoll.fleet.plan.read import read_clusters
from atoll.kinds.builtin import CONFIGMAPS, DEPLOYMENTS, JOBS, NAMESPACES
from atoll.kinds.hub import CLUSTERS, OVERRIDE_POLICIES, RESOURCE_BINDINGS
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import run_virtual

INGRESSES = Resource("networking.k8s.io", "v1", "ingresses", "Ingress", True)
ALL = {"member1", "member2", "member3"}
CONFIG = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "default"},
          "data": {"a": "1"}}  # fmt: skip

BAD_OVERRIDE = {
    "apiVersion": "policy.karmada.io/v1alpha1", "kind": "OverridePolicy",
    "metadata": {"name": "bad", "namespace": "default"}, "spec": {
        "resourceSelectors": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}],
        "overrideRules": [{"targetCluster": {"clusterNames": ["member2"]}, "overriders": {
            "plaintext": [{"path": "/spec/nope/x", "operator": "replace", "value": 1}]}}]}}  # fmt: skip

JOB = {
    "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum", "namespace": "default"}, "spec": {
        "parallelism": 2, "completions": 6, "template": {
            "metadata": {"annotations": {"scenario/exit-code": "0", "scenario/run-seconds": "1"}},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}}}}  # fmt: skip
FRONT = {
    "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "front", "namespace": "default"},
    "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}  # fmt: skip


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


def test_what_can_not_be_replaced_does_not_keep_a_cluster_from_leaving() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            await lab.client.create(POLICY, policy("sum", kind="Job", api_version="batch/v1", **divided()))
            await lab.client.create(JOBS, JOB)
            held = {"suspension": {"dispatchingOnClusters": {"clusterNames": ["member2"]}}}
            await lab.client.create(POLICY, policy("settings", kind="ConfigMap", api_version="v1", **held))
            await lab.client.create(CONFIGMAPS, CONFIG)
            await lab.client.create(POLICY, policy("front", kind="Ingress", api_version="networking.k8s.io/v1"))
            await lab.client.create(INGRESSES, FRONT)
            await lab.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
            await lab.until(lambda: _finished(lab))
            await lab.until(lambda: _present(lab, INGRESSES, "front", {"member1", "member2"}))
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", {"member1"}))
            skip = {"metadata": {"labels": {"namespace.karmada.io/skip-auto-propagation": "true"}}}
            await lab.client.patch(NAMESPACES, "shop", skip)
            await lab.client.delete(CLUSTERS, "member1")
            await lab.until(lambda: _left(lab), 10)
            assert await _finished(lab)
            again = await lab.in_member("member2", JOBS, "sum")
            assert again["spec"]["completions"] == 3, "what is finished runs no second time"

    async def _finished(lab: FleetLab) -> bool:
        status = (await lab.client.get(JOBS, "sum", "default")).get("status") or {}
        return any(item["type"] == "Complete" for item in status.get("conditions") or ())

    async def _left(lab: FleetLab) -> bool:
        return await lab.get(CLUSTERS, "member1", None) is None

    run_virtual(story())


def test_ready_does_not_dip_when_a_cluster_joins_and_takes_its_share() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            await lab.client.delete(CLUSTERS, "member3")
            await lab.until(lambda: _away(lab), 20)
            await lab.until(lambda: _ready(lab, 9), 20)
            await lab.join("member3")
            for _ in range(250):
                assert await lab.ready("web") == 9
                await asyncio.sleep(0.02)
            assert await lab.replicas("web") == dict.fromkeys(lab.members, 3)

    async def _ready(lab: FleetLab, wanted: int) -> bool:
        return await lab.ready("web") == wanted

    async def _away(lab: FleetLab) -> bool:
        return await lab.get(CLUSTERS, "member3", None) is None

    run_virtual(story())
