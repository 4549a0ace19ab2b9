"""The scenario file, read: `read` gives a policy's Scenario, or says what is wrong, with line and key.

apiVersion: simulate.atoll.dev/v1alpha1
kind: Scenario
metadata: {name: night}
spec:
  duration: 24h
  fleet: {pools: [{name: h100, nodes: 64, gpu: H100, gpus: 8, block: 32, rack: 8}]}
  queues: [{file: queues.yaml}]
  arrivals: [{jobs: {name: train, every: {exponential: 10m}, run: 2h, pods: 4, gpus: 8, queue: research}}]
  faults: [{at: "02:30", rack: any, for: 3h}]
  policies: {fifo: {}, fair: {queues: [{file: fair.yaml}]}}
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from atoll.app.scheduler_config import read_profiles
from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.base.yamlfile import Read, compose, plain
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.cluster.gpus.settings import read_settings
from atoll.kinds import batch
from atoll.kinds.workload import WORKLOADS
from atoll.simulate.invariants.registry import INVARIANTS
from atoll.simulate.layout import pool_gpus
from atoll.simulate.scenario.autoscale import AutoscaleReader
from atoll.simulate.scenario.checks import Checks
from atoll.simulate.scenario.fleet import FleetReader
from atoll.simulate.scenario.layers import child, laid_over, without
from atoll.simulate.scenario.model import (
    GPU,
    FaultRule,
    Given,
    JobStream,
    Pool,
    Scenario,
    TraceStream,
)
from atoll.simulate.scenario.objects import ObjectReader, check_queues, is_operators, operators_map, patched
from atoll.simulate.scenario.spread import constant

API_VERSION = "simulate.atoll.dev/v1alpha1"
BASE_POLICY = "as written"
_TARGETS = ("node", "rack", "block", "gpu", "network", "apiServer")
_GPU_KINDS = ("xid", "ecc", "thermal", "nvlink", "lost")
_BATCH = frozenset(
    resource.group
    for resource in (batch.POD_GROUPS, batch.VOLCANO_POD_GROUPS, batch.JOB_SETS, batch.LEADER_WORKER_SETS)
)


def load(path: Path, policy: str | None = None) -> Scenario:
    """One policy of a scenario file (None: the first, or the file as written where it has none). Raises UserError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise UserError(f"{path}: {why}", hint="name a scenario file; docs/simulate.md says what is in one") from None
    return parse(text, str(path), policy)


def parse(text: str, source: str, policy: str | None = None) -> Scenario:
    """As `load`, of a text; files that it names are seen from the folder of `source`."""
    root = compose(text, source, hint="docs/simulate.md says what is in a scenario")
    return _Reader(source).scenario(root, policy)


