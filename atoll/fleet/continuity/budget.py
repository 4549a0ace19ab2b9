"""The destruction budget: how many objects of a kind may be deleted, unasked for, within a while.

Every deletion in members that nobody asked for by name must be granted here. What is not granted is held: it
stays in the member, and the budget object says how a person confirms it. Exempt, and never asked: moves off a lost
cluster, surplus whose replacement is Ready, `unjoin NAME`, a template deleted by name.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from atoll.base.clock import Clock
from atoll.fleet import names

CONFIRM = f"{names.PREFIX}confirm"
BUDGET_NAME = "default"


@dataclass(frozen=True, slots=True)
class Limits:
    percent: int = 20
    at_least: int = 20
    window_seconds: float = 600.0


@dataclass(slots=True)
class Held:
    """Objects of one kind that wait for a person."""

    kind: str
    objects: set[str] = field(default_factory=set)
    reason: str = ""
    since: float = 0.0  # wall

    @property
    def how(self) -> str:
        """The command that confirms it."""
        return f"kubectl annotate destructionbudget {BUDGET_NAME} {CONFIRM}={self.kind} --overwrite"


class Budget:
    """`total(kind)` counts the fleet's objects of a kind; `changed` is called when something is held or freed.

    Within the window what was granted or confirmed may be asked for again: the deletion failed, or is not seen yet.
    """

    def __init__(self, clock: Clock, limits: Limits, total: Callable[[str], int], changed: Callable[[], None]) -> None:
        self.limits = limits
        self.held: dict[str, Held] = {}
        self._clock = clock
        self._total = total
        self._changed = changed
        self._granted: dict[str, deque[tuple[float, str]]] = {}
        self._began_with: dict[str, int] = {}  # kind → most objects since the window began
        self._confirmed: dict[str, set[str]] = {}
        self._let_go: dict[str, dict[str, float]] = {}  # what was confirmed and taken, and when: it may be asked again

    def limit(self, kind: str) -> int:
        """Most deletions of the kind within the window: of what there was when the window began."""
        there = self._total(kind)
        if self._window(kind):
            there = max(there, self._began_with.get(kind, 0))
        self._began_with[kind] = there
        return max(self.limits.at_least, there * self.limits.percent // 100)

    def take(self, kind: str, what: str, reason: str) -> bool:
        """Whether `what` (a copy, "cluster/namespace/name") may be deleted now."""
        window = self._window(kind)
        if any(name == what for _, name in window):
            return True
        now = self._clock.monotonic()
        let_go = self._let_go.setdefault(kind, {})
        if what in self._confirmed.get(kind, ()):
            self._confirmed[kind].discard(what)
            let_go[what] = now
        if let_go.get(what, -math.inf) > now - self.limits.window_seconds:
            self._free(kind, what)
            return True
        if len(window) < self.limit(kind):
            window.append((now, what))
            self._free(kind, what)
            return True
        held = self.held.get(kind)
        if held is None:
            held = self.held[kind] = Held(kind, since=self._clock.wall())
        if what not in held.objects:
            held.objects.add(what)
            held.reason = reason
            self._changed()
        return False

    def confirm(self, kind: str) -> int:
        """A person wants what is held of the kind to go. Returns how many objects that is."""
        held = self.held.pop(kind, None)
        if held is None:
            return 0
        self._confirmed.setdefault(kind, set()).update(held.objects)
        oldest = self._clock.monotonic() - self.limits.window_seconds
        self._let_go[kind] = {what: at for what, at in self._let_go.get(kind, {}).items() if at > oldest}
        self._changed()
        return len(held.objects)

    def withdraw(self, kind: str, what: str) -> None:
        """The deletion is no longer wanted, or done."""
        self._let_go.get(kind, {}).pop(what, None)
        self._free(kind, what)

    def next_grant(self, kind: str) -> float:
        """Seconds till the window lets another one through."""
        window = self._window(kind)
        if not window:
            return 0.0
        return max(0.1, window[0][0] + self.limits.window_seconds - self._clock.monotonic())

    def used(self, kind: str) -> int:
        return len(self._window(kind))

    def kinds(self) -> list[str]:
        return sorted(kind for kind in self._granted if self._window(kind))

    def _free(self, kind: str, what: str) -> None:
        held = self.held.get(kind)
        if held is not None and what in held.objects:
            held.objects.discard(what)
            if not held.objects:
                del self.held[kind]
            self._changed()

    def _window(self, kind: str) -> deque[tuple[float, str]]:
        window = self._granted.setdefault(kind, deque())
        oldest = self._clock.monotonic() - self.limits.window_seconds
        while window and window[0][0] <= oldest:
            window.popleft()
        return window
