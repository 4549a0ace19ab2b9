"""What a container's environment, command and arguments are: pure, as kubelet computes them.

The order of precedence: service variables, then envFrom in order, then env in order; `$(NAME)` refers to what
stands before it. Raises ConfigError with kubelet's words where a referenced object or key is missing.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atoll.base import quantity
from atoll.base.errors import AtollError

Object = dict[str, Any]
_SUBSCRIPT = re.compile(r"^(?P<path>[^\[\]]+)\['(?P<key>.+)'\]$")


class ConfigError(AtollError):
    """The container can't be made from what it refers to (CreateContainerConfigError)."""


@dataclass(frozen=True, slots=True)
class References:
    """What a pod's containers may refer to: found objects by name (None: it does not exist), and the node's facts."""

    config_maps: Mapping[str, Object | None]
    secrets: Mapping[str, Object | None]
    services: Iterable[Object]
    allocatable: Mapping[str, str]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$(NAME)` by its value; `$$(NAME)` gives `$(NAME)`; an unknown one stays (upstream's expansion.Expand)."""
    out: list[str] = []
    index = 0
    while index < len(text):
        char = text[index]
        if char != "$" or index + 1 >= len(text):
            out.append(char)
            index += 1
            continue
        following = text[index + 1]
        if following == "$":
            out.append("$")
            index += 2
        elif following == "(":
            end = text.find(")", index + 2)
            if end < 0:
                out.append("$(")
                index += 2
            else:
                name = text[index + 2 : end]
                out.append(variables.get(name, f"$({name})"))
                index = end + 1
        else:
            out.append("$" + following)
            index += 2
    return "".join(out)


def service_variables(pod_namespace: str, services: Iterable[Object], *, all_services: bool) -> dict[str, str]:
    """Docker-link variables for the namespace's services, and always those of default/kubernetes."""
    chosen: dict[str, Object] = {}
    for service in services:
        metadata, spec = service["metadata"], service.get("spec", {})
        if spec.get("clusterIP") in (None, "", "None"):
            continue
        if metadata["namespace"] == "default" and metadata["name"] == "kubernetes":
            chosen.setdefault("kubernetes", service)
        elif all_services and metadata["namespace"] == pod_namespace:
            chosen[metadata["name"]] = service
    out: dict[str, str] = {}
    for name in sorted(chosen):
        spec = chosen[name]["spec"]
        ports = spec.get("ports") or []
        if not ports:
            continue
        prefix = name.upper().replace("-", "_")
        host = spec["clusterIP"]
        out[f"{prefix}_SERVICE_HOST"] = host
        out[f"{prefix}_SERVICE_PORT"] = str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                out[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        shown = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
        for number, port in enumerate(ports):
            protocol = port.get("protocol", "TCP")
            url = f"{protocol.lower()}://{shown}:{port['port']}"
            stem = f"{prefix}_PORT_{port['port']}_{protocol}"
            if number == 0:
                out[f"{prefix}_PORT"] = url
            out |= {stem: url, f"{stem}_PROTO": protocol.lower(), f"{stem}_PORT": str(port["port"])}
            out[f"{stem}_ADDR"] = host
    return out


def field_value(pod: Object, path: str) -> str:
    """The downward API's fieldRef. Raises ConfigError for a path that isn't supported."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    match = _SUBSCRIPT.match(path)
    if match and match["path"] in ("metadata.labels", "metadata.annotations"):
        return str((metadata.get(match["path"].partition(".")[2]) or {}).get(match["key"], ""))
    simple: dict[str, Callable[[], Any]] = {
        "metadata.name": lambda: metadata["name"],
        "metadata.namespace": lambda: metadata["namespace"],
        "metadata.uid": lambda: metadata.get("uid", ""),
        "metadata.labels": lambda: _map_text(metadata.get("labels")),
        "metadata.annotations": lambda: _map_text(metadata.get("annotations")),
        "spec.nodeName": lambda: spec.get("nodeName", ""),
        "spec.serviceAccountName": lambda: spec.get("serviceAccountName", ""),
        "status.hostIP": lambda: status.get("hostIP", ""),
        "status.hostIPs": lambda: ",".join(item["ip"] for item in status.get("hostIPs") or []),
        "status.podIP": lambda: status.get("podIP", ""),
        "status.podIPs": lambda: ",".join(item["ip"] for item in status.get("podIPs") or []),
    }
    if path not in simple:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(simple[path]())


def _map_text(values: Mapping[str, str] | None) -> str:
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values or {})) if values else ""


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def resource_value(container: Object, resource: str, divisor: str, allocatable: Mapping[str, str]) -> str:
    """The downward API's resourceFieldRef: limits fall back to what the node can give. Rounded up."""
    kind, _, name = resource.partition(".")
    found = (container.get("resources") or {}).get(kind, {}).get(name)
    if found is None:
        found = allocatable.get(name, "0") if kind == "limits" else "0"
    unit = quantity.parse(divisor or "1") or quantity.NANO
    return str(-(-quantity.parse(found) // unit))


def container_environment(pod: Object, container: Object, references: References) -> dict[str, str]:
    """The container's variables. Raises ConfigError."""
    services = service_variables(
        pod["metadata"]["namespace"], references.services,
        all_services=pod["spec"].get("enableServiceLinks", True),
    )  # fmt: skip
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        found |= _from_source(source, references)
    seen = dict(services)
    for entry in container.get("env") or []:
        value = _entry_value(pod, container, entry, found, seen, references)
        if value is not None:
            found[entry["name"]] = value
    return {**services, **found}


def _entry_value(
    pod: Object, container: Object, entry: Object, found: Mapping[str, str], services: Mapping[str, str],
    references: References,
) -> str | None:  # fmt: skip
    source = entry.get("valueFrom")
    if not source:
        return expand(str(entry.get("value", "")), {**services, **found})
    if reference := source.get("fieldRef"):
        return field_value(pod, reference["fieldPath"])
    if reference := source.get("resourceFieldRef"):
        target = container
        if wanted := reference.get("containerName"):
            target = next((item for item in pod["spec"]["containers"] if item["name"] == wanted), container)
        return resource_value(target, reference["resource"], reference.get("divisor", "1"), references.allocatable)
    if reference := source.get("configMapKeyRef"):
        return _key_value("configmap", reference, references.config_maps, pod["metadata"]["namespace"])
    if reference := source.get("secretKeyRef"):
        return _key_value("secret", reference, references.secrets, pod["metadata"]["namespace"])
    return None


def _key_value(kind: str, reference: Object, objects: Mapping[str, Object | None], namespace: str) -> str | None:
    obj = objects.get(reference["name"])
    if obj is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{kind} "{reference["name"]}" not found')
    data = text_data(obj)
    if reference["key"] not in data:
        if reference.get("optional"):
            return None
        shown = "ConfigMap" if kind == "configmap" else "Secret"
        raise ConfigError(f"couldn't find key {reference['key']} in {shown} {namespace}/{reference['name']}")
    return data[reference["key"]]


def _from_source(source: Object, references: References) -> dict[str, str]:
    for field, kind, objects in (
        ("configMapRef", "configmap", references.config_maps),
        ("secretRef", "secret", references.secrets),
    ):
        reference = source.get(field)
        if not reference:
            continue
        obj = objects.get(reference["name"])
        if obj is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{kind} "{reference["name"]}" not found')
        prefix = source.get("prefix", "")
        return {prefix + key: value for key, value in text_data(obj).items()}
    return {}


def text_data(obj: Object) -> dict[str, str]:
    """A ConfigMap's or Secret's data as text."""
    return {key: value.decode(errors="surrogateescape") for key, value in binary_data(obj).items()}


def binary_data(obj: Object) -> dict[str, bytes]:
    """A ConfigMap's data and binaryData, or a Secret's data, as bytes."""
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in (obj.get("data") or {}).items()}
    out = {key: str(value).encode() for key, value in (obj.get("data") or {}).items()}
    return out | {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}


def command_line(
    container: Object, image_command: list[str], image_args: list[str], env: Mapping[str, str]
) -> list[str]:
    """command replaces the image's entrypoint and its default arguments; args replaces the latter only."""
    command = [expand(str(part), env) for part in container.get("command") or []]
    args = [expand(str(part), env) for part in container.get("args") or []]
    if command:
        return command + args
    return image_command + (args or image_args)
