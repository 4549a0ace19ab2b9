"""What Volcano's plugins of frameworks put into pods: addresses and ranks as environment, and an open port. Pure.

`pytorch` (MASTER_ADDR, MASTER_PORT, WORLD_SIZE, RANK), `tensorflow` (TF_CONFIG) and `mpi` (MPI_HOST, for the master).
Arguments are the plugins' own (`--master=NAME`, `--worker=NAME`, `--ps=…`, `--port=N`): which task plays which part.
All rely on the host names of `svc`, which comes with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from atoll.capacity.groups.volcano import model
from atoll.capacity.groups.volcano.model import Object

_ROLES: Final[Mapping[str, Mapping[str, str]]] = {
    "pytorch": {"master": "master", "worker": "worker", "port": "23456"},
    "tensorflow": {"ps": "ps", "worker": "worker", "chief": "chief", "evaluator": "evaluator", "port": "2222"},
    "mpi": {"master": "master", "worker": "worker", "port": "22"},
}
_PORT_NAMES: Final = {"pytorch": "pytorchjob-port", "tensorflow": "tfjob-port", "mpi": "mpijob-port"}
NAMES: Final = tuple(_ROLES)
Hosts = Callable[[str], Sequence[str]]
"""The host names of a task's pods."""


def environment(job: Object, task: str, index: int, hosts: Hosts) -> tuple[dict[str, str], list[Object]]:
    """Variables and container ports that the Job's plugins add to the pod of that task and index."""
    variables: dict[str, str] = {}
    ports: list[Object] = []
    for plugin, arguments in (job["spec"].get("plugins") or {}).items():
        if plugin not in _ROLES:
            continue
        roles = {**_ROLES[plugin], **_parsed(arguments or ())}
        found = _MAKERS[plugin](job, task, index, hosts, roles)
        if found is not None:
            variables |= found
            ports.append({"name": _PORT_NAMES[plugin], "containerPort": int(roles["port"]), "protocol": "TCP"})
    return variables, ports


def _parsed(arguments: Sequence[str]) -> dict[str, str]:
    pairs = (item.lstrip("-").partition("=") for item in arguments)
    return {name: value for name, _, value in pairs if value}


def _pytorch(job: Object, task: str, index: int, hosts: Hosts, roles: Mapping[str, str]) -> dict[str, str] | None:
    masters = hosts(roles["master"])
    if not masters or task not in (roles["master"], roles["worker"]):
        return None
    size = sum(int(item.get("replicas", 1)) for item in model.tasks(job))
    rank = 0 if task == roles["master"] else index + 1
    return {
        "MASTER_ADDR": masters[0], "MASTER_PORT": roles["port"], "WORLD_SIZE": str(size), "RANK": str(rank),
    }  # fmt: skip


def _tensorflow(job: Object, task: str, index: int, hosts: Hosts, roles: Mapping[str, str]) -> dict[str, str] | None:
    parts = {part: name for part, name in roles.items() if part != "port"}
    mine = next((part for part, name in parts.items() if name == task), None)
    if mine is None:
        return None
    addresses = {part: [f"{host}:{roles['port']}" for host in hosts(name)] for part, name in parts.items()}
    cluster = {part: found for part, found in addresses.items() if found}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": mine, "index": index}})}


def _mpi(job: Object, task: str, index: int, hosts: Hosts, roles: Mapping[str, str]) -> dict[str, str] | None:
    if task == roles["master"]:
        return {"MPI_HOST": ",".join(hosts(roles["worker"]))}
    return {} if task == roles["worker"] else None


_MAKERS: Final = {"pytorch": _pytorch, "tensorflow": _tensorflow, "mpi": _mpi}
