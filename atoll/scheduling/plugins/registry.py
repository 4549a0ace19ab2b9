"""Which plugins decide: the default ones in kube-scheduler's order, then the user's."""

from __future__ import annotations

from importlib import metadata

from atoll.base.errors import AtollError
from atoll.scheduling.plugins.balanced import BalancedAllocation
from atoll.scheduling.plugins.dynamic_resources import DynamicResources
from atoll.scheduling.plugins.images import ImageLocality
from atoll.scheduling.plugins.interpod import InterPodAffinity
from atoll.scheduling.plugins.node_affinity import NodeAffinity
from atoll.scheduling.plugins.port import Plugin
from atoll.scheduling.plugins.ports import NodePorts
from atoll.scheduling.plugins.resources import NodeResourcesFit
from atoll.scheduling.plugins.spread import PodTopologySpread
from atoll.scheduling.plugins.taints import TaintToleration
from atoll.scheduling.plugins.unschedulable import NodeUnschedulable
from atoll.scheduling.plugins.volumes import VolumeBinding

GROUP = "atoll.scheduling.plugins"


class PluginNotLoaded(AtollError):
    """An installed package names a scheduling plugin that can't be had: mend or remove that package."""


def default_plugins() -> tuple[Plugin, ...]:
    """Reasons against a node are told in this order."""
    return (
        NodeUnschedulable(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        NodeResourcesFit(),
        VolumeBinding(),
        PodTopologySpread(),
        InterPodAffinity(),
        DynamicResources(),
        BalancedAllocation(),
        ImageLocality(),
    )


def installed_plugins() -> tuple[Plugin, ...]:
    """What installed packages register as entry points, by name. Raises PluginNotLoaded."""
    found = []
    for point in sorted(metadata.entry_points(group=GROUP), key=lambda item: item.name):
        try:
            loaded = point.load()
            found.append(loaded() if isinstance(loaded, type) else loaded)
        except Exception as error:
            raise PluginNotLoaded(f"scheduling plugin {point.name} ({point.value}): {error}") from error
    return tuple(found)
