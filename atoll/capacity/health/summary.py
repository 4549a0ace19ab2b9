"""What people are told of nodes' health, from the Nodes alone. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from atoll.base.clock import parse_rfc3339
from atoll.capacity import names
from atoll.capacity.health.model import Object, repair_of
from atoll.capacity.health.settings import HealthSettings, allowed
from atoll.capacity.nodes import annotation, gpu_count, has_gpus, has_taint, is_ready, pool_of
from atoll.objects.meta import condition, labels

STATES = (
    "healthy",
    "not-ready",
    "faulty",
    "unknown",
    "preflight",
    "draining",
    "repairing",
    "testing",
    "given-up",
    "out",
)


def state_of(node: Object) -> str:
    """One of STATES. `out`: somebody else tainted it; `faulty`: a fault is known, and it is in service still."""
    repair = repair_of(node)
    if repair is not None:
        return repair.phase
    if has_taint(node, names.UNHEALTHY_TAINT):
        return "out"
    if labels(node).get(names.PREFLIGHT) in ("pending", "failed"):
        return "preflight"
    if not is_ready(node):
        return "not-ready"
    told = {kind: (condition(node, kind) or {}).get("status") for kind in (names.GPU_HEALTHY, names.HOST_HEALTHY)}
    if "False" in told.values() or (condition(node, names.MAINTENANCE) or {}).get("status") == "True":
        return "faulty"
    if has_gpus(node) and told[names.GPU_HEALTHY] != "True":
        return "unknown"
    return "healthy"


def why(node: Object) -> str:
    """One line: what is wrong or awaited; "" for a healthy one."""
    repair = repair_of(node)
    if repair is not None:
        return f"{repair.message} (remedy: {repair.remedy})"
    if labels(node).get(names.PREFLIGHT) == "failed":
        return annotation(node, names.PREFLIGHT_REASON) or "its tests failed"
    for kind, good in ((names.GPU_HEALTHY, "True"), (names.HOST_HEALTHY, "True"), (names.MAINTENANCE, "False")):
        found = condition(node, kind)
        if found is not None and found["status"] != good:
            return str(found.get("message") or found.get("reason") or "")
    if has_gpus(node) and condition(node, names.GPU_HEALTHY) is None:
        return "nobody has looked at its GPUs: a cluster that was made with --health does"
    return ""


def tested_at(node: Object) -> float | None:
    """When its GPUs last passed a test."""
    text = annotation(node, names.TESTED)
    try:
        return parse_rfc3339(text) if text else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Nodes with GPUs, and how many of them passed a test in the last `within_seconds`."""

    nodes: int
    tested: int
    within_seconds: float

    @property
    def share(self) -> float:
        return self.tested / self.nodes if self.nodes else 1.0


def coverage(nodes: Iterable[Object], now: float, within_seconds: float) -> Coverage:
    times = [tested_at(node) for node in nodes if has_gpus(node)]
    return Coverage(len(times), sum(at is not None and now - at <= within_seconds for at in times), within_seconds)


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool's share of the whole."""

    name: str
    nodes: int
    gpus: int
    healthy: int
    out: int
    most_out: int


def pools(nodes: Iterable[Object], settings: HealthSettings) -> list[Pool]:
    """By name."""
    groups: dict[str, list[Object]] = {}
    for node in nodes:
        groups.setdefault(pool_of(node), []).append(node)
    found = []
    for name, members in sorted(groups.items()):
        states = Counter(map(state_of, members))
        out = sum(has_taint(node, names.UNHEALTHY_TAINT) for node in members)
        gpus = sum(map(gpu_count, members))
        found.append(
            Pool(name, len(members), gpus, states["healthy"], out, allowed(settings.pool_budget, len(members)))
        )
    return found
