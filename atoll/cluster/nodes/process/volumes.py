"""A pod's volumes on this machine: what files they hold (pure), and putting them there.

ConfigMap, Secret, downward and projected volumes are written as kubelet's atomic writer does: a dated folder, `..data`
pointing at it, every name a link through `..data`; an update is one rename.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.cluster.nodes.process.environment import (
    ConfigError,
    References,
    binary_data,
    field_value,
    resource_value,
)

Object = dict[str, Any]
Payload = dict[str, tuple[bytes, int]]
_DEFAULT_MODE = 0o644
FILE_KINDS = ("configMap", "secret", "downwardAPI", "projected")


def references_of(pod: Object) -> tuple[set[str], set[str]]:
    """(ConfigMap names, Secret names) that the pod's containers and volumes refer to."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    spec = pod["spec"]
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for source in container.get("envFrom") or []:
            config_maps |= _named(source, "configMapRef")
            secrets |= _named(source, "secretRef")
        for entry in container.get("env") or []:
            config_maps |= _named(entry.get("valueFrom") or {}, "configMapKeyRef")
            secrets |= _named(entry.get("valueFrom") or {}, "secretKeyRef")
    for volume in spec.get("volumes") or []:
        config_maps |= _named(volume, "configMap")
        if volume.get("secret"):
            secrets.add(volume["secret"]["secretName"])
        for source in (volume.get("projected") or {}).get("sources") or []:
            config_maps |= _named(source, "configMap")
            secrets |= _named(source, "secret")
    return config_maps, secrets


def _named(source: Object, field: str) -> set[str]:
    reference = source.get(field)
    return {reference["name"]} if reference and reference.get("name") else set()


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a volume's files are: the group of fsGroup, and, for tokens, the user that all containers run as."""

    group: int | None = None
    user: int | None = None


NOBODY = Owner()


def owner_of(pod: Object, *, rootful: bool) -> Owner:
    """From the pod's security context; without root there are no owners to choose."""
    if not rootful:
        return NOBODY
    spec = pod["spec"]
    security = spec.get("securityContext") or {}
    users = {
        (container.get("securityContext") or {}).get("runAsUser", security.get("runAsUser"))
        for container in [*(spec.get("initContainers") or []), *spec["containers"]]
    }
    return Owner(security.get("fsGroup"), users.pop() if len(users) == 1 else None)


def file_payload(
    volume: Object, pod: Object, references: References, tokens: Mapping[str, str], owner: Owner = NOBODY
) -> Payload:
    """path → (content, mode) of a file volume. `tokens`: projected token path → token. Raises ConfigError."""
    if source := volume.get("configMap"):
        return _keys("configmap", source, source["name"], references.config_maps, pod, _mode(source, _DEFAULT_MODE))
    if source := volume.get("secret"):
        return _keys("secret", source, source["secretName"], references.secrets, pod, _mode(source, _DEFAULT_MODE))
    if source := volume.get("downwardAPI"):
        return _downward(source, pod, references, _mode(source, _DEFAULT_MODE))
    out: Payload = {}
    projected = volume["projected"]
    mode = _mode(projected, _DEFAULT_MODE)
    for source in projected.get("sources") or []:
        if part := source.get("configMap"):
            out |= _keys("configmap", part, part["name"], references.config_maps, pod, mode)
        elif part := source.get("secret"):
            out |= _keys("secret", part, part["name"], references.secrets, pod, mode)
        elif part := source.get("downwardAPI"):
            out |= _downward(part, pod, references, mode)
        elif part := source.get("serviceAccountToken"):
            # a token is its user's alone, where it is known who that is
            private = owner.user is not None or owner.group is not None
            out[part["path"]] = (tokens[part["path"]].encode(), 0o600 if private else mode)
    return out


def _mode(source: Object, default: int) -> int:
    found = source.get("defaultMode")
    return default if found is None else int(found)


def _keys(
    kind: str, source: Object, name: str, objects: Mapping[str, Object | None], pod: Object, mode: int
) -> Payload:
    obj = objects.get(name)
    if obj is None:
        if source.get("optional"):
            return {}
        raise ConfigError(f'{kind} "{name}" not found')
    data = binary_data(obj)
    if not source.get("items"):
        return {key: (value, mode) for key, value in data.items()}
    out: Payload = {}
    for item in source["items"]:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            raise ConfigError(
                f"{kind} references non-existent {'config' if kind == 'configmap' else 'secret'} key: {item['key']}"
            )
        out[item["path"]] = (data[item["key"]], item.get("mode") or mode)
    return out


