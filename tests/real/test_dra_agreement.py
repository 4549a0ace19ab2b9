"""The real kube-scheduler and kube-controller-manager against our allocator and claim plans on the same objects.

Pod by pod: the node that kube-scheduler picks is among those that we score best, the devices that it writes into the
claims are those that we would have written for that node, and where it refuses a pod, its words are ours.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from control_plane import available, control_plane
from test_scheduler_agreement import Real, message_of

from atoll.base.chance import Chance
from atoll.cluster.apiserver.expressions.selectors import CelSelectors
from atoll.cluster.workloads.resourceclaims.plan import Entry, new_claim
from atoll.objects.meta import condition
from atoll.scheduling.dra.model import AllocationError
from atoll.scheduling.plan import Planner

pytestmark = [pytest.mark.real, pytest.mark.skipif(not available(), reason="tests/real/build.py was not run")]

MODEL = "has($.model) && $.model == '%s'"
GROUP = "/apis/resource.k8s.io/v1"
CLAIMS = f"{GROUP}/namespaces/default/resourceclaims"
DRIVER = "gpu.example.com"


def gpu(name, model="H200", memory="141Gi", numa=0, **fields):
    return {
        "name": name,
        "attributes": {"model": {"string": model}, "numa": {"int": numa}, "driverVersion": {"version": "570.1.0"}},
        "capacity": {"memory": {"value": memory}},
        **fields,
    }


def slice_of(name, devices=None, pool=None, count=1, **fields):
    spec = {"driver": DRIVER, "pool": {"name": pool or name, "generation": 1, "resourceSliceCount": count}, **fields}
    if devices is not None:
        spec["devices"] = devices
    return {"metadata": {"name": name}, "spec": spec}


def part(name, memory):
    counters = [{"counterSet": "gpu-9", "counters": {"memory": {"value": memory}}}]
    return gpu(name, "MIG", memory, consumesCounters=counters)


def slices():
    quarters = [part(f"quarter-{number}", "20Gi") for number in range(4)]
    policy = {"default": "1G", "validRange": {"min": "1G", "step": "1G"}}
    nic = {"name": "nic", "allowMultipleAllocations": True, "allNodes": True, "capacity": {
        "bandwidth": {"value": "10G", "requestPolicy": policy}}}  # fmt: skip
    rack = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "rack", "operator": "In", "values": ["r0"]}]}]}
    sick = [{"key": "sick", "value": "xid-79", "effect": "NoSchedule"}]
    return [
        slice_of("n0", [gpu("gpu-0"), gpu("gpu-1", numa=1), gpu("gpu-2")], nodeName="n0"),
        slice_of("n1", [gpu("gpu-0", "L4", "24Gi"), gpu("gpu-1", "L4", "24Gi", taints=sick)], nodeName="n1"),
        slice_of("n2-counters", pool="n2", count=2, nodeName="n2", sharedCounters=[
            {"name": "gpu-9", "counters": {"memory": {"value": "80Gi"}}}]),
        slice_of("n2-parts", [part("whole", "80Gi"), part("half-0", "40Gi"), part("half-1", "40Gi"), *quarters],
                 pool="n2", count=2, nodeName="n2"),
        slice_of("fabric", [nic], perDeviceNodeSelection=True),
        slice_of("rack", [{"name": "switch", "attributes": {"kind": {"string": "switch"}}}], nodeSelector=rack),
        slice_of("half", [gpu("gone")], count=2, nodeName="n1"),
    ]  # fmt: skip


def cel(text):
    return {"selectors": [{"cel": {"expression": text.replace("$", f"device.attributes['{DRIVER}']")}}]}


def classes():
    only = cel(f"device.driver == '{DRIVER}' && has($.model)")
    config = [{"opaque": {"driver": DRIVER, "parameters": {"mode": "fast"}}}]
    return [
        {"metadata": {"name": "gpu"}, "spec": {**only, "config": config}},
        {"metadata": {"name": "any"}, "spec": {}},
        {"metadata": {"name": "ext"}, "spec": {**cel(MODEL % "L4"), "extendedResourceName": "example.com/l4"}},
        {"metadata": {"name": "broken"}, "spec": cel("$.absent == 1")},
    ]  # fmt: skip


def exactly(name="gpu", kind="gpu", **fields):
    return {"name": name, "exactly": {"deviceClassName": kind, **fields}}


def spec_of(*requests, **fields):
    return {"devices": {"requests": list(requests), **fields}}


EITHER = {
    "name": "gpu",
    "firstAvailable": [
        {"name": "two", "deviceClassName": "gpu", "count": 2, **cel(MODEL % "L4")},
        {"name": "one", "deviceClassName": "gpu", **cel(MODEL % "H200")},
    ],
}
BANDWIDTH = {"capacity": {"requests": {"bandwidth": "1500M"}}}
R0, R1, R2 = ({"nodeSelector": {"rack": f"r{number}"}} for number in range(3))
SHARED = exactly("nic", "any", **cel("device.allowMultipleAllocations"), **BANDWIDTH)
SWITCH = exactly("switch", "any", **cel("has($.kind)"))
TOLERANT = {"tolerations": [{"key": "sick", "operator": "Exists"}]}
SAME_NUMA = [{"matchAttribute": f"{DRIVER}/numa"}]


def mig(memory, **fields):
    size = f"device.capacity['{DRIVER}'].memory.compareTo(quantity('{memory}')) == 0"
    return exactly(**cel(f"{MODEL % 'MIG'} && {size}"), **fields)


CASES = [
    # (claims of the pod, more of the pod's spec, requests)
    ([spec_of(exactly())], R0, {}),
    ([spec_of(exactly(**cel(MODEL % "L4")))], {}, {}),
    ([spec_of(exactly(**cel(MODEL % "L4")))], {}, {}),
    ([spec_of(exactly(**cel(MODEL % "L4"), **TOLERANT))], {}, {}),
    ([spec_of(EITHER)], {}, {}),
    ([spec_of(exactly(count=2), constraints=SAME_NUMA)], R0, {}),
    ([spec_of(exactly(**cel(MODEL % "none")))], {}, {}),
    ([spec_of(mig("40Gi"))], {}, {}),
    ([spec_of(exactly(allocationMode="All", **cel(MODEL % "MIG")))], R2, {}),
    ([spec_of(mig("20Gi", count=2))], {}, {}),
    ([spec_of(mig("40Gi"))], {}, {}),
    ([spec_of(SHARED)], {}, {}),
    ([spec_of(SHARED)], R1, {}),
    ([spec_of(SWITCH)], {}, {}),
    ([spec_of(SWITCH)], {}, {}),
    ([spec_of(exactly(kind="none"))], {}, {}),
    ([spec_of(exactly(kind="broken"))], {}, {}),
    ([spec_of(exactly()), spec_of(exactly())], {}, {"cpu": "100"}),
    ([], {}, {"example.com/l4": "1"}),
]


def nodes():
    for number in range(3):
        amounts = {"cpu": "8", "memory": "16Gi", "pods": "40"}
        labels = {"kubernetes.io/hostname": f"n{number}", "rack": f"r{number}"}
        status = {"capacity": amounts, "allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
        yield {"metadata": {"name": f"n{number}", "labels": labels}, "status": status}


def pod(number, claims, spec, requests):
    asked = {"requests": requests, "limits": {key: value for key, value in requests.items() if "/" in key}}
    container = {"name": "c", "image": "i", "resources": asked}
    named = [{"name": f"c{index}", "resourceClaimName": name} for index, name in enumerate(claims)]
    body = {"terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False, "containers": [container]}
    metadata = {"name": f"p{number}", "namespace": "default"}
    return {"metadata": metadata, "spec": {**body, "resourceClaims": named, **spec}}


def plain(allocation):
    """Without what is drawn: times and share ids."""
    results = [{**item, "shareID": ""} if "shareID" in item else item for item in allocation["devices"]["results"]]
    kept = {key: value for key, value in allocation.items() if key != "allocationTimestamp"}
    return {**kept, "devices": {**allocation["devices"], "results": results}}


def take_up(planner, real):
    known = planner.devices.claims
    found = {item["metadata"]["name"]: item for item in real.send("GET", CLAIMS)["items"]}
    for name in {name for _, name in known} | set(found):
        planner.devices.set_claim(found.get(name), known.get(("default", name)))


def fate(planner, real, number, case):
    """None where all agrees, else what differs."""
    specs, more, requests = case
    names = [f"claim-{number}-{index}" for index in range(len(specs))]
    for name, spec in zip(names, specs, strict=True):
        real.send("POST", CLAIMS, {"metadata": {"name": name}, "spec": spec})
    take_up(planner, real)  # before the scheduler can act
    created = real.send("POST", "/api/v1/namespaces/default/pods", pod(number, names, more, requests))
    info = planner.pod(created)
    try:
        decision = planner.decide(info)
        told = message_of(planner, info, decision) if decision.failure else ""
        totals = planner.evaluation(info).totals() if decision.node else {}
    except AllocationError as error:
        told, totals = f'running "DynamicResources" filter plugin: {error.message}', {}
    needs = planner.devices.needs(created, info.template.requests)
    found = real.outcome(created["metadata"]["name"])
    node = found["spec"].get("nodeName")
    if node is None:
        theirs = condition(found, "PodScheduled")["message"]
        real.send("DELETE", f"/api/v1/namespaces/default/pods/{created['metadata']['name']}")
        return None if theirs == told else (number, theirs, told)
    if totals.get(node) != max(totals.values(), default=None):
        return number, node, told or totals
    state = planner.state.nodes[node]
    plan = needs.plan(node, state.labels, state.allocatable, lambda: "")
    take_up(planner, real)
    planner.state.place(planner.pod(found), node)
    extended = (found["status"].get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
    for item, name in zip(plan.claims, [*names, *([extended] if extended else [])], strict=True):
        claim = planner.devices.claims[("default", name)]
        theirs, ours = plain(claim["status"]["allocation"]), plain(item.allocation)
        if theirs != ours:
            return number, theirs, ours
        if item.claim is None and (claim["spec"]["devices"]["requests"] != item.spec["devices"]["requests"]):
            return number, claim["spec"], item.spec
    if extended and found["status"]["extendedResourceClaimStatus"]["requestMappings"] != plan.claims[-1].mappings:
        return number, found["status"]["extendedResourceClaimStatus"], plan.claims[-1].mappings
    return None


def test_the_allocator_agrees_with_kube_scheduler():
    with control_plane("--disable-admission-plugins=ServiceAccount,TaintNodesByCondition") as plane:
        real = Real(plane)
        planner = Planner(Chance(1), selectors=CelSelectors())
        for obj in nodes():
            planner.state.set_node(real.send("POST", "/api/v1/nodes", obj))
        for obj in slices():
            made = real.send("POST", f"{GROUP}/resourceslices", obj)
            planner.devices.set_slice(made, made["metadata"]["name"])
        for obj in classes():
            made = real.send("POST", f"{GROUP}/deviceclasses", obj)
            planner.devices.set_class(made, made["metadata"]["name"])
        plane.start_scheduler()
        differences = [
            found for number, case in enumerate(CASES) if (found := fate(planner, real, number, case)) is not None
        ]
    assert not differences, "\n".join(f"{n}:\n  real: {theirs}\n  ours: {ours}" for n, theirs, ours in differences)


def eventually(holds, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = holds()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def test_claims_are_made_as_by_the_real_controller():
    template = {
        "metadata": {"name": "t"},
        "spec": {"metadata": {"labels": {"team": "a"}, "annotations": {"x": "y"}}, "spec": spec_of(exactly(count=2))},
    }
    long = "a-pod-with-a-name-that-is-long-enough-to-be-shortened-by-its-share"
    with control_plane("--disable-admission-plugins=ServiceAccount") as plane:
        real = Real(plane)
        plane.start_controller_manager(["resourceclaim-controller"])
        made = real.send("POST", f"{GROUP}/namespaces/default/resourceclaimtemplates", template)
        for name in ("short", long):
            given = pod(0, [], {}, {})
            given["metadata"]["name"] = name
            given["spec"]["resourceClaims"] = [{"name": "gpu-of-mine", "resourceClaimTemplateName": "t"}]
            created = real.send("POST", "/api/v1/namespaces/default/pods", given)
            ours = new_claim(created, Entry("gpu-of-mine", "t"), made)

            def told(name=name):
                found = real.send("GET", f"/api/v1/namespaces/default/pods/{name}")
                return found["status"].get("resourceClaimStatuses")

            (status,) = eventually(told)
            assert status["name"] == "gpu-of-mine"
            theirs = real.send("GET", f"{CLAIMS}/{status['resourceClaimName']}")
            for field in ("generateName", "annotations", "labels", "ownerReferences"):
                assert theirs["metadata"][field] == ours["metadata"][field], field
            assert theirs["spec"] == ours["spec"]
