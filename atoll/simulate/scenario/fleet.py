"""The pools of nodes that a scenario has."""

from __future__ import annotations

from typing import Any

import yaml

from atoll.base.errors import UserError
from atoll.base.yamlfile import Read
from atoll.cluster.apiserver.names import dns_subdomain, label_value, qualified_name
from atoll.cluster.gpus.mig import CONFIG_LABEL
from atoll.cluster.gpus.settings import PLUGIN_LABEL
from atoll.cluster.gpus.types import gpu_type
from atoll.simulate.scenario.model import GPU, Pool
from atoll.simulate.scenario.units import UnitReader

_MOST_NODES = 1_000_000
_MOST_GPUS = 64
_MOST_REPLICAS = 128
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
Object = dict[str, Any]


def plugin_config(strategy: str, replicas: int) -> Object:
    """The device plugin's v1 configuration."""
    found: Object = {"version": "v1", "flags": {"migStrategy": strategy}}
    if replicas:
        found["sharing"] = {"timeSlicing": {"resources": [{"name": GPU, "replicas": replicas}]}}
    return found


class FleetReader(UnitReader):
    """Reads `fleet.pools`. `plugins`: by name the device plugin's configurations that they ask for."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.plugins: dict[str, Object] = {}

    def pools(self, node: yaml.Node, key: str) -> list[Pool]:
        pools: list[Pool] = self.items(node, key, self.pool)
        seen: set[str] = set()
        for pool in pools:
            if pool.name in seen:
                raise self.fail(node, key, f"two pools are called {pool.name!r}")
            seen.add(pool.name)
        return pools

    def pool(self, node: yaml.Node, key: str) -> Pool:
        known: dict[str, Read] = {
            "name": lambda n, k: self.name(n, k, dns_subdomain),
            "nodes": lambda n, k: self.number(n, k, 1, _MOST_NODES), "gpu": self.gpu,
            "model": self.text, "gpus": lambda n, k: self.number(n, k, 0, _MOST_GPUS), "cpu": self.amount,
            "memory": self.amount, "pods": self.number, "block": self.number, "rack": self.number,
            "labels": self.node_labels, "zone": self.label, "taints": lambda n, k: self.items(n, k, self.taint),
            "names": lambda n, k: self.items(n, k, lambda m, p: self.name(m, p, dns_subdomain)), "shared": self.flag,
            "pricePerHour": self.real, "mig": self.text,
            "timeSlicing": lambda n, k: self.number(n, k, 2, _MOST_REPLICAS),
            "migStrategy": lambda n, k: self.one_of(n, k, ("single", "mixed")),
        }  # fmt: skip
        found = self.mapping(node, key, known)
        names = tuple(found.pop("names", ()))
        count = found.setdefault("nodes", len(names))
        if "name" not in found or not count:
            raise self.fail(node, f"{key}.{'nodes' if 'name' in found else 'name'}", "missing")
        if names and len(names) != count:
            raise self.fail(node, f"{key}.names", f"are {len(names)}, but the pool has {count} nodes")
        kinds = [name for name in ("gpu", "model") if found.get(name)]
        if len(kinds) != bool(found.get("gpus")):
            why = "gpus (how many a node has) goes with gpu (a type) or model (of a type that Atoll does not know)"
            raise self.fail(node, key, why)
        if found.get("shared") and not kinds:
            raise self.fail(node, f"{key}.shared", "the pool has no GPUs to share: give model and gpus")
        found["declared"] = kinds == ["gpu"] and not found.get("shared")
        found["gpu"] = found.pop("model", "") or found.get("gpu", "")
        self._divided(found, node, key)
        blocks, racks = found.pop("block", 0), found.pop("rack", 0)
        if blocks and racks and blocks % racks:
            raise self.fail(node, f"{key}.block", f"{blocks} nodes are not whole racks of {racks}")
        labels = tuple(sorted(found.pop("labels", {}).items()))
        taints = tuple(tuple(sorted(taint.items())) for taint in found.pop("taints", ()))
        found["price_per_hour"] = found.pop("pricePerHour", 0.0)
        return Pool(**found, block_nodes=blocks, rack_nodes=racks, labels=labels, taints=taints, names=names)

    def node_labels(self, node: yaml.Node, key: str) -> dict[str, str]:
        found = self.labels(node, key)
        for (name_node, value_node), (name, value) in zip(node.value, found.items(), strict=True):
            for at, problems in ((name_node, qualified_name(name)), (value_node, label_value(value))):
                if problems:
                    raise self.fail(at, f"{key}.{name}", problems[0])
        return found

    def taint(self, node: yaml.Node, key: str) -> dict[str, str]:
        known: dict[str, Read] = {
            "key": lambda n, k: self.name(n, k, qualified_name), "value": self.label,
            "effect": lambda n, k: self.one_of(n, k, _EFFECTS),
        }  # fmt: skip
        found = self.mapping(node, key, known)
        for name in ("key", "effect"):
            if name not in found:
                raise self.fail(node, f"{key}.{name}", "missing")
        return found

    def _divided(self, found: dict[str, Any], node: yaml.Node, key: str) -> None:
        """Partitions and time slices become the labels that say so to a node's agents."""
        mig, strategy, slices = found.pop("mig", ""), found.pop("migStrategy", ""), found.pop("timeSlicing", 0)
        if (mig or strategy or slices) and not found["declared"]:
            name = "mig" if mig else "migStrategy" if strategy else "timeSlicing"
            raise self.fail(node, f"{key}.{name}", "goes with gpu (a type that Atoll knows) and gpus, not shared")
        if strategy and not mig:
            raise self.fail(
                node, f"{key}.migStrategy", "goes with mig: the configuration by which GPUs are partitioned"
            )
        if slices and strategy == "mixed":
            why = "shares nvidia.com/gpu; shared partitions are said by a ConfigMap in gpu-operator (docs/gpu.md)"
            raise self.fail(node, f"{key}.timeSlicing", why)
        wanted = {CONFIG_LABEL: mig} if mig else {}
        if strategy == "mixed" or slices:
            self.plugins[found["name"]] = plugin_config(strategy or "single", slices)
            wanted[PLUGIN_LABEL] = found["name"]
        labels = found.setdefault("labels", {})
        for name in wanted.keys() & labels.keys():
            raise self.fail(node, f"{key}.labels.{name}", "says the same as mig, migStrategy or timeSlicing")
        found["labels"] = {**labels, **wanted}

    def gpu(self, node: yaml.Node, key: str) -> str:
        """A type that simulated nodes can declare."""
        text = self.text(node, key)
        try:
            gpu_type(text)
        except UserError as error:
            hint = f"{error.hint}; for GPUs of another kind give model: {text} instead"
            raise self.fail(node, key, error.message, hint) from None
        return text
