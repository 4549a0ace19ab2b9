"""What pods of one workload have in common, for spreading by default: their Services' and owner's selectors."""

from __future__ import annotations

from typing import Any

import orjson

from atoll.kinds.builtin import REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES, STATEFUL_SETS
from atoll.objects.meta import controller_of
from atoll.runtime.informer import Informer, Informers
from atoll.scheduling.matching import LabelMatcher, label_selector

Object = dict[str, Any]
Found = tuple[str, LabelMatcher]


class DefaultSelectors:
    """Answers from informers' caches (upstream's scheduler helper DefaultSelector)."""

    def __init__(self, informers: Informers) -> None:
        self._services = informers.of(SERVICES)
        self._services.add_handler(self._service_changed)
        self._owners: dict[str, Informer] = {
            "apps/v1/ReplicaSet": informers.of(REPLICA_SETS),
            "apps/v1/StatefulSet": informers.of(STATEFUL_SETS),
            "v1/ReplicationController": informers.of(REPLICATION_CONTROLLERS),
        }
        self._by_namespace: dict[str | None, dict[str, dict[str, str]]] = {}
        self._memory: dict[tuple[Any, ...], Found | None] = {}

    def informers(self) -> tuple[Informer, ...]:
        return (self._services, *self._owners.values())

    def __call__(self, pod: Object) -> Found | None:
        metadata = pod["metadata"]
        namespace, labels = metadata.get("namespace"), metadata.get("labels") or {}
        owner = controller_of(pod)
        key = (namespace, owner["uid"] if owner else None, tuple(labels.items()))
        if key in self._memory:
            return self._memory[key]
        selector, complete = self._owner_selector(namespace, owner)
        equal: dict[str, str] = {}
        for wanted in self._by_namespace.get(namespace, {}).values():
            if all(labels.get(name) == value for name, value in wanted.items()):
                equal.update(wanted)
        found = _combined(equal, selector)
        if complete:
            if len(self._memory) > 10_000:
                self._memory.clear()
            self._memory[key] = found
        return found

    def _owner_selector(self, namespace: str | None, owner: Object | None) -> tuple[Object | None, bool]:
        """The owner's selector, and whether it is known for good (the owner is in the cache)."""
        informer = self._owners.get(f"{owner['apiVersion']}/{owner['kind']}") if owner else None
        if informer is None or owner is None:
            return None, True
        found = informer.get(owner["name"], namespace)
        if found is None:
            return None, False
        selector = (found.get("spec") or {}).get("selector")
        if owner["kind"] == "ReplicationController":
            selector = {"matchLabels": selector or {}}
        return selector, True

    def _service_changed(self, old: Object | None, new: Object | None) -> None:
        before = ((old or {}).get("spec") or {}).get("selector")
        after = ((new or {}).get("spec") or {}).get("selector")
        if before == after:
            return
        metadata = (new or old or {})["metadata"]
        services = self._by_namespace.setdefault(metadata.get("namespace"), {})
        services.pop(metadata["name"], None)
        if after:
            services[metadata["name"]] = after
        self._memory.clear()


def _combined(equal: dict[str, str], selector: Object | None) -> Found | None:
    if not equal and not selector:
        return None
    merged = {
        "matchLabels": {**equal, **((selector or {}).get("matchLabels") or {})},
        "matchExpressions": (selector or {}).get("matchExpressions") or [],
    }
    if not merged["matchLabels"] and not merged["matchExpressions"]:
        return None
    return orjson.dumps(merged, option=orjson.OPT_SORT_KEYS).decode(), label_selector(merged)
