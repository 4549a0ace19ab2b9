"""Remedies by a program of the user's (docs/machines.md): resets, reboots and replacements of real machines."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Literal

from msgspec import Meta, Struct

from atoll.capacity.health.model import Object, Repair
from atoll.capacity.health.remedy import ASK_AGAIN_SECONDS, Progress
from atoll.capacity.program import MachineProgram, ProgramFailed

_AT_ONCE = 16
_QUICK_SECONDS = 1.0
_LOOK_SECONDS = 2.0
log = logging.getLogger(__name__)


class Answer(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`again_seconds`: when a remedy that goes on is asked about again."""

    state: Literal["running", "done", "failed"]
    message: str = ""
    again_seconds: Annotated[float, Meta(ge=1, le=3600)] = ASK_AGAIN_SECONDS


class ProgramRemedies:
    """Implements `Remedies`. A run that fails is no answer: it is asked again, until the settings' patience ends.

    A run that takes long is looked at again a little later, so that slow ones hold up nobody else's health.
    """

    def __init__(self, program: MachineProgram) -> None:
        self._program = program
        self._runs: dict[str, asyncio.Task[Progress]] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def advance(self, node: Object, repair: Repair) -> Progress:
        name = node["metadata"]["name"]
        key = f"{name}/{repair.number}/{repair.remedy}"
        for other in [it for it in self._runs if it.startswith(f"{name}/") and it != key]:
            self._runs.pop(other).cancel()  # of a remedy that is over
        run = self._runs.get(key)
        if run is None:
            run = self._runs[key] = asyncio.create_task(self._ask(node, repair), name=f"remedy-{key}")
        await asyncio.wait((run,), timeout=_QUICK_SECONDS)
        if not run.done():
            return Progress(again_seconds=_LOOK_SECONDS)
        self._runs.pop(key, None)
        return run.result()

    async def _ask(self, node: Object, repair: Repair) -> Progress:
        metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
        try:
            async with self._slots:
                answer = await self._program.ask(
                    repair.remedy, Answer, node=metadata["name"], number=repair.number, since=repair.since,
                    reason=repair.reason, message=repair.message, bootID=repair.boot_id,
                    providerID=spec.get("providerID") or "", labels=metadata.get("labels") or {},
                    addresses=[item["address"] for item in status.get("addresses") or ()],
                )  # fmt: skip
        except ProgramFailed as error:
            log.warning("node %s: %s", metadata["name"], error.message)
            return Progress(again_seconds=ASK_AGAIN_SECONDS)
        if answer.state == "failed":
            return Progress(failed=answer.message or f"the {repair.remedy} has failed")
        return Progress(answer.state == "done", again_seconds=answer.again_seconds)
