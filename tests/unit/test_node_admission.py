"""What a process node takes on: in kubelet's words."""

from atoll.cluster.nodes.process.admission import Admission

ALLOCATABLE = {"cpu": "2", "memory": "1Gi", "ephemeral-storage": "10Gi", "pods": "3", "example.com/gpu": "1"}


def pod(name, requests=None, port=None, phase="Pending", ip=""):
    ports = [{"containerPort": 80, "hostPort": port, "protocol": "TCP", "hostIP": ip}] if port else []
    container = {"name": "c", "image": "i", "ports": ports, "resources": {"requests": requests or {}}}
    metadata = {"name": name, "namespace": "default", "uid": name}
    return {"metadata": metadata, "spec": {"containers": [container]}, "status": {"phase": phase}}


def test_a_host_port_is_one_pods():
    node = Admission(ALLOCATABLE)
    message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    assert node.admit(pod("a", port=80)) is None
    assert node.admit(pod("a", port=80)) is None  # asked again of one that is in
    assert node.admit(pod("b", port=80, ip="127.0.0.1")) == ("NodePorts", message)
    assert node.admit(pod("c", port=81)) is None
    node.leave("a")
    assert node.admit(pod("b", port=80)) is None


def test_resources_are_counted():
    node = Admission(ALLOCATABLE)
    assert node.admit(pod("a", {"cpu": "1500m"})) is None
    refused = node.admit(pod("b", {"cpu": "1", "memory": "2Gi"}))
    message = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
    assert refused == ("OutOfcpu", message)
    node.resized(pod("a", {"cpu": "1"}))
    assert node.admit(pod("b", {"cpu": "1", "example.com/gpu": "1", "example.com/unknown": "7"})) is None
    refused = node.admit(pod("c", {"example.com/gpu": "1"}))
    assert refused is not None and refused[0] == "OutOfexample.com/gpu"
    assert node.admit(pod("d")) is None
    refused = node.admit(pod("e"))
    assert refused == ("OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3")


def test_what_runs_already_runs_on():
    node = Admission({**ALLOCATABLE, "cpu": "1"})
    assert node.admit(pod("a", {"cpu": "3"}, phase="Running")) is None
    refused = node.admit(pod("b", {"cpu": "1m"}))
    assert refused is not None and refused[0] == "OutOfcpu"
