"""Which work would have to go so that a gang fits: whole gangs only, and the cheapest of them.

In each domain that could hold the gang, less important work is taken away in thought, the least important first, until
the gang fits; then as much as possible is reprieved, the most important first. A gang of which any member would have
to go goes as a whole, wherever its members are. The best domain breaks the fewest disruption budgets, then hits the
least important work, then the fewest pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from atoll.scheduling.gang import Gang, Placement, plan_beside, promised_to_others
from atoll.scheduling.plan import Planner
from atoll.scheduling.preemption import split_by_budget
from atoll.scheduling.trial import Undo, lift
from atoll.scheduling.units import Unit, Work

Object = dict[str, Any]


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


def plan_gang_preemption(planner: Planner, gang: Gang, work: Work, budgets: Sequence[Object]) -> GangPreemption | None:
    """None: no removal of less important work would let the gang in, or none is needed. The state is left as it was."""
    if not all(pod.template.may_preempt for pod in gang.pods):
        return None
    units = work.below(gang)
    with promised_to_others(planner, gang):
        if not units or _fits(planner, gang) is not None:
            return None
        tried = [_in_domain(planner, gang, touching, budgets) for touching in _by_domain(planner, gang, units)]
    return min((plan for plan in tried if plan is not None), key=lambda plan: plan.cost, default=None)


def _by_domain(planner: Planner, gang: Gang, units: list[Unit]) -> list[list[Unit]]:
    """Those of which any pod is in a domain, for each domain that the gang may go to, in order of their names."""
    only = None
    if gang.within is not None:
        if gang.within[0] != gang.required:
            return [units]
        only = gang.within[1]
    if not gang.required:
        return [units]
    nodes, found = planner.state.nodes, dict[str, list[Unit]]()
    for unit in units:
        for domain in {nodes[node].labels.get(gang.required) for _, node in unit.pods}:
            if domain is not None and only in (None, domain):
                found.setdefault(domain, []).append(unit)
    return [found[domain] for domain in sorted(found)]


def _in_domain(planner: Planner, gang: Gang, units: list[Unit], budgets: Sequence[Object]) -> GangPreemption | None:
    """`units`: what goes first at the head."""
    trial = _Trial(planner, gang)
    try:
        placement = _lift_until_it_fits(trial, units)
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
        state = self._planner.state
        for unit in units:
            unit.pods = [(state.nodes[node].pods[pod.uid], node) for pod, node in unit.pods]  # as they are now
            self._gone[id(unit)] = (unit, [lift(state, pod) for pod, _ in unit.pods])

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
    waiting = trial.gone()[::-1]
    if len(waiting) == 1:
        return placement  # with it there was no room
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
    found = plan_beside(planner, gang)
    return found if isinstance(found, Placement) else None
