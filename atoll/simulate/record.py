"""What a run was like, written down as it happens: one row an event, one row a gauge and moment, and the sums.

Everything comes from commits (the ledger) and from the faults that were injected; no controller is asked. A pod works
while it is Running on a machine that lives: a dead machine's pods have stopped, whatever the API server still says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from atoll.capacity import names
from atoll.kinds import kueue
from atoll.objects.meta import condition, labels
from atoll.simulate.faults import Fault
from atoll.simulate.fragmentation import Fragmentation
from atoll.simulate.ledger import Ledger, Listener, Node, Pod
from atoll.simulate.prices import Prices
from atoll.simulate.scenario.model import TEAM_LABEL
from atoll.simulate.waiting import reasons
from atoll.simulate.work import Job, Loss, Work, job_of

Object = dict[str, Any]
_JOBS = "jobs.batch"
_WORKLOADS = kueue.WORKLOADS.group_resource
_MACHINES = ("node", "rack", "block")


class Row(NamedTuple):
    """One thing that happened. `seconds` of the run; `value` is told by `event` (docs/simulate.md)."""

    seconds: float
    event: str
    subject: str
    team: str
    gpus: float
    value: float
    detail: str


@dataclass(slots=True)
class Wound:
    """A fault, and the Jobs that it has stopped and that are not whole again."""

    fault: Fault
    began: float
    jobs: set[tuple[str, str]]
    recovered: float | None = None


class Recorder(Listener):
    """See the module. `work` knows who works; `rows` is everything, in order."""

    resources = (_JOBS, _WORKLOADS)

    def __init__(self, ledger: Ledger, fragmentation: Fragmentation, prices: Prices) -> None:
        self.rows: list[Row] = []
        self.work = Work()
        self.wounds: list[Wound] = []
        self.preemptions = 0
        self.prices = prices
        self._ledger = ledger
        self._fragmentation = fragmentation
        self._hurt: dict[tuple[str, str], list[Wound]] = {}  # Job → the faults that stopped it, until it is whole again
        self._dead: dict[str, int] = {}
        self._cut_off: dict[str, Wound] = {}  # nodes that no heartbeat comes from, though they run
        self._on: dict[str, dict[str, Pod]] = {}  # node → pods that hold something there, by uid
        self._allocated = self._working = 0.0
        self._pending = 0
        self._gpus = self._ready_gpus = 0

    # -- what happens

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        if (new or old).labels.get(names.BALLOON) == "true":  # type: ignore[union-attr]
            return  # it keeps a node warm, and does nothing
        self._hold(old, new)
        if not _is_work((new or old).key):  # type: ignore[union-attr]
            return
        if new is not None and new.disruption and (old is None or not old.disruption):
            self._row(now, "pod-disrupted", new, 0.0, new.disruption)
            self.preemptions += new.disruption == "PreemptionByScheduler"
        self._pending += _waits(new) - _waits(old)
        working = new is not None and new.running and new.node not in self._dead
        if new is not None and working and (old is None or not old.running):
            self._begin(new, now)
        elif old is not None and old.running and not working:
            self._end(old, new, now)

    def _hold(self, old: Pod | None, new: Pod | None) -> None:
        was, is_now = old is not None and old.holds, new is not None and new.holds
        if old is not None and was and not is_now:
            self._on.get(old.node, {}).pop(old.uid, None)
            self._fragmentation.take(old.node, old.requests, -1)
            self._allocated -= old.gpus
        if new is not None and is_now:
            self._on.setdefault(new.node, {})[new.uid] = new
            if not was:
                self._fragmentation.take(new.node, new.requests, 1)
                self._allocated += new.gpus

    def _begin(self, pod: Pod, now: float) -> None:
        self._working += pod.gpus
        job = self.work.began(pod, now)
        if job is not None:
            self._row(now, "job-started", pod, now - job.arrived, "", job)
        self._heal((pod.key[0], pod.job), now)

    def _end(self, pod: Pod, new: Pod | None, now: float) -> None:
        if pod.node in self._dead:
            return  # it stopped when its machine did
        self._working -= pod.gpus
        if new is not None and new.phase == "Succeeded":
            self.work.ended(pod)
            return
        wound = self._cut_off.get(pod.node)
        if wound is not None and pod.job:
            self._wound(wound, (pod.key[0], pod.job))  # taken for dead, and made anew elsewhere
        self._lost(self.work.stopped(pod, now), now, (new or pod).disruption or "Failed")

    def _lost(self, loss: Loss | None, now: float, why: str) -> None:
        if loss is not None:
            self._row(now, "work-lost", loss.pod, loss.seconds * loss.pod.gpus, why)

    def on_node(self, old: Node | None, new: Node | None, now: float) -> None:
        name = (new or old).name  # type: ignore[union-attr]
        self._gpus += (new.gpus if new is not None else 0) - (old.gpus if old is not None else 0)
        self._ready_gpus += _ready_gpus(new) - _ready_gpus(old)
        self._fragmentation.node(name, new)
        if old is not None and new is not None and old.ready != new.ready:
            event = "node-ready" if new.ready else "node-not-ready"
            self.rows.append(Row(now, event, name, "", new.gpus, 0.0, ""))

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        if resource == _JOBS:
            self._job(old, new, now)
        elif new is not None and _is_evicted(new) and (old is None or not _is_evicted(old)):
            reason = (condition(new, "Evicted") or {}).get("reason", "")
            team = labels(new).get(TEAM_LABEL) or (new.get("spec") or {}).get("queueName") or ""
            self.rows.append(Row(now, "workload-evicted", _owner(new), team, 0.0, 0.0, reason))
            self.preemptions += reason == "Preempted"

    def _job(self, old: Object | None, new: Object | None, now: float) -> None:
        if new is None:
            return
        metadata = new["metadata"]
        key = (metadata["namespace"], metadata["name"])
        if not _is_work(key):
            return
        if old is None:
            team = labels(new).get(TEAM_LABEL) or labels(new).get(kueue.QUEUE_LABEL) or key[0]
            gpus = self._ledger.gpus_of_job(new)
            job = self.work.jobs[key] = job_of(new, team, gpus, now)
            self.rows.append(Row(now, "job-arrived", key[1], team, gpus * job.pods, job.run_seconds, ""))
            return
        known = self.work.jobs.get(key)
        if known is None or known.finished is not None:
            return
        done = next((kind for kind in ("Complete", "Failed") if _holds(new, kind) and not _holds(old, kind)), "")
        if done:
            known.finished = now
            detail = "" if done == "Complete" else done
            self.rows.append(
                Row(now, "job-finished", key[1], known.team, known.gpus * known.pods, now - known.arrived, detail)
            )
            self._heal(key, now)

    # -- faults, told by the injector

    def broke(self, fault: Fault, now: float) -> None:
        """A fault begins."""
        self.rows.append(Row(now, "fault", fault.name, "", 0.0, fault.seconds, _told(fault)))
        wound = Wound(fault, now, set())
        for node in fault.nodes if fault.target in _MACHINES else ():
            if self._dead.get(node, 0) == 0:
                for key in self._stop_all(node, now):
                    self._wound(wound, key)
            self._dead[node] = self._dead.get(node, 0) + 1
        if fault.target == "apiServer":
            self._ledger.away(1, now)
        if fault.target == "network":
            self._cut_off |= dict.fromkeys(fault.nodes, wound)
        self.wounds.append(wound)

    def hurt(self, fault: Fault, pod: Pod) -> None:
        """A pod that a fault of a GPU stops."""
        for wound in self.wounds:
            if wound.fault is fault and pod.job:
                self._wound(wound, (pod.key[0], pod.job))

    def _wound(self, wound: Wound, key: tuple[str, str]) -> None:
        if key not in wound.jobs and _is_work(key):
            wound.jobs.add(key)
            self._hurt.setdefault(key, []).append(wound)

    def mended(self, fault: Fault, now: float) -> None:
        """A fault ends."""
        for node in fault.nodes if fault.target in _MACHINES else ():
            self._dead[node] -= 1
            if not self._dead[node]:
                del self._dead[node]
        if fault.target == "apiServer":
            self._ledger.away(-1, now)
        for node in fault.nodes if fault.target == "network" else ():
            self._cut_off.pop(node, None)
        self.rows.append(Row(now, "fault-over", fault.name, "", 0.0, fault.seconds, _told(fault)))

    def settled(self, told: Iterable[Object], now: float) -> None:
        """The end: faults that have stopped no Job have nothing to recover from. `told`: Workloads and pods."""
        waiting = {key: job for key, job in self.work.jobs.items() if job.started is None and job.finished is None}
        for key, why in reasons(waiting, told).items():
            job = waiting[key]
            self.rows.append(Row(now, "job-waiting", key[1], job.team, job.gpus * job.pods, now - job.arrived, why))
        for wound in self.wounds:
            if not wound.jobs and wound.recovered is None:
                wound.recovered = wound.began

    def _stop_all(self, node: str, now: float) -> set[tuple[str, str]]:
        jobs = set()
        for pod in list(self._on.get(node, {}).values()):
            if pod.running and _is_work(pod.key):
                self._working -= pod.gpus
                self._lost(self.work.stopped(pod, now), now, "MachineDied")
                if pod.job:
                    jobs.add((pod.key[0], pod.job))
        return jobs

    def pods_on(self, node: str) -> list[Pod]:
        """Pods that hold something there, in the order of their names."""
        return sorted(self._on.get(node, {}).values(), key=lambda pod: pod.key)

    def machines(self, pool: str) -> list[str]:
        """Nodes of a pool that grows, those that work, in the order of their names."""
        nodes = self._ledger.nodes.values()
        return sorted(it.name for it in nodes if it.ready and it.labels.get(names.POOL_LABEL) == pool)

    def _heal(self, key: tuple[str, str], now: float) -> None:
        job = self.work.jobs.get(key)
        if key not in self._hurt or job is None or not job.whole:
            return
        for wound in self._hurt.pop(key):
            wound.jobs.discard(key)
            if not wound.jobs and wound.recovered is None:
                wound.recovered = now
                took = now - wound.began
                self.rows.append(Row(now, "recovered", wound.fault.name, "", 0.0, took, _told(wound.fault)))

    # -- gauges

    def sample(self, now: float) -> None:
        """One row a gauge."""
        idle, lost = self._fragmentation.shares()
        gauges = {
            "gpus": self._gpus, "ready": self._ready_gpus, "allocated": self._allocated, "working": self._working,
            "idle": idle, "fragmented": lost, "pending-pods": self._pending, "nodes": len(self._ledger.nodes),
        }  # fmt: skip
        if self.prices.known:
            gauges["price"] = self.prices.rate
        self.rows += [Row(now, "gauge", name, "", 0.0, round(value, 6) + 0.0, "") for name, value in gauges.items()]

    def _row(self, now: float, event: str, pod: Pod, value: float, detail: str, job: Job | None = None) -> None:
        gpus = pod.gpus if job is None else job.gpus * job.pods
        self.rows.append(Row(now, event, pod.key[1] if job is None else job.key[1], pod.team, gpus, value, detail))


def _is_work(key: tuple[str, str]) -> bool:
    """Tests of GPUs hold what they test, and are nobody's work."""
    return key[0] != names.SYSTEM_NAMESPACE


def _waits(pod: Pod | None) -> int:
    return int(pod is not None and not pod.node and not pod.deleting and pod.phase == "Pending")


def _ready_gpus(node: Node | None) -> int:
    return node.gpus if node is not None and node.ready and not node.unschedulable else 0


def _holds(obj: Object, kind: str) -> bool:
    return (condition(obj, kind) or {}).get("status") == "True"


def _is_evicted(workload: Object) -> bool:
    return _holds(workload, "Evicted")


def _owner(workload: Object) -> str:
    owners = workload["metadata"].get("ownerReferences") or ()
    return str(owners[0]["name"] if owners else workload["metadata"]["name"])


def _told(fault: Fault) -> str:
    return f"{fault.target} {fault.kind} {fault.value} of GPU {fault.gpu}" if fault.target == "gpu" else fault.target
