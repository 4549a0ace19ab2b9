"""Stages for kinds other than pods and nodes: volumes, claims, custom resources. All objects of the kind are played."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.cluster.nodes.simulated.functions import OtherFunctions
from atoll.cluster.nodes.simulated.sources import Kind
from atoll.cluster.nodes.stages.model import Stage
from atoll.cluster.nodes.stages.player import Agenda, FindResource, StagePlayer, Surroundings
from atoll.runtime.informer import Informer, Informers

Object = dict[str, Any]
log = logging.getLogger(__name__)
_LOOK_AGAIN_SECONDS = 5.0


@dataclass(slots=True)
class _Played:
    player: StagePlayer
    informer: Informer
    task: asyncio.Task[None]


class OtherPlayers:
    """One player per kind that has stages, made when the kind is served."""

    def __init__(self, informers: Informers, find: FindResource, around: Surroundings, agenda: Agenda) -> None:
        self._informers = informers
        self._find = find
        self._around = around
        self._agenda = agenda
        self._wanted: dict[Kind, list[Stage]] = {}
        self._played: dict[Kind, _Played] = {}
        self._changed = asyncio.Event()

    def replace_stages(self, stages: Mapping[Kind, Sequence[Stage]]) -> None:
        self._wanted = {kind: list(found) for kind, found in stages.items()}
        self._changed.set()

    async def run(self) -> None:
        """Follow what is wanted until cancelled."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                if not await self._bring():
                    asyncio.get_running_loop().call_later(_LOOK_AGAIN_SECONDS, self._changed.set)
        finally:
            for played in self._played.values():
                played.task.cancel()

    async def _bring(self) -> bool:
        """True when every wanted kind is played."""
        complete = True
        for kind in [*self._played]:
            if kind not in self._wanted:
                self._played[kind].player.replace_stages([])
        for kind, stages in self._wanted.items():
            played = self._played.get(kind) or await self._start(kind)
            if played is None:
                complete = False
                continue
            played.player.replace_stages(stages)
            for obj in played.informer:
                played.player.observe(obj)
        return complete

    async def _start(self, kind: Kind) -> _Played | None:
        resource = await self._find(*kind)
        if resource is None:
            log.info("stages for %s %s wait until it is served", *kind)
            return None
        player = StagePlayer(resource, [], OtherFunctions(self._around.clock), self._around, self._agenda)
        informer = self._informers.of(resource)

        def changed(old: Object | None, new: Object | None) -> None:
            if new is not None:
                player.observe(new)
            elif old is not None:
                player.forget((old["metadata"].get("namespace"), old["metadata"]["name"]))

        informer.add_handler(changed)
        task = asyncio.get_running_loop().create_task(player.run(), name=f"stages-{resource.plural}")
        self._played[kind] = found = _Played(player, informer, task)
        return found
