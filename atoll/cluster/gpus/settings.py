"""What a cluster's ConfigMaps say about GPUs: the device plugin's configurations and mig-parted's. Pure.

Both are read from the ConfigMaps in the namespace `gpu-operator`, whatever their names, each key a configuration:

- a document with `version: v1` is one of the device plugin (flags.migStrategy, sharing); a node chooses by
  its label nvidia.com/device-plugin.config, without which the one named `default` counts, or the only one there is
  (the plugin chart's fallback strategies `named` and `single`);
- a document with `mig-configs` is mig-parted's; a node chooses by its label nvidia.com/mig.config.

What is not understood is told, not ignored in silence: fields of the plugin that have no meaning here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import yaml

from atoll.base.errors import UserError

Object = dict[str, Any]
MigStrategy = Literal["none", "single", "mixed"]

NAMESPACE = "gpu-operator"
PLUGIN_LABEL = "nvidia.com/device-plugin.config"
_STRATEGIES = get_args(MigStrategy)


@dataclass(frozen=True, slots=True)
class Sharing:
    """How often one device of a resource is advertised, under which name, and which devices of it: so many, those of
    an index, MIG index or UUID, or (None) all."""

    replicas: int
    rename: str = ""
    devices: int | tuple[str, ...] | None = None

    def shares(self, place: int, *names: str) -> bool:
        """Whether a device is shared that is the `place`th of its resource and goes by `names`."""
        if isinstance(self.devices, int):
            return place < self.devices
        return self.devices is None or any(name in self.devices for name in names)


@dataclass(frozen=True, slots=True)
class PluginConfig:
    """A configuration of the device plugin. `single` is what the GPU operator sets without a word."""

    mig_strategy: MigStrategy = "single"
    shared: Mapping[str, Sharing] = field(default_factory=dict)  # by resource
    fail_above_one: bool = False  # a container may ask for one shared device at most
    mps: bool = False  # shared by MPS, each with its part of memory and threads, not by turns
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """All configurations of a cluster by name; `broken`: why one can't be used."""

    plugins: Mapping[str, PluginConfig] = field(default_factory=dict)
    mig: Mapping[str, Any] = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)

    def plugin(self, labels: Mapping[str, str]) -> PluginConfig:
        """The configuration of a node by its labels. Raises UserError."""
        name = labels.get(PLUGIN_LABEL, "") or self._fallback()
        if not name:
            return PluginConfig()
        if name in self.broken:
            raise UserError(f"{PLUGIN_LABEL}={name}: {self.broken[name]}")
        if name not in self.plugins:
            known = ", ".join(sorted(self.plugins)) or "none yet"
            raise UserError(
                f"{PLUGIN_LABEL}={name}: no ConfigMap in {NAMESPACE} has that key", hint=f"configurations: {known}"
            )
        return self.plugins[name]

    def _fallback(self) -> str:
        """Of nodes that choose none: a broken configuration is one too, so that its fault is told."""
        names = [*self.plugins, *self.broken]
        return "default" if "default" in names else names[0] if len(names) == 1 else ""


def read_settings(config_maps: Iterable[Object]) -> Settings:
    """All configurations of the namespace's ConfigMaps; of two with one name the first ConfigMap's counts."""
    plugins: dict[str, PluginConfig] = {}
    mig: dict[str, Any] = {}
    broken: dict[str, str] = {}
    for config_map in sorted(config_maps, key=lambda item: str(item["metadata"]["name"])):
        for key, text in sorted((config_map.get("data") or {}).items()):
            document = _load(text)
            if not isinstance(document, dict):
                continue
            if isinstance(document.get("mig-configs"), dict):
                mig = {**document["mig-configs"], **mig}
            elif document.get("version") == "v1":
                try:
                    plugins.setdefault(key, read_plugin_config(document))
                except UserError as error:
                    broken.setdefault(key, error.message)
    return Settings(plugins, mig, broken)


def read_plugin_config(document: Object) -> PluginConfig:
    """The device plugin's v1 configuration. Raises UserError."""
    flags, sharing = _mapping(document.get("flags"), "flags"), _mapping(document.get("sharing"), "sharing")
    strategy: Any = flags.get("migStrategy") or "single"
    if strategy not in _STRATEGIES:
        raise UserError(f"migStrategy is one of {', '.join(_STRATEGIES)}, not {strategy!r}")
    mps = _mapping(sharing.get("mps"), "sharing.mps")
    slicing = _mapping(sharing.get("timeSlicing"), "sharing.timeSlicing")
    if mps and slicing.get("resources"):
        raise UserError("sharing.mps and sharing.timeSlicing exclude each other")
    if mps and strategy == "mixed":
        raise UserError("migStrategy mixed is not supported with sharing.mps")
    section, found = ("mps", mps) if mps else ("timeSlicing", slicing)
    shared: dict[str, Sharing] = {}
    resources = found.get("resources") or []
    if not isinstance(resources, list):
        raise UserError(f"sharing.{section}.resources must be a list")
    for item in resources:
        name, how = _shared(section, item, bool(found.get("renameByDefault")))
        shared[name] = how
    warnings = tuple(f"flags.{name} has no meaning here" for name in flags if name != "migStrategy")
    at_most_one = bool(mps or found.get("failRequestsGreaterThanOne"))
    return PluginConfig(strategy, shared, at_most_one, bool(mps), warnings)


def _mapping(value: Any, where: str) -> Object:
    """`value`; {} for nothing. Raises UserError."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where} must be a mapping")
    return value


def _shared(section: str, item: Any, rename_by_default: bool) -> tuple[str, Sharing]:
    """(resource, how it is shared). Raises UserError."""
    entry = item if isinstance(item, dict) else {}
    name, replicas, rename = entry.get("name"), entry.get("replicas"), entry.get("rename") or ""
    if not isinstance(name, str) or not isinstance(rename, str):
        raise UserError(f"sharing.{section}.resources: each has a name and replicas, at least 1")
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 1:
        raise UserError(f"sharing.{section}.resources: each has a name and replicas, at least 1")
    name = name if "/" in name else f"nvidia.com/{name}"
    rename = rename or (f"{name}.shared" if rename_by_default else "")
    rename = rename if not rename or "/" in rename else f"nvidia.com/{rename}"
    return name, Sharing(replicas, rename, _devices(section, entry.get("devices", "all")))


def _devices(section: str, value: Any) -> int | tuple[str, ...] | None:
    if value == "all":
        return None
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, list) and value and all(_is_reference(str(item)) for item in value):
        return tuple(str(item) for item in value)
    raise UserError(
        f"sharing.{section}.resources[].devices is all, a count, or a list of indices, MIG indices (0:1) and UUIDs,"
        f" not {value!r}"
    )


def _is_reference(text: str) -> bool:
    return text.startswith(("GPU-", "MIG-")) or all(part.isdigit() for part in text.split(":", 1))


def _load(text: str) -> Any:
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return None
