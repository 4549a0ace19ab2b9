"""The pools of nodes that a scenario has."""

from __future__ import annotations

import yaml

from atoll.base.errors import UserError
from atoll.base.yamlfile import Read
from atoll.cluster.gpus.types import gpu_type
from atoll.simulate.scenario.model import Pool
from atoll.simulate.scenario.units import UnitReader

_MOST_NODES = 1_000_000
_MOST_GPUS = 64


class FleetReader(UnitReader):
    """Reads `fleet.pools`."""

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
            "name": self.text, "nodes": lambda n, k: self.number(n, k, 1, _MOST_NODES), "gpu": self.gpu,
            "model": self.text, "gpus": lambda n, k: self.number(n, k, 0, _MOST_GPUS), "cpu": self.amount,
            "memory": self.amount, "pods": self.number, "block": self.number, "rack": self.number,
            "labels": self.labels, "zone": self.text, "taints": lambda n, k: self.items(n, k, self.labels),
            "names": lambda n, k: self.items(n, k, self.text), "shared": self.flag,
            "pricePerHour": self.real,
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
        blocks, racks = found.pop("block", 0), found.pop("rack", 0)
        if blocks and racks and blocks % racks:
            raise self.fail(node, f"{key}.block", f"{blocks} nodes are not whole racks of {racks}")
        labels = tuple(sorted(found.pop("labels", {}).items()))
        taints = tuple(tuple(sorted(taint.items())) for taint in found.pop("taints", ()))
        found["price_per_hour"] = found.pop("pricePerHour", 0.0)
        return Pool(**found, block_nodes=blocks, rack_nodes=racks, labels=labels, taints=taints, names=names)

    def gpu(self, node: yaml.Node, key: str) -> str:
        """A type that simulated nodes can declare."""
        text = self.text(node, key)
        try:
            gpu_type(text)
        except UserError as error:
            hint = f"{error.hint}; for GPUs of another kind give model: {text} instead"
            raise self.fail(node, key, error.message, hint) from None
        return text
