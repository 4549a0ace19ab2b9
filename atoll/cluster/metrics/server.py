"""The metrics server: looks at every kubelet each fifteen seconds; what simulated pods use is what they declare.

A node that does not answer has no metrics until it does; what is older than a minute is not shown. Simulated pods use
what their annotations `kwok.x-k8s.io/usage-cpu` and `-memory` say (a container, as KWOK's default), else 1m and 1Mi;
their metrics are marked as simulated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from atoll.base import quantity
from atoll.base.clock import Clock, rfc3339
from atoll.base.errors import AtollError
from atoll.base.names import SIMULATED_LABEL
from atoll.cluster.metrics.usage import Look, Usage, between, parse
from atoll.cluster.store.port import Key, Record, Store

Object = dict[str, Any]
Scrape = Callable[[Object], Awaitable[str]]
"""(Node) → the text of its /metrics/resource. Raises AtollError."""

log = logging.getLogger(__name__)
GROUP_VERSION = "metrics.k8s.io/v1beta1"
_PERIOD_SECONDS = 15.0
_STALE_SECONDS = 60.0
_SIMULATED_WINDOW = 30.0
_KWOK_NODE = "kwok.x-k8s.io/node"
_CPU, _MEMORY = "kwok.x-k8s.io/usage-cpu", "kwok.x-k8s.io/usage-memory"
_DEFAULT_CPU, _DEFAULT_MEMORY = "1m", "1Mi"


class MetricsServer:
    """`run` looks until cancelled; `nodes` and `pods` are what is known now."""

    def __init__(self, store: Store, clock: Clock, scrape: Scrape | None) -> None:
        self._store = store
        self._clock = clock
        self._scrape = scrape
        self._looks: dict[str, tuple[Look | None, Look]] = {}
        self._simulated: dict[str, int] = {}  # the version at which a node was found to be that

    async def run(self) -> None:
        while self._scrape is not None:
            nodes = self._scraped()
            names = {node["metadata"]["name"] for node in nodes}
            self._looks = {name: looks for name, looks in self._looks.items() if name in names}
            await asyncio.gather(*(self._look(self._scrape, node) for node in nodes))
            await asyncio.sleep(_PERIOD_SECONDS if self._looks or not nodes else 1.0)

    def _scraped(self) -> list[Object]:
        """The nodes that are to be asked; of thousands of simulated ones only those that have changed are looked at."""
        simulated, self._simulated = self._simulated, {}
        nodes = []
        for record in self._store.scan("nodes"):
            name = record.key.name
            if simulated.get(name) == record.version or is_simulated(record.object):
                self._simulated[name] = record.version
            else:
                nodes.append(record.object)
        return nodes

    async def _look(self, scrape: Scrape, node: Object) -> None:
        name = node["metadata"]["name"]
        try:
            look = parse(await scrape(node), self._clock.wall())
        except AtollError as error:
            log.debug("metrics of node %s: %s", name, error)
            return
        before = self._looks.get(name)
        self._looks[name] = (before[1] if before is not None else None, look)

    # -- what is shown

    def node(self, name: str) -> Object | None:
        record = self._store.get(Key("nodes", "", name))
        return None if record is None else self._node(record)

    def nodes(self) -> Iterator[Object]:
        for record in self._store.scan("nodes"):
            found = self._node(record)
            if found is not None:
                yield found

    def pod(self, namespace: str, name: str) -> Object | None:
        record = self._store.get(Key("pods", namespace, name))
        return None if record is None else self._pod(record)

    def pods(self, namespace: str | None) -> Iterator[Object]:
        for record in self._store.scan("pods", namespace):
            found = self._pod(record)
            if found is not None:
                yield found

    def _node(self, record: Record) -> Object | None:
        node = record.object
        metadata = self._metadata(record)
        if is_simulated(node):
            name = record.key.name
            pods = (pod for pod in self._store.scan("pods") if pod.node_name == name and _runs(pod.object))
            cpu = memory = 0
            for pod in pods:
                for _, more_cpu, more_memory in _declared(pod.object):
                    cpu, memory = cpu + more_cpu, memory + more_memory
            used = Usage(self._clock.wall(), _SIMULATED_WINDOW, cpu, memory)
            metadata["annotations"] = {SIMULATED_LABEL: "true"}
        else:
            looks = self._looks.get(record.key.name)
            found = None if looks is None else _node_usage(*looks)
            if found is None or self._is_stale(found):
                return None
            used = found
        head = {"apiVersion": GROUP_VERSION, "kind": "NodeMetrics", "metadata": metadata}
        return {**head, "timestamp": rfc3339(used.timestamp), "window": _window(used.window), "usage": _amounts(used)}

    def _pod(self, record: Record) -> Object | None:
        pod = record.object
        if not record.node_name or not _runs(pod):
            return None
        metadata = self._metadata(record)
        node = self._store.get(Key("nodes", "", record.node_name))
        if node is not None and is_simulated(node.object):
            now = self._clock.wall()
            used = {name: Usage(now, _SIMULATED_WINDOW, cpu, memory) for name, cpu, memory in _declared(pod)}
            metadata["annotations"] = {SIMULATED_LABEL: "true"}
        else:
            used = self._measured(record)
        if not used:
            return None
        oldest = min(used.values(), key=lambda item: item.timestamp)
        return {
            "apiVersion": GROUP_VERSION, "kind": "PodMetrics", "metadata": metadata,
            "timestamp": rfc3339(oldest.timestamp), "window": _window(oldest.window),
            "containers": [{"name": name, "usage": _amounts(item)} for name, item in used.items()],
        }  # fmt: skip

    def _measured(self, record: Record) -> dict[str, Usage]:
        looks = self._looks.get(record.node_name)
        if looks is None:
            return {}
        old, new = looks
        found = {}
        for key, point in new.containers.items():
            if key[:2] == (record.key.namespace, record.key.name):
                used = between(None if old is None else old.containers.get(key), point)
                if used is not None and not self._is_stale(used):
                    found[key[2]] = used
        return found

    def _is_stale(self, used: Usage) -> bool:
        return self._clock.wall() - used.timestamp > _STALE_SECONDS

    def _metadata(self, record: Record) -> Object:
        """As the metrics server writes it: made now, with the labels of what is measured."""
        key = record.key
        metadata: Object = {"name": key.name, "creationTimestamp": rfc3339(self._clock.wall())}
        if key.namespace:
            metadata["namespace"] = key.namespace
        if record.labels:
            metadata["labels"] = dict(record.labels)
        return metadata


def is_simulated(node: Object) -> bool:
    metadata = node["metadata"]
    return SIMULATED_LABEL in (metadata.get("labels") or {}) or _KWOK_NODE in (metadata.get("annotations") or {})


def _runs(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") == "Running"


def _declared(pod: Object) -> Iterator[tuple[str, int, int]]:
    """(container, nano-cores, bytes) of a simulated pod."""
    annotations = pod["metadata"].get("annotations") or {}
    cpu = _parsed(annotations.get(_CPU), _DEFAULT_CPU)
    memory = _parsed(annotations.get(_MEMORY), _DEFAULT_MEMORY) // quantity.NANO
    for container in pod["spec"].get("containers") or ():
        yield container["name"], cpu, memory


def _parsed(text: str | None, default: str) -> int:
    try:
        return max(quantity.parse(text), 0) if text else quantity.parse(default)
    except ValueError:
        return quantity.parse(default)


def _node_usage(old: Look | None, new: Look) -> Usage | None:
    """Of the node's own counters; right after a start, of its containers' together."""
    used = between(old.node if old is not None else None, new.node)
    if used is not None or old is not None:
        return used
    parts = [found for point in new.containers.values() if (found := between(None, point)) is not None]
    window = max((part.window for part in parts), default=1.0)
    cpu = sum(part.cpu_nano for part in parts)
    return Usage(new.node.timestamp, window, cpu, new.node.memory_bytes) if new.node.timestamp else None


def _amounts(used: Usage) -> Object:
    kibibytes = -(-used.memory_bytes // 1024)
    return {"cpu": quantity.from_nano(used.cpu_nano), "memory": f"{kibibytes}Ki" if kibibytes else "0"}


def _window(seconds: float) -> str:
    """A Go duration."""
    minutes, rest = divmod(round(seconds, 3), 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
