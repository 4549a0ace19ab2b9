"""What of a scenario does not go together, found before anything runs: told with line and key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from atoll.app.autoscale import completed
from atoll.base.yamlfile import YamlReader
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.simulate.scenario.model import BLOCK_LABEL, GPU, RACK_LABEL, FaultRule, JobStream, Pool, TraceStream


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

    def check_faults(self, rules: Any, pools: tuple[Pool, ...], scaled: AutoscaleSettings | None) -> None:
        for rule, node in rules:
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

    def _check_pool(self, rule: FaultRule, node: yaml.Node, scaled: AutoscaleSettings | None) -> None:
        found = scaled.pool(rule.pool) if scaled is not None else None
        if found is None:
            have = ", ".join(pool.name for pool in (scaled.pools if scaled is not None else ())) or "none"
            raise self.fail(node, "pool", f"{rule.pool!r} is no pool of autoscale; there are: {have}")
        if rule.target not in ("node", "gpu", "network") or rule.name:
            raise self.fail(node, rule.target, "of a pool that grows, faults strike node, gpu or network: any")
        if rule.target == "gpu" and not found.node.gpu:
            raise self.fail(node, "gpu", f"nodes of {rule.pool!r} declare no GPUs: give them gpu and gpus")
