"""nvkind's and kind's configuration files: templates, values, devices of workers, mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from atoll.app.fleetspec import NodeGroup
from atoll.app.gpu_testbed import Testbed as Bed
from atoll.app.gpu_testbed import difference, plan_testbed, simulated_machine
from atoll.app.gpus import gpu_fields
from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.cluster.gpus.kindconfig import (
    default_template,
    node_names,
    read_config,
    read_values,
    render,
    select_devices,
)
from atoll.cluster.gpus.model import ANNOTATION, parse_gpus, parse_machine
from atoll.objects.gotemplate.sprig_more import functions

INPUTS = Path(__file__).parents[3] / "shared" / "inputs" / "nvkind"
published = pytest.mark.skipif(not INPUTS.is_dir(), reason="the published files are not on this machine")
FUNCTIONS = functions(Chance(1), lambda: 0.0)
HEAD = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
# as nvkind's documentation divides a machine's GPUs
EQUAL = (
    HEAD
    + """nodes:
- role: control-plane
{{- $share := div numGPUs $.numWorkers }}
{{- range $worker := until $.numWorkers }}
{{- $first := mul $worker $share | int }}
- role: worker
  labels: {pool: {{ printf "w%d" $worker | quote }}}
  extraMounts:
  {{- range untilStep $first (add $first $share | int) 1 }}
  - hostPath: /dev/null
    containerPath: /var/run/nvidia-container-devices/cdi/runtime.nvidia.com/gpu/{{ . }}
  {{- end }}
{{- end }}
"""
)


def read(text: str, values: dict | None = None, gpus: int = 8):
    return read_config(render(text, values or {}, gpus, FUNCTIONS), "file")


def selected(config, count: int = 8) -> list[list[int]]:
    return select_devices(config, [f"GPU-{index}" for index in range(count)])


def worker(*mounts: str) -> str:
    lines = "".join(f"  - {{hostPath: /dev/null, containerPath: {mount}}}\n" for mount in mounts)
    return HEAD + "nodes:\n- role: worker\n  extraMounts:\n" + lines


@published
def test_the_published_files():
    values = read_values((INPUTS / "default-config-values.yaml").read_text(), "values")
    template = (INPUTS / "default-config-template.yaml").read_text()
    config = read(template, {**values, "name": "it", "image": "kindest/node:v1"})
    assert (config.name, node_names(config, "it")) == ("it", ["it-control-plane", "it-worker"])
    assert selected(config) == [[], list(range(8))]
    assert config.warnings == ("nodes[0].image has no meaning here", "nodes[1].image has no meaning here")
    several = read(template, {"workers": [{"devices": 0}, {"devices": [1, 2, 3]}, {}]})
    assert selected(several) == [[], [0], [1, 2, 3], []]
    each = read((INPUTS / "one-worker-per-gpu.yaml").read_text(), gpus=3)
    assert node_names(each, "c") == ["c-control-plane", "c-worker", "c-worker2", "c-worker3"]
    assert selected(each, 3) == [[], [0], [1], [2]]
    assert each.nodes[1].labels == {"nvidia.com/gpu.present": "true"}


def test_the_default_is_one_worker_with_all():
    assert selected(read(default_template()), 4) == [[], [0, 1, 2, 3]]
    config = read(default_template(), {"name": "it", "workers": [{"devices": 0}, {"devices": ["2", 3]}, {}]})
    assert config.name == "it" and selected(config) == [[], [0], [2, 3], []]


def test_an_equal_split():
    config = read(EQUAL, {"numWorkers": 4})
    assert selected(config) == [[], [0, 1], [2, 3], [4, 5], [6, 7]]
    assert [node.labels.get("pool") for node in config.nodes[1:]] == ["w0", "w1", "w2", "w3"]


def test_devices_by_all_index_uuid_and_cdi():
    base = "/var/run/nvidia-container-devices"
    assert selected(read(worker(f"{base}/GPU-3", f"{base}/1", f"{base}/3"))) == [[3, 1]]
    assert selected(read(worker(f"{base}/cdi/runtime.nvidia.com/gpu/all")), 2) == [[0, 1]]
    assert selected(read(worker(f"{base}/void"))) == [[]]
    for device, why in (
        ("9", "there is no GPU 9: this machine has 8 GPUs, 0 to 7"),
        ("GPU-nope", "is no GPU"),
        ("0:1", "a MIG device can't be given to a node"),
        ("MIG-1", "a MIG device can't be given to a node"),
    ):
        with pytest.raises(UserError, match=why):
            selected(read(worker(f"{base}/{device}")))
    with pytest.raises(UserError, match="unknown CDI kind"):
        read(worker(f"{base}/cdi/vendor.com/nic/0"))


def test_no_gpu_is_given_to_two_workers():
    text = default_template()
    with pytest.raises(UserError, match=r"GPU 1 is given to nodes\[1\] and nodes\[2\]"):
        selected(read(text, {"workers": [{"devices": [0, 1]}, {"devices": 1}]}))


def test_fields_without_meaning_are_named():
    config = read(
        HEAD
        + """
