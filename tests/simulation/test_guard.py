"""Never delete on doubt: budgets, emptied clusters, vanished templates; and moves that a person asks for."""

import asyncio
from typing import Any

from fleet_lab import POLICY, FleetLab, deployment, divided, fleet_lab, policy

from atoll.fleet.continuity.budget import CONFIRM
from atoll.kinds import hub as kinds
from atoll.kinds.builtin import CONFIGMAPS, DEPLOYMENTS, NAMESPACES
from atoll.runtime.virtual import run_virtual

COUNT = 40


def config(name: str, namespace: str = "default") -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace},
            "data": {"a": "1"}}  # fmt: skip


def all_configs(**spec: Any) -> dict[str, Any]:
    one = policy("all", kind="ConfigMap", api_version="v1", **spec)
    del one["spec"]["resourceSelectors"][0]["name"]
    return one


async def copies(lab: FleetLab, namespace: str = "default") -> dict[str, int]:
    found = {}
    for name, member in lab.members.items():
        items = (await member.client.list(CONFIGMAPS, namespace)).items
        found[name] = sum(1 for item in items if item["metadata"]["name"].startswith("c-"))
    return found


async def _equals(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


async def forty(lab: FleetLab, namespace: str = "default") -> None:
    for number in range(COUNT):
        await lab.client.create(CONFIGMAPS, config(f"c-{number}", namespace))
    await lab.until(lambda: _equals(copies(lab, namespace), dict.fromkeys(lab.members, COUNT)))


def test_a_changed_policy_deletes_no_more_than_the_budget_till_a_person_confirms() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, all_configs())
            await forty(lab)
            only_one = {"spec": {"placement": {"clusterAffinity": {"clusterNames": ["member1"]}}}}
            await lab.client.patch(POLICY, "all", only_one, "default")
            await asyncio.sleep(30)
            left = await copies(lab)
            assert left["member1"] == COUNT
            assert left["member2"] + left["member3"] == 2 * COUNT - 24  # a fifth of 120
            budget = await lab.client.get(kinds.DESTRUCTION_BUDGETS, "default")
            held = budget["status"]["held"][0]
            assert (held["kind"], held["objects"]) == ("ConfigMap", 2 * COUNT - 24)
            assert held["confirm"] == f"kubectl annotate destructionbudget default {CONFIRM}=ConfigMap --overwrite"
            assert lab.hub is not None
            late = max(lab.hub.budget.held["ConfigMap"].objects)
            note = {"metadata": {"annotations": {CONFIRM: "ConfigMap"}}}
            await lab.client.patch(kinds.DESTRUCTION_BUDGETS, "default", note)
            await lab.until(lambda: _equals(copies(lab), {"member1": COUNT, "member2": 0, "member3": 0}))
            await lab.until(lambda: _nothing_held(lab))
            budget = await lab.client.get(kinds.DESTRUCTION_BUDGETS, "default")
            assert CONFIRM not in (budget["metadata"].get("annotations") or {})
            hub = lab.hub  # a look at a cache that still has the copy asks once more, and is told no: it is gone by now
            assert hub is not None
            await lab.until(lambda: not hub.budget.take("ConfigMap", late, "late"))
            await asyncio.sleep(2)
            assert not await _nothing_held(lab)
            await lab.client.patch(CONFIGMAPS, late.split("/")[-1], {"data": {"a": "2"}}, "default")
            await lab.until(lambda: _nothing_held(lab))

    async def _nothing_held(lab: FleetLab) -> bool:
        return not (await lab.client.get(kinds.DESTRUCTION_BUDGETS, "default"))["status"]["held"]

    run_virtual(story())


def test_a_policy_put_right_withdraws_what_was_held() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, all_configs())
            await forty(lab)
            fewer = {"spec": {"placement": {"clusterAffinity": {"exclude": ["member3"]}}}}
            await lab.client.patch(POLICY, "all", fewer, "default")
            await asyncio.sleep(5)
            await lab.client.patch(POLICY, "all", {"spec": {"placement": {"clusterAffinity": None}}}, "default")
            await lab.until(lambda: _equals(copies(lab), dict.fromkeys(lab.members, COUNT)))
            await lab.until(lambda: _none_held(lab))

    async def _none_held(lab: FleetLab) -> bool:
        return not (await lab.client.get(kinds.DESTRUCTION_BUDGETS, "default")).get("status", {}).get("held")

    run_virtual(story())


def test_the_cascade_of_a_namespace_is_held_too_but_templates_deleted_by_name_are_not() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
            wide = all_configs()
            wide |= {"kind": "ClusterPropagationPolicy", "metadata": {"name": "all"}}
            await lab.client.create(kinds.CLUSTER_PROPAGATION_POLICIES, wide)
            await forty(lab, "shop")
            await forty(lab)
            for number in range(COUNT):
                await lab.client.delete(CONFIGMAPS, f"c-{number}", "default")
            await lab.until(lambda: _equals(copies(lab), dict.fromkeys(lab.members, 0)))
            await lab.client.delete(NAMESPACES, "shop")
            await asyncio.sleep(30)
            assert sum((await copies(lab, "shop")).values()) == 3 * COUNT - 24
            note = {"metadata": {"annotations": {CONFIRM: "all"}}}
            await lab.client.patch(kinds.DESTRUCTION_BUDGETS, "default", note)
            await lab.until(lambda: _gone(lab), 120)

    async def _gone(lab: FleetLab) -> bool:
        return await lab.get(NAMESPACES, "shop", None) is None

    run_virtual(story())


