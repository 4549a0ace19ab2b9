"""In-place resize: what a node grants, and what must restart for it."""

from pathlib import Path

from atoll.cluster.nodes.process import resize
from atoll.cluster.nodes.process.model import Slot
from atoll.cluster.nodes.process.plan import plan_containers
from atoll.cluster.nodes.process.status import ContainerState, Ended, PodFacts, pod_status

CPU = {"requests": {"cpu": "100m", "memory": "10Mi"}}
MORE = {"requests": {"cpu": "200m", "memory": "10Mi"}}


def pod(resources, **container):
    return {
        "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 2},
        "spec": {"containers": [{"name": "c", "resources": resources, **container}]},
    }


def slots(running, **container):
    spec = running["spec"]["containers"][0]
    return {"c": Slot({**spec, **container}, "app", ContainerState(running_since=1.0), Path("x"))}


def test_only_what_changed_is_asked_for():
    held = slots(pod(CPU))
    assert resize.asked_for(pod(CPU), held) == {}
    assert held["c"].resources == CPU
    assert resize.asked_for(pod(MORE), held) == {"c": MORE}
    assert [item["resources"] for item in resize.granted(pod(MORE), held)] == [CPU]


def test_what_the_node_never_has_is_infeasible_and_what_it_has_not_now_deferred():
    allocatable = {"cpu": "1", "memory": "1Gi"}
    assert resize.refusal(pod(MORE), allocatable, [{"cpu": "500m"}]) is None
    huge = pod({"requests": {"cpu": "2"}})
    assert resize.refusal(huge, allocatable, []) == (
        "Infeasible",
        "Node didn't have enough capacity: cpu, requested: 2000, capacity: 1000",
    )
    assert resize.refusal(pod(MORE), allocatable, [{"cpu": "900m"}]) == (
        "Deferred",
        "Node didn't have enough resource: cpu, requested: 200, used: 900, capacity: 1000",
    )


def test_a_restart_is_needed_where_the_policy_of_a_changed_resource_says_so():
    policy = {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}
    assert resize.needs_restart(policy, CPU, MORE)
    assert not resize.needs_restart(policy, CPU, {"requests": {"cpu": "100m", "memory": "20Mi"}})
    assert not resize.needs_restart({}, CPU, MORE)


def test_a_granted_size_becomes_the_actual_one_of_a_running_container():
    held = slots(pod(CPU))
    held["c"].container = object()  # it runs
    held["c"].state.actual = held["c"].resources
    held["c"].state.allocated = MORE
    assert resize.actuate(pod(MORE), held, None) is None
    assert held["c"].state.actual == MORE


def test_a_container_stopped_for_a_resize_starts_again_whatever_the_policy():
    ended = ContainerState(ended=Ended("id", 0, "Completed", 1.0, 2.0), restart=True)
    spec = {"restartPolicy": "Never", "containers": [{"name": "c"}]}
    assert plan_containers(spec, {"c": ended}, initialized=True).start == ("c",)


def test_status_shows_what_is_granted_and_what_is_in_force():
    state = ContainerState(running_since=1.0, allocated=MORE, actual=CPU)
    facts = PodFacts(states={"c": state}, resize={"PodResizeInProgress": ("", "")})
    found = pod_status(pod(MORE), facts, 5.0)
    container = found["containerStatuses"][0]
    assert container["allocatedResources"] == MORE["requests"]
    assert container["resources"] == CPU
    assert {"PodResizeInProgress": "True"}.items() <= {c["type"]: c["status"] for c in found["conditions"]}.items()
    facts.resize = {}
    assert "PodResizeInProgress" not in {item["type"] for item in pod_status(pod(MORE), facts, 5.0)["conditions"]}
