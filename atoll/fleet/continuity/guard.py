"""The DestructionBudget object: what is held back is shown there, and a person confirms it there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from atoll.base.clock import rfc3339
from atoll.base.errors import AlreadyExists
from atoll.client.port import Client
from atoll.fleet.continuity.budget import BUDGET_NAME, CONFIRM, Budget, Limits
from atoll.kinds.hub import DESTRUCTION_BUDGETS
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Informers

Object = dict[str, Any]


class Guard:
    """`on_confirmed(kind)` is told when a person let what is held go."""

    def __init__(self, client: Client, informers: Informers, limits: Limits) -> None:
        self._client = client
        self._default = limits
        self._informer = informers.of(DESTRUCTION_BUDGETS)
        self.budget: Budget | None = None
        self.on_confirmed: list[Callable[[str], None]] = []
        self.controller: Controller[str] = Controller("destruction-budget", self._reconcile, wait_for=(self._informer,))
        self._informer.add_handler(lambda old, new: self.changed())

    def changed(self) -> None:
        self.controller.queue.add(BUDGET_NAME)

    async def run(self) -> None:
        self.changed()
        await self.controller.run()

    async def _reconcile(self, name: str) -> float | None:
        budget = self.budget
        assert budget is not None
        obj = self._informer.get(name)
        if obj is None:
            made = {"apiVersion": DESTRUCTION_BUDGETS.api_version, "kind": DESTRUCTION_BUDGETS.kind,
                    "metadata": {"name": name}, "spec": _spec(self._default)}  # fmt: skip
            with suppress(AlreadyExists):
                await self._client.create(DESTRUCTION_BUDGETS, made)
            return None
        spec = {**_spec(self._default), **(obj.get("spec") or {})}
        budget.limits = Limits(int(spec["percent"]), int(spec["atLeast"]), float(spec["windowSeconds"]))
        asked = (obj["metadata"].get("annotations") or {}).get(CONFIRM)
        if asked:
            kinds = [held.kind for held in list(budget.held.values()) if asked in (held.kind, "all")]
            for kind in kinds:
                budget.confirm(kind)
            await self._client.patch(DESTRUCTION_BUDGETS, name, {"metadata": {"annotations": {CONFIRM: None}}})
            for kind in kinds:
                for handler in self.on_confirmed:
                    handler(kind)
            return None
        status = self._status(budget)
        if status != (obj.get("status") or {}):
            await self._client.patch(DESTRUCTION_BUDGETS, name, {"status": status}, subresource="status")
        return None

    def _status(self, budget: Budget) -> Object:
        held = [
            {
                "kind": one.kind,
                "objects": len(one.objects),
                "limit": budget.limit(one.kind),
                "reason": one.reason,
                "since": rfc3339(one.since),
                "confirm": one.how,
            }
            for one in sorted(budget.held.values(), key=lambda one: one.kind)
        ]
        return {"held": held}


def _spec(limits: Limits) -> Object:
    return {"percent": limits.percent, "atLeast": limits.at_least, "windowSeconds": int(limits.window_seconds)}
