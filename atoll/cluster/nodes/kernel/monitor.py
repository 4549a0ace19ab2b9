"""What a node's kernel log says becomes events and conditions of its Node, and lines that node health judges.

A line is told at least once: the position behind it is kept in a file after it was told. Without one (the first start)
lines of the last five minutes count, as for node-problem-detector; after another boot all do, and the conditions of
the boot before are over. Where the log can't be read the Node says so, and nothing is made of the silence.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AtollError, Conflict, NotFound
from atoll.client.port import STRATEGIC_PATCH, Client
from atoll.cluster.nodes.kernel.port import KernelLog, Line, UnreadableLog
from atoll.kinds.builtin import NODES
from atoll.objects.kernel_log import ANNOTATION, CONDITIONS, Problem, conditions_of, problem_of, remember, shortened
from atoll.objects.meta import annotations as annotations_of
from atoll.objects.meta import condition
from atoll.runtime.events import NORMAL, WARNING, EventRecorder

Object = dict[str, Any]
_LOOKBACK_SECONDS = 300.0
_AGAIN_SECONDS = 2.0
log = logging.getLogger(__name__)


class KernelMonitor:
    """`boot` names the running kernel; `kept` is the file that outlives a restart of the node's process."""

    def __init__(
        self, name: str, boot: str, kernel_log: KernelLog, kept: Path, client: Client, clock: Clock,
        events: EventRecorder,
    ) -> None:  # fmt: skip
        self._name = name
        self._boot = boot
        self._log = kernel_log
        self._kept = kept
        self._client = client
        self._clock = clock
        self._events = events
        self._state: dict[str, str | float] = {}

    async def run(self) -> None:
        """Until cancelled, or the log can't be read. Call it once the Node is there."""
        found = self._found()
        booted = bool(found) and found["boot"] != self._boot
        oldest = self._clock.wall() - _LOOKBACK_SECONDS
        self._state = {"boot": self._boot, "oldest": 0.0 if booted else oldest, "position": ""}
        if found and not booted:
            self._state = found
        self._keep()
        oldest, position = float(self._state["oldest"]), str(self._state["position"])
        try:
            await self._until_done(self._begin, booted)
            async with aclosing(self._log.lines(position)) as lines:
                async for line in lines:
                    problem = problem_of(line.text)
                    if problem is not None and line.at >= oldest:
                        await self._until_done(self._tell, line, problem)
                        self._state["position"] = line.position
                        self._keep()
        except UnreadableLog as error:
            log.warning("node %s: %s", self._name, error.message)
            await self._until_done(self._unreadable, error.message)

    async def _until_done(self, write: Any, *given: Any) -> None:
        """A write again until the API server has taken it, or the Node is no more."""
        while True:
            try:
                await write(*given)
                return
            except NotFound:
                return
            except Conflict:
                continue
            except AtollError as error:
                log.debug("node %s: %s", self._name, error)
            await asyncio.sleep(_AGAIN_SECONDS)

    async def _begin(self, booted: bool) -> None:
        """Conditions that the log has not made True are False; after another boot all are."""
        node = await self._client.get(NODES, self._name)
        fresh = [kind for kind in CONDITIONS if booted or (condition(node, kind) or {}).get("status") != "True"]
        wanted = {kind: ("False", *CONDITIONS[kind]) for kind in fresh}
        await say(self._client, node, wanted, self._clock.wall())

    async def _tell(self, line: Line, problem: Problem) -> None:
        node = await self._client.get(NODES, self._name)
        before = annotations_of(node).get(ANNOTATION) or ""
        after = remember(before, [line.text])
        if after != before:
            version = node["metadata"]["resourceVersion"]
            metadata = {"resourceVersion": version, "annotations": {ANNOTATION: after}}
            node = await self._client.patch(NODES, self._name, {"metadata": metadata})
        wanted = {kind: ("True", *told) for kind, told in conditions_of([line.text]).items()}
        await say(self._client, node, wanted, self._clock.wall())
        self._events.event(node, WARNING, problem.reason, shortened(line.text))

    async def _unreadable(self, why: str) -> None:
        node = await self._client.get(NODES, self._name)
        wanted = dict.fromkeys(CONDITIONS, ("Unknown", "KernelLogUnreadable", why))
        await say(self._client, node, wanted, self._clock.wall())
        self._events.event(node, NORMAL, "KernelLogUnreadable", why)

    def _found(self) -> dict[str, str | float]:
        """What the last run has kept; nothing where there is none, or it can't be read."""
        try:
            found = json.loads(self._kept.read_text())
            return {"boot": str(found["boot"]), "oldest": float(found["oldest"]), "position": str(found["position"])}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def _keep(self) -> None:
        draft = self._kept.with_suffix(".new")
        with suppress(OSError):  # then a line may be told once more
            draft.write_text(json.dumps(self._state))
            draft.replace(self._kept)


async def say(client: Client, node: Object, wanted: Mapping[str, tuple[str, str, str]], now: float) -> None:
    """Write conditions, type → (status, reason, message), where the Node has others. Raises AtollError."""
    changed = []
    for kind, (status, reason, message) in wanted.items():
        old = condition(node, kind) or {}
        if (old.get("status"), old.get("reason"), old.get("message")) == (status, reason, message):
            continue
        stamp = rfc3339(now)
        moved = old.get("lastTransitionTime", stamp) if old.get("status") == status else stamp
        changed.append(
            {
                "type": kind, "status": status, "reason": reason, "message": message,
                "lastHeartbeatTime": stamp, "lastTransitionTime": moved,
            }
        )  # fmt: skip
    if changed:
        name = node["metadata"]["name"]
        body = {"status": {"conditions": changed}}
        await client.patch(NODES, name, body, content_type=STRATEGIC_PATCH, subresource="status")
