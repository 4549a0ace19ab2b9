"""The shape of a pod: everything about it that placement depends on. Pods of one shape share one evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field

from atoll.scheduling.dra.needs import DeviceNeeds
from atoll.scheduling.pod import SpreadConstraint, Template, Term
from atoll.scheduling.volumes import VolumeNeeds

_NO_TERMS: frozenset[Term] = frozenset()


@dataclass(slots=True, eq=False)  # not frozen: one is made for each decision
class Shape:
    """`key` identifies it. Nobody changes one."""

    key: tuple[object, ...]
    template: Template
    hard: list[SpreadConstraint] = field(default_factory=list)
    hard_self: tuple[bool, ...] = ()  # does the pod itself count?
    soft: list[SpreadConstraint] = field(default_factory=list)
    require_all: bool = True  # soft constraints count only nodes that have all keys
    affinity_self: bool = False
    against: frozenset[Term] = _NO_TERMS  # existing pods' anti-affinity terms that match the pod
    liked: frozenset[Term] = _NO_TERMS  # existing pods' (preferred or required) terms that match the pod
    volumes: VolumeNeeds = field(default_factory=VolumeNeeds)
    devices: DeviceNeeds = field(default_factory=DeviceNeeds)
    profile: str = ""  # of the plugins that decide; "": the planner's own
