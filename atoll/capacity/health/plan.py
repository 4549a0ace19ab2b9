"""What is to be done about one node: taken out, drained, mended, tested, returned. Pure.

    (healthy) ──finding──► draining ──empty──► repairing ──done──► testing ──passed, nothing found──► (healthy)
                                                   ▲  failed, found again, too late │
                                                   └──── the next remedy ◄──────────┘   after `replace`: given-up

Each phase is in the annotation atoll.dev/repair, so whoever is started anew goes on there. The ladder: reset, reboot,
replace; the same trouble within a day begins one step higher. A node that somebody else tainted, or that others are
taking away, is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.capacity import names
from atoll.capacity.health.drain import DrainPlan, plan_drain
from atoll.capacity.health.model import LADDER, Finding, Object, Past, Phase, Remedy, Repair, past_of, repair_of, worst
from atoll.capacity.health.settings import HealthSettings
from atoll.capacity.nodes import has_gpus, has_taint, is_leaving, is_ready
from atoll.objects.meta import labels

_SETTLE_SECONDS = 120.0  # others' conditions need that long to follow a mended node
_TEST_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class View:
    """A node and what is known of it. `read`: there is a reading of its GPUs, or it has none to read."""

    node: Object
    findings: list[Finding]
    read: bool
    pods: list[Object]
    now: float
    settings: HealthSettings


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do, at most until `again_seconds`."""

    again_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TakeOut:
    """Cordon and taint, if the budget has a place."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class Drain:
    """Evict these, look again."""

    plan: DrainPlan


@dataclass(frozen=True, slots=True)
class Move:
    """Another phase, or another remedy."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class Mend:
    """Let the remedy go on."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class Return:
    """Back to work."""

    repair: Repair


Step = Rest | TakeOut | Drain | Move | Mend | Return


def plan_node(view: View) -> Step:
    """The next step."""
    node, repair, found = view.node, repair_of(view.node), worst(view.findings)
    if is_leaving(node):
        return Rest()
    if repair is None:
        if found is None or has_taint(node, names.UNHEALTHY_TAINT):
            return Rest()
        return TakeOut(_first(view, found))
    if repair.phase == "given-up":
        return Rest()
    if found is not None and LADDER.index(found.remedy) > LADDER.index(repair.remedy) and repair.phase != "testing":
        return Move(_upgraded(repair, found))
    if repair.phase == "draining":
        return _drain(view, repair)
    if repair.phase == "repairing":
        return _wait_out(view, repair, found) if repair.remedy == "wait" else Mend(repair)
    return _test(view, repair, found)


def _first(view: View, found: Finding) -> Repair:
    remedy = begin_at(found, past_of(view.node), view.now, view.settings)
    return Repair(
        remedy,
        "draining",
        rfc3339(view.now),
        found.code,
        found.message,
        urgent=found.urgent,
        cordoned=not (view.node.get("spec") or {}).get("unschedulable", False),
    )


def begin_at(found: Finding, past: list[Past], now: float, settings: HealthSettings) -> Remedy:
    """The finding's remedy, or the step after what was tried for the same reason not long ago."""
    step = LADDER.index(found.remedy)
    for item in past:
        recent = now - parse_rfc3339(item.at) < settings.escalate_within_seconds
        if recent and item.reason == found.code and found.remedy != "wait":
            step = max(step, min(LADDER.index(item.remedy) + 1, len(LADDER) - 1))
    return LADDER[step]


def _upgraded(repair: Repair, found: Finding) -> Repair:
    return replace(
        repair,
        remedy=found.remedy,
        reason=found.code,
        message=found.message,
        urgent=repair.urgent or found.urgent,
    )


def _drain(view: View, repair: Repair) -> Step:
    plan = plan_drain(view.node, view.pods, repair.began, view.now, view.settings, urgent=repair.urgent)
    if plan.remaining:
        return Drain(plan)
    return Move(_phase(repair, "repairing", view))


def _phase(repair: Repair, phase: Phase, view: View) -> Repair:
    boot = ((view.node.get("status") or {}).get("nodeInfo") or {}).get("bootID") or ""
    return replace(repair, phase=phase, since=rfc3339(view.now), boot_id=boot)


def _wait_out(view: View, repair: Repair, found: Finding | None) -> Step:
    """Heat and maintenance pass by themselves; heat that does not is the machine's."""
    if found is None and view.read:
        return Move(_phase(repair, "testing", view))
    left = repair.began + view.settings.patience_seconds - view.now
    if left <= 0 and found is not None and found.area == "gpu":
        return Move(escalated(repair, view))
    return Rest(max(left, _TEST_AGAIN_SECONDS))


def after_remedy(view: View, repair: Repair, *, done: bool, failed: str = "") -> Repair | None:
    """What follows a remedy's answer; None while it goes on."""
    if done:
        return _phase(repair, "testing", view)
    if failed or view.now - repair.began > view.settings.patience_seconds:
        return escalated(repair, view, failed)
    return None


def escalated(repair: Repair, view: View, why: str = "") -> Repair:
    """The next remedy, or nothing more to try."""
    message = why or repair.message
    if repair.remedy == "replace":
        return replace(_phase(repair, "given-up", view), message=message)
    following = "replace" if repair.remedy == "wait" else LADDER[LADDER.index(repair.remedy) + 1]
    return replace(_phase(repair, "repairing", view), remedy=following, message=message, number=repair.number + 1)


def _test(view: View, repair: Repair, found: Finding | None) -> Step:
    tests = labels(view.node).get(names.PREFLIGHT, "")
    waited = view.now - repair.began
    if tests == "failed":
        return Move(escalated(repair, view, found.message if found is not None else ""))
    if found is not None:
        if waited < _SETTLE_SECONDS:
            return Rest(_SETTLE_SECONDS - waited)
        return Move(escalated(repair, view, found.message))
    if not view.read or tests == "pending" or not is_ready(view.node):
        return Rest(_TEST_AGAIN_SECONDS)
    return Return(repair)


def is_read(node: Object, has_reading: bool) -> bool:
    """Whether as much is known as there is to know."""
    return has_reading or not has_gpus(node)
