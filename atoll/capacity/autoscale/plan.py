"""Which machines are made, which nodes leave, which machines go. Pure.

Up: pods that the scheduler can't place, balloons among them, are packed onto nodes that come anyway and then onto new
ones, of the cheapest pool that has room. Down: a node without work and balloon for `idle_seconds` is closed, looked at
once more, and given back; one to which work came meanwhile is opened again. Broken nodes (health orders `replace`) and
old ones are replaced: the new machine is ordered first. Orders are paced.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.autoscale.model import (
    Create,
    Empty,
    Leave,
    Machine,
    Object,
    Plan,
    Remove,
    Stay,
    Step,
    leaving_of,
)
from atoll.capacity.autoscale.settings import AutoscaleSettings, Pool
from atoll.capacity.autoscale.shape import Bin, is_balloon, pack
from atoll.capacity.autoscale.trial import Surroundings
from atoll.capacity.autoscale.underused import fits_elsewhere, may_leave
from atoll.capacity.health.drain import plan_drain
from atoll.capacity.health.model import repair_of
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.nodes import has_taint, is_ready, work_on
from atoll.objects.meta import labels

_CLOSED_SECONDS = 5.0  # a placement that was decided before the node was closed has arrived by then
_PACE_SECONDS = 5.0
_TURN = 30.0
_PATIENCE = 600.0  # for work to leave a node that is emptied to save its price
_TRIALS = 2  # of such nodes in one pass: each is a look at the whole cluster
_DRAINS = HealthSettings()


@dataclass(frozen=True, slots=True)
class View:
    """`nodes`: those with a machine; `pods`: by node; `pending`: pods for which the scheduler finds no node;
    `idle_since`: nodes that are idle, `underused_since`: that do little; `dry`: pools that were out of stock a moment
    ago; `around`: the whole cluster."""

    settings: AutoscaleSettings
    machines: list[Machine]
    nodes: dict[str, Object]
    pods: Mapping[str, list[Object]]
    pending: list[Object]
    now: float
    idle_since: Mapping[str, float]
    underused_since: Mapping[str, float]
    dry: frozenset[str]
    around: Surroundings
    budgets: Sequence[Object]  # PodDisruptionBudgets

    def joining(self) -> list[Machine]:
        """Ordered, and not open for work yet."""
        return [it for it in self.machines if it.name not in self.nodes or not is_open(self.nodes[it.name])]

    def replacement_of(self, name: str) -> Machine | None:
        return next((it for it in self.machines if it.replaces == name), None)


def is_open(node: Object) -> bool:
    return is_ready(node) and not has_taint(node, names.PREFLIGHT)


def has_work(pods: list[Object]) -> bool:
    """Something whose end somebody would notice: no daemon, no balloon, nothing that is over."""
    return any(not is_balloon(pod) for pod in work_on(pods))


def in_service(node: Object) -> bool:
    return is_open(node) and repair_of(node) is None and not has_taint(node, names.UNHEALTHY_TAINT)


def is_idle(node: Object, pods: list[Object]) -> bool:
    """In service, and neither working nor kept warm."""
    return in_service(node) and not work_on(pods)


def plan_pools(view: View) -> Plan:
    """All steps of now."""
    waits: list[float] = []
    steps: list[Step] = []
    orders: list[Create] = [*_broken(view, steps), *_old(view, steps, waits)]
    _leaving(view, steps, waits)
    idle = {name: node for name, node in view.nodes.items() if name in view.idle_since}
    bins, unplaced = pack(view.pending, view.settings.pools, _coming(view), _room(view), view.around, idle)
    fresh = sorted((it for it in bins if it.new), key=lambda it: it.balloon)
    orders += [Create(it.pool) for it in fresh]
    orders += _least(view, Counter(order.pool for order in orders if not order.replaces))
    allowed = _pace(view)
    if len(orders) > allowed:
        waits.append(_PACE_SECONDS)
    steps += [order for order in orders[:allowed] if order.pool not in view.dry]
    _idle(view, steps, waits)
    _underused(view, steps, waits)
    return Plan(tuple(steps), unplaced, min(waits, default=None))


# -- up


def _coming(view: View) -> list[Bin]:
    found = []
    for machine in view.joining():
        if view.settings.pool(machine.pool) is not None:
            found.append(Bin(machine.name, machine.pool))
    return found


def _counts(view: View) -> Counter[str]:
    """Machines by pool, but for those that are about to go."""
    going = {name for name, node in view.nodes.items() if leaving_of(node) is not None}
    return Counter(it.pool for it in view.machines if it.name not in going)


def _room(view: View) -> dict[str, int]:
    counts = _counts(view)
    return {pool.name: 0 if pool.name in view.dry else pool.max - counts[pool.name] for pool in view.settings.pools}


def _least(view: View, ordered: Counter[str]) -> list[Create]:
    counts = _counts(view)
    return [
        Create(pool.name)
        for pool in view.settings.pools
        for _ in range(pool.min - counts[pool.name] - ordered[pool.name])
    ]


def _pace(view: View) -> int:
    """How many machines may be ordered now."""
    recent = sum(view.now - machine.created < 60.0 for machine in view.machines)
    settings = view.settings
    return max(0, min(settings.joining_at_once - len(view.joining()), settings.creates_per_minute - recent))


# -- instead of others


def _broken(view: View, steps: list[Step]) -> list[Create]:
    orders = []
    for name, node in sorted(view.nodes.items()):
        repair = repair_of(node)
        if repair is None or (repair.remedy, repair.phase) != ("replace", "repairing"):
            continue
        if view.replacement_of(name) is None:
            orders.append(Create(_pool_name(node), replaces=name))
        else:
            steps.append(Remove(name, "broken"))
    return orders


def _old(view: View, steps: list[Step], waits: list[float]) -> list[Create]:
    """The oldest first, so many of a pool at once."""
    orders = []
    for pool in view.settings.pools:
        if not pool.max_age_seconds:
            continue
        members = [node for node in view.nodes.values() if _pool_name(node) == pool.name]
        renewing = 0
        for node in sorted(members, key=lambda it: (it["metadata"]["creationTimestamp"], it["metadata"]["name"])):
            left = parse_rfc3339(node["metadata"]["creationTimestamp"]) + pool.max_age_seconds - view.now
            if left > 0:
                waits.append(left)
                break
            if renewing >= view.settings.renew_at_once or repair_of(node) is not None:
                continue
            renewing += 1
            name = node["metadata"]["name"]
            coming = view.replacement_of(name)
            if coming is None:
                orders.append(Create(pool.name, replaces=name))
            elif leaving_of(node) is None and coming.name in view.nodes and is_open(view.nodes[coming.name]):
                steps.append(Leave(node, "age"))
    return orders


def _pool_name(node: Object) -> str:
    return labels(node).get(names.POOL_LABEL) or ""


# -- down


def _leaving(view: View, steps: list[Step], waits: list[float]) -> None:
    for name, node in sorted(view.nodes.items()):
        leaving = leaving_of(node)
        if leaving is None:
            continue
        pods, since = view.pods.get(name, []), parse_rfc3339(leaving.since)
        if leaving.why == "idle" and has_work(pods):
            steps.append(Stay(node))
            continue
        if leaving.why == "underused" and has_work(pods) and (has_work(view.pending) or view.now - since > _PATIENCE):
            steps.append(Stay(node))  # its work has no other place after all, or a budget holds it
            continue
        drain = plan_drain(node, pods, since, view.now, _DRAINS, urgent=False)
        if drain.remaining:
            if drain.evict:
                steps.append(Empty(node, drain.evict))
            waits.append(drain.again_seconds if drain.again_seconds is not None else _PACE_SECONDS)
        elif view.now - since < _CLOSED_SECONDS:
            waits.append(_CLOSED_SECONDS - (view.now - since))
        else:
            steps.append(Remove(name, leaving.why))


def _idle(view: View, steps: list[Step], waits: list[float]) -> None:
    counts = _counts(view)
    spare = {pool.name: counts[pool.name] - pool.min for pool in view.settings.pools}
    for name, since in sorted(view.idle_since.items(), key=lambda item: (item[1], item[0])):
        node = view.nodes.get(name)
        if node is None or leaving_of(node) is not None or spare.get(_pool_name(node), 0) <= 0:
            continue
        left = since + view.settings.idle_seconds - view.now
        if left > 0:
            waits.append(left)
            continue
        spare[_pool_name(node)] -= 1
        steps.append(Leave(node, "idle"))


def _underused(view: View, steps: list[Step], waits: list[float]) -> None:
    """One at a time, and none while pods wait for nodes."""
    leaving = (leaving_of(node) for node in view.nodes.values())
    if has_work(view.pending) or any(it is not None and it.why == "underused" for it in leaving):
        return
    counts = _counts(view)
    spare = {pool.name: counts[pool.name] - pool.min for pool in view.settings.pools}
    due = []
    for name, since in sorted(view.underused_since.items()):
        node = view.nodes[name]
        if leaving_of(node) is not None or spare.get(_pool_name(node), 0) <= 0:
            continue
        left = since + view.settings.underused_seconds - view.now
        if left > 0:
            waits.append(left)
        elif may_leave(view.pods.get(name, []), view.budgets):
            due.append(node)
    first = int(view.now // _TURN)  # in turn, so that one that can't be emptied hides no other
    for number in range(min(len(due), _TRIALS)):
        node = due[(first + number) % len(due)]
        if fits_elsewhere(node, view.pods[node["metadata"]["name"]], view.around):
            steps.append(Leave(node, "underused"))
            return


def price(view_machines: list[Machine], pools: tuple[Pool, ...]) -> float:
    """What all machines cost in an hour."""
    prices = {pool.name: pool.price_per_hour for pool in pools}
    return sum(prices.get(machine.pool, 0.0) for machine in view_machines)