name: x
networking: {podSubnet: 10.1.0.0/16, serviceSubnet: 10.2.0.0/16, apiServerPort: 7443, kubeProxyMode: ipvs}
featureGates: {X: true}
containerdConfigPatches: []
nodes:
- role: worker
  image: a
  extraPortMappings: [{containerPort: 80}]
  extraMounts:
  - {hostPath: /data, containerPath: /data}
  - {hostPath: /dev/null, containerPath: /var/run/nvidia-container-devices/all, readOnly: true}
"""
    )
    assert config.warnings == (
        "featureGates has no meaning here",
        "nodes[0].image has no meaning here",
        "nodes[0].extraPortMappings has no meaning here",
        "nodes[0].extraMounts[0] has no meaning here: it names no GPU",
        "nodes[0].extraMounts[1].readOnly has no meaning here",
        "networking.kubeProxyMode has no meaning here",
    )
    assert (config.pod_subnet, config.service_subnet, config.api_port) == ("10.1.0.0/16", "10.2.0.0/16", 7443)


@pytest.mark.parametrize(
    ("text", "why", "hint"),
    [
        (HEAD + "nodes: [{role: worker, extraMount: []}]", r"unknown field nodes\[0\].extraMount", "extraMounts?"),
        (HEAD + "nodez: []", "unknown field nodez", "did you mean nodes"),
        (HEAD + "networking: {podsubnet: x}", "unknown field networking.podsubnet", "podSubnet"),
        (HEAD + "nodes: [{role: master}]", "control-plane or worker, not 'master'", ""),
        (HEAD + "nodes: [{labels: {a: true}}]", "labels must be strings", "quote them"),
        (HEAD + "nodes: {}\nnodes: x", "nodes must be a list", ""),
        (HEAD + "networking: {apiServerPort: https}", "apiServerPort must be a port, not 'https'", ""),
        (HEAD + "networking: {apiServerPort: 70000}", "apiServerPort must be a port", ""),
        (HEAD + "networking: {podSubnet: lots}", "podSubnet must be an IPv4 network, not 'lots'", "10.244"),
        (HEAD + 'networking: {serviceSubnet: "fd00::/108"}', "serviceSubnet must be an IPv4 network", ""),
        (HEAD + "name: \x01", "not YAML", ""),
        (HEAD + "name: 2024-13-45", "not YAML: month must be", ""),
        ("kind: Cluster", "apiVersion must be kind.x-k8s.io/v1alpha4, not None", ""),
        ("kind: Pod", "kind must be Cluster, not 'Pod'", ""),
        ("just text", "is a mapping", "kind: Cluster"),
        ("a: b: c", "file:1: not YAML", "rendered"),
        ("{{ foo }}", 'function "foo" not defined', "sprig"),
        ("{{ range }}", "template: line 1", "sprig"),
        ("{{ div numGPUs 0 }}", "integer divide by zero", "sprig"),
    ],
)
def test_mistakes_are_told_with_what_to_do(text, why, hint):
    with pytest.raises(UserError, match=why) as refused:
        read(text)
    assert hint in (refused.value.hint or "")


def test_values_are_a_mapping():
    assert read_values("", "v") == {}
    with pytest.raises(UserError, match="v: values are a mapping"):
        read_values("- a", "v")


def test_a_testbed_is_a_cluster_of_named_nodes():
    machine = simulated_machine(parse_machine("a100-40gb:2,l4:1"))
    assert [(gpu.index, gpu.type.name) for gpu in machine] == [(0, "a100-sxm4-40gb"), (1, "a100-sxm4-40gb"), (2, "l4")]
    config = read(default_template(), {"workers": [{"devices": [1, 2]}, {}]})
    spec = plan_testbed(Bed("bed", config, machine))
    control, first, second = spec.simulated
    assert (control.names, first.names, second.names) == (("bed-control-plane",), ("bed-worker",), ("bed-worker2",))
    assert control.taints[0]["key"] == "node-role.kubernetes.io/control-plane" and not first.taints
    assert ANNOTATION not in second.annotations
    found = parse_gpus(first.annotations[ANNOTATION], "bed-worker")
    assert [gpu.uuid for gpu in found] == [machine[1].uuid, machine[2].uuid]
    fields = gpu_fields(first)
    assert fields.resources == {"nvidia.com/gpu": "2"} and fields.labels["nvidia.com/gpu.count"] == "2"
    alone = plan_testbed(Bed("bed", read(HEAD), machine))
    assert [group.taints for group in alone.simulated] == [[]], "a control plane that is alone takes pods, as kind's"


def test_configurations_are_compared_by_what_they_say():
    machine = simulated_machine(parse_machine("h100:8"))
    one, same, other = (
        Bed("bed", read(text), machine).record
        for text in (HEAD + "# a remark\nnodes: [{role: worker}]", HEAD + "name: bed\nnodes:\n- role: worker\n", HEAD)
    )
    assert difference(one, same) == ""
    assert "-- role: worker" in difference(one, other) and "cluster.yaml (kept)" in difference(one, other)


def test_a_group_of_a_fleet_file_has_gpus():
    assert gpu_fields(NodeGroup(1, gpus="h200:8")).resources == {"nvidia.com/gpu": "8"}
    assert gpu_fields(NodeGroup(1)).annotations == {}
