"""Kernel logs of simulated nodes: the annotation atoll.dev/kernel-log is the log, whoever writes it (`atoll nodes
fault`); what it says is told as a process node tells it. When lines go (the machine was mended) conditions are over."""

from __future__ import annotations

from typing import Any

from atoll.base.clock import Clock
from atoll.base.errors import NotFound
from atoll.client.port import Client
from atoll.cluster.nodes.kernel.monitor import say
from atoll.cluster.nodes.simulated.model import is_simulated
from atoll.kinds.builtin import NODES
from atoll.objects.kernel_log import ANNOTATION, CONDITIONS, conditions_of, lines_of, problem_of, shortened
from atoll.objects.meta import annotations as annotations_of
from atoll.objects.meta import condition
from atoll.runtime.controller import Controller
from atoll.runtime.events import WARNING, EventRecorder
from atoll.runtime.informer import Informers

Object = dict[str, Any]
NAME = "simulated-kernel-logs"


class InjectedKernelLogs:
    """Keys are nodes that have, or had, the annotation."""

    name = NAME

    def __init__(self, client: Client, informers: Informers, clock: Clock, events: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._events = events
        self._nodes = informers.of(NODES)
        self.loop: Controller[str] = Controller(NAME, self._reconcile, wait_for=(self._nodes,))
        self._nodes.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or not is_simulated(new):
            return
        before, after = ((annotations_of(node).get(ANNOTATION) or "") if node else "" for node in (old, new))
        if before == after:
            return
        self.loop.queue.add(new["metadata"]["name"])
        known = set(lines_of(before))
        for line in lines_of(after) if old is not None else ():
            problem = problem_of(line)
            if problem is not None and line not in known:
                self._events.event(new, WARNING, problem.reason, shortened(line))

    async def _reconcile(self, name: str) -> None:
        node = self._nodes.get(name)
        if node is None:
            return
        found = conditions_of(lines_of(annotations_of(node).get(ANNOTATION) or ""))
        wanted = {kind: ("True", *told) for kind, told in found.items()}
        for kind, told in CONDITIONS.items():
            if kind not in wanted and condition(node, kind):
                wanted[kind] = ("False", *told)
        try:
            await say(self._client, node, wanted, self._clock.wall())
        except NotFound:
            return
