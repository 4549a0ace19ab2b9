"""What JobSet's webhook does, as admission: defaults, and mistakes refused when they are written.

Upstream's pkg/webhooks. The plugins have the shape of the API server's own (`mutate`, `validate`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

from atoll.capacity.groups.checks import Problem
from atoll.capacity.groups.jobset.model import Object
from atoll.capacity.queueing.admission import Request
from atoll.objects.meta import copy
from atoll.objects.regexp import compile_pattern

_LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_RULE = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?")
_REASONS = ("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes", "MaxFailedIndexesExceeded", "PodFailurePolicy")
_NO_LIMIT = 2**31 - 1
_FREE = ("nodeSelector", "tolerations", "schedulingGates")  # of a suspended JobSet's pods: queues put them in


class JobSetDefaults:
    """Mutating."""

    resources = frozenset({"jobsets.jobset.x-k8s.io"})

    def __init__(self, on: Callable[[], bool]) -> None:
        self._on = on

    def mutate(self, request: Request) -> Awaitable[None] | None:
        obj = request.obj
        if request.operation in ("CREATE", "UPDATE") and not request.subresource and obj is not None and self._on():
            set_defaults(obj)
        return None


def set_defaults(jobset: Object) -> None:
    """In place. Leaves alone what is not of the right form: validation comes after."""
    spec = jobset.get("spec")
    if not isinstance(spec, dict):
        return
    spec.setdefault("successPolicy", {"operator": "All"})
    spec.setdefault("startupPolicy", {"startupPolicyOrder": "AnyOrder"})
    network = spec.setdefault("network", {})
    if isinstance(network, dict):
        network.setdefault("enableDNSHostnames", True)
        network.setdefault("publishNotReadyAddresses", True)
    for replicated in spec.get("replicatedJobs") or ():
        job = ((replicated or {}).get("template") or {}).get("spec")
        if isinstance(job, dict):
            job.setdefault("completionMode", "Indexed")
            pod = (job.get("template") or {}).get("spec")
            if isinstance(pod, dict):
                pod.setdefault("restartPolicy", "OnFailure")
    policy = spec.get("failurePolicy")
    for index, rule in enumerate((policy or {}).get("rules") or ()):
        if isinstance(rule, dict) and not rule.get("name"):
            rule["name"] = f"failurePolicyRule{index}"


def problems_of(jobset: Object) -> Iterator[Problem]:
    """(field, why) of a new one."""
    spec = jobset["spec"]
    jobs = spec.get("replicatedJobs") or []
    names = [item["name"] for item in jobs]
    for index, replicated in enumerate(jobs):
        yield from _job_problems(jobset, replicated, f"spec.replicatedJobs[{index}]", names[:index])
    subdomain = (spec.get("network") or {}).get("subdomain")
    if subdomain and not _is_label(subdomain):
        yield "spec.network.subdomain", f"{subdomain!r} must be a DNS label of at most 63 characters"
    manager = spec.get("managedBy")
    if manager is not None and ("/" not in manager or len(manager) > 63):
        yield "spec.managedBy", f"{manager!r} must be of the form domain/path, of at most 63 characters"
    for place, name in enumerate((spec.get("successPolicy") or {}).get("targetReplicatedJobs") or ()):
        if name not in names:
            yield f"spec.successPolicy.targetReplicatedJobs[{place}]", f"there is no replicatedJob {name!r}"
    if (spec.get("failurePolicy") or {}).get("restartStrategy") == "InPlaceRestart":
        yield from _in_place_problems(jobs)
    yield from _rule_problems((spec.get("failurePolicy") or {}).get("rules") or [], names)
    yield from _coordinator_problems(spec.get("coordinator"), jobs)


def _job_problems(jobset: Object, replicated: Object, at: str, before: list[str]) -> Iterator[Problem]:
    replicas, job = int(replicated.get("replicas", 1)), replicated["template"].get("spec")
    if job is None:
        yield f"{at}.template.spec", "is missing"
        return
    name = f"{jobset['metadata'].get('name', '')}-{replicated['name']}-{max(0, replicas - 1)}"
    if not _is_label(name):
        yield f"{at}.name", f"its Jobs would have the name {name!r}, which must be a DNS label of at most 63 characters"
    elif job.get("completionMode") == "Indexed" and job.get("completions") is not None:
        longest = f"{name}-{int(job['completions']) - 1}-abcde"
        if not _is_label(longest):
            yield f"{at}.name", f"its pods would have names like {longest!r}, of more than 63 characters"
    if replicas * int(job.get("parallelism", 1)) > _NO_LIMIT:
        yield f"{at}.replicas", f"replicas times parallelism must not exceed {_NO_LIMIT}"
    group = replicated.get("groupName") or "default"
    if not _is_label(group):
        yield f"{at}.groupName", f"{group!r} must be a DNS label of at most 63 characters"
    depends = replicated.get("dependsOn") or ()
    if depends and not before:
        yield f"{at}.dependsOn", "the first replicatedJob can't depend on another"
        return
    for place, item in enumerate(depends):
        if item["name"] not in before:
            yield f"{at}.dependsOn[{place}].name", f"{item['name']!r} must be a replicatedJob before it"


def _in_place_problems(jobs: list[Object]) -> Iterator[Problem]:
    """Pods that fail or restart must not fail their Job, and it must be known how many there are."""
    for index, replicated in enumerate(jobs):
        at, job = f"spec.replicatedJobs[{index}].template.spec", replicated["template"]["spec"]
        if job.get("backoffLimit") != _NO_LIMIT:
            yield f"{at}.backoffLimit", f"must be {_NO_LIMIT} with restartStrategy InPlaceRestart"
        if job.get("podReplacementPolicy") != "Failed":
            yield f"{at}.podReplacementPolicy", "must be Failed with restartStrategy InPlaceRestart"
        if job.get("completions") is None or job.get("completions") != job.get("parallelism"):
            yield f"{at}.completions", "must be there and equal parallelism with restartStrategy InPlaceRestart"


def _rule_problems(rules: list[Object], names: list[str]) -> Iterator[Problem]:
    seen = Counter(rule["name"] for rule in rules)
    for index, rule in enumerate(rules):
        at = f"spec.failurePolicy.rules[{index}]"
        if not _RULE.fullmatch(rule["name"]) or len(rule["name"]) > 128:
            yield f"{at}.name", f"{rule['name']!r} must start with a letter, of letters, digits and '_,:', at most 128"
        if seen[rule["name"]] > 1:
            yield f"{at}.name", f"{rule['name']!r} is the name of another rule too"
        for place, name in enumerate(rule.get("targetReplicatedJobs") or ()):
            if name not in names:
                yield f"{at}.targetReplicatedJobs[{place}]", f"there is no replicatedJob {name!r}"
        for place, reason in enumerate(rule.get("onJobFailureReasons") or ()):
            if reason not in _REASONS:
                yield f"{at}.onJobFailureReasons[{place}]", f"{reason!r} is none of {', '.join(_REASONS)}"
        for place, pattern in enumerate(rule.get("onJobFailureMessagePatterns") or ()):
            try:
                compile_pattern(pattern)
            except ValueError as error:
                yield f"{at}.onJobFailureMessagePatterns[{place}]", f"is no regular expression: {error}"


def _coordinator_problems(coordinator: Object | None, jobs: list[Object]) -> Iterator[Problem]:
    if coordinator is None:
        return
    at = "spec.coordinator"
    found = next((item for item in jobs if item["name"] == coordinator["replicatedJob"]), None)
    if found is None:
        yield f"{at}.replicatedJob", f"there is no replicatedJob {coordinator['replicatedJob']!r}"
        return
    job = found["template"]["spec"]
    if not 0 <= int(coordinator.get("jobIndex", 0)) < int(found.get("replicas", 1)):
        yield f"{at}.jobIndex", f"is not below the {found.get('replicas', 1)} replicas of {found['name']}"
    if job.get("completionMode") != "Indexed":
        yield f"{at}.replicatedJob", f"{found['name']} must have completionMode Indexed: its pods have names then"
    if not 0 <= int(coordinator.get("podIndex", 0)) < int(job.get("completions") or 1):
        yield f"{at}.podIndex", f"is not below the {job.get('completions') or 1} completions of {found['name']}"


def changes_of(new: Object, old: Object) -> Iterator[Problem]:
    """(field, why) of a change: what a JobSet runs is fixed, but for what queues put into a suspended one."""
    before, after = copy(old["spec"].get("replicatedJobs") or []), copy(new["spec"].get("replicatedJobs") or [])
    if old["spec"].get("suspend") or new["spec"].get("suspend"):
        for jobs in (before, after):
            for replicated in jobs:
                pod = replicated["template"]["spec"]["template"]
                pod.pop("metadata", None)
                for name in _FREE:
                    pod["spec"].pop(name, None)
    if before != after:
        yield "spec.replicatedJobs", "field is immutable"
    if old["spec"].get("managedBy") != new["spec"].get("managedBy"):
        yield "spec.managedBy", "field is immutable"


def _is_label(text: str) -> bool:
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None
