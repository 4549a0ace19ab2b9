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
    mine = {pod.uid for pod in gang.pods}
    found: dict[str, Unit] = {}
    for node in planner.state.nodes.values():
        for pod in node.pods.values():
            if pod.uid not in mine:
                name = gang_of(pod)
                key = name or f"{pod.template.namespace}/{pod.name}"
                found.setdefault(f"{bool(name)} {key}", Unit(key, [])).pods.append((pod, node.name))
    return [unit for unit in found.values() if unit.priority < gang.priority]


def _domains(planner: Planner, gang: Gang) -> list[str | None]:
    if not gang.required:
        return [None]
    values = {node.labels[gang.required] for node in planner.state.nodes.values() if gang.required in node.labels}
    return [*sorted(values)]


def _in_domain(planner: Planner, gang: Gang, units: list[Unit], budgets: Sequence[Object]) -> GangPreemption | None:
    gone: dict[int, list[Undo]] = {}
    try:
        placement = None
        for unit in sorted(units, key=lambda unit: unit.rank):
            gone[id(unit)] = [lift(planner.state, pod) for pod, _ in unit.pods]
            placement = _fits(planner, gang)
            if placement is not None:
                break
        if placement is None:
            return None
        for unit in sorted((item for item in units if id(item) in gone), key=lambda unit: unit.rank, reverse=True):
            _undo(gone.pop(id(unit)))
            again = _fits(planner, gang)
            if again is None:
                gone[id(unit)] = [lift(planner.state, pod) for pod, _ in unit.pods]
            else:
                placement = again
        victims = [unit for unit in units if id(unit) in gone]
        protected, _ = split_by_budget([pod for unit in victims for pod, _ in unit.pods], budgets)
        return GangPreemption(victims, placement, len(protected))
    finally:
        for undos in gone.values():
            _undo(undos)


def _undo(undos: list[Undo]) -> None:
    for undo in reversed(undos):
        undo()


def _fits(planner: Planner, gang: Gang) -> Placement | None:
    found = plan_gang(planner, gang)
    return found if isinstance(found, Placement) else None
