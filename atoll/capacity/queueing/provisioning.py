"""The admission check kueue.x-k8s.io/provisioning-request: capacity is asked of an autoscaler before pods are made.

Of each Workload with quota that has such a check there is one ProvisioningRequest (autoscaling.x-k8s.io) an attempt,
with a PodTemplate a pod set. What it comes to is the check's state: Provisioned → Ready, with what the pods must say to
use the capacity; Failed or BookingExpired → Retry after a growing pause, and Rejected after the last attempt;
CapacityRevoked → Rejected. The kind is the autoscaler's: its objects are polled by name, since a cluster may not serve
it (the check then says so). Level-triggered: names follow from workload, check and attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from atoll.base.clock import rfc3339
from atoll.base.errors import AlreadyExists, NotFound
from atoll.capacity.queueing import status
from atoll.capacity.queueing.model import Object
from atoll.capacity.queueing.parts import Parts, write_status
from atoll.capacity.queueing.podinfo import PodInfo, injected, pod_infos
from atoll.kinds import kueue
from atoll.kinds.builtin import POD_TEMPLATES
from atoll.kinds.resource import Resource
from atoll.objects import meta
from atoll.objects.meta import condition, is_deleting, key, owner_reference
from atoll.runtime.controller import Controller
from atoll.runtime.informer import Key

CONTROLLER: Final = "kueue.x-k8s.io/provisioning-request"
PROVISIONING_REQUESTS = Resource("autoscaling.x-k8s.io", "v1", "provisioningrequests", "ProvisioningRequest")
_CONSUME: Final = "autoscaling.x-k8s.io/consume-provisioning-request"
_CLASS: Final = "autoscaling.x-k8s.io/provisioning-class-name"
_LOOK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check's entry is to say. `updates`: podSetUpdates."""

    state: str
    message: str
    updates: tuple[Object, ...] = ()
    requeue_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """retryStrategy of a ProvisioningRequestConfig."""

    limit: int = 3
    base_seconds: int = 60
    most_seconds: int = 1800

    def pause(self, attempt: int) -> int:
        return int(min(self.base_seconds * 2.0 ** (attempt - 1), self.most_seconds))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A ProvisioningRequest and its PodTemplates, as they are to be."""

    request: Object
    templates: list[Object] = field(default_factory=list)


def retries_of(config: Object) -> Retries:
    found = (config.get("spec") or {}).get("retryStrategy") or {}
    plain = Retries()
    return Retries(
        int(found.get("backoffLimitCount", plain.limit)),
        int(found.get("backoffBaseSeconds", plain.base_seconds)),
        int(found.get("backoffMaxSeconds", plain.most_seconds)),
    )


def request_name(workload: Object, check: str, attempt: int) -> str:
    return f"{workload['metadata']['name']}-{check}-{attempt}"[:253]


def pod_sets_of(workload: Object, config: Object) -> list[Object]:
    """Those that need provisioning: any that asks for a managed resource; all where none is named."""
    managed = set((config.get("spec") or {}).get("managedResources") or ())
    assigned = (workload["status"].get("admission") or {}).get("podSetAssignments") or ()
    asked = {item["name"]: set(item.get("resourceUsage") or ()) for item in assigned}
    return [item for item in workload["spec"]["podSets"] if not managed or managed & asked.get(item["name"], set())]


def wanted_of(
    workload: Object, check: str, config: Object, attempt: int, infos: Mapping[str, PodInfo]
) -> Wanted | None:
    """None: no pod set needs provisioning. `infos`: what flavours add to pods, so that such nodes are made."""
    name, metadata, spec = request_name(workload, check, attempt), workload["metadata"], config["spec"]
    pod_sets = merged(workload, pod_sets_of(workload, config), spec.get("podSetMergePolicy") or "", infos)
    if not pod_sets:
        return None
    common = {"namespace": metadata["namespace"], "labels": {kueue.MANAGED_LABEL: "true"}}
    templates, listed = [], []
    for pods, template, count in pod_sets:
        own = f"ppt-{name}-{pods}"[:253]
        templates.append(
            {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {**common, "name": own}, "template": template}
        )
        listed.append({"podTemplateRef": {"name": own}, "count": count})
    given = {
        note.removeprefix(kueue.PROVISIONING_PREFIX): value
        for note, value in meta.annotations(workload).items()
        if note.startswith(kueue.PROVISIONING_PREFIX)
    }
    body: Object = {"provisioningClassName": spec["provisioningClassName"], "podSets": listed}
    if spec.get("parameters") or given:
        body["parameters"] = {**(spec.get("parameters") or {}), **given}
    request = {
        "apiVersion": PROVISIONING_REQUESTS.api_version,
        "kind": PROVISIONING_REQUESTS.kind,
        "metadata": {**common, "name": name, "ownerReferences": [owner_reference(workload)]},
        "spec": body,
    }
    return Wanted(request, templates)


def merged(
    workload: Object, pod_sets: list[Object], policy: str, infos: Mapping[str, PodInfo]
) -> list[tuple[str, Object, int]]:
    """(name, pod template, count): pod sets that are alike by `podSetMergePolicy` are one, under the first's name."""
    assigned = (workload["status"].get("admission") or {}).get("podSetAssignments") or ()
    counts = {item["name"]: item.get("count") for item in assigned}
    found: dict[str | bytes, tuple[str, Object, int]] = {}
    for item in pod_sets:
        plain = {"metadata": item["template"].get("metadata") or {}, "spec": item["template"]["spec"]}
        info = infos.get(item["name"], PodInfo())
        template = injected(plain, PodInfo(node_selector=info.node_selector, tolerations=info.tolerations))
        count = int(counts.get(item["name"]) or item.get("count", 1))
        essence = _essence(template, policy) or str(item["name"])
        first = found.get(essence, (item["name"], template, 0))
        found[essence] = (first[0], first[1], first[2] + count)
    return list(found.values())


