"""The worker clusters of MultiKueue: connections made from MultiKueueClusters, kept, probed and told of.

A MultiKueueCluster names a kubeconfig in a Secret of kueue-system (key `kubeconfig`). Its condition Active says whether
the worker answers. A changed kubeconfig makes a new connection; a worker that does not answer keeps its last one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator

from atoll.base.errors import AtollError, NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.config import NAMESPACE
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.client.port import Client
from atoll.kinds import kueue
from atoll.kinds.builtin import SECRETS
from atoll.objects.meta import key
from atoll.runtime.informer import Informers, Key

_PROBE_SECONDS = 10.0


class Worker:
    """A connection, and the Workloads that are there."""

    def __init__(self, client: Client, text: str, changed: Callable[[Key], None]) -> None:
        self.client = client
        self.text = text
        self._informers = Informers(client)
        self._workloads = self._informers.of(kueue.WORKLOADS)
        self._workloads.add_handler(lambda old, new: changed(key(new or old or {})))
        self._informers.start()

    @property
    def known(self) -> bool:
        """Whether what is there has been listed: before, nothing is known to be missing."""
        return self._workloads.synced.is_set()

    def workload(self, name: Key) -> Object | None:
        return self._workloads.by_key(name)

    async def close(self) -> None:
        await self._informers.stop()
        await self.client.close()


class Workers:
    """By the MultiKueueCluster's name."""

    def __init__(self, parts: Parts, connect: Callable[[str], Client], changed: Callable[[Key], None]) -> None:
        self._parts = parts
        self._connect = connect
        self._changed = changed
        self._workers: dict[str, Worker] = {}
        self._lost: dict[str, float] = {}  # since when it does not answer, by the monotonic clock

    def get(self, name: str) -> Worker | None:
        """One that answers and whose Workloads are known."""
        worker = self._workers.get(name)
        return worker if worker is not None and worker.known and name not in self._lost else None

    def all(self) -> Iterator[tuple[str, Worker]]:
        for name in list(self._workers):
            worker = self.get(name)
            if worker is not None:
                yield name, worker

    def reachable(self, name: str) -> bool:
        return name in self._workers and name not in self._lost

    def lost_at(self, name: str) -> float:
        """When it was missed first, by the monotonic clock."""
        return self._lost.setdefault(name, self._parts.clock.monotonic())

    async def follow(self, name: str, cluster: Object | None) -> float | None:
        """Make the connection as the object says, see whether it answers, and tell."""
        if cluster is None:
            worker = self._workers.pop(name, None)
            self._lost.pop(name, None)
            if worker is not None:
                await worker.close()
            return None
        reason, message = await self._try(name, cluster)
        if reason == "Active":
            self._lost.pop(name, None)
        else:
            self.lost_at(name)
        now = self._parts.clock.wall()
        new = status.with_condition(cluster, "Active", reason == "Active", reason, message, now)
        await write_status(self._parts.client, kueue.MULTIKUEUE_CLUSTERS, cluster, new)
        return _PROBE_SECONDS

    async def _try(self, name: str, cluster: Object) -> tuple[str, str]:
        source = ((cluster.get("spec") or {}).get("clusterSource") or {}).get("kubeConfig") or {}
        if source.get("locationType", "Secret") != "Secret" or not source.get("location"):
            return "BadKubeConfig", "only a kubeconfig in a Secret of kueue-system is supported"
        try:
            secret = await self._parts.client.get(SECRETS, source["location"], NAMESPACE)
            text = base64.b64decode((secret.get("data") or {})["kubeconfig"], validate=True).decode()
        except NotFound:
            return "BadKubeConfig", f"there is no Secret {NAMESPACE}/{source['location']}"
        except (KeyError, binascii.Error, UnicodeDecodeError):
            return "BadKubeConfig", f"Secret {NAMESPACE}/{source['location']} has no kubeconfig under that key"
        worker = self._workers.get(name)
        try:
            if worker is None or worker.text != text:
                if worker is not None:
                    await worker.close()
                worker = self._workers[name] = Worker(self._connect(text), text, self._changed)
            await worker.client.list(kueue.WORKLOADS, limit=1)
        except AtollError as error:
            return "ClientConnectionFailed", str(error)
        return "Active", "Connected"

    async def close(self) -> None:
        for worker in self._workers.values():
            await worker.close()
        self._workers.clear()
