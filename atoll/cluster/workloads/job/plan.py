"""A Job and its pods → what to do now, and how to count it (pkg/controller/job/job_controller.go). Pure.

Counting is exact because each pod carries a finalizer: an ended pod is first written down in
status.uncountedTerminatedPods, then loses its finalizer, and only then is moved into the counters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.cluster.workloads.common import conditions
from atoll.cluster.workloads.common import pods as health
from atoll.cluster.workloads.common.batches import most_of_a_pass
from atoll.cluster.workloads.job import indexes, policies
from atoll.cluster.workloads.job.objects import is_indexed, is_suspended, is_tracked
from atoll.cluster.workloads.job.policies import Failures, is_failed, replaces_only_failed, rule_failure
from atoll.objects.meta import Object, is_deleting

MOST_UNCOUNTED = 500


def _condition(kind: str, reason: str, message: str, now: float, status: str = "True") -> Object:
    at = rfc3339(now)
    made = {"type": kind, "status": status, "lastProbeTime": at, "lastTransitionTime": at}
    return {**made, "reason": reason, "message": message}


@dataclass(slots=True)
class Decision:
    """delete (with the finalizer removed first where `untrack`), create (None: no index), and what it means."""

    delete: list[Object] = field(default_factory=list)
    untrack: bool = False
    create: list[int | None] = field(default_factory=list)
    replaces: dict[int, Object] = field(default_factory=dict)
    finished: Object | None = None
    managed: bool = False
    again_seconds: float | None = None


class JobSync:
    """One pass over one job. `status` is a working copy, written by the controller."""

    def __init__(
        self, job: Object, pods: list[Object], failures: Failures, removed_finalizers: frozenset[str], now: float
    ) -> None:
        self.job = job
        self.spec = job["spec"]
        self.pods = pods
        self.now = now
        self.removed = removed_finalizers
        self.active: list[Object] = []
        self.others: list[Object] = []  # ended or on their way out: only these can count
        for pod in pods:
            (self.active if health.is_active(pod) else self.others).append(pod)
        self.status: Object = dict(job.get("status") or {})
        uncounted = self.status.get("uncountedTerminatedPods") or {}
        self.uncounted = {name: list(uncounted.get(name) or ()) for name in ("succeeded", "failed")}
        self.known = {name: frozenset(uids) for name, uids in self.uncounted.items()}
        self.completions: int | None = self.spec.get("completions")
        self.terminating = sum(1 for pod in self.others if health.is_terminating(pod))
        self.ready = sum(1 for pod in self.active if health.is_ready(pod))
        self.succeeded_indexes: set[int] = set()
        self.previous_indexes: set[int] = set()
        self.failed_indexes: set[int] | None = None
        self.delayed: dict[int, Object] = {}
        new_succeeded = self._new(lambda pod: health.phase(pod) == "Succeeded", "succeeded")
        new_failed = self._new(lambda pod: is_failed(pod, job), "failed")
        counted = [pod for pod in new_failed if rule_failure(self.spec.get("podFailurePolicy"), pod).counts]
        self.succeeded = int(self.status.get("succeeded") or 0) + len(new_succeeded) + len(self.uncounted["succeeded"])
        self.failed = int(self.status.get("failed") or 0) + len(counted) + len(self.uncounted["failed"])
        self.failures = failures.after(new_succeeded, new_failed)
        if not self.status.get("startTime") and not is_suspended(job):
            self.status["startTime"] = rfc3339(now)

    def _countable(self, pod: Object) -> bool:
        """Still tracked, and of an index that is wanted."""
        if not is_tracked(pod) or pod["metadata"]["uid"] in self.removed:
            return False
        if not is_indexed(self.job):
            return True
        index = indexes.of_pod(pod)
        return index is not None and index < (self.completions or 0)

    def _new(self, holds: object, kind: str) -> list[Object]:
        assert callable(holds)
        known = self.known[kind]
        return [
            pod for pod in self.others if self._countable(pod) and pod["metadata"]["uid"] not in known and holds(pod)
        ]

    # -- deciding

    def decide(self, *, may_act: bool) -> Decision:
        decision = Decision()
        decision.finished = self._finished_already() or self._failed_now(decision)
        if is_indexed(self.job):
            self._read_indexes()
            if decision.finished is None:
                decision.finished = self._finished_by_indexes()
        if decision.finished is not None:
            decision.delete = list(self.active)
            if not may_act:
                decision.finished = None
        elif may_act and not is_deleting(self.job):
            decision.managed = True
            self._manage(decision)
        return decision

    def _finished_already(self) -> Object | None:
        present = self.status.get("conditions")
        met = conditions.find(present, "SuccessCriteriaMet")
        if met is not None and met["status"] == "True":
            return met
        target = conditions.find(present, "FailureTarget")
        if target is not None and target["status"] == "True":
            return _condition("Failed", target.get("reason", ""), target.get("message", ""), self.now)
        return None

    def _failed_now(self, decision: Decision) -> Object | None:
        policy = self.spec.get("podFailurePolicy")
        if policy is not None:
            for pod in self.pods:
                message = rule_failure(policy, pod).fails_job if is_failed(pod, self.job) else None
                if message is not None:
                    return _condition("FailureTarget", "PodFailurePolicy", message, self.now)
        if self.failed > self._backoff_limit() or self._restarts_exceed_limit():
            message = "Job has reached the specified backoff limit"
            return _condition("FailureTarget", "BackoffLimitExceeded", message, self.now)
        seconds = self.spec.get("activeDeadlineSeconds")
        if seconds is not None and not is_suspended(self.job) and self.status.get("startTime"):
            left = parse_rfc3339(self.status["startTime"]) + seconds - self.now
            if left <= 0:
                message = "Job was active longer than specified deadline"
                return _condition("FailureTarget", "DeadlineExceeded", message, self.now)
            decision.again_seconds = left
        return None

    def _backoff_limit(self) -> int:
        found = self.spec.get("backoffLimit")
        return 6 if found is None else int(found)

    def _restarts_exceed_limit(self) -> bool:
        if self.spec["template"]["spec"].get("restartPolicy") != "OnFailure":
            return False
        restarts = 0
        for pod in self.pods:
            if health.phase(pod) in ("Running", "Pending"):
                for part in ("initContainerStatuses", "containerStatuses"):
                    restarts += sum(int(item.get("restartCount") or 0) for item in pod["status"].get(part) or ())
        limit = self._backoff_limit()
        return restarts > 0 if limit == 0 else restarts >= limit

    def _read_indexes(self) -> None:
        total = self.completions or 0
        self.previous_indexes = indexes.parse(self.status.get("completedIndexes"), total)
        new = {indexes.of_pod(pod) for pod in self.pods if health.phase(pod) == "Succeeded" and self._countable(pod)}
        self.succeeded_indexes = self.previous_indexes | {index for index in new if index is not None}
        self.succeeded = len(self.succeeded_indexes)
        if self.spec.get("backoffLimitPerIndex") is None:
            return
        self.failed_indexes = indexes.parse(self.status.get("failedIndexes"), total)
        for pod in self.pods:
            index = indexes.of_pod(pod)
            if index is not None and self._countable(pod) and self._fails_index(pod):
                self.failed_indexes.add(index)
        self._read_delayed()

    def _fails_index(self, pod: Object) -> bool:
        if not is_failed(pod, self.job):
            return False
        ruling = rule_failure(self.spec.get("podFailurePolicy"), pod)
        if ruling.action == "FailIndex":
            return True
        return ruling.counts and indexes.failures(pod) >= int(self.spec["backoffLimitPerIndex"])

    def _read_delayed(self) -> None:
        """The failed pod of each index that waits for its replacement: it carries the index's count of failures."""
        active = {indexes.of_pod(pod) for pod in self.active}
        settled = self.succeeded_indexes | (self.failed_indexes or set())
        for pod in self.pods:
            index = indexes.of_pod(pod)
            if index is None or index in settled or index in active:
                continue
            if not self._countable(pod) or not is_failed(pod, self.job):
                continue
            present = self.delayed.get(index)
            if present is None or _absolute(present) <= _absolute(pod):
                self.delayed[index] = pod

    def _finished_by_indexes(self) -> Object | None:
        failed, total = self.failed_indexes, self.completions or 0
        if failed is not None:
            most = self.spec.get("maxFailedIndexes")
            if most is not None and len(failed) > most:
                message = "Job has exceeded the specified maximal number of failed indexes"
                return _condition("FailureTarget", "MaxFailedIndexesExceeded", message, self.now)
            if failed and len(failed) + len(self.succeeded_indexes) >= total:
                return _condition("FailureTarget", "FailedIndexes", "Job has failed indexes", self.now)
        message_met = policies.success_message(self.spec.get("successPolicy"), self.succeeded_indexes, total)
        if message_met is not None:
            return _condition("SuccessCriteriaMet", "SuccessPolicy", message_met, self.now)
        return None

    # -- keeping the right number of pods

    def _manage(self, decision: Decision) -> None:
        if is_suspended(self.job):
            decision.delete, decision.untrack = list(self.active), True
            return
        wanted = self._wanted_active()
        surplus = self._surplus(max(0, len(self.active) - wanted))
        if surplus:
            decision.delete, decision.untrack = surplus[: most_of_a_pass(len(self.pods))], True
            return
        missing = wanted - len(self.active) - (self.terminating if replaces_only_failed(self.job) else 0)
        if missing <= 0:
            return
        if self.failed_indexes is None:
            wait = policies.remaining(self.failures.count, self.failures.last, self.now)
            if wait > 0:
                decision.again_seconds = _sooner(decision.again_seconds, wait)
                return
        missing = min(missing, most_of_a_pass(len(self.pods)))
        if not is_indexed(self.job):
            decision.create = [None] * missing
            return
        self._choose_indexes(decision, missing)

    def _wanted_active(self) -> int:
        parallelism = self.spec.get("parallelism")
        parallelism = 1 if parallelism is None else int(parallelism)
        if self.completions is None:
            return len(self.active) if self.succeeded > 0 else parallelism
        return max(0, min(self.completions - self.succeeded, parallelism))

    def _surplus(self, at_least: int) -> list[Object]:
        doomed: list[Object] = []
        left = self.active
        if is_indexed(self.job):
            doomed, left = self._duplicates()
        if len(doomed) < at_least:
            doomed += health.deletion_order(left, (), self.now)[: at_least - len(doomed)]
        return doomed

    def _duplicates(self) -> tuple[list[Object], list[Object]]:
        """Pods of unwanted indexes, and all but the best of those that share one."""
        by_index: dict[int | None, list[Object]] = {}
        for pod in self.active:
            by_index.setdefault(indexes.of_pod(pod), []).append(pod)
        doomed: list[Object] = []
        left: list[Object] = []
        for index, found in by_index.items():
            if index is None or index >= (self.completions or 0):
                doomed += found
                continue
            ordered = health.deletion_order(found, (), self.now) if len(found) > 1 else found
            doomed += ordered[:-1]
            left.append(ordered[-1])
        return doomed, left

    def _choose_indexes(self, decision: Decision, missing: int) -> None:
        taken = self.succeeded_indexes | (self.failed_indexes or set())
        taken |= {index for index in map(indexes.of_pod, self.active) if index is not None}
        if replaces_only_failed(self.job):
            leaving = (pod for pod in self.pods if health.is_terminating(pod))
            taken |= {index for index in map(indexes.of_pod, leaving) if index is not None}
        chosen: list[int] = []
        for index in range(self.completions or 0):
            if len(chosen) == missing:
                break
            if index not in taken:
                chosen.append(index)
        if self.failed_indexes is not None:
            waits = {index: self._index_wait(index) for index in chosen}
            now = [index for index in chosen if waits[index] == 0]
            if not now and chosen:
                decision.again_seconds = _sooner(decision.again_seconds, min(waits.values()))
            chosen = now
            decision.replaces = {index: self.delayed[index] for index in chosen if index in self.delayed}
        decision.create = list(chosen)

    def _index_wait(self, index: int) -> float:
        pod = self.delayed.get(index)
        if pod is None:
            return 0.0
        return policies.remaining(_absolute(pod) + 1, policies.finished_at(pod), self.now)

    # -- what the pods that are left mean

    def conclude(self, decision: Decision, active: int) -> list[tuple[str, str, str]]:
        """Complete or suspended? Events (type, reason, message) to tell."""
        if decision.finished is not None or not decision.managed:
            if not decision.managed and decision.finished is None:
                self._complete_if_done(decision, active)
            return []
        if self._complete_if_done(decision, active):
            return []
        present = self.status.get("conditions")
        if is_suspended(self.job):
            changed = self._set("Suspended", "True", "JobSuspended", "Job suspended", present)
            if changed:
                self.status.pop("startTime", None)
            return [("Normal", "Suspended", "Job suspended")] if changed else []
        if self._set("Suspended", "False", "JobResumed", "Job resumed", present):
            self.status["startTime"] = rfc3339(self.now)
            return [("Normal", "Resumed", "Job resumed")]
        return []

    def _complete_if_done(self, decision: Decision, active: int) -> bool:
        if self.completions is None:
            done = self.succeeded > 0 and active == 0
        else:
            done = self.succeeded >= self.completions and active == 0
        if done:
            message = "Reached expected number of succeeded pods"
            decision.finished = _condition("SuccessCriteriaMet", "CompletionsReached", message, self.now)
        return done

    def _set(self, kind: str, status: str, reason: str, message: str, present: list[Object] | None) -> bool:
        old = conditions.find(present, kind)
        if old is None and status == "False":
            return False
        if old is not None and (old["status"], old.get("reason"), old.get("message")) == (status, reason, message):
            return False
        made = _condition(kind, reason, message, self.now, status)
        if old is None:
            self.status["conditions"] = [*(present or ()), made]
        else:
            self.status["conditions"] = [made if item is old else item for item in present or ()]
        return True

    # -- counting

    def track(self, decision: Decision, active: int) -> tuple[list[Object], bool]:
        """Write ended pods into the status. Returns those that may lose their finalizer, and whether all were seen."""
        self.status |= {"ready": self.ready, "terminating": self.terminating}
        self._number("active", active)
        held = {
            pod["metadata"]["uid"]
            for pod in self.pods
            if is_tracked(pod) and pod["metadata"]["uid"] not in self.removed
        }
        self.settle(held)
        released: list[Object] = []
        new_indexes: set[int] = set()
        all_seen = True
        ending = is_deleting(self.job) or decision.finished is not None
        for pod in self.pods if ending else self.others:
            uid = pod["metadata"]["uid"]
            if uid not in held or not self._may_release(pod, decision):
                continue
            released.append(pod)
            self._count(pod, decision, new_indexes)
            if len(new_indexes) + len(self.uncounted["succeeded"]) + len(self.uncounted["failed"]) >= MOST_UNCOUNTED:
                all_seen = False
                break
        if is_indexed(self.job):
            self.succeeded_indexes = self.previous_indexes | new_indexes
            self._number("succeeded", len(self.succeeded_indexes))
            self._text("completedIndexes", indexes.write(self.succeeded_indexes))
            if self.failed_indexes is not None:
                self.status["failedIndexes"] = indexes.write(self.failed_indexes)
        self._announce(decision)
        self._store_uncounted()
        return released, all_seen

    def _may_release(self, pod: Object, decision: Decision) -> bool:
        if is_deleting(self.job) or decision.finished is not None or health.phase(pod) == "Succeeded":
            return True
        if not is_failed(pod, self.job):
            return False
        index = indexes.of_pod(pod)
        waiting = self.delayed.get(index) if index is not None else None
        return waiting is None or waiting["metadata"]["uid"] != pod["metadata"]["uid"]

    def _count(self, pod: Object, decision: Decision, new_indexes: set[int]) -> None:
        uid, index = pod["metadata"]["uid"], indexes.of_pod(pod)
        in_range = index is not None and index < (self.completions or 0)
        indexed = is_indexed(self.job)
        if health.phase(pod) == "Succeeded" and uid not in self.known["failed"]:
            if indexed:
                if in_range and index is not None:
                    new_indexes.add(index)
            elif uid not in self.known["succeeded"]:
                self.uncounted["succeeded"].append(uid)
            return
        stopped = decision.finished is not None and decision.finished["type"] != "SuccessCriteriaMet"
        if not (is_failed(pod, self.job) or stopped) or uid in self.known["failed"] or (indexed and not in_range):
            return
        if rule_failure(self.spec.get("podFailurePolicy"), pod).counts:
            self.uncounted["failed"].append(uid)

    def _announce(self, decision: Decision) -> None:
        """FailureTarget and SuccessCriteriaMet come first; the final condition when nothing is left."""
        finished = decision.finished
        if finished is None:
            return
        present = self.status.get("conditions") or []
        if finished["type"] == "FailureTarget":
            self.status["conditions"] = [*present, finished]
            decision.finished = _condition("Failed", finished["reason"], finished["message"], self.now)
        elif finished["type"] == "SuccessCriteriaMet":
            if conditions.find(present, "SuccessCriteriaMet") is None:
                self.status["conditions"] = [*present, finished]
            decision.finished = _condition(
                "Complete", finished.get("reason", ""), finished.get("message", ""), self.now
            )

    def settle(self, held: Iterable[str]) -> None:
        """Uncounted pods that have lost their finalizer move into the counters."""
        still = frozenset(held)
        for kind in ("succeeded", "failed"):
            left = [uid for uid in self.uncounted[kind] if uid in still]
            moved = len(self.uncounted[kind]) - len(left)
            if moved:
                self._number(kind, int(self.status.get(kind) or 0) + moved)
            self.uncounted[kind] = left
        self._store_uncounted()

    def finish(self, decision: Decision) -> bool:
        """Write the final condition, if nothing is uncounted or still ending."""
        if decision.finished is None or self.terminating or any(self.uncounted.values()):
            return False
        done = decision.finished
        self._set(done["type"], "True", done["reason"], done["message"], self.status.get("conditions"))
        if done["type"] == "Complete":
            self.status["completionTime"] = done["lastTransitionTime"]
        return True

    def _number(self, name: str, count: int) -> None:
        if count:
            self.status[name] = count
        else:
            self.status.pop(name, None)

    def _text(self, name: str, text: str) -> None:
        if text:
            self.status[name] = text
        else:
            self.status.pop(name, None)

    def _store_uncounted(self) -> None:
        self.status["uncountedTerminatedPods"] = {kind: list(uids) for kind, uids in self.uncounted.items() if uids}


def _absolute(pod: Object) -> int:
    return indexes.failures(pod) + indexes.ignored_failures(pod)


def _sooner(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)
