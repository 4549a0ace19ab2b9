"""The compiled default stages do what their documents say."""

from __future__ import annotations

import pytest

from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.cluster.nodes.simulated import fast
from atoll.cluster.nodes.simulated.functions import Addresses, NodeFunctions, PodFunctions
from atoll.cluster.nodes.simulated.sources import NODE, StageCompiler, default_documents
from atoll.cluster.nodes.stages.document import resource_of
from atoll.cluster.nodes.stages.model import DeleteStep, choose

NODE_OBJECT = {
    "metadata": {"name": "n", "creationTimestamp": "2023-11-14T22:00:00Z"},
    "spec": {"podCIDR": "10.1.0.0/24"},
    "status": {"addresses": [{"type": "InternalIP", "address": "172.30.0.9"}]},
}


def container(name, **more):
    return {"name": name, "image": f"registry/{name}:1", **more}


def pod(metadata=None, spec=None, status=None):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "d", "uid": "u", **(metadata or {})},
        "spec": {"nodeName": "n", "containers": [container("a"), container("b")], **(spec or {})},
        "status": status or {"phase": "Pending"},
    }


JOB = {"ownerReferences": [{"kind": "Job", "name": "j", "uid": "x"}]}
RUNNING = {"phase": "Running", "startTime": "2023-11-14T22:10:00Z"}
PODS = [
    pod(),
    pod(spec={"hostNetwork": True}),
    pod(spec={"initContainers": [container("i"), container("s", restartPolicy="Always")]}),
    pod(spec={"readinessGates": [{"conditionType": "example.com/gate"}]}),
    pod(status={"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}),
    pod(status={"phase": "Pending", "conditions": [{"type": "Ready", "status": "True"}]}),
    pod(metadata=JOB, status=RUNNING),
    pod(metadata={**JOB, "annotations": {fast.HOLD_ANNOTATION: "90"}}, status=RUNNING),
    pod(metadata={**JOB, "deletionTimestamp": "2023-11-14T22:00:00Z"}, status=RUNNING),
    pod(metadata={"finalizers": ["a/b"], "deletionTimestamp": "2023-11-14T22:00:00Z"}, status=RUNNING),
    pod(metadata={"finalizers": ["a/b"], "deletionTimestamp": "2023-11-14T22:00:00Z"}),
    pod(status=RUNNING),
    pod(metadata={"deletionTimestamp": "2023-11-14T22:00:00Z"}),
]
FAILED = {**NODE_OBJECT["metadata"], "annotations": {"atoll.dev/not-ready": 'disk "sda" died'}}
NODES = [
    {**NODE_OBJECT, "metadata": FAILED},
    {**NODE_OBJECT, "metadata": FAILED, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
    {**NODE_OBJECT, "metadata": FAILED, "status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    {**NODE_OBJECT, "status": {}},
    NODE_OBJECT,
    {**NODE_OBJECT, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
    {**NODE_OBJECT, "status": {"conditions": [{"type": "Ready", "status": "Unknown"}], "capacity": {"cpu": "8"}}},
    {**NODE_OBJECT, "status": {"nodeInfo": {"kernelVersion": "6.1"}, "allocatable": {"cpu": "1", "pods": "5"}}},
]


def played(stages, functions, obj):
    """(name, delay, steps) of what comes next."""
    stage = choose(stages, obj, Chance(1))
    if stage is None:
        return None
    delay = stage.delay(obj, ManualClock().wall()) or (0.0, 0.0)
    steps = [
        ("delete",) if isinstance(step, DeleteStep) else (step.content_type, step.subresource, step.data)
        for step in stage.steps(obj, functions())
    ]
    return stage.name, delay, steps


def documents(kind):
    compiler = StageCompiler(ManualClock(), Chance(1))
    found = [compiler.compile(item) for item in default_documents() if resource_of(item) == kind]
    assert found
    return found


def addresses():
    return Addresses("172.30.0.0/24", "10.244.0.0/16", lambda name: NODE_OBJECT if name == "n" else None)


@pytest.mark.parametrize("obj", PODS, ids=range(len(PODS)))
def test_pods(obj):
    def functions():
        return PodFunctions(addresses(), ManualClock())

    assert played(fast.POD_STAGES, functions, obj) == played(documents(("v1", "Pod")), functions, obj)


@pytest.mark.parametrize("obj", NODES, ids=range(len(NODES)))
def test_nodes(obj):
    def functions():
        return NodeFunctions(addresses(), ManualClock())

    assert played(fast.NODE_STAGES, functions, obj) == played(documents(NODE), functions, obj)


def test_remembered_renderings_differ_where_the_objects_do():
    stages = documents(("v1", "Pod"))
    pool = addresses()
    functions = PodFunctions(pool, ManualClock())
    first = played(stages, lambda: functions, pod())[2][0][2]["status"]
    second = played(stages, lambda: functions, pod(metadata={"uid": "other"}))[2][0][2]["status"]
    assert first["podIP"] == "10.1.0.2"
    assert second["podIP"] == "10.1.0.3"
    assert {**first, "podIP": "", "podIPs": ""} == {**second, "podIP": "", "podIPs": ""}