def _downward(source: Object, pod: Object, references: References, mode: int) -> Payload:
    out: Payload = {}
    for item in source.get("items") or []:
        if reference := item.get("fieldRef"):
            text = field_value(pod, reference["fieldPath"])
        else:
            reference = item["resourceFieldRef"]
            container = next(c for c in pod["spec"]["containers"] if c["name"] == reference["containerName"])
            text = resource_value(
                container, reference["resource"], reference.get("divisor", "1"), references.allocatable
            )
        out[item["path"]] = (text.encode(), item.get("mode") or mode)
    return out


def make_empty(folder: Path, group: int | None) -> None:
    """An emptyDir: writable by all, its files the group's."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o777)
    if group is not None:
        os.chown(folder, -1, group)
        folder.chmod(0o2777)


def write_payload(folder: Path, payload: Payload, stamp: str, owner: Owner = NOBODY) -> bool:
    """Make `folder` show the payload, atomically. True if it changed. `stamp` names the dated folder."""
    if not folder.exists():
        make_empty(folder, owner.group)
    data = folder / "..data"
    if data.is_symlink() and _holds(data, payload):
        return False
    dated = folder / f"..{stamp}"
    for path, (content, mode) in payload.items():
        target = dated / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        private = owner.user is not None and mode == 0o600
        os.chown(target, (owner.user or 0) if private else -1, -1 if owner.group is None else owner.group)
        target.chmod(mode if owner.group is None else mode | 0o440)
    dated.mkdir(exist_ok=True)
    old = data.readlink() if data.is_symlink() else None
    fresh = folder / "..data_tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(dated.name)
    fresh.replace(data)
    names = {path.split("/", 1)[0] for path in payload}
    for name in names:
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}")
    for entry in folder.iterdir():
        if entry.is_symlink() and not entry.name.startswith("..") and entry.name not in names:
            entry.unlink()
    if old is not None and str(old) != dated.name:
        shutil.rmtree(folder / old, ignore_errors=True)
    return True


def _holds(data: Path, payload: Payload) -> bool:
    present = {str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()} if data.exists() else set()
    if present != set(payload):
        return False
    return all((data / path).read_bytes() == content for path, (content, _) in payload.items())


def prepare_host_path(source: Object) -> str:
    """The path of a hostPath volume, made where its type says so. Raises ConfigError with kubelet's words."""
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True, mode=0o755)
    elif kind == "FileOrCreate":
        path.touch(mode=0o644, exist_ok=True)
    elif kind == "Directory" and not path.is_dir():
        raise ConfigError(f"hostPath type check failed: {path} is not a directory")
    elif kind == "File" and not path.is_file():
        raise ConfigError(f"hostPath type check failed: {path} is not a file")
    elif kind == "Socket" and not path.is_socket():
        raise ConfigError(f"hostPath type check failed: {path} is not a socket file")
    elif not path.exists():
        path.mkdir(parents=True, exist_ok=True)  # as container runtimes do for a bind mount's source
    return str(path)


def remove_tree(folder: Path) -> None:
    """Delete a pod's folder, whatever its containers left there."""
    for root, folders, _ in os.walk(folder):
        for name in folders:
            with suppress(OSError):
                (Path(root) / name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def token_request(source: Object, pod: Object) -> Object:
    """The TokenRequest for a projected token source, bound to the pod."""
    spec: Object = {
        "audiences": [source["audience"]] if source.get("audience") else [],
        "expirationSeconds": source.get("expirationSeconds") or 3600,
        "boundObjectRef": {
            "apiVersion": "v1", "kind": "Pod",
            "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"],
        },
    }  # fmt: skip
    return {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "metadata": {}, "spec": spec}


def token_key(source: Object, pod: Object) -> str:
    """Under which a token is kept until it must be renewed."""
    return json.dumps([pod["spec"].get("serviceAccountName"), source.get("audience"), source.get("expirationSeconds")])
