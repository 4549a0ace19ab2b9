"""The loops of the tests: nodes that join are marked and opened, periodic tests are made due and their results kept.

Guarantees: only a test that passed since the node joined, or was mended, opens it; every change of a node is one write
with its resourceVersion as precondition. Killed at any await they go on from what the Nodes and pods say.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from atoll.base.errors import AlreadyExists, Conflict, NotFound
from atoll.capacity import names
from atoll.capacity.health.model import Object
from atoll.capacity.health.summary import coverage, tested_at
from atoll.capacity.nodes import annotation, has_gpus
from atoll.capacity.parts import Parts, pods_by_node
from atoll.capacity.preflight import manifests, plan
from atoll.capacity.preflight.settings import CONFIG_MAP, KEY, PreflightSettings, applies
from atoll.capacity.settings import Live
from atoll.client.port import DeleteOptions
from atoll.kinds.builtin import CRON_JOBS, DAEMON_SETS, NAMESPACES, NODES, PODS, PRIORITY_CLASSES
from atoll.objects.meta import labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING

NAME = "preflight"
_TESTS = ""  # the key of what runs the tests
_TESTS_AGAIN_SECONDS = 300.0
log = logging.getLogger(__name__)


class PreflightController:
    """Keys are node names, and "" for the DaemonSet and the CronJob."""

    def __init__(self, parts: Parts) -> None:
        self.name = NAME
        self._parts = parts
        informers = parts.informers
        self._nodes = informers.of(NODES)
        self._pods = pods_by_node(informers)
        self._daemons = informers.of(DAEMON_SETS)
        self._settings = Live(informers, parts.events, CONFIG_MAP, KEY, PreflightSettings)
        self._results = parts.metrics.counter("atoll_preflight_tests_total", "Tests of nodes.", ("kind", "result"))
        self.loop: Controller[str] = Controller(
            NAME,
            self._reconcile,
            workers=8,
            wait_for=(self._nodes, self._pods, self._daemons, self._settings.informer),
        )
        self._nodes.add_handler(self._node_changed)
        self._pods.add_handler(self._pod_changed)
        self._daemons.add_handler(self._daemon_changed)
        self._settings.on_change(self._all_again)
        self.loop.queue.add(_TESTS)
        self._show_coverage()

    async def run(self) -> None:
        await self.loop.run()

    def applies(self, node: Object) -> bool:
        """Whether a mended node must pass."""
        return applies(node, self._settings.value)

    def _show_coverage(self) -> None:
        share = self._parts.metrics.gauge(
            "atoll_gpu_test_coverage_ratio", "Nodes with GPUs that passed a test within the period, of all."
        )

        def refresh() -> None:
            seconds = self._settings.value.periodic.every_seconds
            share.of().set(coverage(self._nodes, self._parts.clock.wall(), seconds).share)

        self._parts.metrics.on_scrape(refresh)

    # -- what changes

    def _node_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None:
            self.loop.queue.add(new["metadata"]["name"])
        if (old is not None and names.TEST_DUE in labels(old)) != (new is not None and names.TEST_DUE in labels(new)):
            self.loop.queue.add(_TESTS)

    def _pod_changed(self, old: Object | None, new: Object | None) -> None:
        pod = new or old or {}
        name = (pod.get("spec") or {}).get("nodeName")
        if name and names.TEST_LABEL in labels(pod):
            self.loop.queue.add(name)

    def _daemon_changed(self, old: Object | None, new: Object | None) -> None:
        if (new or old or {})["metadata"]["name"] == manifests.PREFLIGHT_NAME:
            self.loop.queue.add(_TESTS)

    def _all_again(self) -> None:
        self.loop.queue.add(_TESTS)
        for node in self._nodes:
            self.loop.queue.add(node["metadata"]["name"])

    # -- passes

    async def _reconcile(self, name: str) -> float | None:
        if name == _TESTS:
            return await self._provide()
        node = self._nodes.get(name)
        if node is None:
            return None
        settings, now = self._settings.value, self._parts.clock.wall()
        pods = self._pods.by_index("node", name)
        if plan.is_new(node, pods, now, settings):
            await self._patch(node, plan.pending(node, now))
            return None
        patch = plan.mended(node, now)
        if patch is not None:
            await self._patch(node, patch)
            return None
        if labels(node).get(names.PREFLIGHT) == "pending":
            return await self._judge(node, pods, now, settings)
        return await self._periodic(node, pods, now, settings)

    async def _provide(self) -> float:
        """What runs the tests is there, and as the settings say."""
        settings, client = self._settings.value, self._parts.client
        with suppress(AlreadyExists):
            await client.create(NAMESPACES, manifests.namespace())
        if settings.enabled:
            with suppress(AlreadyExists):
                await client.create(PRIORITY_CLASSES, manifests.priority_class())
            wanted = manifests.daemon_set(settings)
            found = self._daemons.get(manifests.PREFLIGHT_NAME, names.SYSTEM_NAMESPACE)
            if not manifests.is_current(found, wanted):
                await client.apply(DAEMON_SETS, wanted)
            nodes = sum(map(has_gpus, self._nodes))
            testable = self._testable(settings.periodic.gpus)
            await client.apply(CRON_JOBS, manifests.cron_job(settings, nodes, testable))
        return _TESTS_AGAIN_SECONDS

    def _testable(self, gpus: int) -> int:
        due = (node for node in self._nodes if names.TEST_DUE in labels(node))
        return sum(plan.is_testable(node, self._pods.by_index("node", node["metadata"]["name"]), gpus) for node in due)

    async def _judge(self, node: Object, pods: list[Object], now: float, settings: PreflightSettings) -> float | None:
        for pod in plan.stale(node, pods):
            metadata = pod["metadata"]
            with suppress(NotFound, Conflict):
                options = DeleteOptions(uid=metadata["uid"])
                await self._parts.client.delete(PODS, metadata["name"], metadata["namespace"], options=options)
        found = plan.verdict(node, pods, now, settings)
        if found.passed is None:
            return found.again_seconds
        if found.passed:
            await self._patch(node, plan.passed(node, now))
            self._parts.events.event(node, NORMAL, "PreflightPassed", "its tests passed: it is open for work")
        else:
            await self._patch(node, plan.failed(node, found.reason))
            self._parts.events.event(node, WARNING, "PreflightFailed", found.reason)
        self._results.of(plan.PREFLIGHT, "passed" if found.passed else "failed").value += 1
        return None

    async def _periodic(
        self, node: Object, pods: list[Object], now: float, settings: PreflightSettings
    ) -> float | None:
        """Keep the newest result; say when the next test is due."""
        for pod in pods:
            if labels(pod).get(names.TEST_LABEL) == plan.PERIODIC and await self._keep(node, pod):
                return None
        if not (settings.enabled and settings.periodic.enabled):
            return None
        wait = plan.due_in(node, tested_at(node), now, settings.periodic.every_seconds)
        due = wait == 0.0
        if due != (names.TEST_DUE in labels(node)):
            await self._patch(node, {"metadata": {"labels": {names.TEST_DUE: "true" if due else None}}})
        return None if due else wait

    async def _keep(self, node: Object, pod: Object) -> bool:
        """Write the result of a periodic test's pod, once; False where there is nothing new in it."""
        phase = (pod.get("status") or {}).get("phase")
        at = _ended(pod)
        if phase not in ("Succeeded", "Failed") or at is None or _stopped(pod):
            return False
        if phase == "Succeeded":
            if annotation(node, names.TESTED) >= at:
                return False
            await self._patch(node, {"metadata": {"labels": {names.TEST_DUE: None}, "annotations": {names.TESTED: at}}})
        else:
            told = f"{at} {pod['metadata']['name']} failed"
            if annotation(node, names.TEST_FAILED) == told or annotation(node, names.PREFLIGHT_SINCE) >= at:
                return False
            await self._patch(node, {"metadata": {"annotations": {names.TEST_FAILED: told}}})
        self._results.of(plan.PERIODIC, "passed" if phase == "Succeeded" else "failed").value += 1
        return True

    async def _patch(self, node: Object, patch: Object) -> None:
        await self._parts.client.patch(NODES, node["metadata"]["name"], patch)


def _ended(pod: Object) -> str | None:
    """When its container ended, as Kubernetes writes times."""
    for item in (pod.get("status") or {}).get("containerStatuses") or ():
        at = ((item.get("state") or {}).get("terminated") or {}).get("finishedAt")
        if at:
            return str(at)
    return None


def _stopped(pod: Object) -> bool:
    """It was preempted or evicted: that says nothing of the GPU."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item["type"] == "DisruptionTarget" and item["status"] == "True" for item in conditions)