def _essence(template: Object, policy: str) -> bytes | None:
    """What two pod sets have in common that are merged; None where none are."""
    spec = template["spec"]
    if policy == "IdenticalPodTemplates":
        return orjson.dumps(template, option=orjson.OPT_SORT_KEYS)
    if policy != "IdenticalWorkloadSchedulingRequirements":
        return None
    requests = [
        [(item.get("resources") or {}).get("requests") for item in spec.get(name) or ()]
        for name in ("containers", "initContainers")
    ]
    rest = [spec.get(name) for name in ("resources", "nodeSelector", "tolerations", "affinity", "resourceClaims")]
    return orjson.dumps([requests, rest], option=orjson.OPT_SORT_KEYS)


def verdict_of(request: Object, config: Object, workload: Object, attempt: int) -> Verdict:
    """What a ProvisioningRequest's conditions come to."""

    def holds(kind: str) -> bool:
        return (condition(request, kind) or {}).get("status") == "True"

    def said(kind: str) -> str:
        return str((condition(request, kind) or {}).get("message") or "")

    admitted = status.is_true(workload, "Admitted")
    if holds("CapacityRevoked"):
        return Verdict("Rejected", f"Capacity was revoked: {said('CapacityRevoked')}")
    for kind in ("Failed", "BookingExpired"):
        if holds(kind) and not (admitted and kind == "BookingExpired"):
            retries = retries_of(config)
            if attempt > retries.limit:
                return Verdict("Rejected", said(kind) or kind)
            return Verdict("Retry", f"Retrying after failure: {said(kind)}", requeue_seconds=retries.pause(attempt))
    if holds("Provisioned"):
        return Verdict("Ready", said("Provisioned") or "Capacity is provisioned", _updates(request, config, workload))
    if holds("Accepted"):
        return Verdict("Pending", said("Provisioned") or said("Accepted"))
    return Verdict("Pending", "")


def _updates(request: Object, config: Object, workload: Object) -> tuple[Object, ...]:
    details = (request.get("status") or {}).get("provisioningClassDetails") or {}
    notes = {_CONSUME: request["metadata"]["name"], _CLASS: request["spec"]["provisioningClassName"]}
    selector = {
        item["key"]: details[item["valueFromProvisioningClassDetail"]]
        for item in ((config.get("spec") or {}).get("podSetUpdates") or {}).get("nodeSelector") or ()
        if details.get(item["valueFromProvisioningClassDetail"])
    }
    found = []
    for pods in pod_sets_of(workload, config):
        update: Object = {"name": pods["name"], "annotations": notes}
        if selector:
            update["nodeSelector"] = selector
        found.append(update)
    return tuple(found)


def with_verdict(workload: Object, check: str, verdict: Verdict, now: float) -> Object:
    """The Workload with the check's entry as the verdict says; the time changes with the state only."""
    listed = []
    for item in (workload.get("status") or {}).get("admissionChecks") or ():
        if item["name"] == check:
            fresh: Object = {**item, "state": verdict.state, "message": verdict.message}
            if item["state"] != verdict.state:
                fresh["lastTransitionTime"] = rfc3339(now)
            if verdict.updates:
                fresh["podSetUpdates"] = list(verdict.updates)
            if verdict.requeue_seconds is not None:
                fresh["requeueAfterSeconds"] = verdict.requeue_seconds
            item = fresh
        listed.append(item)
    return {**workload, "status": {**workload["status"], "admissionChecks": listed}}


