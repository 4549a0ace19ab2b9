"""What a node takes on: a pod that asks for host ports or resources that others on the node hold is rejected.

The scheduler counts the same things, but a pod may come without it (spec.nodeName set by its author), or two schedulers
may have decided at once: the node has the last word, as kubelet has (pkg/kubelet/lifecycle). A rejected pod is Failed
for good; whoever made it makes another. Pods that ended hold nothing. What ran before the node's agent was started
again runs on, whatever is left for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atoll.scheduling import resources, status
from atoll.scheduling.pod import Template, Templates, ports_conflict
from atoll.scheduling.state import NodeState

Object = dict[str, Any]
_OF_EVERY_NODE = (resources.CPU, resources.MEMORY, resources.STORAGE)


class Admission:
    """The pods that hold something of one node."""

    def __init__(self, allocatable: Mapping[str, str]) -> None:
        self._templates = Templates()
        self._node = NodeState("", 0.0)
        self._node.allocatable = resources.amounts(allocatable)

    def admit(self, pod: Object) -> tuple[str, str] | None:
        """Take the pod on; else (reason, message) as kubelet words them."""
        info = self._templates.pod(pod)
        if info.uid in self._node.pods:
            return None
        if (pod.get("status") or {}).get("phase") != "Running":
            refused = self._short_of(info.template) or self._ports(info.template)
            if refused is not None:
                return refused
        self._node.add(info)
        return None

    def resized(self, pod: Object) -> None:
        """It holds what its spec says now."""
        self.leave(pod["metadata"]["uid"])
        self._node.add(self._templates.pod(pod))

    def leave(self, uid: str) -> None:
        """It holds nothing any more."""
        info = self._node.pods.get(uid)
        if info is not None:
            self._node.remove(info)

    def _short_of(self, template: Template) -> tuple[str, str] | None:
        """The first resource that is not left. Extended ones that the node does not know are not its own."""
        node = self._node
        asked = {resources.PODS: 1, **{name: template.requests.get(name, 0) for name in _OF_EVERY_NODE}}
        asked |= {name: value for name, value in template.requests.items() if name in node.allocatable}
        for name, wanted in asked.items():
            used = len(node.pods) if name == resources.PODS else node.requested.get(name, 0)
            has = node.allocatable.get(name, 0)
            if wanted > 0 and wanted + used > has:
                text = f"requested: {wanted}, used: {used}, capacity: {has}"
                return f"OutOf{name}", f"Node didn't have enough resource: {name}, {text}"
        return None

    def _ports(self, template: Template) -> tuple[str, str] | None:
        if template.ports and ports_conflict(template.ports, self._node.ports):
            return "NodePorts", f"Predicate NodePorts failed: {status.PORTS.reasons[0]}"
        return None