def test_an_emptied_cluster_is_filled_again_and_nothing_is_deleted_elsewhere() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, all_configs())
            await forty(lab)
            for number in range(COUNT):
                await lab.members["member2"].client.delete(CONFIGMAPS, f"c-{number}", "default")
            await lab.until(lambda: _equals(copies(lab), dict.fromkeys(lab.members, COUNT)))

    run_virtual(story())


def test_a_noexecute_taint_moves_what_does_not_tolerate_it_without_a_gap() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            lowest = 9
            taint = {"spec": {"taints": [{"key": "drain", "effect": "NoExecute"}]}}
            await lab.client.patch(kinds.CLUSTERS, "member1", taint)
            for _ in range(200):
                lowest = min(lowest, await _running(lab))
                await asyncio.sleep(0.05)
            assert await lab.replicas("web") == {"member2": 5, "member3": 4}
            assert lowest == 9
            await lab.client.patch(kinds.CLUSTERS, "member1", {"spec": {"taints": None}})
            await lab.until(lambda: _equals(lab.replicas("web"), dict.fromkeys(lab.members, 3)))

    async def _running(lab: FleetLab) -> int:
        total = 0
        for member in lab.members:
            live = await lab.in_member(member, DEPLOYMENTS, "web")
            total += int(((live or {}).get("status") or {}).get("readyReplicas") or 0)
        return total

    run_virtual(story())


async def _ready(lab: FleetLab, wanted: int) -> bool:
    return await lab.ready("web") == wanted


def test_a_rebalance_forgets_what_stands() -> None:
    async def story() -> None:
        async with fleet_lab(members=2) as lab:
            dynamic = {"placement": {"replicaScheduling": {
                "replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted",
                "weightPreference": {"dynamicWeight": "AvailableReplicas"}},
                "clusterAffinity": {"clusterNames": ["member1"]}}}  # fmt: skip
            await lab.client.create(POLICY, policy(**dynamic))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=6))
            await lab.until(lambda: _ready(lab, 6))
            both = {"spec": {"placement": {"clusterAffinity": {"clusterNames": ["member1", "member2"]}}}}
            await lab.client.patch(POLICY, "web", both, "default")
            await asyncio.sleep(3)
            assert await lab.replicas("web") == {"member1": 6}
            rebalance = {
                "apiVersion": "apps.karmada.io/v1alpha1", "kind": "WorkloadRebalancer", "metadata": {"name": "now"},
                "spec": {"workloads": [{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
                                        "namespace": "default"}]},
            }  # fmt: skip
            await lab.client.create(kinds.WORKLOAD_REBALANCERS, rebalance)
            await lab.until(lambda: _spread(lab))
            await asyncio.sleep(5)
            assert await lab.ready("web") == 6
            done = await lab.client.get(kinds.WORKLOAD_REBALANCERS, "now")
            assert done["status"]["observedWorkloads"][0]["result"] == "Successful"

    async def _spread(lab: FleetLab) -> bool:
        found = await lab.replicas("web")
        return sum(found.values()) == 6 and len(found) == 2

    run_virtual(story())


def test_affinity_groups_fall_over_in_order() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            groups = {"placement": {
                "clusterAffinities": [{"affinityName": "first", "clusterNames": ["member1"]},
                                      {"affinityName": "second", "clusterNames": ["member2", "member3"]}],
                "replicaScheduling": {"replicaSchedulingType": "Divided", "replicaDivisionPreference": "Weighted"},
                "clusterTolerations": [{"key": "cluster.karmada.io/not-ready", "operator": "Exists",
                                        "tolerationSeconds": 1}]}}  # fmt: skip
            await lab.client.create(POLICY, policy(**groups))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=4))
            await lab.until(lambda: _ready(lab, 4))
            assert await lab.replicas("web") == {"member1": 4}
            lab.cut("member1")
            await lab.until(lambda: _has(lab, {"member2": 2, "member3": 2}))
            binding = await lab.client.get(kinds.RESOURCE_BINDINGS, "web-deployment", "default")
            assert binding["status"]["schedulerObservingAffinityName"] == "second"
            lab.heal("member1")
            await asyncio.sleep(10)
            assert await lab.replicas("web") == {"member2": 2, "member3": 2}

    async def _has(lab: FleetLab, wanted: dict[str, int]) -> bool:
        found = await lab.replicas("web")
        found.pop("member1", None)
        return found == wanted and await lab.ready("web") == 4

    run_virtual(story())
