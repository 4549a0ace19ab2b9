"""Where stages come from: the default documents, and the cluster's own Stage objects.

A Stage object of a default's name replaces it; others come beside, and by their weights before or after. Without
any, pods and nodes go through the defaults' compiled form (`fast.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import Clock
from atoll.base.errors import UserError
from atoll.client.port import MERGE_PATCH, STRATEGIC_PATCH
from atoll.cluster.nodes.simulated import fast
from atoll.cluster.nodes.stages.document import Toolbox, compile_stage, resource_of
from atoll.cluster.nodes.stages.model import Stage
from atoll.cluster.nodes.stages.queries import CelEnvironment
from atoll.cluster.nodes.stages.render import Renderer
from atoll.kinds.resource import Resource
from atoll.objects import goyaml
from atoll.objects.gotemplate.sprig_more import functions
from atoll.runtime.events import WARNING, EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]
Kind = tuple[str, str]  # (apiVersion, kind)

STAGES = Resource("kwok.x-k8s.io", "v1alpha1", "stages", "Stage", False)
POD: Kind = ("v1", "Pod")
NODE: Kind = ("v1", "Node")
_DEFAULTS: Mapping[Kind, Sequence[Stage]] = {POD: fast.POD_STAGES, NODE: fast.NODE_STAGES}

log = logging.getLogger(__name__)


def default_documents() -> list[Object]:
    """The default stages as documents."""
    folder = resources.files(__package__).joinpath("data")
    files = sorted((item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name)
    return [goyaml.load(item.read_text()) for item in files]


class StageCompiler:
    """Compiles documents with the simulation's clock and chance."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self._renderer = Renderer(functions(chance.stream("templates"), clock.wall))
        self._cel = CelEnvironment(clock, chance.stream("cel"))

    def compile(self, document: Object) -> Stage | None:
        """None for a stage that selects nothing. Raises UserError."""
        default = STRATEGIC_PATCH if resource_of(document) in (POD, NODE) else MERGE_PATCH
        return compile_stage(document, Toolbox(self._renderer, self._cel, default))


class StageSource:
    """Follows the cluster's Stage objects, if it has that kind; `changed(by_kind)` is told of each state."""

    def __init__(
        self,
        informers: Informers,
        clock: Clock,
        chance: Chance,
        events: EventRecorder,
        changed: Callable[[Mapping[Kind, Sequence[Stage]]], None],
        defaults: Mapping[Kind, Sequence[Stage]] = _DEFAULTS,
    ) -> None:
        self._informer = informers.of(STAGES)
        self._clock = clock
        self._chance = chance
        self._compiler: StageCompiler | None = None
        self._events = events
        self._changed = changed
        self._defaults = defaults
        self._dirty = asyncio.Event()
        self._compiled: dict[str, tuple[str, Kind, Stage | None]] = {}  # uid -> (version, kind, stage)

    async def run(self) -> None:
        """Tell of changes until cancelled; many at once are told once."""
        self._informer.add_handler(lambda _old, _new: self._dirty.set())
        while True:
            await self._dirty.wait()
            await asyncio.sleep(0.05)
            self._dirty.clear()
            self._changed(self._stages())

    def _stages(self) -> Mapping[Kind, Sequence[Stage]]:
        found: dict[Kind, dict[str, Stage]] = {
            kind: {stage.name: stage for stage in stages} for kind, stages in self._defaults.items()
        }
        known: dict[str, tuple[str, Kind, Stage | None]] = {}
        for document in self._informer:
            uid = document["metadata"]["uid"]
            entry = self._compiled.get(uid)
            if entry is None or entry[0] != document["metadata"]["resourceVersion"]:
                entry = (document["metadata"]["resourceVersion"], resource_of(document), self._compile(document))
            known[uid] = entry
            if entry[2] is not None:
                found.setdefault(entry[1], {})[entry[2].name] = entry[2]
        self._compiled = known
        return {kind: list(stages.values()) for kind, stages in found.items()}

    def _compile(self, document: Object) -> Stage | None:
        if self._compiler is None:
            self._compiler = StageCompiler(self._clock, self._chance)
        try:
            return self._compiler.compile(document)
        except UserError as error:
            log.warning("%s", error.message)
            self._events.event(document, WARNING, "InvalidStage", error.message)
            return None
