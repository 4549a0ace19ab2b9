"""What arrives, and when: a trace's pods and streams of jobs, as one list in the order of time. Pure.

A pod of the trace becomes a Job of one pod that runs from its scheduled to its deletion time. Where the pools share
their GPUs, pods ask in the words of that (docs/scheduling-openb.md); elsewhere a part of a GPU takes a whole one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from atoll.app.autoscale import completed
from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.cluster.apiserver.names import dns_subdomain
from atoll.cluster.nodes.simulated.fast import HOLD_ANNOTATION
from atoll.kinds import kueue
from atoll.scheduling.devices.annotations import COUNT, MILLI, MODEL
from atoll.simulate.csvfile import Line, lines, unique
from atoll.simulate.layout import GPU_LABEL
from atoll.simulate.scenario.model import GPU, TEAM_LABEL, JobStream, Scenario, TraceStream

Object = dict[str, Any]
CHECKPOINT_ANNOTATION = "atoll.dev/checkpoint-every"
_TIMES = ("creation_time", "deletion_time", "scheduled_time")
_COLUMNS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", *_TIMES)
_CLAIM = "gpus"
_GANG_ANNOTATION = "atoll.dev/gang"
_KEPT_SECONDS = 600  # an ended Job's objects stay so long
_FAILURES = 1000  # machines fail as often as the scenario says: a Job never gives up


@dataclass(frozen=True, slots=True)
class Arrival:
    """A Job of `pods` pods that run side by side. `at`, `run_seconds`, `checkpoint_seconds`: seconds."""

    at: float
    name: str
    namespace: str
    queue: str
    team: str
    pods: int
    gpus: int  # of a pod
    gpu: tuple[str, ...]
    cpu: str
    memory: str
    run_seconds: float
    priority_class: str = ""
    checkpoint_seconds: float = 0.0
    gang: bool = False
    milli: int = 1000  # of each GPU
    shared: bool = False  # it asks for parts of GPUs
    scheduler: str = ""
    resource: str = GPU
    claim: str = ""  # ResourceClaimTemplate by which a pod asks for `gpus` devices
    device_class: str = ""
    selector: str = ""
    products: tuple[str, ...] = ()  # what nodes with such GPUs are labelled with

    @property
    def gpu_share(self) -> float:
        """GPUs of a pod."""
        return self.gpus * self.milli / 1000 if self.shared else float(self.gpus)


def plan_arrivals(scenario: Scenario, chance: Chance) -> list[Arrival]:
    """All of them, by time. Raises UserError where a trace can't be used."""
    found: list[Arrival] = []
    for number, stream in enumerate(scenario.jobs):
        found += _drawn(stream, scenario, chance.stream(f"jobs/{number}/{stream.name}"))
    products = _products(scenario)
    types = {gpu for gpu in products if gpu}
    for trace in scenario.traces:
        found += _replayed(trace, scenario, types)
    named = [replace(it, products=tuple(sorted({name for gpu in it.gpu for name in products[gpu]}))) for it in found]
    return sorted(named, key=lambda item: (item.at, item.name))


def _products(scenario: Scenario) -> dict[str, set[str]]:
    """By type: those that are partitioned or shared are labelled otherwise than whole ones."""
    found: dict[str, set[str]] = {}
    for pool in scenario.pools:
        found.setdefault(pool.gpu, set()).add(pool.made.product)
    for scaled in completed(scenario.autoscale).pools if scenario.autoscale is not None else ():
        if scaled.node.gpu:
            found.setdefault(scaled.node.gpu, set()).add(scaled.node.labels[GPU_LABEL])
    return found


def _drawn(stream: JobStream, scenario: Scenario, chance: Chance) -> Iterator[Arrival]:
    at, number = stream.start, 0
    until = min(stream.until, scenario.seconds)
    while True:
        at += stream.every.draw(chance)
        if at >= until or (stream.most and number >= stream.most):
            return
        pods, gpus = max(1, round(stream.pods.draw(chance))), round(stream.gpus.draw(chance))
        milli = 1000 if stream.milli is None or not gpus else min(1000, max(1, round(stream.milli.draw(chance))))
        yield Arrival(
            at, f"{stream.name}-{number}", stream.namespace, stream.queue, _team(stream), pods, gpus,
            stream.gpu if gpus else (), stream.cpu, stream.memory, max(1.0, stream.run.draw(chance)),
            stream.priority_class, stream.checkpoint_seconds, stream.gang,
            milli, scenario.shared, stream.scheduler, stream.resource,
            f"{stream.name}-x{gpus}" if stream.device_class and gpus else "", stream.device_class, stream.selector,
        )  # fmt: skip
        number += 1


def _team(stream: JobStream | TraceStream) -> str:
    return stream.team or stream.queue or stream.name


