"""What of a scenario does not go together, found before anything runs: told with line and key."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from atoll.app.autoscale import completed
from atoll.base.errors import UserError
from atoll.base.yamlfile import YamlReader
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.simulate.faults import YEAR_SECONDS, struck
from atoll.simulate.layout import places
from atoll.simulate.scenario.model import BLOCK_LABEL, GPU, RACK_LABEL, FaultRule, Given, JobStream, Pool, TraceStream

_MOST_JOBS = 5_000_000
_MOST_FAULTS = 1_000_000
_MOST_PODS = 1_000_000  # of a Job
_EVERYWHERE = frozenset(("system-cluster-critical", "system-node-critical"))


class Checks(YamlReader):
    """Of pools, arrivals and faults with each other."""

    def check_stream(
        self,
        stream: JobStream | TraceStream,
        node: yaml.Node,
        pools: tuple[Pool, ...],
        scaled: AutoscaleSettings | None,
        spaces: Mapping[str, set[str]],
    ) -> None:
        self._check_resource(stream, node, pools, scaled)
        types = {pool.gpu for pool in pools if pool.gpus}
        types |= {pool.node.gpu for pool in (scaled.pools if scaled is not None else ()) if pool.node.gpu}
        for gpu in stream.gpu if isinstance(stream, JobStream) else ():
            if gpu not in types:
                have = ", ".join(sorted(types)) or "none: give a pool gpu and gpus"
                raise self.fail(
                    node, f"gpu of {stream.name}", f"no pool has GPUs of type {gpu!r}; the pools have {have}"
                )
        queues = (
            (stream.queue, *(queue for _, queue in stream.by_class))
            if isinstance(stream, TraceStream)
            else (stream.queue,)
        )
        for queue in filter(None, queues):
            if queue not in spaces.get(stream.namespace, ()):
                have = ", ".join(sorted(spaces.get(stream.namespace, ()))) or "none"
                why = f"{queue!r} is no LocalQueue of namespace {stream.namespace}; there are: {have}"
                raise self.fail(node, f"queue of {stream.name}", why)

    def check_amount(self, stream: JobStream | TraceStream, node: yaml.Node, seconds: float) -> None:
        """That it comes at all, and to an end."""
        begins, ends = (stream.start, min(stream.until, seconds)) if isinstance(stream, JobStream) else (0.0, seconds)
        if begins >= ends:
            why = f"nothing comes: it begins after {begins:g} s, and is over after {ends:g} s"
            raise self.fail(node, f"from of {stream.name}", why)
        if isinstance(stream, TraceStream):
            return
        mean = stream.every.mean
        expected = (ends - begins) / mean if mean else math.inf
        if min(expected, stream.most or math.inf) > _MOST_JOBS:
            many = "jobs without end" if expected == math.inf else f"about {expected:,.0f} jobs"
            raise self.fail(node, f"every of {stream.name}", f"{many} would come: give a longer time, or a count")
        largest = stream.pods.largest
        if (stream.pods.mean if largest == math.inf else largest) > _MOST_PODS:
            raise self.fail(node, f"pods of {stream.name}", f"a job has {_MOST_PODS:,} pods at most")

    def check_names(
        self, stream: JobStream, node: yaml.Node, seen: dict[tuple[str, str], int], priorities: Collection[str]
    ) -> None:
        """That its Jobs' names are their own, and what they name is there. `seen`: streams before, with their lines."""
        called = (stream.namespace, stream.name)
        if called in seen:
            why = f"the stream of line {seen[called]} is called so too: their jobs would have the same names"
            raise self.fail(node, f"name of {stream.name}", why)
        seen[called] = node.start_mark.line + 1
        if stream.priority_class and stream.priority_class not in (*priorities, *_EVERYWHERE):
            have = ", ".join(sorted(priorities)) or "none"
            why = f"{stream.priority_class!r} is no PriorityClass of objects; there are: {have}"
            raise self.fail(node, f"priorityClass of {stream.name}", why)

    def check_times(self, node: yaml.Node, spec: Mapping[str, Any], given: Iterable[Given]) -> None:
        """That what has a time comes before the end."""
        ends: float = spec["duration"]
        for item in given:
            if item.at_seconds > ends:
                raise UserError(
                    f"{item.where}: {item.obj['kind']} {item.obj['metadata']['name']} comes at {item.at_seconds:g} s, "
                    f"but the scenario ends after {ends:g} s",
                    hint="let it come before, or give a longer duration",
                )
        for rule, at in spec.get("faults") or ():
            late = [time for time in rule.at if time > ends]
            if late:
                why = f"{late[0]:g} s is after the scenario's end ({ends:g} s)"
                raise self.fail(at, f"at of {rule.target}", why, "let it strike before, or give a longer duration")

    def _check_resource(
        self,
        stream: JobStream | TraceStream,
        node: yaml.Node,
        pools: tuple[Pool, ...],
        scaled: AutoscaleSettings | None,
    ) -> None:
        if not isinstance(stream, JobStream) or not stream.gpus.largest:
            return
        if any(pool.shared for pool in pools):
            if stream.resource == GPU:
                return
            raise self.fail(node, f"resource of {stream.name}", "GPUs that are shared are asked for by gpuMilli")
        if stream.device_class or stream.selector:
            self._check_claims(stream, node, pools, scaled)
            return
        known = {name for pool in pools for name in pool.made.fields.resources}
        whole = completed(scaled).pools if scaled is not None else ()
        known |= {name for pool in whole for name in pool.node.capacity if "/" in name}
        if stream.resource not in known and (known or stream.resource != GPU):
            why = f"no pool has {stream.resource!r}; the pools have {', '.join(sorted(known)) or 'no GPUs'}"
            raise self.fail(node, f"resource of {stream.name}", why)

    def _check_claims(
        self, stream: JobStream, node: yaml.Node, pools: tuple[Pool, ...], scaled: AutoscaleSettings | None
    ) -> None:
        if not stream.device_class:
            raise self.fail(
                node, f"selector of {stream.name}", "chooses among the devices of a class: name deviceClass"
            )
        if stream.resource != GPU:
            raise self.fail(node, f"deviceClass of {stream.name}", "a job asks by either resource or deviceClass")
        grown = any(pool.node.gpu or pool.node.resource_slices for pool in (scaled.pools if scaled is not None else ()))
        if not grown and not any(pool.declared for pool in pools):
            raise self.fail(node, f"deviceClass of {stream.name}", "no pool declares GPUs: give one gpu: TYPE")

    def check_nodes(self, node: yaml.Node, pools: tuple[Pool, ...]) -> None:
        seen: set[str] = set()
        for place in places(pools):
            if place.node in seen:
                why = f"two nodes are called {place.node!r}"
                raise self.fail(node, f"nodes of {place.pool.name}", why, "give pools and their names apart")
            seen.add(place.node)

    def check_sharing(self, node: yaml.Node, pools: tuple[Pool, ...], spec: dict[str, Any]) -> None:
        with_gpus = [pool for pool in pools if pool.gpus]
        if not any(pool.shared for pool in with_gpus):
            for stream, at in spec.get("arrivals") or ():
                if isinstance(stream, JobStream) and stream.milli is not None:
                    raise self.fail(at, f"gpuMilli of {stream.name}", "no pool shares its GPUs: give one shared: true")
            return
        if not all(pool.shared for pool in with_gpus):
            raise self.fail(node, "spec.fleet.pools", "either all pools with GPUs share them (shared: true), or none")
        if not spec.get("scheduler"):
            why = "missing: parts of GPUs are given by a profile with the plugin Open-Gpu-Share"
            raise self.fail(node, "spec.scheduler", why)
        for stream, at in spec.get("arrivals") or ():
            if not stream.scheduler:
                why = "missing: name the scheduler's profile that gives parts of GPUs"
                raise self.fail(at, f"schedulerName of {stream.name}", why)

    def check_faults(
        self, rules: Any, pools: tuple[Pool, ...], scaled: AutoscaleSettings | None, seconds: float
    ) -> None:
        for rule, node in rules:
            self._check_rate(rule, node, pools, scaled, seconds)
            if rule.pool:
                self._check_pool(rule, node, scaled)
        rules = [(rule, node) for rule, node in rules if not rule.pool]
        if rules and not pools and any(rule.target != "apiServer" for rule, _ in rules):
            at = next(node for rule, node in rules if rule.target != "apiServer")
            raise self.fail(at, "faults", "strike nodes of fleet.pools: give it one, or name by pool one that grows")
        racks = any(pool.rack_nodes or RACK_LABEL in dict(pool.labels) for pool in pools)
        blocks = any(pool.block_nodes or BLOCK_LABEL in dict(pool.labels) for pool in pools)
        for rule, node in rules:
            if rule.target == "rack" and not racks:
                raise self.fail(node, "rack", "no pool has racks: give one rack: NODES")
            if rule.target == "block" and not blocks:
                raise self.fail(node, "block", "no pool has blocks: give one block: NODES")
            if rule.target == "gpu" and not any(pool.gpus and not pool.shared for pool in pools):
                raise self.fail(node, "gpu", "no pool has GPUs that can break: those that are shared declare none")
        stand = list(places(pools)) if any(rule.name for rule, _ in rules) else []
        for rule, node in rules:
            if rule.name:
                try:
                    struck(rule, stand)
                except UserError as error:
                    raise self.fail(node, rule.target, error.message, error.hint) from None

    def _check_rate(
        self,
        rule: FaultRule,
        node: yaml.Node,
        pools: tuple[Pool, ...],
        scaled: AutoscaleSettings | None,
        seconds: float,
    ) -> None:
        if rule.every is not None:
            mean = rule.every.mean
            expected = seconds / mean if mean else math.inf
        else:
            most = sum(pool.nodes for pool in pools) + sum(pool.max for pool in (scaled.pools if scaled else ()))
            expected = rule.per_year * most * seconds / YEAR_SECONDS
        if expected > _MOST_FAULTS:
            key = "every" if rule.every is not None else "perYear"
            many = "faults without end" if expected == math.inf else f"about {expected:,.0f} faults"
            raise self.fail(node, f"{key} of {rule.target}", f"{many} would strike: give a lower rate")

    def _check_pool(self, rule: FaultRule, node: yaml.Node, scaled: AutoscaleSettings | None) -> None:
        found = scaled.pool(rule.pool) if scaled is not None else None
        if found is None:
            have = ", ".join(pool.name for pool in (scaled.pools if scaled is not None else ())) or "none"
            raise self.fail(node, "pool", f"{rule.pool!r} is no pool of autoscale; there are: {have}")
        if rule.target not in ("node", "gpu", "network") or rule.name:
            raise self.fail(node, rule.target, "of a pool that grows, faults strike node, gpu or network: any")
        if rule.target == "gpu" and not found.node.gpu:
            raise self.fail(node, "gpu", f"nodes of {rule.pool!r} declare no GPUs: give them gpu and gpus")
