"""podFailurePolicy, successPolicy, and the back-off after failures (pkg/controller/job). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from atoll.base.clock import parse_rfc3339
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.job import indexes
from atoll.objects.meta import Object

BACKOFF_SECONDS = 10.0
MOST_BACKOFF_SECONDS = 600.0


class Ruling(NamedTuple):
    """fails_job: the message, where a rule says so. counts: towards the back-off limit. action: of the rule."""

    fails_job: str | None
    counts: bool
    action: str | None


def rule_failure(policy: Object | None, pod: Object) -> Ruling:
    """The first rule that matches a failed pod."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        why = _matches(rule, pod)
        if why is None:
            continue
        action = rule["action"]
        if action == "FailJob":
            return Ruling(f"{why} matching FailJob rule at index {number}", True, action)
        return Ruling(None, action != "Ignore", action)
    return Ruling(None, True, None)


def _matches(rule: Object, pod: Object) -> str | None:
    """Why it matches."""
    metadata = pod["metadata"]
    where = f"{metadata['namespace']}/{metadata['name']}"
    status = pod.get("status") or {}
    exits = rule.get("onExitCodes")
    if exits:
        for container in [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]:
            code = ((container.get("state") or {}).get("terminated") or {}).get("exitCode")
            if not code or exits.get("containerName", container["name"]) != container["name"]:
                continue
            if (code in exits.get("values", ())) == (exits["operator"] == "In"):
                return f"Container {container['name']} for pod {where} failed with exit code {code}"
        return None
    for condition in status.get("conditions") or ():
        for pattern in rule.get("onPodConditions") or ():
            if condition["type"] == pattern["type"] and condition["status"] == pattern.get("status", "True"):
                return f"Pod {where} has condition {condition['type']}"
    return None


def success_message(policy: Object | None, succeeded: set[int], completions: int) -> str | None:
    """Which rule of successPolicy is met."""
    if not succeeded:
        return None
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        wanted, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if wanted is not None:
            required = indexes.parse(wanted, completions)
            if not required:
                continue
            met = len(required & succeeded)
            if met == len(required) or (count is not None and met >= count):
                return f"Matched rules at index {number}"
        elif count is not None and len(succeeded) >= count:
            return f"Matched rules at index {number}"
    return None


def finished_at(pod: Object) -> float:
    """When it ended: its last container, else its Ready condition, else its deletion, else its creation."""
    status, metadata = pod.get("status") or {}, pod["metadata"]
    ends = [
        ((item.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for item in status.get("containerStatuses") or ()
    ]
    if ends and all(ends):
        return max(parse_rfc3339(str(end)) for end in ends)
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready" and condition["status"] == "False" and condition.get("lastTransitionTime"):
            return parse_rfc3339(condition["lastTransitionTime"])
    if "deletionTimestamp" in metadata:
        return parse_rfc3339(metadata["deletionTimestamp"]) - float(metadata.get("deletionGracePeriodSeconds") or 0)
    return parse_rfc3339(metadata["creationTimestamp"])


def remaining(failures: int, last: float | None, now: float) -> float:
    """Seconds of back-off left: 10 s after the first failure, doubled with each, at most ten minutes."""
    if failures == 0 or last is None:
        return 0.0
    seconds: float = min(BACKOFF_SECONDS * 2 ** min(failures - 1, 16), MOST_BACKOFF_SECONDS)
    return max(0.0, seconds - (now - last))


@dataclass(frozen=True, slots=True)
class Failures:
    """Since the last success."""

    count: int = 0
    last: float | None = None

    def after(self, succeeded: list[Object], failed: list[Object]) -> Failures:
        """With pods that have ended since."""
        ends = sorted(finished_at(pod) for pod in failed)
        if not succeeded:
            return Failures(self.count + len(ends), ends[-1]) if ends else self
        success = max(finished_at(pod) for pod in succeeded)
        later = [end for end in ends if end > success]
        return Failures(len(later), later[-1] if later else None)


def is_failed(pod: Object, job: Object) -> bool:
    """A pod on its way out counts as failed, unless it is only replaced once it has really ended."""
    if health.phase(pod) == "Failed":
        return True
    if replaces_only_failed(job):
        return False
    return "deletionTimestamp" in pod["metadata"] and health.phase(pod) != "Succeeded"


def replaces_only_failed(job: Object) -> bool:
    return job["spec"].get("podReplacementPolicy") == "Failed" or job["spec"].get("podFailurePolicy") is not None
