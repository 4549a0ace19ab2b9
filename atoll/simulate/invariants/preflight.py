"""No pod comes onto a node before its preflight has passed, but those that tolerate that.

A node that joins carries the taint `atoll.dev/preflight` until its tests have passed. Looked at where a pod is bound,
by the taints that the node has in the store at that moment; and in full, by when the taint was added and when each pod
on the node was bound: a node that is tested again keeps its pods until they are drained.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.cluster.store.port import Store
from atoll.objects.meta import condition
from atoll.scheduling.matching import tolerates
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod, pod_of

TAINT = "atoll.dev/preflight"


class Preflight(Invariant):
    name = "preflight"

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._store = store
        self._tell = tell

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if new is None or not new.node or (old is not None and old.node):
            return
        node = self._ledger.nodes.get(new.node)
        taint = _untolerated(node.taints, new) if node is not None else None
        if taint is not None:
            self._tell(f"pod {new.key[1]} was bound to {new.node}, whose preflight is {taint.get('value')}", now)

    def full(self, now: float) -> None:
        nodes = {record.key.name: record.object for record in self._store.scan("nodes")}
        closed = {name: taints for name, node in nodes.items() if (taints := (node.get("spec") or {}).get("taints"))}
        for record in self._store.scan("pods"):
            pod = pod_of(record.object)
            taint = _untolerated(closed.get(pod.node, ()), pod) if pod.holds and not pod.deleting else None
            if taint is None:
                continue
            bound = (condition(record.object, "PodScheduled") or {}).get("lastTransitionTime")
            if bound is None or "timeAdded" not in taint or parse_rfc3339(bound) > parse_rfc3339(taint["timeAdded"]):
                what = f"pod {pod.key[1]} is on {pod.node} since {bound}, whose preflight is {taint.get('value')}"
                self._tell(f"{what} since {taint.get('timeAdded')}", now)


def _untolerated(taints: Iterable[Mapping[str, Any]], pod: Pod) -> Mapping[str, Any] | None:
    """The taint of a node that is tested, where the pod does not tolerate it."""
    for taint in taints:
        if taint.get("key") == TAINT and not any(tolerates(dict(item), dict(taint)) for item in pod.tolerations):
            return taint
    return None
