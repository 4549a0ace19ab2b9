"""Propagation end to end, in virtual time."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet_lab import POLICY, FleetLab, deployment, divided, fleet_lab, policy

from atoll.base.errors import NotFound
from atoll.client.port import Object
from atoll.fleet import names
from atoll.kinds import hub as kinds
from atoll.kinds.builtin import (
    CONFIGMAPS,
    CUSTOM_RESOURCE_DEFINITIONS,
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    JOBS,
    NAMESPACES,
    NODES,
    SECRETS,
    SERVICES,
    STATEFUL_SETS,
)
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import run_virtual

INPUTS = Path(__file__).parents[3] / "shared" / "inputs" / "karmada-nginx"


async def _ready(lab: FleetLab, wanted: int, name: str = "web") -> bool:
    return await lab.ready(name) == wanted


async def _equals(found: Any, wanted: Any) -> bool:
    return bool(await found == wanted)


def _definition(plural: str, kind: str) -> Object:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.shop.example"},
        "spec": {"group": "shop.example", "scope": "Namespaced",
                 "names": {"plural": plural, "singular": kind.lower(), "kind": kind},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}]},
    }  # fmt: skip


async def _lists(lab: FleetLab, resource: Resource) -> bool:
    try:
        return not (await lab.client.list(resource)).items
    except NotFound:
        return False


async def _present(lab: FleetLab, resource: Resource, name: str, members: set[str]) -> bool:
    found = {member for member in lab.members if await lab.in_member(member, resource, name) is not None}
    return found == members


def config(name: str = "settings", **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def config_policy(name: str = "settings", **spec: Any) -> Object:
    return policy(name, kind="ConfigMap", api_version="v1", **spec)


ALL = {"member1", "member2", "member3"}


def test_divided_over_three_members_with_status_back() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment(replicas=10))
            await lab.until(lambda: _ready(lab, 10))
            assert await lab.replicas("web") == {"member1": 4, "member2": 3, "member3": 3}
            live = await lab.client.get(DEPLOYMENTS, "web", "default")
            status = live["status"]
            assert status["observedGeneration"] == live["metadata"]["generation"]
            conditions = {item["type"]: item["status"] for item in status["conditions"]}
            assert conditions == {"Available": "True", "Progressing": "True"}

    run_virtual(story())


@pytest.mark.skipif(not INPUTS.is_dir(), reason="the inputs are not on this machine")
def test_karmadas_own_example_works_as_written() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            for file, resource in (("deployment", DEPLOYMENTS), ("propagationpolicy", POLICY),
                                   ("overridepolicy", kinds.OVERRIDE_POLICIES)):  # fmt: skip
                await lab.client.create(resource, yaml.safe_load((INPUTS / f"{file}.yaml").read_text()), "default")
            await lab.until(lambda: _ready(lab, 2, "nginx"))
            assert await lab.replicas("nginx") == {"member1": 1, "member2": 1}

            async def overridden() -> bool:
                first = await lab.in_member("member1", DEPLOYMENTS, "nginx")
                second = await lab.in_member("member2", DEPLOYMENTS, "nginx")
                labels = second["metadata"]["labels"]
                return first["metadata"]["annotations"].get("env") == "skoala-stage" and (
                    labels.get("env"), labels.get("env-stat")) == ("skoala-dev", "skoala-stage")  # fmt: skip

            await lab.until(overridden)

    run_virtual(story())


def test_drift_is_repaired_and_what_others_own_is_left() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            member = lab.members["member1"].client
            change = {"spec": {"replicas": 1}, "metadata": {"labels": {"mine": "yes"}, "finalizers": ["a.example/b"]}}
            await member.patch(DEPLOYMENTS, "web", change, "default")
            await lab.until(lambda: _equals(lab.replicas("web"), dict.fromkeys(sorted(ALL), 3)), 2)
            live = await member.get(DEPLOYMENTS, "web", "default")
            assert live["metadata"]["labels"]["mine"] == "yes"
            assert live["metadata"]["finalizers"] == ["a.example/b"]
            await member.patch(DEPLOYMENTS, "web", {"metadata": {"finalizers": None}}, "default")
            await member.delete(DEPLOYMENTS, "web", "default")
            await lab.until(lambda: _equals(lab.replicas("web"), dict.fromkeys(sorted(ALL), 3)), 2)

    run_virtual(story())


def test_replicas_under_an_autoscaler_belong_to_the_member() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            member = lab.members["member2"].client
            scaler = {
                "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"maxReplicas": 9, "scaleTargetRef": {
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
            }  # fmt: skip
            await member.create(HORIZONTAL_POD_AUTOSCALERS, scaler)
            await asyncio.sleep(0.5)
            await member.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 6}}, "default")
            await asyncio.sleep(3)
            note = {"spec": {"template": {"metadata": {"annotations": {"edited": "yes"}}}}}
            await lab.client.patch(DEPLOYMENTS, "web", note, "default")
            await asyncio.sleep(3)
            assert await lab.replicas("web") == {"member1": 3, "member2": 6, "member3": 3}

    run_virtual(story())


def test_what_was_there_before_is_left_alone_unless_the_policy_says_overwrite() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.members["member1"].client.create(CONFIGMAPS, config(owner="member"))
            await lab.client.create(POLICY, config_policy())
            await lab.client.create(CONFIGMAPS, config(owner="hub"))
            await lab.until(lambda: _said(lab))
            assert (await lab.in_member("member1", CONFIGMAPS, "settings"))["data"] == {"owner": "member"}
            assert (await lab.in_member("member2", CONFIGMAPS, "settings"))["data"] == {"owner": "hub"}
            await lab.client.patch(POLICY, "settings", {"spec": {"conflictResolution": "Overwrite"}}, "default")
            await lab.until(lambda: _owner(lab))

    async def _said(lab: FleetLab) -> bool:
        binding = await lab.get(kinds.RESOURCE_BINDINGS, "settings-configmap")
        items = ((binding or {}).get("status") or {}).get("aggregatedStatus") or ()
        return any("not managed by this hub" in item.get("appliedMessage", "") for item in items)

    async def _owner(lab: FleetLab) -> bool:
        return bool((await lab.in_member("member1", CONFIGMAPS, "settings"))["data"] == {"owner": "hub"})

    run_virtual(story())


def test_deleting_a_template_removes_the_copies_and_deleting_a_policy_keeps_them() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            for name in ("settings", "kept"):
                await lab.client.create(POLICY, config_policy(name))
                await lab.client.create(CONFIGMAPS, config(name, a="1"))
                await lab.until(lambda name=name: _present(lab, CONFIGMAPS, name, ALL))
            await lab.client.delete(CONFIGMAPS, "settings", "default")
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", set()), 2)
            await lab.until(lambda: _equals(lab.get(CONFIGMAPS, "settings"), None), 2)
            await lab.client.delete(POLICY, "kept", "default")
            await lab.until(lambda: _unmanaged(lab), 2)
            await asyncio.sleep(5)
            assert await _present(lab, CONFIGMAPS, "kept", ALL)
            await lab.client.delete(CONFIGMAPS, "kept", "default")
            await lab.until(lambda: _present(lab, CONFIGMAPS, "kept", set()), 2)

    async def _unmanaged(lab: FleetLab) -> bool:
        template = await lab.client.get(CONFIGMAPS, "kept", "default")
        binding = await lab.client.get(kinds.RESOURCE_BINDINGS, "kept-configmap", "default")
        conditions = {item["type"]: item["message"] for item in (binding.get("status") or {}).get("conditions") or ()}
        told = (template["metadata"].get("annotations") or {}).get(names.UNMANAGED, "")
        return "nothing manages the copies" in told and "nothing manages" in conditions.get("Managed", "")

    run_virtual(story())


def test_resources_may_be_preserved_on_deletion() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, config_policy(preserveResourcesOnDeletion=True))
            await lab.client.create(CONFIGMAPS, config(a="1"))
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", ALL))
            await lab.client.delete(CONFIGMAPS, "settings", "default")
            await lab.until(lambda: _equals(lab.get(CONFIGMAPS, "settings"), None), 2)
            assert await _present(lab, CONFIGMAPS, "settings", ALL)
            left = await lab.in_member("member1", CONFIGMAPS, "settings")
            assert names.PREFIX not in str(left["metadata"].get("labels")) + str(left["metadata"].get("annotations"))

    run_virtual(story())


def test_dependencies_follow_the_workload() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            web = deployment(replicas=2)
            web["spec"]["template"]["spec"]["volumes"] = [{"name": "c", "configMap": {"name": "settings"}}]
            web["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": "pull"}]
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": "default"}}
            await lab.client.create(CONFIGMAPS, config(a="1"))
            await lab.client.create(SECRETS, secret)
            affinity = {"clusterAffinity": {"clusterNames": ["member1", "member2"]}}
            await lab.client.create(POLICY, policy(propagateDeps=True, **divided(**affinity)))
            await lab.client.create(DEPLOYMENTS, web)
            for resource, name in ((CONFIGMAPS, "settings"), (SECRETS, "pull")):
                await lab.until(lambda r=resource, n=name: _present(lab, r, n, {"member1", "member2"}), 5)
            await lab.client.patch(
                POLICY, "web", {"spec": {"placement": {"clusterAffinity": {"clusterNames": ["member3"]}}}}, "default"
            )
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", {"member3"}), 5)
            await lab.client.delete(DEPLOYMENTS, "web", "default")
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", set()), 5)
            live = await lab.client.get(CONFIGMAPS, "settings", "default")
            await lab.until(lambda: _free(lab))
            assert live["data"] == {"a": "1"}

    async def _free(lab: FleetLab) -> bool:
        return not (await lab.client.get(CONFIGMAPS, "settings", "default"))["metadata"].get("finalizers")

    run_virtual(story())


def test_suspended_dispatching_holds_changes_back() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            held = {"suspension": {"dispatchingOnClusters": {"clusterNames": ["member2"]}}}
            await lab.client.create(POLICY, config_policy(**held))
            await lab.client.create(CONFIGMAPS, config(a="1"))
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", {"member1", "member3"}))
            await asyncio.sleep(2)
            assert await lab.in_member("member2", CONFIGMAPS, "settings") is None
            assert await _dispatching(lab) == "False"
            binding = await lab.client.get(kinds.RESOURCE_BINDINGS, "settings-configmap", "default")
            told = {
                item["clusterName"]: item.get("appliedMessage", "") for item in binding["status"]["aggregatedStatus"]
            }
            assert "suspended" in told["member2"] and not told["member1"]
            await lab.client.patch(POLICY, "settings", {"spec": {"suspension": None}}, "default")
            await lab.until(lambda: _present(lab, CONFIGMAPS, "settings", ALL), 2)
            await lab.until(lambda: _is_dispatching(lab), 2)

    async def _dispatching(lab: FleetLab) -> str:
        (work,) = (await lab.client.list(kinds.WORKS, "karmada-es-member2")).items
        conditions = work["status"]["conditions"]
        return str(next(one["status"] for one in conditions if one["type"] == "Dispatching"))

    async def _is_dispatching(lab: FleetLab) -> bool:
        return await _dispatching(lab) == "True"

    run_virtual(story())


def test_namespaces_are_everywhere_and_services_keep_their_members_addresses() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            shop = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
            await lab.members["member3"].client.create(NAMESPACES, shop)
            await lab.client.create(NAMESPACES, shop)
            one = policy("web", kind="Service", api_version="v1")
            one["metadata"]["namespace"] = "shop"
            await lab.client.create(POLICY, one)
            service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
                       "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 80}]}}  # fmt: skip
            made = await lab.client.create(SERVICES, service)
            await lab.until(lambda: _all_have(lab, "web"))
            assert made["spec"]["ports"][0].get("nodePort")
            works = (await lab.client.list(kinds.WORKS, "karmada-es-member1")).items
            carried = [work["spec"]["workload"]["manifests"][0] for work in works]
            port = next(item for item in carried if item["kind"] == "Service")["spec"]["ports"][0]
            assert "nodePort" not in port
            await lab.client.delete(NAMESPACES, "shop")
            await lab.until(lambda: _equals(lab.get(NAMESPACES, "shop", None), None), 20)
            for member in ("member1", "member2"):
                await lab.until(lambda member=member: _no_namespace(lab, member), 20)
            assert not await _no_namespace(lab, "member3")  # it was there before the hub
            assert await lab.in_member("member3", SERVICES, "web", "shop") is None

    async def _all_have(lab: FleetLab, name: str) -> bool:
        return all([await lab.in_member(member, SERVICES, name, "shop") for member in lab.members])

    async def _no_namespace(lab: FleetLab, member: str) -> bool:
        return await lab.in_member(member, NAMESPACES, "shop", None) is None

    run_virtual(story())


def test_a_rollout_is_told_as_it_goes() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            await lab.client.create(POLICY, policy(**divided()))
            await lab.client.create(DEPLOYMENTS, deployment())
            await lab.until(lambda: _ready(lab, 9))
            change = {"spec": {"template": {"metadata": {"annotations": {"version": "2"}}}}}
            edited = await lab.client.patch(DEPLOYMENTS, "web", change, "default")
            generation = edited["metadata"]["generation"]
            assert edited["status"]["observedGeneration"] < generation

            async def rolled() -> bool:
                live = await lab.client.get(DEPLOYMENTS, "web", "default")
                status = live["status"]
                if status["observedGeneration"] < generation:
                    return False
                told = {status.get(name) for name in ("updatedReplicas", "replicas", "availableReplicas")}
                return told == {9}  # a count of none is left out

            await lab.until(rolled)

    run_virtual(story())


def test_jobs_and_stateful_sets() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            pod = {"metadata": {"annotations": {"scenario/exit-code": "0", "scenario/run-seconds": "1"}},
                   "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}}  # fmt: skip
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "sum", "namespace": "default"},
                   "spec": {"parallelism": 3, "completions": 6, "template": pod}}  # fmt: skip
            await lab.client.create(POLICY, policy("sum", kind="Job", api_version="batch/v1", **divided()))
            await lab.client.create(JOBS, job)

            async def complete() -> bool:
                status = (await lab.client.get(JOBS, "sum", "default")).get("status") or {}
                return any(item["type"] == "Complete" for item in status.get("conditions") or ())

            await lab.until(complete)
            assert (await lab.client.get(JOBS, "sum", "default"))["status"]["succeeded"] == 6
            assert (await lab.in_member("member1", JOBS, "sum"))["spec"]["completions"] == 2
            data = deployment("data", 3)
            data |= {"kind": "StatefulSet"}
            data["spec"]["serviceName"] = "data"
            await lab.client.create(POLICY, policy("data", kind="StatefulSet", **divided()))
            await lab.client.create(STATEFUL_SETS, data)

            async def rolled() -> bool:
                status = (await lab.client.get(STATEFUL_SETS, "data", "default")).get("status") or {}
                same = status.get("currentRevision") and status.get("currentRevision") == status.get("updateRevision")
                return bool(same) and status.get("readyReplicas") == 3

            await lab.until(rolled)

    run_virtual(story())


def test_unplaced_replicas_say_why_and_are_placed_once_there_is_room() -> None:
    async def story() -> None:
        async with fleet_lab(members=1) as lab:
            dynamic = {"placement": {"replicaScheduling": {
                "replicaSchedulingType": "Divided", "replicaDivisionPreference": "Aggregated"}}}  # fmt: skip
            big = deployment(replicas=70)
            await lab.client.create(POLICY, policy(**dynamic))
            await lab.client.create(DEPLOYMENTS, big)
            await lab.until(lambda: _ready(lab, 60))  # three nodes, 20 pods each
            binding = await lab.client.get(kinds.RESOURCE_BINDINGS, "web-deployment", "default")
            scheduled = next(item for item in binding["status"]["conditions"] if item["type"] == "Scheduled")
            assert (scheduled["status"], scheduled["reason"]) == ("False", "InsufficientCapacity")
            assert "10 replicas are not placed" in scheduled["message"]
            member = lab.members["member1"].client
            for node in (await member.list(NODES)).items:
                change = {"status": {"allocatable": {"cpu": "4", "memory": "16Gi", "pods": "40"}}}
                await member.patch(NODES, node["metadata"]["name"], change, subresource="status")
            await lab.until(lambda: _ready(lab, 70))

    run_virtual(story())


def test_a_kind_that_nobody_serves_yet_is_propagated_once_it_is() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            crd = _definition("widgets", "Widget")
            await lab.client.create(POLICY, policy("w", kind="Widget", api_version="shop.example/v1"))
            wide = {"apiVersion": POLICY.api_version, "kind": "ClusterPropagationPolicy", "metadata": {"name": "crds"},
                    "spec": {"resourceSelectors": [{
                        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                        "name": "widgets.shop.example"}]}}  # fmt: skip
            await lab.client.create(kinds.CLUSTER_PROPAGATION_POLICIES, wide)
            await lab.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
            widgets = Resource("shop.example", "v1", "widgets", "Widget")
            metadata = {"name": "w", "namespace": "default"}
            widget = {"apiVersion": "shop.example/v1", "kind": "Widget", "metadata": metadata, "spec": {"size": 3}}
            await lab.until(lambda: _made(lab, widgets, widget))
            await lab.until(lambda: _arrived(lab, widgets), 10)

    async def _made(lab: FleetLab, resource: Resource, obj: Object) -> bool:
        try:
            await lab.client.create(resource, obj)
        except NotFound:
            return False
        return True

    async def _arrived(lab: FleetLab, resource: Resource) -> bool:
        try:
            return await _present(lab, resource, "w", ALL)
        except NotFound:
            return False

    run_virtual(story())


def test_a_kind_that_discovery_shows_late_is_propagated_all_the_same() -> None:
    """A real API server's discovery comes a while after its CRD is established, and no event tells of it."""

    async def story() -> None:
        async with fleet_lab() as lab:
            widgets = Resource("shop.example", "v1", "widgets", "Widget")
            for client in (lab.client, *(one.client for one in lab.members.values())):
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, _definition("widgets", "Widget"))
            await lab.until(lambda: _lists(lab, widgets))
            lab.hub_wire.unseen = "/apis/shop.example/v1"
            await lab.client.create(POLICY, policy("w", kind="Widget", api_version="shop.example/v1"))
            metadata = {"name": "w", "namespace": "default"}
            await lab.client.create(widgets, {"apiVersion": "shop.example/v1", "kind": "Widget", "metadata": metadata})
            await asyncio.sleep(20)
            assert not await _present(lab, widgets, "w", {"member1"})
            lab.hub_wire.unseen = ""
            await lab.until(lambda: _present(lab, widgets, "w", ALL), 35)

    run_virtual(story())


