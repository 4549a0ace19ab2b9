"""kube-controller-manager's taint eviction controller: pods leave nodes whose NoExecute taints they do not tolerate.

`tolerationSeconds` count from when the taint was first seen for the pod; a taint that goes cancels what was due.
"""

from __future__ import annotations

from typing import Any

from atoll.base.clock import Clock
from atoll.base.errors import NotFound
from atoll.client.port import STRATEGIC_PATCH, Client
from atoll.cluster.nodes.lifecycle.plan import min_toleration_seconds
from atoll.kinds.builtin import NODES, PODS
from atoll.objects.meta import condition, disruption_target, is_deleting, node_names
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, EventRecorder
from atoll.runtime.informer import Informers
from atoll.scheduling.matching import tolerates

Object = dict[str, Any]
NAME = "taint-eviction-controller"
Key = tuple[str | None, str]


class TaintEvictionController:
    """`run` works until cancelled."""

    name = NAME

    def __init__(self, client: Client, informers: Informers, clock: Clock, events: EventRecorder) -> None:
        self._client = client
        self._clock = clock
        self._events = events
        self._nodes = informers.of(NODES)
        self._pods = informers.of(PODS)
        self._pods.add_index("node", node_names)
        self._due: dict[Key, tuple[str, float]] = {}  # pod -> (uid, since when its node is tainted)
        self._controller: Controller[Key] = Controller(
            "taint-eviction", self.reconcile, workers=8, wait_for=(self._nodes, self._pods)
        )

    async def run(self) -> None:
        await self._nodes.synced.wait()
        await self._pods.synced.wait()
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)
        await self._controller.run()

    def _on_node(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        before, after = (_no_execute(old) if old is not None else []), _no_execute(new)
        if before != after:
            for pod in self._pods.by_index("node", new["metadata"]["name"]):
                self._controller.queue.add((pod["metadata"]["namespace"], pod["metadata"]["name"]))

    def _on_pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            metadata = (old or {})["metadata"]
            self._due.pop((metadata["namespace"], metadata["name"]), None)
            return
        name = (new.get("spec") or {}).get("nodeName")
        node = self._nodes.get(name) if name else None
        if node is None or not _no_execute(node):
            return
        moved = old is None or (old.get("spec") or {}).get("nodeName") != name
        if moved or (old or {})["spec"].get("tolerations") != new["spec"].get("tolerations"):
            self._controller.queue.add((new["metadata"]["namespace"], new["metadata"]["name"]))

    async def reconcile(self, key: Key) -> float | None:
        """Evict, wait, or forget about one pod."""
        namespace, name = key
        pod = self._pods.get(name, namespace)
        if pod is None or is_deleting(pod):
            self._due.pop(key, None)
            return None
        node = self._nodes.get((pod.get("spec") or {}).get("nodeName") or "")
        taints = _no_execute(node) if node is not None else []
        seconds = min_toleration_seconds(taints, (pod.get("spec") or {}).get("tolerations") or [], tolerates)
        uid, now = pod["metadata"]["uid"], self._clock.monotonic()
        if not taints or seconds is None:
            due = self._due.pop(key, None)
            if due is not None and due[0] == uid:
                text = f"Cancelling deletion of Pod {namespace}/{name}"
                self._events.event(pod, NORMAL, "TaintManagerEviction", text)
            return None
        known = self._due.get(key)
        since = known[1] if known is not None and known[0] == uid else now
        self._due[key] = (uid, since)
        if since + seconds > now:
            return since + seconds - now
        del self._due[key]
        await self._evict(pod)
        return None

    async def _evict(self, pod: Object) -> None:
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        self._events.event(pod, NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {namespace}/{name}")
        mark = disruption_target(
            "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint", self._clock.wall()
        )
        old = condition(pod, "DisruptionTarget")
        try:
            if old is None or old.get("reason") != mark["reason"]:
                body = {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [mark]}}
                await self._client.patch(
                    PODS, name, body, namespace, content_type=STRATEGIC_PATCH, subresource="status"
                )
            await self._client.delete(PODS, name, namespace)
        except NotFound:
            return


def _no_execute(node: Object) -> list[Object]:
    return [taint for taint in (node.get("spec") or {}).get("taints") or () if taint.get("effect") == "NoExecute"]
