"""The worker clusters of MultiKueue: connections made from MultiKueueClusters, kept, probed and told of.

A MultiKueueCluster names a kubeconfig in a Secret of kueue-system (key `kubeconfig`) or in a file. Its condition Active
says whether the worker answers. A changed kubeconfig makes a new connection, and so does a worker that answers again:
what it has is listed anew before anything is concluded from what is not there.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Final

from atoll.base.errors import AtollError, NotFound, UserError
from atoll.capacity.queueing import status
from atoll.capacity.queueing.config import NAMESPACE
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.worker_access import InsecureKubeconfig
from atoll.client.port import Client
from atoll.kinds import kueue
from atoll.kinds.builtin import SECRETS
from atoll.kinds.resource import Resource
from atoll.objects.meta import key, labels
from atoll.runtime.informer import Informers, Key

ORIGIN: Final = f"{kueue.MULTIKUEUE}-origin"
_PROBE_SECONDS = 10.0
_ANSWER_SECONDS = 5.0
_SILENT = f"no answer within {_ANSWER_SECONDS:g} s"


class Worker:
    """A connection, and what this manager made there: all of it has the label of its origin."""

    def __init__(self, client: Client, text: str, origin: str, changed: Callable[[Key], None]) -> None:
        self.client = client
        self.text = text
        self.origin = origin
        self.mine = f"{ORIGIN}={origin}"
        self._changed = changed
        self._watched: set[Resource] = set()
        self._informers = Informers(client)
        self._workloads = self._informers.of(kueue.WORKLOADS, label_selector=self.mine)
        self._workloads.add_handler(lambda old, new: changed(key(new or old or {})))
        self._informers.start()

    @property
    def known(self) -> bool:
        """Whether what is there has been listed: before, nothing is known to be missing."""
        return self._workloads.synced.is_set()

    def workload(self, name: Key) -> Object | None:
        return self._workloads.by_key(name)

    def watch(self, resource: Resource) -> None:
        """Changes of its objects tell of the Workloads that they are bound to."""
        if resource in self._watched:
            return
        self._watched.add(resource)
        informer = self._informers.of(resource, label_selector=self.mine)
        informer.add_handler(self._bound_changed)

    def _bound_changed(self, old: Object | None, new: Object | None) -> None:
        obj = new or old or {}
        name = labels(obj).get(kueue.PREBUILT_LABEL)
        if name:
            self._changed((obj["metadata"].get("namespace"), name))

    async def close(self) -> None:
        await self._informers.stop()
        await self.client.close()


class Workers:
    """By the MultiKueueCluster's name."""

    def __init__(
        self,
        parts: Parts,
        connect: Callable[[str], Client],
        read_file: Callable[[str], str],
        changed: Callable[[Key], None],
    ) -> None:
        """`connect`, a client by a kubeconfig's text, and `read_file`, that text by its path, raise UserError."""
        self._parts = parts
        self._connect = connect
        self._read_file = read_file
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

    def silent_seconds(self, name: str) -> float:
        """How long it has not answered; 0 while it does."""
        if self.reachable(name):
            return 0.0
        now = self._parts.clock.monotonic()
        return now - self._lost.setdefault(name, now)

    async def follow(self, name: str, cluster: Object | None, origin: str) -> float | None:
        """Make the connection as the object says, see whether it answers, and tell."""
        if cluster is None:
            worker = self._workers.pop(name, None)
            if worker is not None:
                await worker.close()
            return None
        reason, message = await self._try(name, cluster, origin)
        if reason != "Active":
            self._lost.setdefault(name, self._parts.clock.monotonic())
        now = self._parts.clock.wall()
        new = status.with_condition(cluster, "Active", reason == "Active", reason, message, now)
        await write_status(self._parts.client, kueue.MULTIKUEUE_CLUSTERS, cluster, new)
        return _PROBE_SECONDS

    async def _try(self, name: str, cluster: Object, origin: str) -> tuple[str, str]:
        source = (cluster.get("spec") or {}).get("clusterSource") or {}
        if source.get("clusterProfileRef"):
            return "MultiKueueClusterProfileFeatureDisabled", "cluster profiles are not followed: give a kubeConfig"
        try:
            text = await self._text(source.get("kubeConfig") or {})
        except UserError as error:
            return "BadKubeConfig", _said(error)
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                worker = await self._connected(name, text, origin)
                await worker.client.list(kueue.WORKLOADS, limit=1)
        except InsecureKubeconfig as error:
            return "InsecureKubeConfig", _said(error)
        except UserError as error:
            return "BadKubeConfig", _said(error)
        except (AtollError, TimeoutError) as error:
            return "ClientConnectionFailed", str(error) or _SILENT
        if name in self._lost:
            await self._replace(name, text, origin)
            del self._lost[name]
        return "Active", "Connected"

    async def _connected(self, name: str, text: str, origin: str) -> Worker:
        worker = self._workers.get(name)
        if worker is None or (worker.text, worker.origin) != (text, origin):
            return await self._replace(name, text, origin)
        return worker

    async def _replace(self, name: str, text: str, origin: str) -> Worker:
        """A new connection; the one before is closed first. Raises UserError, with none left."""
        before = self._workers.pop(name, None)
        if before is not None:
            await before.close()
        worker = self._workers[name] = Worker(self._connect(text), text, origin, self._changed)
        return worker

    async def _text(self, source: Object) -> str:
        """The kubeconfig. Raises UserError."""
        location = str(source.get("location") or "")
        if source.get("locationType", "Secret") == "Path":
            return self._read_file(location)
        where = f"Secret {NAMESPACE}/{location}"
        try:
            secret = await self._parts.client.get(SECRETS, location, NAMESPACE)
            return base64.b64decode((secret.get("data") or {})["kubeconfig"], validate=True).decode()
        except NotFound:
            raise UserError(f"there is no {where}", hint="create it, with the key kubeconfig") from None
        except (KeyError, binascii.Error, UnicodeDecodeError):
            raise UserError(f"{where} has no kubeconfig", hint="it is read from the key kubeconfig") from None

    async def close(self) -> None:
        for worker in self._workers.values():
            await worker.close()
        self._workers.clear()


def _said(error: AtollError) -> str:
    return f"{error.message}: {error.hint}" if error.hint else error.message
