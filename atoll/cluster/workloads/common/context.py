"""What every controller is given: clients by identity, shared informers, clock, chance, options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.client.port import Client
from atoll.cluster.workloads.common.pod_events import PodEvents
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

ClientFactory = Callable[[str], Client]
"""A client as system:serviceaccount:kube-system:NAME with NAME's field manager."""


class Runnable(Protocol):
    """A controller: runs until cancelled."""

    name: str

    async def run(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """kube-controller-manager's flags that Atoll has."""

    cluster_cidr: str = ""  # where pod CIDRs of nodes come from; "" leaves nodes alone
    node_cidr_mask_size: int = 24
    root_ca: str = ""  # PEM published as kube-root-ca.crt in each namespace; "" publishes none
    terminated_pod_threshold: int = 12_500
    event_ttl_seconds: float = 3600.0  # 0: the API server itself forgets events
    workers: int = 5
    provision_volumes: bool = True
    load_balancers: Sequence[str] = ()  # addresses for Services of that type; none are given where there are none
    load_balancers_shared: bool = False  # one address for several Services
    device_taint_rules: bool = False  # DeviceTaintRules are served


@dataclass(frozen=True)
class Context:
    """`client(name)` and `recorder(name)` speak as that controller."""

    client_for: ClientFactory
    informers: Informers
    clock: Clock
    chance: Chance
    options: Options = field(default_factory=Options)

    def client(self, name: str) -> Client:
        return self.client_for(name)

    @cached_property
    def pod_events(self) -> PodEvents:
        return PodEvents(self.informers)

    def recorder(self, name: str) -> EventRecorder:
        return EventRecorder(self.client_for(name), name, self.clock, self.chance)
