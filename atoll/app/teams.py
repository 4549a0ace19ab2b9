"""Teams in a cluster: admission of their pods, and the controller of their nodes, wired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.app.stored_settings import stored_config_maps
from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.metrics import Metrics
from atoll.capacity.parts import Parts
from atoll.capacity.teams.admission import TeamTolerations
from atoll.capacity.teams.controller import TeamController
from atoll.client.port import Client
from atoll.cluster.store.port import Key, Store
from atoll.cluster.workloads.common.context import Runnable
from atoll.kinds.builtin import NAMESPACES
from atoll.runtime.events import EventRecorder
from atoll.runtime.informer import Informers

NAME = "atoll-teams"  # the controller's identity and the source of its events


def team_admission(store: Store) -> TeamTolerations:
    """The plugin, which looks at the newest state."""

    def space(name: str) -> dict[str, Any] | None:
        record = store.get(Key(NAMESPACES.group_resource, "", name))
        return None if record is None else record.object

    return TeamTolerations(stored_config_maps(store), space)


def make_teams(
    client_for: Callable[[str], Client], informers: Informers, clock: Clock, chance: Chance, metrics: Metrics
) -> list[Runnable]:
    """It writes as `client_for(NAME)`."""
    client = client_for(NAME)
    return [TeamController(Parts(client, informers, clock, EventRecorder(client, NAME, clock, chance), metrics))]