class _Reader(FleetReader, AutoscaleReader, ObjectReader, Checks):
    """What is known where in a scenario file."""

    def scenario(self, root: yaml.Node, policy: str | None) -> Scenario:
        names = self._policies(root)
        chosen = policy if policy is not None else next(iter(names), BASE_POLICY)
        if chosen not in names and chosen != BASE_POLICY:
            have = ", ".join(names) or "(the file names none)"
            raise UserError(f"{self._source}: there is no policy {chosen!r}", hint=f"its policies: {have}")
        spec = child(root, "spec")
        if spec is not None and chosen in names:
            root = laid_over(
                without(root, "spec"), _document("spec", laid_over(without(spec, "policies"), names[chosen]))
            )
        known: dict[str, Read] = {
            "apiVersion": self.constant(API_VERSION),
            "kind": self.constant("Scenario"),
            "metadata": lambda n, k: self.mapping(n, k, {"name": self.text}),
            "spec": self.spec,
        }
        found = self.mapping(root, "", known)
        for key in ("apiVersion", "kind", "spec"):
            if key not in found:
                raise self.fail(root, key, "missing")
        name = (found.get("metadata") or {}).get("name") or Path(self._source).stem
        return self._whole(root, found["spec"], name, chosen, tuple(names))

    def _policies(self, root: yaml.Node) -> dict[str, yaml.Node]:
        node = child(child(root, "spec") or root, "policies")
        if node is None:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, "spec.policies", "must be a mapping of names to what differs")
        for name, value in node.value:
            key = f"spec.policies.{name.value}"
            if not isinstance(value, yaml.MappingNode):
                raise self.fail(value, key, "must be a mapping: what differs ({} for nothing)")
            if "," in name.value or name.value != name.value.strip() or not name.value:
                raise self.fail(name, key, "its name can't be told to --compare: leave out commas and outer blanks")
        return {str(name.value): value for name, value in node.value}

    def _whole(self, root: yaml.Node, spec: dict[str, Any], name: str, policy: str, names: tuple[str, ...]) -> Scenario:
        node = child(root, "spec") or root
        pools: tuple[Pool, ...] = tuple((spec.get("fleet") or {}).get("pools") or ())
        scaled: AutoscaleSettings | None = spec.get("autoscale")
        if not pools and scaled is None:
            raise self.fail(node, "spec.fleet.pools", "a scenario needs at least one pool of nodes")
        if "duration" not in spec:
            raise self.fail(node, "spec.duration", "missing: how long is simulated, e.g. 24h")
        given: list[Given] = [item for group in spec.get("queues") or () for item in group]
        queueing = bool(given)
        given += [item for group in spec.get("objects") or () for item in group]
        for where, kind, target, patch in spec.get("patches") or ():
            given, hits = patched(given, kind, target, patch)
            if not hits:
                raise UserError(
                    f"{where}: there is no {kind} {target!r} to patch", hint="name one of queues or objects"
                )
        pools, operator = self._partitioned(node, pools, given)
        given = [*operator, *given]
        self.check_nodes(node, pools)
        self.check_sharing(node, pools, spec)
        streams = spec.get("arrivals") or ()
        jobs = tuple(item for item, _ in streams if isinstance(item, JobStream))
        traces = tuple(item for item, _ in streams if isinstance(item, TraceStream))
        groups = {item.obj["apiVersion"].split("/")[0] for item in given}
        in_batch = any(item.gang for item in jobs) or not _BATCH.isdisjoint(groups)
        self.check_times(node, spec, given)
        path, profiles = spec.get("scheduler") or ("", frozenset())
        self._check_streams(spec, pools, given, profiles)
        self.check_faults(spec.get("faults") or (), pools, scaled, spec["duration"])
        return Scenario(
            name=name, source=self._source, policy=policy, seconds=spec["duration"], pools=pools, queueing=queueing,
            batch=in_batch, teams=spec.get("teams", False), health=spec.get("health", False), given=tuple(given),
            jobs=jobs, traces=traces, faults=tuple(item for item, _ in spec.get("faults") or ()), policies=names,
            invariants=tuple(spec.get("invariants") or INVARIANTS),
            sample_seconds=spec.get("sample") or _sample(spec["duration"]), scheduler_config=path,
            autoscale=scaled,
            workload_api=any(item.obj["apiVersion"] == WORKLOADS.api_version for item in given),
        )  # fmt: skip

    def _check_streams(
        self, spec: dict[str, Any], pools: tuple[Pool, ...], given: list[Given], profiles: frozenset[str]
    ) -> None:
        spaces = check_queues(given)
        priorities = {item.obj["metadata"]["name"] for item in given if item.obj["kind"] == "PriorityClass"}
        seen: dict[tuple[str, str], int] = {}
        for stream, at in spec.get("arrivals") or ():
            self.check_stream(stream, at, pools, spec.get("autoscale"), spaces)
            self.check_amount(stream, at, spec["duration"])
            if isinstance(stream, JobStream):
                self.check_names(stream, at, seen, priorities)
            if stream.scheduler and stream.scheduler not in profiles:
                have = ", ".join(sorted(profiles)) or "none: give spec.scheduler a file"
                why = f"{stream.scheduler!r} is no profile of the scheduler; there are: {have}"
                raise self.fail(at, f"schedulerName of {stream.name}", why)

    def _partitioned(
        self, node: yaml.Node, pools: tuple[Pool, ...], given: list[Given]
    ) -> tuple[tuple[Pool, ...], list[Given]]:
        """The pools with what their GPUs make of their nodes, and the ConfigMap for the nodes' agents."""
        maps = [item.obj for item in given if item.at_seconds <= 0 and is_operators(item.obj)]
        if self.plugins and maps:
            why = "pools say migStrategy or timeSlicing, and objects a ConfigMap in gpu-operator: say it in one place"
            raise self.fail(node, "spec.fleet.pools", why)
        made = [Given(0.0, operators_map(self.plugins), f"{self._source}: fleet.pools")] if self.plugins else []
        settings = read_settings([*maps, *(item.obj for item in made)])
        listed = child(child(node, "fleet") or node, "pools")
        found = []
        for number, pool in enumerate(pools):
            try:
                found.append(replace(pool, made=pool_gpus(pool, settings)))
            except UserError as error:
                at = listed.value[number] if isinstance(listed, yaml.SequenceNode) else node
                raise self.fail(at, f"spec.fleet.pools[{number}]", error.message, error.hint) from None
        return tuple(found), made

    def scheduler(self, node: yaml.Node, key: str) -> tuple[str, frozenset[str]]:
        """The file, and the schedulerNames that it has profiles for."""
        found = self.mapping(node, key, {"file": self.path})
        if "file" not in found:
            raise self.fail(node, f"{key}.file", "missing: a KubeSchedulerConfiguration")
        try:
            return str(found["file"]), frozenset(read_profiles(found["file"], Chance(0)))
        except UserError as error:
            raise self.fail(node, f"{key}.file", error.message, error.hint) from None

    def spec(self, node: yaml.Node, key: str) -> dict[str, Any]:
        known: dict[str, Read] = {
            "duration": self.some_time,
            "sample": self.some_time,
            "fleet": lambda n, k: self.mapping(n, k, {"pools": self.pools}),
            "queues": lambda n, k: self.items(n, k, self.given),
            "objects": lambda n, k: self.items(n, k, self.timed),
            "patches": lambda n, k: self.items(n, k, self.patch),
            "arrivals": lambda n, k: self.items(n, k, self.arrivals),
            "faults": lambda n, k: self.items(n, k, self.fault),
            "invariants": lambda n, k: self.items(n, k, lambda m, p: self.one_of(m, p, INVARIANTS)),
            "policies": lambda n, k: None,
            "teams": self.flag,
            "health": self.flag,
            "scheduler": self.scheduler,
            "autoscale": self.autoscale,
        }
        return self.mapping(node, key, known)

    def timed(self, node: yaml.Node, key: str) -> list[Given]:
        """An object, `file:`, or `{at:, file: | object:}`."""
        at = child(node, "at")
        if at is None:
            return self.given(node, key)
        seconds = self.duration(at, f"{key}.at")
        inner = child(node, "object")
        if inner is not None:
            return self.given(inner, f"{key}.object", seconds)
        file = child(node, "file")
        if file is None:
            raise self.fail(node, key, "names neither a file nor an object")
        return self.from_file(file, f"{key}.file", seconds)

    def patch(self, node: yaml.Node, key: str) -> tuple[str, str, str, Any]:
        known: dict[str, Read] = {"kind": self.text, "name": self.text, "patch": lambda n, k: plain(n, self._source)}
        found = self.mapping(node, key, known)
        for name in ("kind", "name", "patch"):
            if name not in found:
                raise self.fail(node, f"{key}.{name}", "missing")
        if not isinstance(found["patch"], dict) or not {"apiVersion", "kind", "metadata"}.isdisjoint(found["patch"]):
            why = "must be a mapping of what differs: spec, data …; an object stays of its kind and name"
            raise self.fail(node, f"{key}.patch", why)
        return f"{self._source}:{node.start_mark.line + 1}", found["kind"], found["name"], found["patch"]

    def arrivals(self, node: yaml.Node, key: str) -> tuple[JobStream | TraceStream, yaml.Node]:
        found = self.mapping(node, key, {"jobs": self.jobs, "trace": self.trace})
        if len(found) != 1:
            raise self.fail(node, key, "must be either jobs or trace")
        return next(iter(found.values())), node

    def jobs(self, node: yaml.Node, key: str) -> JobStream:
        known: dict[str, Read] = {
            "name": self.name, "every": self.spread, "run": self.spread, "pods": self.amount_spread,
            "gpus": self.amount_spread, "cpu": self.amount, "memory": self.amount, "namespace": self.name,
            "queue": self.text, "team": self.label, "priorityClass": self.text, "from": self.duration,
            "until": self.duration, "count": self.number, "checkpointEvery": self.duration, "gang": self.flag,
            "gpuMilli": self.amount_spread, "schedulerName": self.text, "resource": self.text,
            "deviceClass": self.text, "selector": self.text,
            "gpu": lambda n, k: self.items(n, k, self.text) if isinstance(n, yaml.SequenceNode) else [self.text(n, k)],
        }  # fmt: skip
        found = self.mapping(node, key, known)
        for name in ("name", "every", "run"):
            if name not in found:
                raise self.fail(node, f"{key}.{name}", "missing")
        return JobStream(
            name=found["name"], every=found["every"], run=found["run"], pods=found.get("pods", constant(1)),
            gpus=found.get("gpus", constant(1 if {"resource", "deviceClass"} & found.keys() else 0)),
            resource=found.get("resource", GPU), gpu=tuple(found.get("gpu") or ()), cpu=found.get("cpu", "4"),
            memory=found.get("memory", "32Gi"), namespace=found.get("namespace", "default"),
            queue=found.get("queue", ""), team=found.get("team", ""), priority_class=found.get("priorityClass", ""),
            start=found.get("from", 0.0), until=found.get("until", math.inf), most=found.get("count", 0),
            checkpoint_seconds=found.get("checkpointEvery", 0.0), gang=found.get("gang", False),
            milli=found.get("gpuMilli"), scheduler=found.get("schedulerName", ""),
            device_class=found.get("deviceClass", ""), selector=found.get("selector", ""),
        )  # fmt: skip

    def trace(self, node: yaml.Node, key: str) -> TraceStream:
        known: dict[str, Read] = {
            "pods": self.path, "from": self.duration, "speed": self.real, "count": self.number,
            "queues": self.labels, "queue": self.text, "team": self.label, "namespace": self.name, "name": self.name,
            "schedulerName": self.text,
        }  # fmt: skip
        found = self.mapping(node, key, known)
        if "pods" not in found:
            raise self.fail(node, f"{key}.pods", "missing: the pod list (CSV)")
        if not found.get("speed", 1.0):
            raise self.fail(node, f"{key}.speed", "must be above 0")
        return TraceStream(
            path=found["pods"], where=f"{self._source}:{node.start_mark.line + 1}",
            start_seconds=found.get("from", 0.0), speed=found.get("speed", 1.0), most=found.get("count", 0),
            by_class=tuple(sorted((found.get("queues") or {}).items())), queue=found.get("queue", ""),
            team=found.get("team", ""), namespace=found.get("namespace", "default"), name=found.get("name", "trace"),
            scheduler=found.get("schedulerName", ""),
        )  # fmt: skip

    def fault(self, node: yaml.Node, key: str) -> tuple[FaultRule, yaml.Node]:
        known: dict[str, Read] = dict.fromkeys(_TARGETS, self.text)
        known |= {
            "at": self.durations, "every": self.spread, "perYear": self.real, "for": self.spread,
            "kind": lambda n, k: self.one_of(n, k, _GPU_KINDS), "value": lambda n, k: self.number(n, k, 1),
            "pool": self.text,
        }  # fmt: skip
        found = self.mapping(node, key, known)
        targets = [name for name in _TARGETS if name in found]
        times = [name for name in ("at", "every", "perYear") if name in found]
        if len(targets) != 1:
            raise self.fail(node, key, f"names what breaks by one of: {', '.join(_TARGETS)}")
        if len(times) != 1:
            raise self.fail(node, key, "says when by one of: at (times), every (a rate for all), perYear")
        if times == ["perYear"] and targets[0] == "apiServer":
            raise self.fail(node, f"{key}.perYear", "is a rate of each of many; use every for the API server")
        if "for" not in found:
            raise self.fail(node, f"{key}.for", "missing: how long it lasts")
        name = found[targets[0]]
        if targets == ["apiServer"] and name not in ("any", "down"):
            raise self.fail(node, f"{key}.apiServer", f"must be down, not {name!r}: there is one of them")
        rule = FaultRule(
            target=targets[0], name="" if name in ("any", "down") else name, lasts=found["for"],  # type: ignore[arg-type]
            at=found.get("at", ()), every=found.get("every"), per_year=found.get("perYear", 0.0),
            gpu_kind=found.get("kind", "xid"), gpu_value=found.get("value", 79),
            pool=found.get("pool", ""),
        )  # fmt: skip
        return rule, node


def _sample(seconds: float) -> float:
    """So often that a plot shows what happens, and no more often."""
    return min(300.0, max(30.0, seconds / 200))


def _document(key: str, value: yaml.Node) -> yaml.Node:
    name = yaml.ScalarNode("tag:yaml.org,2002:str", key, value.start_mark, value.end_mark)
    return yaml.MappingNode("tag:yaml.org,2002:map", [(name, value)], value.start_mark, value.end_mark)
