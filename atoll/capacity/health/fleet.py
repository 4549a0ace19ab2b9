"""How many nodes are out, of all and of each pool, and whether one more may go. In memory, without I/O.

Out is a node with the taint atoll.dev/unhealthy, whoever put it there. Nodes that are not Ready count too: where much
is down already, nothing more is taken out, for then it may be the observer that errs.
"""

from __future__ import annotations

from collections import Counter

from atoll.capacity import names
from atoll.capacity.health.model import Object
from atoll.capacity.health.settings import HealthSettings, allowed
from atoll.capacity.nodes import has_taint, is_ready, pool_of


class Fleet:
    """`put` and `drop` keep it true; `take` and `release` hold a place while a write is on its way."""

    def __init__(self) -> None:
        self._pools: dict[str, str] = {}
        self._missing: dict[str, str] = {}  # node → pool: out, or not ready
        self._out: set[str] = set()
        self._taken: dict[str, str] = {}
        self._sizes: Counter[str] = Counter()
        self._gone: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._pools)

    @property
    def out(self) -> frozenset[str]:
        """Nodes with the taint, and those for which it is being written."""
        return frozenset(self._out | self._taken.keys())

    def put(self, node: Object) -> None:
        """The node as it is now."""
        name, pool = node["metadata"]["name"], pool_of(node)
        self.drop(name)
        self._pools[name] = pool
        self._sizes[pool] += 1
        out = has_taint(node, names.UNHEALTHY_TAINT)
        if out:
            self._out.add(name)
        if out or not is_ready(node):
            self._missing[name] = pool
            self._gone[pool] += 1

    def drop(self, name: str) -> None:
        """The node is there no more."""
        pool = self._pools.pop(name, None)
        if pool is None:
            return
        self._sizes[pool] -= 1
        self._out.discard(name)
        if self._missing.pop(name, None) is not None:
            self._gone[pool] -= 1

    def take(self, name: str, settings: HealthSettings) -> bool:
        """Hold a place for the node; False where the budget has none."""
        pool = self._pools.get(name)
        if pool is None:
            return False
        if name in self._out or name in self._taken:
            return True
        more = 0 if name in self._missing else 1
        held = [taken for node, taken in self._taken.items() if node not in self._missing]
        total = len(self._missing) + len(held) + more
        in_pool = self._gone[pool] + held.count(pool) + more
        if total > allowed(settings.budget, len(self._pools)):
            return False
        if in_pool > allowed(settings.pool_budget, self._sizes[pool]):
            return False
        self._taken[name] = pool
        return True

    def release(self, name: str) -> None:
        """The write is over: what the node says counts."""
        self._taken.pop(name, None)
