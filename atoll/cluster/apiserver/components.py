"""ComponentStatus, deprecated: the parts of this cluster, which is one process, all said to be healthy."""

from __future__ import annotations

from atoll.cluster.apiserver.verbs.loose import Loose
from atoll.cluster.store.port import Key, Record, Watcher

RESOURCE = "componentstatuses"
_PARTS = ("controller-manager", "scheduler", "etcd-0")


class Components:
    """An overlay: nothing of it is stored."""

    def record(self, key: Key, stored: Record | None) -> Record | None:
        return _status(key.name) if key.name in _PARTS else None

    def records(self, namespace: str | None, stored: list[Record]) -> list[Record]:
        return [_status(name) for name in _PARTS]

    def watcher(self, stored: Watcher, after: int, namespace: str | None) -> Watcher:
        return stored


def _status(name: str) -> Record:
    return Loose(
        Key(RESOURCE, "", name),
        0,
        {
            "apiVersion": "v1",
            "kind": "ComponentStatus",
            "metadata": {"name": name},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}],
        },
    )
