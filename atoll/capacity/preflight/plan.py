"""What the tests' pods say of a node, and what follows for its taint and label. Pure.

The tests are the init containers of a DaemonSet's pod on the node: the pod is Ready once they have all succeeded. One
that fails as often as `attempts` allows, or runs past the time-out, is a failure. A pod that is not there yet, or
waits for its image, says nothing: the node waits on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from atoll.base import quantity
from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.capacity import names
from atoll.capacity.health.model import Object, repair_of
from atoll.capacity.nodes import (
    GPU,
    annotation,
    has_gpus,
    has_taint,
    is_leaving,
    is_over,
    is_ready,
    taints,
    with_taint,
    without_taint,
    work_on,
)
from atoll.capacity.preflight.settings import PreflightSettings, applies
from atoll.objects.meta import condition, labels
from atoll.objects.pod_resources import pod_requests

PREFLIGHT = "preflight"  # value of the tests' label
PERIODIC = "periodic"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed` None: not known yet; asked again after `again_seconds` at the latest."""

    passed: bool | None = None
    reason: str = ""
    again_seconds: float | None = None


def verdict(node: Object, pods: Iterable[Object], now: float, settings: PreflightSettings) -> Verdict:
    """Of the newest test pod since the node joined or was mended."""
    since = _since(node)
    tests = [pod for pod in pods if labels(pod).get(names.TEST_LABEL) == PREFLIGHT and _counts(pod, since)]
    if not tests:
        return Verdict()
    pod = max(tests, key=lambda it: (it["metadata"]["creationTimestamp"], it["metadata"]["name"]))
    failed = _failure(pod, now, settings)
    if failed.passed is False:
        return failed
    if (condition(pod, "Ready") or {}).get("status") != "True" or not is_ready(node):
        return failed
    if has_gpus(node):
        known = (condition(node, names.GPU_HEALTHY) or {}).get("status")
        if known in (None, "False"):
            return Verdict()  # the tests passed, and yet a fault is known, or nobody has looked yet
    return Verdict(passed=True)


def _since(node: Object) -> float:
    text = annotation(node, names.PREFLIGHT_SINCE) or node["metadata"].get("creationTimestamp") or ""
    try:
        return parse_rfc3339(text)
    except ValueError:
        return 0.0


def _counts(pod: Object, since: float) -> bool:
    metadata = pod["metadata"]
    return "deletionTimestamp" not in metadata and parse_rfc3339(metadata["creationTimestamp"]) >= since


def stale(node: Object, pods: Iterable[Object]) -> list[Object]:
    """Test pods of before the node joined or was mended: gone, they make room for new ones."""
    since = _since(node)
    tests = [pod for pod in pods if labels(pod).get(names.TEST_LABEL) == PREFLIGHT]
    return [pod for pod in tests if "deletionTimestamp" not in pod["metadata"] and not _counts(pod, since)]


def _failure(pod: Object, now: float, settings: PreflightSettings) -> Verdict:
    again: float | None = None
    status = pod.get("status") or {}
    for item in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        state = item.get("state") or {}
        ended = state.get("terminated") or (item.get("lastState") or {}).get("terminated") or {}
        tries = int(item.get("restartCount") or 0) + (1 if state.get("terminated") else 0)
        if ended.get("exitCode") and tries >= settings.attempts:
            told = f"test {item['name']} failed {tries} times, exit code {ended['exitCode']}"
            return Verdict(False, f"{told}: {ended['message']}" if ended.get("message") else told)
    for item in status.get("initContainerStatuses") or ():
        began = ((item.get("state") or {}).get("running") or {}).get("startedAt")
        if began:
            left = parse_rfc3339(began) + settings.timeout_seconds - now
            if left <= 0:
                return Verdict(False, f"test {item['name']} has run for more than {settings.timeout_seconds:g} s")
            again = left if again is None else min(again, left)
    return Verdict(again_seconds=again)


def is_new(node: Object, pods: Iterable[Object], now: float, settings: PreflightSettings) -> bool:
    """A node that nobody has marked, young and without work: one that has just joined."""
    if names.PREFLIGHT in labels(node) or not applies(node, settings) or is_leaving(node):
        return False
    age = now - parse_rfc3339(node["metadata"]["creationTimestamp"])
    return age < settings.joining_seconds and not work_on(pods)


def pending(node: Object, now: float) -> Object:
    """A patch: tests are due, nothing may land before."""
    return {
        "metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "labels": {names.PREFLIGHT: "pending"},
            "annotations": {names.PREFLIGHT_SINCE: rfc3339(now), names.PREFLIGHT_REASON: None},
        },
        "spec": {"taints": with_taint(node, names.PREFLIGHT, "pending", rfc3339(now))},
    }


def passed(node: Object, now: float) -> Object:
    """A patch: open for work, unless something else keeps it closed."""
    return {
        "metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "labels": {names.PREFLIGHT: "passed", names.TEST_DUE: None},
            "annotations": {names.TESTED: rfc3339(now), names.PREFLIGHT_REASON: None, names.TEST_FAILED: None},
        },
        "spec": {"taints": without_taint(node, names.PREFLIGHT)},
    }


def failed(node: Object, reason: str) -> Object:
    """A patch: closed still, and why."""
    return {
        "metadata": {
            "resourceVersion": node["metadata"]["resourceVersion"],
            "labels": {names.PREFLIGHT: "failed"},
            "annotations": {names.PREFLIGHT_REASON: reason[:1024]},
        }
    }


def mended(node: Object, now: float) -> Object | None:
    """A patch for a node whose label and taint do not agree: the taint follows the label. None where they do."""
    told, tainted = labels(node).get(names.PREFLIGHT), has_taint(node, names.PREFLIGHT)
    version = node["metadata"]["resourceVersion"]
    if told in ("pending", "failed") and not tainted:
        taints = with_taint(node, names.PREFLIGHT, "pending", rfc3339(now))
    elif told == "passed" and tainted:
        taints = without_taint(node, names.PREFLIGHT)
    else:
        return None
    return {"metadata": {"resourceVersion": version}, "spec": {"taints": taints}}


def due_in(node: Object, tested: float | None, now: float, every_seconds: float) -> float | None:
    """Seconds until the node's next periodic test, 0 when it is due; None for one that is not to be tested now."""
    in_service = labels(node).get(names.PREFLIGHT) in (None, "passed") and repair_of(node) is None
    if not has_gpus(node) or not in_service or has_taint(node, names.UNHEALTHY_TAINT):
        return None
    return 0.0 if tested is None else max(0.0, tested + every_seconds - now)


def is_testable(node: Object, pods: Iterable[Object], gpus: int) -> bool:
    """A node that is due, where a periodic test of so many GPUs could start now. `pods`: those on it."""
    spec = node.get("spec") or {}
    if names.TEST_DUE not in labels(node) or spec.get("unschedulable") or not is_ready(node):
        return False
    if any(taint["key"] != names.TEAM and taint["effect"] != "PreferNoSchedule" for taint in taints(node)):
        return False
    taken = sum(pod_requests(pod).get(GPU, 0) for pod in pods if not is_over(pod))
    allocatable = ((node.get("status") or {}).get("allocatable") or {}).get(GPU, 0)
    return quantity.parse(allocatable) - taken >= quantity.parse(gpus)