def _replayed(trace: TraceStream, scenario: Scenario, types: set[str]) -> list[Arrival]:
    classes = dict(trace.by_class)
    names: dict[str, int] = {}
    found = []
    for line in lines(trace.path, _COLUMNS):
        unique(line, "name", names)
        created, ended = line.amount("creation_time"), line.amount("deletion_time")
        at = (created - trace.start_seconds) / trace.speed
        if not 0 <= at < scenario.seconds:
            continue
        begun = line.values["scheduled_time"].strip()
        run = ended - (line.amount("scheduled_time") if begun else created)
        if run < 0:
            raise line.wrong("deletion_time", f"{ended} is before the pod began", "give times in seconds, in order")
        gpus = line.amount("num_gpu", 64)
        queue = classes.get((line.values.get("qos") or "").strip(), trace.queue)
        arrival = Arrival(
            at, _name(trace, line), trace.namespace, queue, trace.team or queue or trace.name, 1, gpus,
            _models(line, types) if gpus else (), f"{line.amount('cpu_milli')}m", f"{line.amount('memory_mib')}Mi",
            max(1.0, run / trace.speed), milli=max(1, line.amount("gpu_milli", 1000)) if gpus else 1000,
            shared=scenario.shared, scheduler=trace.scheduler,
        )  # fmt: skip
        found.append(arrival)
    if not found:
        raise UserError(
            f"{trace.where}: no pod of {trace.path} falls into the scenario's time",
            hint="say with from: where in the trace it begins, and with speed: how much faster it goes",
        )
    found.sort(key=lambda item: (item.at, item.name))
    return found[: trace.most] if trace.most else found


def _name(trace: TraceStream, line: Line) -> str:
    name = line.text("name")
    found = name if trace.name == "trace" else f"{trace.name}-{name}"
    if dns_subdomain(found) or len(found) > 63:
        hint = (
            "a Job is called so: up to 63 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
        )
        raise line.wrong("name", f"{found[:80]!r} can't be the name of a Job", hint)
    return found


def _models(line: Line, types: set[str]) -> tuple[str, ...]:
    wanted = {part.strip() for part in (line.values.get("gpu_spec") or "").split("|")} - {""}
    if wanted and not wanted & types:
        raise line.wrong(
            "gpu_spec",
            f"no pool has GPUs of type {sorted(wanted)[0][:40]!r}",
            f"give a pool one of them; the pools have {', '.join(sorted(types)) or 'none'}",
        )
    return tuple(sorted(wanted & types))


def job_object(arrival: Arrival) -> Object:
    """The batch/v1 Job as its user would have written it."""
    requests = {"cpu": arrival.cpu, "memory": arrival.memory}
    limits: dict[str, str] = {}
    if arrival.gpus and not arrival.shared and not arrival.claim:
        requests[arrival.resource] = limits[arrival.resource] = str(arrival.gpus)
    labels = {TEAM_LABEL: arrival.team}
    notes = {HOLD_ANNOTATION: f"{arrival.run_seconds:.3f}"}
    if arrival.gpus and arrival.shared:
        notes |= {MILLI: str(arrival.milli), COUNT: str(arrival.gpus)}
        notes |= {MODEL: "|".join(arrival.gpu)} if arrival.gpu else {}
    own = {_GANG_ANNOTATION: "true"} if arrival.gang else {}
    if arrival.checkpoint_seconds:
        notes[CHECKPOINT_ANNOTATION] = f"{arrival.checkpoint_seconds:g}"
    resources: Object = {"requests": requests, **({"limits": limits} if limits else {})}
    spec: Object = {
        "restartPolicy": "Never",
        "containers": [{"name": "main", "image": "simulated", "resources": resources}],
    }
    if arrival.claim:
        resources["claims"] = [{"name": _CLAIM}]
        spec["resourceClaims"] = [{"name": _CLAIM, "resourceClaimTemplateName": arrival.claim}]
    if arrival.scheduler:
        spec["schedulerName"] = arrival.scheduler
    if arrival.gpu and not arrival.shared:
        term = {"matchExpressions": [{"key": GPU_LABEL, "operator": "In", "values": list(arrival.products)}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        spec["affinity"] = {"nodeAffinity": required}
    if arrival.priority_class:
        spec["priorityClassName"] = arrival.priority_class
    queue = {kueue.QUEUE_LABEL: arrival.queue} if arrival.queue else {}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": arrival.name,
            "namespace": arrival.namespace,
            "labels": labels | queue,
            "annotations": notes | own,
        },
        "spec": {
            "parallelism": arrival.pods,
            "completions": arrival.pods,
            "backoffLimit": _FAILURES,
            "ttlSecondsAfterFinished": _KEPT_SECONDS,
            "template": {"metadata": {"labels": labels, "annotations": notes}, "spec": spec},
        },
    }


def claim_templates(arrivals: Iterable[Arrival]) -> list[Object]:
    """The ResourceClaimTemplates that Jobs name (resource.k8s.io/v1), each once."""
    found: dict[tuple[str, str], Object] = {}
    for item in arrivals:
        if not item.claim or (item.namespace, item.claim) in found:
            continue
        exactly: Object = {"deviceClassName": item.device_class, "count": item.gpus}
        if item.selector:
            exactly["selectors"] = [{"cel": {"expression": item.selector}}]
        found[item.namespace, item.claim] = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": item.claim, "namespace": item.namespace},
            "spec": {"spec": {"devices": {"requests": [{"name": _CLAIM, "exactly": exactly}]}}},
        }
    return list(found.values())


def gpu_seconds(arrivals: list[Arrival]) -> float:
    """What all of them would use, run to their end."""
    return math.fsum(item.pods * item.gpu_share * item.run_seconds for item in arrivals)