def test_a_kind_that_is_gone_does_not_keep_a_member_unknown() -> None:
    async def story() -> None:
        async with fleet_lab() as lab:
            crd = _definition("gadgets", "Gadget")
            gadgets = Resource("shop.example", "v1", "gadgets", "Gadget")
            assert lab.hub is not None
            for client in (lab.client, *(one.client for one in lab.members.values())):
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
            await lab.client.create(POLICY, policy("g", kind="Gadget", api_version="shop.example/v1"))
            gadget = {"apiVersion": "shop.example/v1", "kind": "Gadget"}
            gadget["metadata"] = {"name": "g", "namespace": "default"}  # type: ignore[assignment]
            await lab.until(lambda: _made(lab, gadgets, gadget))
            await lab.until(lambda: _arrived(lab, gadgets), 20)
            await lab.members["member2"].client.delete(CUSTOM_RESOURCE_DEFINITIONS, "gadgets.shop.example")
            lab.cut("member2")
            await lab.until(lambda: not lab.is_known("member2"))
            lab.heal("member2")
            await lab.until(lambda: lab.is_known("member2"), 20)
            await lab.client.delete(gadgets, "g", "default")
            await lab.until(lambda: _equals(lab.get(gadgets, "g"), None), 20)

    async def _made(lab: FleetLab, resource: Resource, obj: Object) -> bool:
        try:
            await lab.client.create(resource, obj)
        except NotFound:
            return False
        return True

    async def _arrived(lab: FleetLab, resource: Resource) -> bool:
        return await _present(lab, resource, "g", ALL)

    run_virtual(story())
