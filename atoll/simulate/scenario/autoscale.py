"""`autoscale`: pools that grow and shrink, in the words of a cluster's own settings (docs/balloons.md).

The settings' own reader judges them; what it refuses is told with the line of the scenario.
"""

from __future__ import annotations

import re

import msgspec
import yaml

from atoll.app.autoscale import completed
from atoll.base.yamlfile import YamlReader, plain
from atoll.capacity.autoscale.settings import AutoscaleSettings
from atoll.capacity.settings import SettingsError
from atoll.simulate.scenario.layers import child

_PLACE = re.compile(r"(?P<why>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]|\[\.\.\.\]")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")


class AutoscaleReader(YamlReader):
    """Reads `autoscale`."""

    def autoscale(self, node: yaml.Node, key: str) -> AutoscaleSettings:
        """As written; the controller fills in what follows."""
        if not isinstance(node, yaml.MappingNode):
            raise self.fail(node, key, "must be a mapping: what the key autoscale.yaml of the ConfigMap has")
        try:
            settings = msgspec.convert(plain(node, self._source), AutoscaleSettings)
        except (msgspec.ValidationError, ValueError) as error:
            at, path, why = self._place(node, key, str(error))
            raise self.fail(at, path, why) from None
        pools = child(node, "pools")
        if not settings.pools or not isinstance(pools, yaml.SequenceNode):
            raise self.fail(node, f"{key}.pools", "missing: without pools there is nothing to scale")
        for number, (pool, at) in enumerate(zip(settings.pools, pools.value, strict=True)):
            try:
                completed(AutoscaleSettings((pool,)))
            except SettingsError as error:
                raise self.fail(at, f"{key}.pools[{number}].node", str(error)) from None
        return settings

    def _place(self, node: yaml.Node, key: str, told: str) -> tuple[yaml.Node, str, str]:
        """Where msgspec's complaint is in the file: the node, its key, and why."""
        match = _PLACE.fullmatch(told)
        path = (match["path"] if match else "") or ""
        for step in _STEP.finditer(path):
            name, index = step[1], step[2]
            if index is not None and isinstance(node, yaml.SequenceNode):
                node, key = node.value[int(index)], f"{key}[{index}]"
            elif name is not None and (found := child(node, name)) is not None:
                node, key = found, f"{key}.{name}"
        why = match["why"] if match else told
        unknown = _UNKNOWN.search(why)
        if unknown and isinstance(node, yaml.MappingNode):
            names = [name for name, _ in node.value if name.value == unknown[1]]
            return (names or [node])[0], f"{key}.{unknown[1]}", "unknown key; docs/balloons.md has those of autoscale"
        return node, key, why[:1].lower() + why[1:]
