"""What breaks, and when: the rules of a scenario drawn out into single faults. Pure; `inject` carries them out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.simulate.layout import Place, domains
from atoll.simulate.scenario.model import FaultRule, Scenario, Target
from atoll.simulate.scenario.spread import Spread

YEAR_SECONDS = 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """Nodes that break at a time, for a while (seconds). `gpu`: the index of the one that breaks.

    Of a `pool` that grows the node is not known before: `drawn` (0 to 1) says which of those that are there then, or
    where a rate is each machine's, which of the `most` that there can be.
    """

    at: float
    seconds: float
    target: Target
    name: str
    nodes: tuple[str, ...]
    gpu: int = 0
    kind: str = ""
    value: int = 0
    pool: str = ""
    drawn: float = 0.0
    most: int = 0

    def among(self, present: Sequence[str]) -> Fault | None:
        """With the node that it strikes of a pool's; None where that isn't there."""
        place = int(self.drawn * (self.most or len(present)))
        return replace(self, name=present[place], nodes=(present[place],)) if place < len(present) else None


def plan_faults(scenario: Scenario, stand: Sequence[Place], chance: Chance) -> list[Fault]:
    """All of them, by time. Raises UserError where a rule names what is not there."""
    found: list[Fault] = []
    levels, counts = domains(stand), _gpus(stand)
    for number, rule in enumerate(scenario.faults):
        stream = chance.stream(f"faults/{number}/{rule.target}")
        if rule.pool:
            found += _of_pool(rule, scenario, stream)
            continue
        candidates = _candidates(rule, levels, counts)
        for at in _times(rule, len(candidates), scenario.seconds, stream):
            name = rule.name or stream.choice(list(candidates))
            gpu = stream.integer(0, counts[name] - 1) if rule.target == "gpu" else 0
            lasts = max(1.0, rule.lasts.draw(stream))
            found.append(Fault(at, lasts, rule.target, name, tuple(candidates[name]), gpu, *_error(rule)))
    return sorted(found, key=lambda fault: (fault.at, fault.target, fault.name))


def struck(rule: FaultRule, stand: Sequence[Place]) -> Mapping[str, Sequence[str]]:
    """What a rule may strike by name: the nodes that it hits. Raises UserError where it names what is not there."""
    return _candidates(rule, domains(stand), _gpus(stand))


def _gpus(stand: Sequence[Place]) -> Mapping[str, int]:
    """By node: those that can break."""
    return {place.node: 0 if place.pool.shared else place.pool.gpus for place in stand}


def _error(rule: FaultRule) -> tuple[str, int]:
    """Its kind and number, of a GPU."""
    return (rule.gpu_kind, rule.gpu_value) if rule.target == "gpu" else ("", 0)


def _of_pool(rule: FaultRule, scenario: Scenario, chance: Chance) -> Iterator[Fault]:
    """A rate of each machine is drawn for as many as there can be: those that aren't there are not struck."""
    pool = scenario.autoscale.pool(rule.pool) if scenario.autoscale is not None else None
    if pool is None:
        return
    most = pool.max if rule.per_year else 0
    for at in _times(rule, pool.max, scenario.seconds, chance):
        gpu = chance.integer(0, pool.node.gpus - 1) if rule.target == "gpu" else 0
        drawn, lasts = chance.random(), max(1.0, rule.lasts.draw(chance))
        yield Fault(at, lasts, rule.target, pool.name, (), gpu, *_error(rule), pool.name, drawn, most)


def _candidates(
    rule: FaultRule, levels: Mapping[str, Mapping[str, list[str]]], counts: Mapping[str, int]
) -> Mapping[str, Sequence[str]]:
    """What may break by name: the nodes that are hit. A rule for one names that alone."""
    known: Mapping[str, Sequence[str]]
    if rule.target == "apiServer":
        return {"apiServer": ()}
    if rule.target in levels:
        known = levels[rule.target]
    else:
        known = {node: (node,) for node, gpus in counts.items() if gpus or rule.target != "gpu"}
        if rule.target == "network":
            known = {**known, **levels["rack"], **levels["block"]}
    if rule.name:
        if rule.name not in known:
            raise UserError(f"there is no {rule.target} {rule.name!r}", hint=_examples(known))
        return {rule.name: known[rule.name]}
    if rule.target == "network":
        return {node: (node,) for node in counts}
    return known


def _examples(known: Mapping[str, Sequence[str]]) -> str:
    names = list(known)
    return f"there are {', '.join(names[:3])} …" if names else "the scenario's pools have none"


def _times(rule: FaultRule, candidates: int, seconds: float, chance: Chance) -> Iterator[float]:
    if rule.at:
        yield from (at for at in rule.at if at < seconds)
        return
    every = rule.every
    if every is None:
        if not rule.per_year or not candidates:
            return
        every = Spread("exponential", (YEAR_SECONDS / (rule.per_year * candidates),))
    at = every.draw(chance)
    while at < seconds:
        yield at
        at += max(1e-3, every.draw(chance))
