"""A Workload's life besides getting quota: checks, eviction for a reason of its own, time-outs, why it waits.

Level-triggered: each pass looks at the Workload as it is and makes at most one write.
"""

from __future__ import annotations

from atoll.base.clock import parse_rfc3339, rfc3339
from atoll.capacity.queueing import status
from atoll.capacity.queueing.config import PodsReady
from atoll.capacity.queueing.controller import QueueController
from atoll.capacity.queueing.line import class_of
from atoll.capacity.queueing.model import Object, Workload
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.plan import checks_for
from atoll.kinds import kueue
from atoll.objects.meta import condition, is_deleting, key
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

# How long a workload waits before its status says why: most are admitted sooner. It is a second at least, since the
# times that it counts from are whole seconds, cut off. Those behind one of their class wait for the same as that one,
# and are told later: a queue of thousands would else be written again and again. Of these so many are told a second,
# that where thousands came at once their admission does not wait for what they are told.
_TELL_SECONDS = 2.0
_TELL_AGAIN_SECONDS = 60.0
_TOLD_BEHIND_PER_SECOND = 50


class WorkloadController:
    """Reads the queues' state; writes Workloads that have one."""

    def __init__(self, parts: Parts, queues: QueueController) -> None:
        self.name = "queueing-workloads"
        self._parts = parts
        self._queues = queues
        self._workloads = queues.workloads
        self._told: dict[Key, float] = {}  # those that wait, and when their status last said why
        self._turns: dict[Key, float] = {}  # those behind others whose time has come, and when they are to be told
        self._last_turn = 0.0
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=4, wait_for=(self._workloads,))
        self._workloads.add_handler(self._changed)
        for resource in (kueue.CLUSTER_QUEUES, kueue.LOCAL_QUEUES, kueue.ADMISSION_CHECKS):
            parts.informers.of(resource).add_handler(self._setup_changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None or status.is_true(new, "Finished") or self._runs(new):
            self._told.pop(key(new or old or {}), None)
            self._turns.pop(key(new or old or {}), None)
        elif "status" not in new and new["spec"].get("active", True):
            self.loop.queue.add_after(key(new), _TELL_SECONDS)  # nothing is to be said of it before
        else:
            self.loop.queue.add(key(new))

    def _runs(self, obj: Object) -> bool:
        """Whether it is admitted, and neither time nor a check nor a stopped queue may take that back."""
        said, spec = obj.get("status") or {}, obj["spec"]
        if said.get("admissionChecks") or "maximumExecutionTimeSeconds" in spec or spec.get("active") is False:
            return False
        if self._queues.options.pods_ready.enabled or not status.is_true(obj, "Admitted"):
            return False
        setup = self._queues.state.setup
        queue = setup.queues.get((said.get("admission") or {}).get("clusterQueue", ""))
        local = setup.local_queues.get((obj["metadata"]["namespace"], spec.get("queueName") or ""))
        return queue is not None and local is not None and queue.stop == local.stop == "None"

    def _setup_changed(self, old: Object | None, new: Object | None) -> None:
        if (old or {}).get("spec") != (new or {}).get("spec"):
            self._told.clear()  # they may wait for something else now
            for obj in self._workloads:
                self.loop.queue.add(key(obj))

    async def _reconcile(self, name: Key) -> float | None:
        obj = self._workloads.by_key(name)
        if obj is None or not self._parts.on() or is_deleting(obj):
            return None
        if status.is_true(obj, "Finished") or self._runs(obj):
            return None
        now = self._parts.clock.wall()
        workload = self._queues.read(obj)
        if workload.admission is None:
            return await self._waiting(obj, workload, now)
        self._told.pop(name, None)
        self._turns.pop(name, None)
        if status.is_true(obj, "Evicted"):
            return None  # whoever runs it stops it
        reason, message = self._why_evict(obj, workload)
        if reason:
            await self._evict(obj, reason, message, now)
            return None
        if not workload.admitted:
            return await self._check(obj, workload, now)
        return await self._time_out(obj, now)

    def _why_evict(self, obj: Object, workload: Workload) -> tuple[str, str]:
        setup = self._queues.state.setup
        if not workload.active:
            because = condition(obj, status.TARGET)
            if because is None:
                return "Deactivated", "The workload is deactivated"
            return f"DeactivatedDueTo{because['reason']}", f"The workload is deactivated due to {because['message']}"
        assert workload.admission is not None
        stops = ("HoldAndDrain",) if workload.admitted else ("Hold", "HoldAndDrain")
        queue = setup.queues.get(workload.admission.queue)
        if queue is not None and queue.stop in stops:
            return "ClusterQueueStopped", "The ClusterQueue is stopped"
        local = setup.local_queues.get(workload.queue_key)
        if local is not None and local.stop in stops:
            return "LocalQueueStopped", "The LocalQueue is stopped"
        states = {item["name"]: item for item in obj["status"].get("admissionChecks") or ()}
        for state in ("Rejected", "Retry"):
            found = [name for name, item in states.items() if item["state"] == state]
            if found:
                return "AdmissionCheck", f"At least one admission check is {state}: {', '.join(found)}"
        return "", ""

    async def _evict(self, obj: Object, reason: str, message: str, now: float) -> None:
        rejected = [it for it in obj["status"].get("admissionChecks") or () if it["state"] == "Rejected"]
        if rejected and obj["spec"].get("active", True):
            names, why = " ".join(it["name"] for it in rejected), "; ".join(it["message"] for it in rejected)
            await self._deactivate(obj, "AdmissionCheck", f"Admission check(s): [{names}], were rejected: {why}")
            return
        new = status.evicted(obj, reason, message, now)
        pauses = [int(item.get("requeueAfterSeconds") or 0) for item in obj["status"].get("admissionChecks") or ()]
        if reason == "AdmissionCheck" and any(pauses):
            state = new["status"].get("requeueState") or {}
            new["status"]["requeueState"] = {**state, "requeueAt": rfc3339(now + max(pauses))}
        await write_status(self._parts.client, kueue.WORKLOADS, obj, new)
        self._parts.metrics.evicted(obj["status"]["admission"]["clusterQueue"], _local_queue(obj), reason)
        self._parts.events.event(obj, NORMAL, f"EvictedDueTo{reason}", message)

    async def _deactivate(self, obj: Object, reason: str, message: str) -> None:
        """First why, then that it is; its next pass evicts it. A person may activate it again."""
        new = status.with_condition(obj, status.TARGET, True, reason, message, self._parts.clock.wall())
        obj = await write_status(self._parts.client, kueue.WORKLOADS, obj, new)
        self._parts.events.event(obj, WARNING, reason, f"Deactivating the workload: {message}")
        await self._parts.client.update(kueue.WORKLOADS, {**obj, "spec": {**obj["spec"], "active": False}})

    # -- admission checks

    async def _check(self, obj: Object, workload: Workload, now: float) -> float | None:
        """Each check has an entry; when all say Ready it is admitted."""
        assert workload.admission is not None
        wanted = checks_for(self._queues.state, workload.admission.queue, workload.admission)
        known = {item["name"]: item for item in obj["status"].get("admissionChecks") or ()}
        listed = [known.get(name) or status.check_entry(name, now) for name in wanted]
        new = {**obj, "status": {**obj["status"], "admissionChecks": listed}} if wanted else obj
        if all(item["state"] == "Ready" for item in listed):
            new = status.admitted(new, now)
        await write_status(self._parts.client, kueue.WORKLOADS, obj, new)
        if status.is_true(new, "Admitted"):
            queue = workload.admission.queue
            self._parts.events.event(obj, NORMAL, "Admitted", f"Admitted by ClusterQueue {queue}")
            waits = now - workload.created, now - workload.reserved_at
            self._parts.metrics.admitted(queue, workload.queue_key, *waits)
        return None

    # -- time

    async def _time_out(self, obj: Object, now: float) -> float | None:
        waits = [await self._execution_time(obj, now), await self._pods_ready(obj, now)]
        left = [seconds for seconds in waits if seconds is not None]
        return min(left) if left else None

    async def _execution_time(self, obj: Object, now: float) -> float | None:
        most = obj["spec"].get("maximumExecutionTimeSeconds")
        admitted = condition(obj, "Admitted")
        if most is None or admitted is None:
            return None
        past = obj["status"].get("accumulatedPastExecutionTimeSeconds") or 0
        left = float(parse_rfc3339(admitted["lastTransitionTime"]) + most - past - now)
        if left > 0:
            return left
        text = "exceeding the maximum execution time"
        await self._deactivate(obj, "MaximumExecutionTimeExceeded", text)
        return None

    async def _pods_ready(self, obj: Object, now: float) -> float | None:
        options = self._queues.options.pods_ready
        if not options.enabled or not obj["spec"].get("active", True):
            return None
        ready, admitted = condition(obj, "PodsReady") or {}, condition(obj, "Admitted") or {}
        if ready.get("status") == "True":
            return None
        fell = ready.get("reason") == "WaitForRecovery"
        seconds = options.recovery_seconds if fell else options.timeout_seconds
        if seconds is None:
            return None
        since = parse_rfc3339((ready if fell else admitted)["lastTransitionTime"])
        if since + seconds > now:
            return since + seconds - now
        await self._timed_out(obj, options, seconds, now)
        return None

    async def _timed_out(self, obj: Object, options: PodsReady, seconds: float, now: float) -> None:
        """Back to the queue, later and later; after the limit it is deactivated."""
        count = int((obj["status"].get("requeueState") or {}).get("count") or 0) + 1
        if options.backoff_limit is not None and count > options.backoff_limit:
            text = "exceeding the maximum number of re-queuing retries"
            await self._deactivate(obj, "RequeuingLimitExceeded", text)
            return
        wait = min(options.backoff_base_seconds * 2.0 ** (count - 1), options.backoff_most_seconds)
        message = f"Exceeded the PodsReady timeout {obj['metadata'].get('namespace')}/{obj['metadata']['name']}"
        new = status.evicted(obj, "PodsReadyTimeout", f"{message} after {seconds:g}s", now)
        new["status"]["requeueState"] = {"count": count, "requeueAt": rfc3339(now + wait + 1)}
        await write_status(self._parts.client, kueue.WORKLOADS, obj, new)
        self._parts.metrics.evicted(obj["status"]["admission"]["clusterQueue"], _local_queue(obj), "PodsReadyTimeout")
        self._parts.events.event(obj, NORMAL, "EvictedDueToPodsReadyTimeout", message)

    # -- those without quota

    async def _waiting(self, obj: Object, workload: Workload, now: float) -> float | None:
        fresh = status.reactivated(obj, now) if workload.active else status.forgiven(obj)
        if fresh is not obj:
            await write_status(self._parts.client, kueue.WORKLOADS, obj, fresh)
            return None
        if workload.requeue_at:
            if workload.requeue_at > now:
                return workload.requeue_at - now
            new = status.with_condition(obj, "Requeued", True, "BackoffFinished", "The back-off is over", now)
            await write_status(self._parts.client, kueue.WORKLOADS, obj, new)
            return None
        left = self._tell_at(obj, workload, now) - now
        if left > 0:
            return left
        message = self.why(workload)
        if not message:
            return _TELL_AGAIN_SECONDS
        requests = [
            (pods.name, {name: amount * pods.count for name, amount in pods.charged.items()})
            for pods in workload.shape.pod_sets
        ]
        inadmissible = self._queues.state.no_queue(workload)
        new = status.pending(obj, message, requests, now, "Inadmissible" if inadmissible else "Pending")
        if new["status"] == obj.get("status"):
            return _TELL_AGAIN_SECONDS
        await write_status(self._parts.client, kueue.WORKLOADS, obj, new)
        self._told[workload.key] = now
        self._turns.pop(workload.key, None)
        if condition(obj, "QuotaReserved") is None:
            self._parts.events.event(obj, NORMAL, "Pending", message)
        return _TELL_AGAIN_SECONDS

    def _tell_at(self, obj: Object, workload: Workload, now: float) -> float:
        """When its status is to say why it waits."""
        told = self._told.get(workload.key)
        if told is not None:
            return told + _TELL_AGAIN_SECONDS
        said = condition(obj, "QuotaReserved")
        since = workload.created if said is None else parse_rfc3339(said["lastTransitionTime"])
        state = self._queues.state
        line = state.lines.get(state.queue_of(workload) or "")
        behind = line is not None and workload.key in line and not line.leads(workload)
        at = since + (_TELL_AGAIN_SECONDS if behind else _TELL_SECONDS)
        if not behind or at > now:
            return at
        turn = self._turns.get(workload.key)
        if turn is None:
            self._last_turn = max(now, self._last_turn + 1 / _TOLD_BEHIND_PER_SECOND)
            turn = self._turns[workload.key] = self._last_turn
        return turn

    def why(self, workload: Workload) -> str:
        """What a waiting workload's status says; "" while its class has not been looked at."""
        if not workload.active:
            return "The workload is deactivated"
        state = self._queues.state
        reason = state.not_queued(workload)
        if reason:
            return reason
        name = state.queue_of(workload)
        if name not in state.lines:
            return ""
        line = state.lines[name]
        found = line.parked.get(class_of(workload))
        if found is None and line.parked and state.setup.queues[name].strict:
            return f"ClusterQueue {name} is StrictFIFO: those before it wait"
        return found.message if found is not None else ""


def _local_queue(obj: Object) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["spec"].get("queueName") or ""
