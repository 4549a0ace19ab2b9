"""Which of a pod's containers are to be started now: pure, from their states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.nodes.process.status import ContainerState, is_sidecar

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """`start`: names to start (back-offs are the caller's). `finished`: nothing of the pod will run again, but for
    sidecars, which are then to be stopped. `initialized`: all init containers have done their part."""

    start: tuple[str, ...] = ()
    finished: bool = False
    initialized: bool = False
    failed_init: bool = field(default=False)


def plan_containers(spec: Object, states: Mapping[str, ContainerState], *, initialized: bool) -> Plan:
    """`initialized`: an app container has been started in this sandbox already."""
    start: list[str] = []
    policy = spec.get("restartPolicy", "Always")
    app_done = _apps_done(spec, states, policy)
    if app_done:
        return Plan(finished=True, initialized=True)
    for container in spec.get("initContainers") or []:
        state = states[container["name"]]
        if is_sidecar(container):
            if state.running_since is None:
                start.append(container["name"])
            if not state.started and not initialized:
                return Plan(tuple(start))
            continue
        if initialized or (state.ended is not None and state.ended.exit_code == 0):
            continue
        if state.running_since is not None:
            return Plan(tuple(start))
        if state.ended is not None and policy == "Never":
            return Plan(tuple(start), finished=True, failed_init=True)
        return Plan((*start, container["name"]))
    for container in spec["containers"]:
        state = states[container["name"]]
        if state.running_since is None and _wants_run(container, state, policy):
            start.append(container["name"])
    for container in spec.get("ephemeralContainers") or []:
        state = states[container["name"]]
        if state.running_since is None and state.ended is None:  # these run once
            start.append(container["name"])
    return Plan(tuple(start), initialized=True)


def _wants_run(container: Object, state: ContainerState, policy: str) -> bool:
    if state.ended is None or state.restart:
        return True
    policy = container.get("restartPolicy") or policy
    return policy == "Always" or (policy == "OnFailure" and state.ended.exit_code != 0)


def _apps_done(spec: Object, states: Mapping[str, ContainerState], policy: str) -> bool:
    for container in spec["containers"]:
        state = states[container["name"]]
        if state.running_since is not None or _wants_run(container, state, policy):
            return False
    return True
