"""Remedies by a program of the user's (docs/machines.md): resets, reboots and replacements of real machines."""

from __future__ import annotations

import logging
from typing import Annotated, Literal

from msgspec import Meta, Struct

from atoll.capacity.health.model import Object, Repair
from atoll.capacity.health.remedy import ASK_AGAIN_SECONDS, Progress
from atoll.capacity.program import MachineProgram, ProgramFailed

log = logging.getLogger(__name__)


class Answer(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """`again_seconds`: when a remedy that goes on is asked about again."""

    state: Literal["running", "done", "failed"]
    message: str = ""
    again_seconds: Annotated[float, Meta(ge=1, le=3600)] = ASK_AGAIN_SECONDS


class ProgramRemedies:
    """Implements `Remedies`. A run that fails is no answer: it is asked again, until the settings' patience ends."""

    def __init__(self, program: MachineProgram) -> None:
        self._program = program

    async def advance(self, node: Object, repair: Repair) -> Progress:
        metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
        try:
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
