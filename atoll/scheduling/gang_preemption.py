"""Which work would have to go so that a gang fits: whole gangs only, and the cheapest of them.

In each domain that could hold the gang, less important work is taken away in thought, the least important first, until
the gang fits; then as much as possible is reprieved, the most important first. A gang of which any member would have
to go goes as a whole, wherever its members are. The best domain breaks the fewest disruption budgets, then hits the
least important work, then the fewest pods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.scheduling.gang import Gang, Placement, Undo, lift, plan_gang
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.preemption import split_by_budget
from atoll.scheduling.tenants import started

Object = dict[str, Any]
GangOf = Callable[[PodInfo], str]
"""The name of the gang that a pod belongs to; "" for none."""


@dataclass(slots=True)
class Unit:
    """What goes or stays as one: a gang, or a pod by itself."""

    name: str
    pods: list[tuple[PodInfo, str]]  # and the nodes that they are on

    @property
    def priority(self) -> int:
        return max(pod.priority for pod, _ in self.pods)

    @property
    def rank(self) -> tuple[int, int, float, str]:
        """What goes first: unimportant, small, started late."""
        return self.priority, len(self.pods), -min(started(pod) for pod, _ in self.pods), self.name


@dataclass(slots=True)
class GangPreemption:
    """Remove these, and the gang goes there."""

    units: list[Unit]
    placement: Placement
    violations: int  # pods that a PodDisruptionBudget protects

    @property
    def cost(self) -> tuple[int, int, int, str]:
        highest = max(unit.priority for unit in self.units)
        return self.violations, highest, sum(len(unit.pods) for unit in self.units), self.placement.domain


def plan_gang_preemption(
    planner: Planner, gang: Gang, gang_of: GangOf, budgets: Sequence[Object]
) -> GangPreemption | None:
    """None: no removal of less important work would let the gang in, or none is needed. The state is left as it was."""
    if _fits(planner, gang) is not None or not all(pod.template.may_preempt for pod in gang.pods):
        return None
    units = _units(planner, gang, gang_of)
    found = []
    for domain in _domains(planner, gang):
        inside = {
            name for name, node in planner.state.nodes.items() if domain in (None, node.labels.get(gang.required))
        }
        touching = [unit for unit in units if any(node in inside for _, node in unit.pods)]
        plan = _in_domain(planner, gang, touching, budgets)
        if plan is not None:
            found.append(plan)
    return min(found, key=lambda plan: plan.cost, default=None)


def _units(planner: Planner, gang: Gang, gang_of: GangOf) -> list[Unit]:
    """All less important work on nodes."""
    priority, nodes = gang.priority, planner.state.nodes.values()
    if not any(pod.priority < priority for node in nodes for pod in node.pods.values()):
        return []
    mine = {pod.uid for pod in gang.pods}
    found: dict[tuple[bool, str], Unit] = {}
    for node in nodes:
        for pod in node.pods.values():
            if pod.uid not in mine:
                name = gang_of(pod)
                if name == gang.name:
                    continue
                key = (bool(name), name or f"{pod.template.namespace}/{pod.name}")
                unit = found.get(key)
                if unit is None:
                    unit = found[key] = Unit(key[1], [])
                unit.pods.append((pod, node.name))
    return [unit for unit in found.values() if unit.priority < priority]


def _domains(planner: Planner, gang: Gang) -> list[str | None]:
    if not gang.required:
        return [None]
    if gang.within is not None:
        return [gang.within[1] if gang.within[0] == gang.required else None]
    values = {node.labels[gang.required] for node in planner.state.nodes.values() if gang.required in node.labels}
    return [*sorted(values)]


def _in_domain(planner: Planner, gang: Gang, units: list[Unit], budgets: Sequence[Object]) -> GangPreemption | None:
    trial = _Trial(planner, gang)
    try:
        ranked = sorted(units, key=lambda unit: unit.rank)
        placement = _lift_until_it_fits(trial, ranked)
        if placement is None:
            return None
        placement = _reprieve(trial, placement)
        victims = [unit for unit in units if trial.is_gone(unit)]
        protected, _ = split_by_budget([pod for unit in victims for pod, _ in unit.pods], budgets)
        return GangPreemption(victims, placement, len(protected))
    finally:
        trial.end()


class _Trial:
    """Units that are away in thought."""

    def __init__(self, planner: Planner, gang: Gang) -> None:
        self._planner = planner
        self._gang = gang
        self._gone: dict[int, tuple[Unit, list[Undo]]] = {}

    def take(self, units: Sequence[Unit]) -> None:
        for unit in units:
            self._gone[id(unit)] = (unit, [lift(self._planner.state, pod) for pod, _ in unit.pods])

    def bring_back(self, units: Sequence[Unit]) -> None:
        for unit in units:
            _, undos = self._gone.pop(id(unit))
            for undo in reversed(undos):
                undo()

    def end(self) -> None:
        self.bring_back([unit for unit, _ in self._gone.values()])

    def is_gone(self, unit: Unit) -> bool:
        return id(unit) in self._gone

    def gone(self) -> list[Unit]:
        return [unit for unit, _ in self._gone.values()]

    def fits(self) -> Placement | None:
        return _fits(self._planner, self._gang)


def _lift_until_it_fits(trial: _Trial, ranked: Sequence[Unit]) -> Placement | None:
    """Twice as many each time; with thousands of candidates the gang is tried a dozen times, not thousands."""
    done, step = 0, 1
    while done < len(ranked):
        trial.take(ranked[done : done + step])
        placement = trial.fits()
        if placement is not None:
            return placement
        done, step = done + step, step * 2
    return None


def _reprieve(trial: _Trial, placement: Placement) -> Placement:
    """As much as possible stays, the most important first: tried in runs that grow while they fit, and halve."""
    waiting = sorted(trial.gone(), key=lambda unit: unit.rank, reverse=True)
    start, size = 0, 1
    while start < len(waiting):
        some = waiting[start : start + size]
        trial.bring_back(some)
        again = trial.fits()
        if again is not None:
            placement = again
            start, size = start + len(some), size * 2
            continue
        trial.take(some)
        if len(some) == 1:
            start += 1
        else:
            size = max(1, len(some) // 2)
    return placement


def _fits(planner: Planner, gang: Gang) -> Placement | None:
    found = plan_gang(planner, gang)
    return found if isinstance(found, Placement) else None
