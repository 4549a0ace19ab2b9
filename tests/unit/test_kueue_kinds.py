"""Kueue's kinds as they are served: two versions of one object, converted by the server."""

import asyncio
from pathlib import Path

import pytest
import yaml

from atoll.base.errors import Invalid
from atoll.client.port import Object
from atoll.kinds import kueue
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS
from atoll.kinds.kueue_conversion import NEW, OLD, convert
from atoll.kinds.resource import Resource
from atoll.runtime.virtual import LoopClock, run_virtual
from atoll.testing.cluster import TestCluster, new_cluster

INPUTS = Path(__file__).parents[3] / "shared" / "inputs" / "kueue"


def old(resource: Resource) -> Resource:
    return Resource(resource.group, "v1beta1", resource.plural, resource.kind, resource.namespaced)


async def queueing_cluster() -> TestCluster:
    made = await new_cluster(clock=LoopClock(asyncio.get_running_loop()))
    for crd in kueue.custom_resource_definitions():
        await made.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    await asyncio.sleep(1)
    return made


def queue(**spec: object) -> Object:
    flavor = {"name": "default", "resources": [{"name": "cpu", "nominalQuota": "4"}]}
    groups = [{"coveredResources": ["cpu"], "flavors": [flavor]}]
    return {"metadata": {"name": "q"}, "spec": {"resourceGroups": groups, **spec}}


def test_a_cluster_queue_is_the_same_object_in_both_versions() -> None:
    async def main() -> None:
        client = (await queueing_cluster()).client
        made = await client.create(
            old(kueue.CLUSTER_QUEUES),
            {"apiVersion": OLD, "kind": "ClusterQueue"}
            | queue(
                cohort="all",
                admissionChecks=["look"],
                flavorFungibility={"whenCanBorrow": "Borrow", "whenCanPreempt": "Preempt"},
            ),
        )
        assert made["spec"]["cohort"] == "all"
        new = await client.get(kueue.CLUSTER_QUEUES, "q")
        assert new["apiVersion"] == NEW
        assert new["spec"]["cohortName"] == "all"
        assert new["spec"]["admissionChecksStrategy"] == {"admissionChecks": [{"name": "look"}]}
        assert new["spec"]["flavorFungibility"]["whenCanBorrow"] == "MayStopSearch"
        changed = await client.patch(old(kueue.CLUSTER_QUEUES), "q", {"spec": {"cohort": "other"}})
        assert changed["spec"]["cohort"] == "other"
        assert (await client.get(kueue.CLUSTER_QUEUES, "q"))["spec"]["cohortName"] == "other"
        listed = await client.list(old(kueue.CLUSTER_QUEUES))
        assert [item["spec"]["cohort"] for item in listed.items] == ["other"]

    run_virtual(main())


def test_the_schema_s_rules_hold() -> None:
    async def main() -> None:
        client = (await queueing_cluster()).client
        bad = queue()
        bad["spec"]["resourceGroups"][0]["flavors"][0]["resources"][0]["borrowingLimit"] = "1"
        with pytest.raises(Invalid, match="borrowingLimit must be nil when cohort is empty"):
            await client.create(kueue.CLUSTER_QUEUES, {"apiVersion": NEW, "kind": "ClusterQueue"} | bad)

    run_virtual(main())


@pytest.mark.skipif(not INPUTS.is_dir(), reason="the published manifests are not on this machine")
def test_published_setups_are_accepted() -> None:
    async def main() -> None:
        client = (await queueing_cluster()).client
        for name in ("single-clusterqueue-setup.yaml",):
            for obj in filter(None, yaml.safe_load_all((INPUTS / name).read_text())):
                resource = next(
                    item
                    for item in (kueue.CLUSTER_QUEUES, kueue.LOCAL_QUEUES, kueue.RESOURCE_FLAVORS)
                    if item.kind == obj["kind"]
                )
                await client.create(resource, obj)
        assert len((await client.list(old(kueue.RESOURCE_FLAVORS))).items) == 1

    run_virtual(main())


WORKLOAD: Object = {
    "apiVersion": OLD,
    "kind": "Workload",
    "metadata": {"name": "w"},
    "spec": {
        "podSets": [],
        "priority": 5,
        "priorityClassName": "high",
        "priorityClassSource": "kueue.x-k8s.io/workloadpriorityclass",
    },
    "status": {
        "accumulatedPastExexcutionTimeSeconds": 7,
        "admission": {
            "clusterQueue": "q",
            "podSetAssignments": [
                {
                    "name": "main",
                    "topologyAssignment": {
                        "levels": ["block", "rack"],
                        "domains": [
                            {"values": ["b1", "r1"], "count": 2},
                            {"values": ["b1", "r2"], "count": 3},
                        ],
                    },
                }
            ],
        },
    },
}


def test_a_workload_goes_there_and_back() -> None:
    new = convert(WORKLOAD, NEW)
    assert new["spec"]["priorityClassRef"] == {
        "group": "kueue.x-k8s.io",
        "kind": "WorkloadPriorityClass",
        "name": "high",
    }
    assert new["status"]["accumulatedPastExecutionTimeSeconds"] == 7
    topology = new["status"]["admission"]["podSetAssignments"][0]["topologyAssignment"]
    assert topology["slices"] == [
        {
            "domainCount": 2,
            "valuesPerLevel": [{"universal": "b1"}, {"individual": {"roots": ["r1", "r2"]}}],
            "podCounts": {"individual": [2, 3]},
        }
    ]
    assert convert(new, OLD) == WORKLOAD


def test_other_kinds_go_there_and_back() -> None:
    cluster = {"apiVersion": OLD, "kind": "MultiKueueCluster", "spec": {"kubeConfig": {"location": "s"}}}
    assert convert(cluster, NEW)["spec"] == {"clusterSource": {"kubeConfig": {"location": "s"}}}
    assert convert(convert(cluster, NEW), OLD) == cluster
    local = {"apiVersion": OLD, "kind": "LocalQueue", "spec": {}, "status": {"flavorUsage": [], "flavors": []}}
    assert convert(local, NEW)["status"] == {"flavorsUsage": []}
    check = {"apiVersion": OLD, "kind": "AdmissionCheck", "spec": {"controllerName": "c", "retryDelayMinutes": 3}}
    assert convert(check, NEW)["spec"] == {"controllerName": "c"}
