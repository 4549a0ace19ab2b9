"""The loop of HorizontalPodAutoscalers: every fifteen seconds, and when one changes.

What was recommended and done before is held in memory only, as upstream: after a restart the current size is the first
recommendation. The scale is written with the version that was read.
"""

from __future__ import annotations

from typing import Any

from atoll.base.clock import rfc3339
from atoll.base.errors import AtollError
from atoll.cluster.workloads.autoscaling.behaviour import History
from atoll.cluster.workloads.autoscaling.metrics import MetricsReader, target_resource
from atoll.cluster.workloads.autoscaling.plan import (
    Observed,
    Plan,
    begin_status,
    metrics_of,
    plan_autoscaler,
    set_condition,
)
from atoll.cluster.workloads.common.context import Context
from atoll.kinds.builtin import HORIZONTAL_POD_AUTOSCALERS
from atoll.kinds.resource import Resource
from atoll.objects.meta import key, labels
from atoll.objects.selectors import LabelSelector, SelectorError, parse_labels
from atoll.runtime.controller import Controller
from atoll.runtime.events import NORMAL, WARNING
from atoll.runtime.informer import Key

Object = dict[str, Any]
NAME = "horizontal-pod-autoscaler"
PERIOD_SECONDS = 15.0


class AutoscalerController:
    """See the module. An autoscaler that shares pods with another acts on none, as upstream."""

    def __init__(self, context: Context) -> None:
        self.name = NAME
        self._client = context.client(NAME)
        self._events = context.recorder(NAME)
        self._clock = context.clock
        self._autoscalers = context.informers.of(HORIZONTAL_POD_AUTOSCALERS)
        self._pods = context.pod_events.pods
        self._pods.add_index("namespace", lambda obj: (obj["metadata"].get("namespace"),))
        self._metrics = MetricsReader(self._client)
        self._histories: dict[Key, History] = {}
        self._selectors: dict[Key, LabelSelector] = {}
        self.loop: Controller[Key] = Controller(
            NAME, self._reconcile, workers=context.options.workers, wait_for=(self._autoscalers, self._pods)
        )
        self._autoscalers.add_handler(self._changed)

    async def run(self) -> None:
        await self.loop.run()

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if new is None and old is not None:
            self._histories.pop(key(old), None)
            self._selectors.pop(key(old), None)
        elif new is not None and (old is None or old.get("spec") != new.get("spec")):
            self.loop.queue.add(key(new))

    async def _reconcile(self, name: Key) -> float | None:
        autoscaler = self._autoscalers.by_key(name)
        if autoscaler is None:
            return None
        try:
            resource, scale = await self._scale(autoscaler)
        except _NoScale as error:
            await self._no_scale(autoscaler, str(error))
            return PERIOD_SECONDS
        selector = await self._selector(name, autoscaler, scale)
        if selector is not None:
            await self._pass(name, autoscaler, resource, scale, selector)
        return PERIOD_SECONDS

    async def _scale(self, autoscaler: Object) -> tuple[Resource, Object]:
        """Raises _NoScale."""
        target, namespace = autoscaler["spec"]["scaleTargetRef"], autoscaler["metadata"]["namespace"]
        group, _, version = (target.get("apiVersion") or "").rpartition("/")
        try:
            resource = await target_resource(self._client, group, version, target["kind"])
            if resource is None:
                shown = f"{target['kind']}.{group}" if group else target["kind"]
                raise _NoScale(f'no matches for kind "{target["kind"]}" in group "{group}"' if group else shown)
            return resource, await self._client.get(resource, target["name"], namespace, subresource="scale")
        except AtollError as error:
            raise _NoScale(error.message) from None

    async def _no_scale(self, autoscaler: Object, why: str) -> None:
        self._events.event(autoscaler, WARNING, "FailedGetScale", why)
        status = begin_status(autoscaler)
        message = f"the HPA controller was unable to get the target's current scale: {why}"
        set_condition(status, "AbleToScale", False, "FailedGetScale", message, self._clock.wall())
        await self._write(autoscaler, status)

    async def _selector(self, name: Key, autoscaler: Object, scale: Object) -> LabelSelector | None:
        """Which pods count; None where nothing may be done, which is told."""
        text = (scale.get("status") or {}).get("selector") or ""
        reason, why = "", ""
        try:
            selector = parse_labels(text)
        except SelectorError as error:
            reason = "InvalidSelector"
            why = f"couldn't convert selector into a corresponding internal selector object: {error}"
        else:
            if not text:
                reason, why = "SelectorRequired", "selector is required"
            else:
                self._selectors[name] = selector
                rivals = self._rivals(name, selector)
                if rivals:
                    listed = " ".join("/".join(str(part) for part in rival) for rival in rivals)
                    reason = "AmbiguousSelector"
                    why = f"pods by selector {text} are controlled by multiple HPAs: [{listed}]"
        if not reason:
            return selector
        self._events.event(autoscaler, WARNING, reason, why)
        status = begin_status(autoscaler)
        told = ("InvalidSelector", "the HPA target's scale is missing a selector")
        shown, message = told if reason == "SelectorRequired" else (reason, why)
        set_condition(status, "ScalingActive", False, shown, message, self._clock.wall())
        await self._write(autoscaler, status)
        return None

    def _rivals(self, name: Key, selector: LabelSelector) -> list[Key]:
        """All autoscalers that would scale the same pods, this one too; none where it is the only one."""
        pods = [pod for pod in self._of_namespace(name[0]) if selector.matches(labels(pod))]
        found = {name}
        for other, chosen in self._selectors.items():
            if other != name and other[0] == name[0] and any(chosen.matches(labels(pod)) for pod in pods):
                found.add(other)
        return sorted(found, key=str) if len(found) > 1 else []

    def _of_namespace(self, namespace: str | None) -> list[Object]:
        return list(self._pods.by_index("namespace", namespace))

    async def _pass(
        self, name: Key, autoscaler: Object, resource: Resource, scale: Object, selector: LabelSelector
    ) -> None:
        namespace = autoscaler["metadata"]["namespace"]
        current = (scale.get("spec") or {}).get("replicas", 0)
        least, most = autoscaler["spec"].get("minReplicas", 1), autoscaler["spec"]["maxReplicas"]
        measured = []
        if current and least <= current <= most:
            text = str(selector)
            measured = [await self._metrics.read(item, namespace, text) for item in metrics_of(autoscaler)]
        pods = [pod for pod in self._of_namespace(namespace) if selector.matches(labels(pod))]
        seen = Observed(current, (scale.get("status") or {}).get("replicas", 0), pods, measured)
        history = self._histories.setdefault(name, History())
        plan = plan_autoscaler(autoscaler, seen, history, self._clock.wall())
        for reason, message in plan.events:
            self._events.event(autoscaler, WARNING, reason, message)
        if plan.replicas is not None:
            await self._rescale(autoscaler, resource, scale, plan, history)
        await self._write(autoscaler, plan.status)

    async def _rescale(
        self, autoscaler: Object, resource: Resource, scale: Object, plan: Plan, history: History
    ) -> None:
        wanted, now = plan.replicas, self._clock.wall()
        assert wanted is not None
        before = (scale.get("spec") or {}).get("replicas", 0)
        try:
            changed = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": wanted}}
            await self._client.update(resource, changed, subresource="scale")
        except AtollError as error:
            told = f"New size: {wanted}; reason: {plan.reason}; error: {error.message}"
            self._events.event(autoscaler, WARNING, "FailedRescale", told)
            why = f"the HPA controller was unable to update the target scale: {error.message}"
            set_condition(plan.status, "AbleToScale", False, "FailedUpdateScale", why, now)
            plan.status["desiredReplicas"] = (autoscaler.get("status") or {}).get("desiredReplicas", 0)
            return
        done = f"the HPA controller was able to update the target scale to {wanted}"
        set_condition(plan.status, "AbleToScale", True, "SucceededRescale", done, now)
        self._events.event(autoscaler, NORMAL, "SuccessfulRescale", f"New size: {wanted}; reason: {plan.reason}")
        history.scaled(before, wanted, autoscaler["spec"].get("behavior"), now)
        plan.status["lastScaleTime"] = rfc3339(now)

    async def _write(self, autoscaler: Object, status: Object) -> None:
        if status != (autoscaler.get("status") or {}):
            changed = {**autoscaler, "status": status}
            await self._client.update(HORIZONTAL_POD_AUTOSCALERS, changed, subresource="status")


class _NoScale(Exception):
    pass
