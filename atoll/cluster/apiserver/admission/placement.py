"""What admission reads of a pod's node: PodTopologyLabels copies its zone and region, PodResizeValidator refuses what
the node could never hold (plugin/pkg/admission/podtopologylabels, podresize).
"""

from __future__ import annotations

from typing import Any

from atoll.base import quantity
from atoll.base.errors import Forbidden
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest, User
from atoll.cluster.store.port import Key, Record, Store
from atoll.objects.pod_resources import pod_requests

Object = dict[str, Any]
_PODS = frozenset(("pods",))
_TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_OS = "kubernetes.io/os"


class PodTopologyLabels:
    """A pod that is made with a node, or bound to one, gets the node's zone and region as labels."""

    resources = _PODS

    def __init__(self, store: Store) -> None:
        self._store = store

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ()  # of pods without a node; those with one are never cast from a mold

    def mutate(self, request: AdmissionRequest) -> None:
        obj = request.obj
        if request.operation != "CREATE" or obj is None:
            return
        if request.subresource == "":
            name = obj["spec"].get("nodeName")
        elif request.subresource == "binding" and (obj.get("target") or {}).get("kind") == "Node":
            name = obj["target"].get("name")
        else:
            return
        record = self._store.get(Key("nodes", "", name)) if name else None
        if record is None:
            return
        found = {label: record.labels[label] for label in _TOPOLOGY if label in record.labels}
        if found:
            obj["metadata"]["labels"] = {**(obj["metadata"].get("labels") or {}), **found}


class PodResizes:
    """A resize may not ask for more than its node has; nodes of other systems than Linux refuse every one."""

    resources = _PODS

    def __init__(self, store: Store) -> None:
        self._store = store

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ()

    def validate(self, request: AdmissionRequest) -> None:
        pod, old = request.obj, request.old
        if request.subresource != "resize" or request.operation != "UPDATE" or pod is None or old is None:
            return
        name = pod["spec"].get("nodeName")
        if not name or pod["metadata"].get("generation") == old["metadata"].get("generation"):
            return
        record = self._store.get(Key("nodes", "", name))
        if record is None:
            raise forbidden(request, f'node "{name}" not found')
        system = record.labels.get(_OS, "linux")
        if system != "linux":
            why = f'pod resize is only supported on linux nodes, node "{name}" is "{system}"'
            raise _refused(request, why, "UnsupportedPlatform")
        if lacking := _lacking(pod, record):
            why = f"node didn't have enough allocatable resources: {'; '.join(lacking)}"
            raise _refused(request, why, "NodeCapacity")


def _lacking(pod: Object, node: Record) -> list[str]:
    allocatable = (node.object.get("status") or {}).get("allocatable") or {}
    requests = pod_requests(pod)
    found = []
    for name, unit in (("cpu", 1_000_000), ("memory", quantity.NANO)):
        asked, has = requests.get(name, 0), quantity.parse(allocatable.get(name, 0))
        if asked > has:
            found.append(f"{name}, requested: {-(-asked // unit)}, allocatable: {-(-has // unit)}")
    return found


def _refused(request: AdmissionRequest, why: str, reason: str) -> Forbidden:
    return forbidden(request, why, [{"reason": reason}])
