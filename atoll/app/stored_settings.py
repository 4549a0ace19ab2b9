"""Settings of capacity's parts as admission sees them: the newest ConfigMap in the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.capacity import names
from atoll.cluster.store.port import Key, Store
from atoll.kinds.builtin import CONFIGMAPS


def stored_config_maps(store: Store) -> Callable[[str], dict[str, Any] | None]:
    """By name, in the namespace of Atoll's own; None for one that is not there."""

    def config_map(name: str) -> dict[str, Any] | None:
        record = store.get(Key(CONFIGMAPS.group_resource, names.SYSTEM_NAMESPACE, name))
        return None if record is None else record.object

    return config_map
