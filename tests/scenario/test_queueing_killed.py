"""The queues' controllers killed at every turn of the loop: topology and provisioning checks, in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from queueing_world import FLAVOR, QueueingWorld, job, queueing_world, setup
from turns import killed_before

from atoll.capacity.queueing import read
from atoll.capacity.queueing.provisioning import PROVISIONING_REQUESTS
from atoll.kinds import kueue
from atoll.kinds.builtin import CUSTOM_RESOURCE_DEFINITIONS, JOBS, NODES, POD_TEMPLATES
from atoll.objects.meta import condition
from atoll.runtime.virtual import run_virtual

RACK, HOST = "cloud.provider.com/topology-rack", "kubernetes.io/hostname"
API = f"{kueue.GROUP}/{kueue.VERSION}"
SHARES = 8
Scenario = Callable[[QueueingWorld], Awaitable[None]]


def once(prepare: Scenario, scenario: Scenario, watched: Scenario, kill_at: int | None) -> int:
    """Play it, the controllers killed before that turn and started again a moment later; how many turns there were."""

    async def main() -> int:
        async with queueing_world() as world:
            await prepare(world)
            watching = asyncio.create_task(watched(world))
            with killed_before(kill_at, world.kill, world.start) as turns:
                await scenario(world)
                async with asyncio.timeout(900):
                    await watching
        return turns.count

    return run_virtual(main())


def holds(obj: Any, kind: str) -> bool:
    return (condition(obj, kind) or {}).get("status") == "True"


class Admissions:
    """How often each workload got quota."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()
        self.counts: Counter[str] = Counter()

    def look(self, obj: Any) -> None:
        reserved = condition(obj, "QuotaReserved") or {}
        if reserved.get("status") == "True":
            at = (obj["metadata"]["uid"], reserved["lastTransitionTime"])
            if at not in self._seen:
                self._seen.add(at)
                self.counts[obj["metadata"]["ownerReferences"][0]["name"]] += 1


# -- topology: a rack is cleared


