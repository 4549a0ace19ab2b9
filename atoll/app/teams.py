"""Teams in a cluster: admission of their pods, and the controller of their nodes, wired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.capacity import names
from atoll.capacity.parts import Parts
from atoll.capacity.teams.admission import TeamTolerations
from atoll.capacity.teams.controller import TeamController
from atoll.client.port import Client
from atoll.cluster.store.port import Key, Store
from atoll.cluster.workloads.common.context import Runnable
from atoll.kinds.builtin import CONFIGMAPS, NAMESPACES
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

NAME = "atoll-teams"  # the controller's identity and the source of its events


def team_admission(store: Store) -> TeamTolerations:
    """The plugin, which looks at the newest state."""

    def config_map(name: str) -> dict[str, Any] | None:
        record = store.get(Key(CONFIGMAPS.group_resource, names.SYSTEM_NAMESPACE, name))
        return None if record is None else record.object

    def space(name: str) -> dict[str, Any] | None:
        record = store.get(Key(NAMESPACES.group_resource, "", name))
        return None if record is None else record.object

    return TeamTolerations(config_map, space)


def make_teams(
    client_for: Callable[[str], Client], informers: Informers, clock: Clock, chance: Chance, metrics: Metrics
) -> list[Runnable]:
    """It writes as `client_for(NAME)`."""
    client = client_for(NAME)
    return [TeamController(Parts(client, informers, clock, EventRecorder(client, NAME, clock, chance), metrics))]
