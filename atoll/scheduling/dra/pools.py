"""The pools of devices that a node can reach: newest generation, complete or not, with the counters that their
devices draw on. Pools are looked through in the order of driver and name, their slices in the order of names; those
with binding conditions last (upstream's structured/internal/incubating/pools).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from atoll.scheduling.dra.model import Device, Object, PoolId, Slice, parse_slice
from atoll.scheduling.dra.taint_rules import may_select, taints_by


@dataclass(slots=True, eq=False)
class Pool:
    """What a node sees of a pool. An incomplete or invalid one gives no devices."""

    id: PoolId
    devices: list[Device] = field(default_factory=list)
    others: list[Device] = field(default_factory=list)  # out of the node's reach; they draw on the counters too
    counter_sets: dict[str, dict[str, int]] = field(default_factory=dict)
    incomplete: bool = False
    problem: str = ""

    @property
    def usable(self) -> bool:
        return not self.incomplete and not self.problem


class Inventory:
    """All slices, by pool and by node. `changed` counts changes that may concern more than one node."""

    def __init__(self) -> None:
        self.changed = 0
        self._slices: dict[str, Slice] = {}
        self._pools: dict[PoolId, dict[str, Slice]] = {}
        self._local: dict[str, dict[PoolId, int]] = {}  # node → pools with slices of its own, and how many
        self._wide: dict[PoolId, int] = {}  # pools with slices that may concern any node
        self._built: dict[PoolId, dict[tuple[str, ...], Pool | None]] = {}
        self._rules: dict[str, Object] = {}  # DeviceTaintRules

    def set_rule(self, rule: Object | None, name: str) -> list[str]:
        """Take up a DeviceTaintRule (None: it is gone). The nodes that it concerns, "" for changes of several."""
        both = [found for found in (self._rules.pop(name, None), rule) if found is not None]
        if rule is not None:
            self._rules[name] = rule
        pools = [pool for pool in self._pools if any(may_select(each, pool) for each in both)]
        changed = [made for pool in pools for made in self._pools[pool].values() if self._taint(made)]
        return [self._told({self._scope(made)}) for made in changed]

    def _taint(self, made: Slice) -> bool:
        rules = [rule for rule in self._rules.values() if may_select(rule, made.pool)]
        changed = [device.taint(taints_by(rules, device.id)) for device in made.devices]
        return any(changed)

    def put(self, obj: Object) -> str:
        """Take up a slice. The one node that it concerns, "" where it may be several."""
        made = parse_slice(obj)
        self._taint(made)
        before = self._slices.get(made.name)
        where = {self._drop(before)} if before is not None else set()
        self._slices[made.name] = made
        self._pools.setdefault(made.pool, {})[made.name] = made
        self._index(made, 1)
        return self._told(where | {self._scope(made)})

    def remove(self, name: str) -> str:
        """As `put`."""
        found = self._slices.pop(name, None)
        return "" if found is None else self._told({self._drop(found)})

    def device_home(self, pool: PoolId) -> str:
        """The one node that a pool's devices are on; "" for several or none."""
        homes = {found.home for found in self._pools.get(pool, {}).values()}
        return homes.pop() if len(homes) == 1 else ""

    def devices(self, pool: PoolId) -> Iterator[Device]:
        for found in self._pools.get(pool, {}).values():
            yield from found.devices

    def slices(self) -> Iterator[Slice]:
        return iter(self._slices.values())

    def has_local(self, node: str) -> bool:
        return bool(self._wide) or node in self._local

    def of_node(self, name: str, labels: Mapping[str, str]) -> list[Pool]:
        """The pools that a node reaches, in the order in which they are looked through."""
        found = []
        for pool_id in {**self._local.get(name, {}), **self._wide}:
            pool = self._pool(pool_id, name, labels)
            if pool is not None:
                found.append(pool)
        found.sort(key=lambda pool: (_waits(pool), pool.id))
        return found

    # keeping

    def _told(self, where: set[str]) -> str:
        if len(where) == 1 and "" not in where:
            return where.pop()
        self.changed += 1
        return ""

    def _scope(self, found: Slice) -> str:
        """A pool that reaches over several nodes is as wide as all of it: its counters, its completeness."""
        return self.device_home(found.pool) or ""

    def _drop(self, found: Slice) -> str:
        scope = self._scope(found)
        pool = self._pools[found.pool]
        del pool[found.name]
        if not pool:
            del self._pools[found.pool]
        self._index(found, -1)
        return scope

    def _index(self, found: Slice, sign: int) -> None:
        self._built.pop(found.pool, None)
        home = found.home
        counts = self._local.setdefault(home, {}) if home else self._wide
        left = counts.get(found.pool, 0) + sign
        if left:
            counts[found.pool] = left
        else:
            counts.pop(found.pool, None)
            if home and not counts:
                del self._local[home]

    # building

    def _pool(self, pool_id: PoolId, name: str, labels: Mapping[str, str]) -> Pool | None:
        known = self._pools[pool_id]
        seen = [found for found in known.values() if found.concerns(name, labels)]
        if not seen:
            return None
        newest = max(found.generation for found in seen)
        names = tuple(sorted(found.name for found in seen if found.generation == newest))
        built = self._built.setdefault(pool_id, {})
        if names not in built:
            built[names] = _build(pool_id, [known[each] for each in names], list(known.values()))
        return built[names]


def _waits(pool: Pool) -> bool:
    return any(device.binding_conditions for device in pool.devices)


def _build(pool_id: PoolId, seen: list[Slice], everything: list[Slice]) -> Pool | None:
    """`seen`: of one generation, by name. None: a newer generation, of which nothing is seen here, replaces it."""
    generation, count = seen[0].generation, seen[0].count
    if len(seen) == count:
        everything = seen
    elif any(found.generation > generation for found in everything):
        return None
    else:
        everything = [found for found in everything if found.generation == generation]
        if len(everything) != count:
            return Pool(pool_id, incomplete=True)
    pool = Pool(pool_id, devices=[device for found in seen for device in found.devices])
    pool.others = [device for found in everything if found not in seen for device in found.devices]
    pool.problem = _repeated(pool.devices) or _counters(pool, seen)
    return pool


def _repeated(devices: list[Device]) -> str:
    names: set[str] = set()
    for device in devices:
        if device.id[2] in names:
            return f"duplicate device name {device.id[2]}"
        names.add(device.id[2])
    return ""


def _counters(pool: Pool, seen: list[Slice]) -> str:
    """Takes up the pool's counters; what is wrong with them."""
    for found in seen:
        for name, counters in found.counter_sets.items():
            if name in pool.counter_sets:
                return f"duplicate counter set name {name}"
            pool.counter_sets[name] = counters
    for device in (*pool.devices, *pool.others):
        for name, wanted in device.consumes:
            have = pool.counter_sets.get(name)
            if have is None:
                return f"counter set {name} not found"
            for counter in wanted:
                if counter not in have:
                    return f"counter {counter} not found in counter set {name}"
    return ""