class ProvisioningChecks:
    """Carries the plans out; also says of its AdmissionChecks whether they can be acted upon."""

    def __init__(self, parts: Parts) -> None:
        self.name = "queueing-provisioning"
        self._parts = parts
        of = parts.informers.of
        self._workloads, self._checks = of(kueue.WORKLOADS), of(kueue.ADMISSION_CHECKS)
        self._configs, self._flavors = of(kueue.PROVISIONING_CONFIGS), of(kueue.RESOURCE_FLAVORS)
        waits = (self._workloads, self._checks, self._configs, self._flavors)
        self.loop: Controller[Key] = Controller(self.name, self._reconcile, workers=2, wait_for=waits)
        self._workloads.add_handler(self._workload_changed)
        self._checks.add_handler(lambda old, new: self._setup_changed())
        self._configs.add_handler(lambda old, new: self._setup_changed())

    async def run(self) -> None:
        await self.loop.run()

    def _workload_changed(self, old: Object | None, new: Object | None) -> None:
        if new is not None and (new.get("status") or {}).get("admissionChecks"):
            self.loop.queue.add(key(new))

    def _setup_changed(self) -> None:
        for check in self._checks:
            if check["spec"].get("controllerName") == CONTROLLER:
                self.loop.queue.add(("", check["metadata"]["name"]))

    async def _reconcile(self, name: Key) -> float | None:
        if not self._parts.on():
            return None
        if not name[0]:
            await tell_check(self._parts, self._checks.get(name[1]), self._config_of)
            return None
        workload = self._workloads.by_key(name)
        if workload is None or not status.is_true(workload, "QuotaReserved") or status.is_true(workload, "Finished"):
            return None
        if status.is_true(workload, "Evicted") or is_deleting(workload):
            return None
        again = None
        for item in workload["status"].get("admissionChecks") or ():
            check = self._checks.get(item["name"])
            if check is None or check["spec"].get("controllerName") != CONTROLLER:
                continue
            if item["state"] in ("Pending", "Ready"):
                await self._judge(workload, check, int(item.get("retryCount") or 0) + 1)
                return _LOOK_SECONDS
        return again

    def _config_of(self, check: Object) -> Object | None:
        return self._configs.get((check["spec"].get("parameters") or {}).get("name") or "")

    async def _judge(self, workload: Object, check: Object, attempt: int) -> None:
        config = self._config_of(check)
        if config is None:
            return
        own = check["metadata"]["name"]
        infos = pod_infos(workload, self._flavors)
        if infos is None:
            return  # a flavour is not in the cache yet; it is looked at again soon
        wanted = wanted_of(workload, own, config, attempt, infos)
        if wanted is None:
            verdict = Verdict("Ready", "No request needed")
        else:
            verdict = await self._ask(wanted, config, workload, attempt)
        new = with_verdict(workload, own, verdict, self._parts.clock.wall())
        await write_status(self._parts.client, kueue.WORKLOADS, workload, new)

    async def _ask(self, wanted: Wanted, config: Object, workload: Object, attempt: int) -> Verdict:
        client, metadata = self._parts.client, wanted.request["metadata"]
        try:
            found = await client.get(PROVISIONING_REQUESTS, metadata["name"], metadata["namespace"])
        except NotFound:
            try:
                found = await client.create(PROVISIONING_REQUESTS, wanted.request)
            except NotFound:
                return Verdict("Pending", "the cluster does not serve ProvisioningRequests (autoscaling.x-k8s.io/v1)")
            except AlreadyExists:
                return Verdict("Pending", "")
        for template in wanted.templates:
            owned = {**template["metadata"], "ownerReferences": [owner_reference(found, controller=False)]}
            with suppress(AlreadyExists):
                await client.create(POD_TEMPLATES, {**template, "metadata": owned})
        return verdict_of(found, config, workload, attempt)


async def tell_check(parts: Parts, check: Object | None, config_of: Callable[[Object], Any]) -> None:
    """Its condition Active: whether what its parameters name is there."""
    if check is None:
        return
    now = parts.clock.wall()
    if config_of(check) is None:
        text = f"there is no configuration {(check['spec'].get('parameters') or {}).get('name') or ''}"
        new = status.with_condition(check, "Active", False, "BadParametersRef", text, now)
    else:
        new = status.with_condition(check, "Active", True, "Active", "The admission check is active", now)
    await write_status(parts.client, kueue.ADMISSION_CHECKS, check, new)
