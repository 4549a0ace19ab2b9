"""Phase, conditions and container statuses, from what the containers do."""

import pytest

from atoll.cluster.nodes.process.plan import plan_containers
from atoll.cluster.nodes.process.status import ContainerState, Ended, PodFacts, pod_status

NOW = 1_700_000_000.0


def running(**more):
    return ContainerState(running_since=NOW, started=True, ready=True, **more)


def ended(code, **more):
    return ContainerState(ended=Ended("process://1", code, "Completed" if code == 0 else "Error", NOW, NOW), **more)


def pod(*containers, init=(), policy="Always", **status):
    spec = {"restartPolicy": policy, "containers": [{"name": name, "image": "i"} for name in containers]}
    if init:
        spec["initContainers"] = list(init)
    return {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec, "status": status}


def status_of(given, states, **facts):
    return pod_status(given, PodFacts(host_ip="10.0.0.1", states=states, **facts), NOW)


def condition(status, kind):
    return next(item for item in status["conditions"] if item["type"] == kind)


@pytest.mark.parametrize(
    ("policy", "states", "terminal", "phase"),
    [
        ("Always", [ContainerState()], False, "Pending"),
        ("Always", [running()], False, "Running"),
        ("Always", [ended(1)], False, "Running"),
        ("Always", [ended(1, waiting=("CrashLoopBackOff", "m"))], False, "Running"),
        ("Always", [running(), ContainerState()], False, "Pending"),
        ("OnFailure", [ended(1)], False, "Running"),
        ("OnFailure", [ended(0)], False, "Succeeded"),
        ("Never", [ended(1), running()], False, "Running"),
        ("Never", [ended(1), ended(0)], False, "Failed"),
        ("Never", [ended(0), ended(0)], False, "Succeeded"),
        ("Always", [ended(0)], True, "Succeeded"),
        ("Always", [ended(143)], True, "Failed"),
    ],
)
def test_phase(policy, states, terminal, phase):
    names = [f"c{number}" for number in range(len(states))]
    found = status_of(pod(*names, policy=policy), dict(zip(names, states, strict=True)), terminal=terminal)
    assert found["phase"] == phase


def test_a_terminal_phase_stays():
    assert status_of(pod("c", phase="Failed"), {"c": running()})["phase"] == "Failed"


def test_unready_containers_are_named():
    found = status_of(pod("a", "b"), {"a": running(), "b": ContainerState(running_since=NOW)}, sandbox_ready=True)
    ready = condition(found, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [b]"
    assert condition(found, "PodReadyToStartContainers")["status"] == "True"


def test_readiness_gates_hold_ready_back():
    given = pod("c")
    given["spec"]["readinessGates"] = [{"conditionType": "example.com/g"}]
    found = status_of(given, {"c": running()})
    assert condition(found, "ContainersReady")["status"] == "True"
    assert condition(found, "Ready")["reason"] == "ReadinessGatesNotReady"
    given["status"]["conditions"] = [{"type": "example.com/g", "status": "True"}]
    assert condition(status_of(given, {"c": running()}), "Ready")["status"] == "True"


def test_transition_time_moves_only_with_the_status():
    first = status_of(pod("c"), {"c": running()})
    again = pod_status({**pod("c"), "status": first}, PodFacts(host_ip="10.0.0.1", states={"c": running()}), NOW + 100)
    assert condition(again, "Ready")["lastTransitionTime"] == condition(first, "Ready")["lastTransitionTime"]
    unready = ContainerState(running_since=NOW, started=True)
    later = pod_status({**pod("c"), "status": first}, PodFacts(host_ip="10.0.0.1", states={"c": unready}), NOW + 100)
    assert condition(later, "Ready")["lastTransitionTime"] != condition(first, "Ready")["lastTransitionTime"]


def test_a_container_in_backoff_waits_and_shows_its_last_end():
    found = status_of(pod("c"), {"c": ended(3, waiting=("CrashLoopBackOff", "back-off"), restart_count=2)})
    entry = found["containerStatuses"][0]
    assert entry["state"] == {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    assert entry["lastState"]["terminated"]["exitCode"] == 3
    assert (entry["restartCount"], entry["ready"], entry["started"]) == (2, False, False)


def test_init_containers_decide_initialized():
    init = [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]
    states = {"i": ended(0), "s": ContainerState(running_since=NOW), "c": ContainerState()}
    found = status_of(pod("c", init=init), states)
    initialized = condition(found, "Initialized")
    assert (initialized["status"], initialized["message"]) == ("False", "containers with incomplete status: [s]")
    assert found["phase"] == "Pending"
    states |= {"s": running(), "c": running()}
    assert condition(status_of(pod("c", init=init), states), "Initialized")["status"] == "True"


def plan(given, states, **more):
    return plan_containers(given["spec"], states, initialized=more.get("initialized", False))


def test_init_containers_run_one_after_the_other_then_the_rest_together():
    init = [{"name": "i"}, {"name": "j"}]
    given = pod("a", "b", init=init)
    states = {name: ContainerState() for name in "ijab"}
    assert plan(given, states).start == ("i",)
    states["i"] = running()
    assert plan(given, states).start == ()
    states["i"] = ended(0)
    assert plan(given, states).start == ("j",)
    states["j"] = ended(0)
    assert plan(given, states).start == ("a", "b")


def test_a_sidecar_must_have_started_and_is_restarted():
    given = pod("a", init=[{"name": "s", "restartPolicy": "Always"}], policy="Never")
    states = {"s": ContainerState(running_since=NOW), "a": ContainerState()}
    assert plan(given, states).start == ()
    states["s"] = running()
    assert plan(given, states).start == ("a",)
    states = {"s": ended(1), "a": running()}
    assert plan(given, states, initialized=True).start == ("s",)
    states["a"] = ended(0)
    assert plan(given, states, initialized=True).finished


@pytest.mark.parametrize(("policy", "finished"), [("Never", True), ("OnFailure", False), ("Always", False)])
def test_a_failed_init_container_ends_the_pod_only_where_nothing_is_restarted(policy, finished):
    given = pod("a", init=[{"name": "i"}], policy=policy)
    found = plan(given, {"i": ended(1), "a": ContainerState()})
    assert found.finished is finished
    assert found.start == (() if finished else ("i",))
    states = {"i": ended(1), "a": ContainerState()}
    assert status_of(given, states)["phase"] == ("Failed" if finished else "Pending")
