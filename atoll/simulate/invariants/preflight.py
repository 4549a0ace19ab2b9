"""No pod comes onto a node before its preflight has passed, but those that tolerate that.

A node that joins carries the taint `atoll.dev/preflight` until its tests have passed. Looked at where a pod is bound,
by the taints that the node has in the store at that moment.
"""

from __future__ import annotations

from atoll.cluster.store.port import Store
from atoll.scheduling.matching import tolerates
from atoll.simulate.invariants.port import Invariant, Tell
from atoll.simulate.ledger import Ledger, Pod

TAINT = "atoll.dev/preflight"


class Preflight(Invariant):
    name = "preflight"

    def __init__(self, ledger: Ledger, store: Store, tell: Tell) -> None:
        self._ledger = ledger
        self._tell = tell

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if new is None or not new.node or (old is not None and old.node):
            return
        node = self._ledger.nodes.get(new.node)
        for taint in node.taints if node is not None else ():
            if taint.get("key") == TAINT and not any(tolerates(dict(item), dict(taint)) for item in new.tolerations):
                self._tell(f"pod {new.key[1]} was bound to {new.node}, whose preflight is {taint.get('value')}", now)

    def full(self, now: float) -> None:
        """Bindings are moments: there is nothing to look at between them."""
