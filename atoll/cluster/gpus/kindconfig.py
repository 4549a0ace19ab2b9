"""kind's cluster configuration with nvkind's ways: templates, and mounts that say which GPUs a worker has. Pure.

A configuration is kind.x-k8s.io/v1alpha4, or a Go template of one with sprig's functions and `numGPUs`, and values. A
mount of /dev/null at /var/run/nvidia-container-devices/DEVICE gives a worker that device: `all`, an index, a UUID, or
(as CDI writes it) cdi/runtime.nvidia.com/gpu/DEVICE. A field of kind's that has no meaning here becomes a warning; one
that kind does not have either is refused, with the nearest that it has.
"""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from atoll.base.errors import UserError
from atoll.objects.gotemplate import Template, TemplateError

Object = dict[str, Any]

API_VERSION = "kind.x-k8s.io/v1alpha4"
_DEVICES = "/var/run/nvidia-container-devices/"
_CDI = _DEVICES + "cdi/"
# pkg/apis/config/v1alpha4 of kubernetes-sigs/kind; True: it means something here
_CLUSTER = {
    "kind": True, "apiVersion": True, "name": True, "nodes": True, "networking": True, "featureGates": False,
    "runtimeConfig": False, "kubeadmConfigPatches": False, "kubeadmConfigPatchesJSON6902": False,
    "containerdConfigPatches": False, "containerdConfigPatchesJSON6902": False,
}  # fmt: skip
_NODE = {
    "role": True, "labels": True, "extraMounts": True, "image": False, "extraPortMappings": False,
    "kubeadmConfigPatches": False, "kubeadmConfigPatchesJSON6902": False,
}  # fmt: skip
_NETWORKING = {
    "podSubnet": True, "serviceSubnet": True, "apiServerPort": True, "ipFamily": False, "apiServerAddress": False,
    "disableDefaultCNI": False, "kubeProxyMode": False, "dnsSearch": False,
}  # fmt: skip
_MOUNT = {
    "hostPath": True, "containerPath": True, "readOnly": False, "selinuxRelabel": False, "propagation": False,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KindNode:
    """`devices`: what its mounts name, in their order."""

    role: str
    labels: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KindConfig:
    """What of a configuration means something here, and what does not."""

    name: str = ""
    nodes: tuple[KindNode, ...] = ()
    pod_subnet: str = ""
    service_subnet: str = ""
    api_port: int = 0
    text: str = ""  # the document in one form, without comments: equal for equal configurations
    warnings: tuple[str, ...] = ()


def default_template() -> str:
    """One worker with all GPUs, or those that `workers` in the values names."""
    return resources.files(__package__).joinpath("data/default-cluster.yaml.tmpl").read_text()


def render(text: str, values: Mapping[str, Any], count: int, functions: Mapping[str, Callable[..., Any]]) -> str:
    """A template with its values. `count` is what numGPUs says. Raises UserError."""
    table = {**functions, "numGPUs": lambda: count}
    try:
        return Template(text, table).render(dict(values), table)
    except TemplateError as error:
        raise UserError(
            f"the configuration's template: {error.message}",
            hint="templates are Go's text/template with sprig's functions and numGPUs; values are its dot",
        ) from None


def read_values(text: str, source: str) -> Mapping[str, Any]:
    """A values file. Raises UserError."""
    found = _yaml(text, source)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{source}: values are a mapping", hint="for example: workers: [{devices: all}]")
    return found


def read_config(text: str, source: str) -> KindConfig:
    """A (rendered) configuration. Raises UserError."""
    document = _yaml(text, source)
    if not isinstance(document, dict):
        raise UserError(
            f"{source}: a kind configuration is a mapping", hint=f"kind: Cluster, apiVersion: {API_VERSION}"
        )
    for key, wanted in (("kind", "Cluster"), ("apiVersion", API_VERSION)):
        if document.get(key) != wanted:
            raise UserError(f"{source}: {key} must be {wanted}, not {document.get(key)!r}")
    reader = _Reader(source)
    reader.check(document, _CLUSTER, "")
    nodes = [reader.node(item, f"nodes[{place}]") for place, item in enumerate(reader.list(document, "nodes", ""))]
    networking = document.get("networking") or {}
    reader.check(networking, _NETWORKING, "networking")
    return KindConfig(
        name=str(document.get("name") or ""),
        nodes=tuple(nodes) or (KindNode("control-plane"),),
        pod_subnet=reader.subnet(networking, "podSubnet"),
        service_subnet=reader.subnet(networking, "serviceSubnet"),
        api_port=reader.port(networking),
        text=yaml.safe_dump({key: value for key, value in document.items() if key != "name"}),
        warnings=tuple(dict.fromkeys(reader.warnings)),
    )


def node_names(config: KindConfig, cluster: str) -> list[str]:
    """As kind names nodes: NAME-control-plane, NAME-worker, NAME-worker2 …"""
    counts: dict[str, int] = {}
    names = []
    for node in config.nodes:
        counts[node.role] = number = counts.get(node.role, 0) + 1
        names.append(f"{cluster}-{node.role}{number if number > 1 else ''}")
    return names


def select_devices(config: KindConfig, uuids: Sequence[str]) -> list[list[int]]:
    """Indices on the machine of each node's GPUs; `uuids`: the machine's, by index.

    Raises UserError for a device that the machine has not, and for one that two nodes would have: then both would give
    it out (nvkind lets that happen).
    """
    chosen: list[list[int]] = []
    owner: dict[int, int] = {}
    for place, node in enumerate(config.nodes):
        own: list[int] = []
        for device in node.devices:
            own += [index for index in _indices(device, uuids) if index not in own]
        for index in own:
            if owner.setdefault(index, place) != place:
                raise UserError(
                    f"GPU {index} is given to nodes[{owner[index]}] and nodes[{place}]",
                    hint="a GPU belongs to one worker; share it between pods by time slicing or MIG",
                )
        chosen.append(own)
    return chosen


def _indices(device: str, uuids: Sequence[str]) -> list[int]:
    have = f"this machine has {len(uuids)} GPUs" + (f", 0 to {len(uuids) - 1}" if uuids else "")
    if device == "all":
        return list(range(len(uuids)))
    if device in ("none", "void"):
        return []
    if device in uuids:
        return [uuids.index(device)]
    if device.isdigit() and int(device) < len(uuids):
        return [int(device)]
    if device.isdigit():
        raise UserError(f"there is no GPU {device}: {have}", hint="simulated ones: --gpus COUNT says how many")
    if device.startswith("MIG-") or ":" in device:
        raise UserError(
            f"{device!r}: a MIG device can't be given to a node",
            hint="give it the GPU, and label the node nvidia.com/mig.config",
        )
    raise UserError(f"{device!r} is no GPU: {have}", hint="`all`, an index or a UUID; `atoll gpu list` prints them")


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source
        self.warnings: list[str] = []

    def check(self, item: Any, known: Mapping[str, bool], path: str) -> None:
        """Warnings for fields without meaning here. Raises UserError for unknown ones."""
        if not isinstance(item, dict):
            raise UserError(f"{self._source}: {path} must be a mapping")
        for name in item:
            where = f"{path}.{name}" if path else str(name)
            if name not in known:
                close = difflib.get_close_matches(str(name), known, 1)
                options = ", ".join(sorted(known))
                guess = f"did you mean {close[0]}? " if close else ""
                raise UserError(f"{self._source}: unknown field {where}", hint=f"{guess}known here: {options}")
            if not known[name] and item[name] not in (None, "", [], {}):
                self.warnings.append(f"{where} has no meaning here")

    def list(self, item: Object, name: str, path: str) -> list[Any]:
        found = item.get(name) or []
        if not isinstance(found, list):
            raise UserError(f"{self._source}: {path}{name} must be a list")
        return found

    def subnet(self, networking: Object, name: str) -> str:
        """Raises UserError for what is no IPv4 network."""
        text = str(networking.get(name) or "")
        try:
            return str(ipaddress.IPv4Network(text, strict=False)) if text else ""
        except ValueError:
            raise UserError(
                f"{self._source}: networking.{name} must be an IPv4 network, not {text!r}", hint="10.244.0.0/16"
            ) from None

    def port(self, networking: Object) -> int:
        """Of the API server; 0 (and kind's -1) for any that is free. Raises UserError."""
        port = networking.get("apiServerPort") or 0
        if not isinstance(port, int) or isinstance(port, bool) or not -1 <= port < 65536:
            raise UserError(f"{self._source}: networking.apiServerPort must be a port, not {port!r}")
        return max(0, port)

    def node(self, item: Any, path: str) -> KindNode:
        self.check(item, _NODE, path)
        role = str(item.get("role") or "control-plane")
        if role not in ("control-plane", "worker"):
            raise UserError(f"{self._source}: {path}.role must be control-plane or worker, not {role!r}")
        labels = item.get("labels") or {}
        if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
            raise UserError(f"{self._source}: {path}.labels must be strings", hint='quote them: "true"')
        devices = []
        for place, mount in enumerate(self.list(item, "extraMounts", f"{path}.")):
            device = self.mount(mount, f"{path}.extraMounts[{place}]")
            devices += [device] if device else []
        return KindNode(role, labels, tuple(devices))

    def mount(self, item: Any, path: str) -> str:
        """The device that a mount names; "" for one that names none."""
        self.check(item, _MOUNT, path)
        target = str(item.get("containerPath") or "")
        if item.get("hostPath") != "/dev/null" or not target.startswith(_DEVICES):
            self.warnings.append(f"{path} has no meaning here: it names no GPU")
            return ""
        if not target.startswith(_CDI):
            return target.removeprefix(_DEVICES)
        kind, _, device = target.removeprefix(_CDI).rpartition("/")
        if kind not in ("runtime.nvidia.com/gpu", "nvidia.com/gpu", "management.nvidia.com/gpu"):
            raise UserError(f"{self._source}: {path}: unknown CDI kind {kind!r}", hint="runtime.nvidia.com/gpu")
        return device


def _yaml(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(
            f"{source}:{line}: not YAML: {error.problem}", hint="the line is of the rendered text"
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # characters that YAML does not have, dates that are none
        raise UserError(f"{source}: not YAML: {' '.join(str(error).split())}") from None