async def two_racks(world: QueueingWorld) -> None:
    """Of two hosts with two cpus each."""
    for number in range(4):
        labels = {RACK: f"rack-{number // 2}", HOST: f"host-{number}", "pool": "gpu"}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"host-{number}", "labels": labels}}
        made = await world.client.create(NODES, node)
        made = await world.client.update(NODES, {**made, "spec": {}})
        room = {"cpu": "2", "pods": "20"}
        status = {"allocatable": room, "capacity": room, "conditions": [{"type": "Ready", "status": "True"}]}
        await world.client.update(NODES, {**made, "status": status}, subresource="status")
    levels = [{"nodeLabel": RACK}, {"nodeLabel": HOST}]
    topology = {"apiVersion": API, "kind": "Topology", "metadata": {"name": "racks"}, "spec": {"levels": levels}}
    await world.client.create(kueue.TOPOLOGIES, topology)
    policy = {"withinClusterQueue": "LowerPriority"}
    await world.apply(
        {**FLAVOR, "spec": {"nodeLabels": {"pool": "gpu"}, "topologyName": "racks"}},
        *setup("q", 100, preemption=policy),
    )
    for name, value in (("low", 1), ("high", 9)):
        made = {"apiVersion": API, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
        await world.client.create(kueue.WORKLOAD_PRIORITY_CLASSES, made)
    await asyncio.sleep(2)


def in_a_rack(name: str, pods: int, seconds: int, priority: str) -> Any:
    made = job(name, "q", 1, pods, seconds, **{kueue.PRIORITY_CLASS_LABEL: priority})
    made["spec"]["template"]["metadata"]["annotations"][kueue.REQUIRED_TOPOLOGY] = RACK
    return made


async def a_gang_clears_a_rack(world: QueueingWorld) -> None:
    await world.apply(in_a_rack("one", 3, 40, "low"))
    await asyncio.sleep(2)
    await world.apply(in_a_rack("two", 3, 40, "low"))
    await asyncio.sleep(3)
    await world.apply(in_a_rack("gang", 4, 5, "high"))


async def no_host_is_given_twice(world: QueueingWorld) -> None:
    admissions = Admissions()
    async for event in world.client.watch(kueue.WORKLOADS, resource_version="0"):
        items = (await world.client.list(kueue.WORKLOADS)).items
        given: Counter[str] = Counter()
        for item in items:
            if holds(item, "QuotaReserved") and not holds(item, "Finished"):
                for pods in item["status"]["admission"]["podSetAssignments"]:
                    topology = read.topology_assignment(pods["topologyAssignment"])
                    assert topology is not None
                    racks = {int(values[-1][-1]) // 2 for values, _ in topology.domains}
                    assert len(racks) == 1 and sum(count for _, count in topology.domains) == pods["count"]
                    given.update({values[-1]: count for values, count in topology.domains})
        assert all(count <= 2 for count in given.values()), given
        admissions.look(event.object)
        if len(items) == 3 and all(holds(item, "Finished") for item in items):
            break
    assert admissions.counts == {"one": 1, "two": 2, "gang": 1}, "the one that was preempted runs twice"
    for name in ("one", "two", "gang"):
        assert holds(await world.client.get(JOBS, name, "default"), "Complete")


@pytest.mark.parametrize("share", range(SHARES))
def test_a_rack_that_is_cleared_is_given_once_wherever_the_controllers_die(share: int) -> None:
    total = once(two_racks, a_gang_clears_a_rack, no_host_is_given_twice, None)
    assert total > 100
    for kill_at in range(1 + share, total, SHARES):
        once(two_racks, a_gang_clears_a_rack, no_host_is_given_twice, kill_at)


# -- a provisioning check: one request an attempt


async def a_checked_queue(world: QueueingWorld) -> None:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
               "subresources": {"status": {}}}  # fmt: skip
    names = {"plural": "provisioningrequests", "kind": "ProvisioningRequest"}
    spec = {"group": "autoscaling.x-k8s.io", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
           "metadata": {"name": "provisioningrequests.autoscaling.x-k8s.io"}, "spec": spec}  # fmt: skip
    await world.client.create(CUSTOM_RESOURCE_DEFINITIONS, crd)
    config = {"provisioningClassName": "queued", "retryStrategy": {"backoffLimitCount": 1, "backoffBaseSeconds": 10}}
    made = {"apiVersion": API, "kind": "ProvisioningRequestConfig", "metadata": {"name": "config"}, "spec": config}
    await world.client.create(kueue.PROVISIONING_CONFIGS, made)
    parameters = {"apiGroup": kueue.GROUP, "kind": "ProvisioningRequestConfig", "name": "config"}
    check = {"controllerName": "kueue.x-k8s.io/provisioning-request", "parameters": parameters}
    strategy = {"admissionChecks": [{"name": "check"}]}
    await world.apply(
        {"apiVersion": API, "kind": "AdmissionCheck", "metadata": {"name": "check"}, "spec": check},
        FLAVOR,
        *setup("q", 2, admissionChecksStrategy=strategy),
    )
    await asyncio.sleep(3)


async def the_first_request_fails(world: QueueingWorld) -> None:
    """An autoscaler that says no to the first attempt of each workload, yes to the next."""
    await world.apply(job("train", "q", 2, 1, 5))
    answered: set[str] = set()
    while len(answered) < 2:
        for request in (await world.client.list(PROVISIONING_REQUESTS)).items:
            name = request["metadata"]["name"]
            if name not in answered:
                answered.add(name)
                kind = "Failed" if name.endswith("-check-1") else "Provisioned"
                said = [{"type": kind, "status": "True", "reason": kind, "message": ""}]
                new = {**request, "status": {"conditions": said}}
                await world.client.update(PROVISIONING_REQUESTS, new, subresource="status")
        await asyncio.sleep(1)


async def two_attempts_and_one_run(world: QueueingWorld) -> None:
    admissions = Admissions()
    async for event in world.client.watch(kueue.WORKLOADS, resource_version="0"):
        obj = event.object
        admissions.look(obj)
        if holds(obj, "Admitted"):
            (entry,) = obj["status"]["admissionChecks"]
            assert entry["state"] == "Ready" and entry["retryCount"] == 1
        if holds(obj, "Finished"):
            break
    assert admissions.counts == {"train": 2}
    requests = [item["metadata"]["name"] for item in (await world.client.list(PROVISIONING_REQUESTS)).items]
    assert sorted(name[-8:] for name in requests) == ["-check-1", "-check-2"]
    assert len((await world.client.list(POD_TEMPLATES)).items) == 2


@pytest.mark.parametrize("share", range(SHARES))
def test_a_provisioning_check_asks_once_an_attempt_wherever_the_controllers_die(share: int) -> None:
    total = once(a_checked_queue, the_first_request_fails, two_attempts_and_one_run, None)
    assert total > 100
    for kill_at in range(1 + share, total, SHARES):
        once(a_checked_queue, the_first_request_fails, two_attempts_and_one_run, kill_at)
