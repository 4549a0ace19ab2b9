"""Kueue's objects, as JSON, into the values of the model. What the schema lets through is never refused here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakValueDictionary

import orjson

from atoll.base import quantity
from atoll.base.clock import parse_rfc3339
from atoll.capacity.queueing.flavors import amount_of
from atoll.capacity.queueing.model import (
    NEVER,
    Admission,
    ClusterQueue,
    Cohort,
    Flavor,
    FlavorResource,
    Fungibility,
    LocalQueue,
    Object,
    PodSet,
    PodSetAssignment,
    PreemptionPolicy,
    Quota,
    ResourceGroup,
    Shape,
    Workload,
)
from atoll.capacity.queueing.requests import Surroundings
from atoll.capacity.queueing.topology import TopologyAssignment, TopologyRequest, by_leaf
from atoll.kinds import kueue
from atoll.kinds.kueue_conversion import domains_of
from atoll.objects.pod_resources import pod_requests

CREATION, EVICTION = "Creation", "Eviction"
_HELD = ("Retry", "Rejected")


def cluster_queue(obj: Object) -> ClusterQueue:
    spec = obj.get("spec") or {}
    preemption = spec.get("preemption") or {}
    borrow = preemption.get("borrowWithinCohort") or {}
    fungibility = spec.get("flavorFungibility") or {}
    checks = (spec.get("admissionChecksStrategy") or {}).get("admissionChecks") or ()
    return ClusterQueue(
        name=obj["metadata"]["name"],
        cohort=spec.get("cohortName") or "",
        groups=tuple(
            ResourceGroup(tuple(group["coveredResources"]), tuple(flavor["name"] for flavor in group["flavors"]))
            for group in spec.get("resourceGroups") or ()
        ),
        quotas=_quotas(spec),
        preemption=PreemptionPolicy(
            preemption.get("withinClusterQueue") or NEVER,
            preemption.get("reclaimWithinCohort") or NEVER,
            borrow.get("policy") or NEVER,
            borrow.get("maxPriorityThreshold"),
        ),
        fungibility=Fungibility(
            fungibility.get("whenCanBorrow") != "TryNextFlavor",
            fungibility.get("whenCanPreempt") == "MayStopSearch",
            fungibility.get("preference") != "PreemptionOverBorrowing",
        ),
        strict=spec.get("queueingStrategy") == "StrictFIFO",
        weight=_weight(spec),
        checks=tuple((check["name"], frozenset(check.get("onFlavors") or ())) for check in checks),
        stop=spec.get("stopPolicy") or "None",
        selector=spec.get("namespaceSelector"),
        leaving="deletionTimestamp" in obj["metadata"],
        by_past_usage=(spec.get("admissionScope") or {}).get("admissionMode") == "UsageBasedAdmissionFairSharing",
    )


def cohort(obj: Object) -> Cohort:
    spec = obj.get("spec") or {}
    return Cohort(obj["metadata"]["name"], spec.get("parentName") or "", _quotas(spec), _weight(spec))


def flavor(obj: Object) -> Flavor:
    spec = obj.get("spec") or {}
    return Flavor(
        obj["metadata"]["name"],
        spec.get("nodeLabels") or {},
        tuple(spec.get("nodeTaints") or ()),
        tuple(spec.get("tolerations") or ()),
        spec.get("topologyName") or "",
    )


def topology_levels(obj: Object) -> tuple[str, ...]:
    """Node labels, from wide to narrow."""
    return tuple(level["nodeLabel"] for level in (obj.get("spec") or {}).get("levels") or ())


def local_queue(obj: Object) -> LocalQueue:
    spec, metadata = obj.get("spec") or {}, obj["metadata"]
    return LocalQueue(
        metadata["namespace"],
        metadata["name"],
        spec.get("clusterQueue") or "",
        spec.get("stopPolicy") or "None",
        _weight(spec),
    )


def _weight(spec: Object) -> float:
    return quantity.parse((spec.get("fairSharing") or {}).get("weight", 1)) / quantity.NANO


def _quotas(spec: Object) -> dict[FlavorResource, Quota]:
    return {
        (flavor["name"], item["name"]): Quota(
            amount_of(item["name"], item["nominalQuota"]),
            _limit(item, "borrowingLimit"),
            _limit(item, "lendingLimit"),
        )
        for group in spec.get("resourceGroups") or ()
        for flavor in group["flavors"]
        for item in flavor["resources"]
    }


def _limit(item: Object, name: str) -> int | None:
    return amount_of(item["name"], item[name]) if item.get(name) is not None else None


class Shapes:
    """Pod sets that are written alike give one Shape, for as long as it is in use. Of some surroundings."""

    def __init__(self, surroundings: Surroundings | None = None) -> None:
        self._known: WeakValueDictionary[bytes, Shape] = WeakValueDictionary()
        self.surroundings = surroundings or Surroundings()

    def of(self, pod_sets: list[Object], namespace: str) -> Shape:
        text = orjson.dumps(pod_sets, option=orjson.OPT_SORT_KEYS)
        if self.surroundings.differs(namespace):
            text += namespace.encode()
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = self._read(pod_sets, namespace)
        return found

    def forget_problems(self) -> None:
        """Those that can't be made are read anew when they are asked for."""
        self._known = WeakValueDictionary({text: shape for text, shape in self._known.items() if not shape.problem})

    def _read(self, pod_sets: list[Object], namespace: str) -> Shape:
        around = self.surroundings
        problems: list[str] = []
        beyond: list[str] = []
        found = []
        for item in pod_sets:
            name = item.get("name") or "main"
            spec = around.spec_of(namespace, item.get("template") or {})
            beyond += around.problems(namespace, name, spec)
            devices, unknown = around.devices(namespace, spec)
            problems += [f"podSets[{name}]: {why}" for why in unknown]
            requests = pod_requests({"spec": spec})
            counted = around.counting.of(requests)
            for resource, nano in devices.items():
                counted[resource] = counted.get(resource, 0) + nano
            found.append(_pod_set(item, name, requests, counted))
        if beyond:
            problems.append(f"didn't satisfy LimitRange constraints: {'; '.join(beyond)}")
        return Shape(tuple(found), "; ".join(problems))


def _pod_set(item: Object, name: str, requests: dict[str, int], counted: dict[str, int]) -> PodSet:
    return PodSet(
        name,
        int(item.get("count", 1)),
        item.get("minCount"),
        _in_units(requests),
        item.get("template") or {},
        _topology_request(item.get("topologyRequest")),
        None if counted == requests else _in_units(counted),
    )


def _in_units(amounts: dict[str, int]) -> dict[str, int]:
    return {name: amount_in_units(name, nano) for name, nano in amounts.items()}


def _topology_request(found: Object | None) -> TopologyRequest | None:
    if not found:
        return None
    layers = found.get("podsetSliceRequiredTopologyConstraints") or ()
    slices = tuple((layer["topology"], int(layer["size"])) for layer in layers)
    if not slices and found.get("podSetSliceRequiredTopology"):
        slices = ((found["podSetSliceRequiredTopology"], max(1, int(found.get("podSetSliceSize") or 1))),)
    group = found.get("podSetGroupName") or ""
    return TopologyRequest(found.get("required") or "", found.get("preferred") or "", slices, group)


def amount_in_units(resource: str, nano: int) -> int:
    """Of nano-units, rounded up to the units of the model."""
    unit = 1_000_000 if resource == "cpu" else quantity.NANO
    return -(-nano // unit)


def conditions(obj: Object) -> dict[str, Object]:
    return {item["type"]: item for item in (obj.get("status") or {}).get("conditions") or ()}


def workload(
    obj: Object, shapes: Shapes, *, order_by: str = EVICTION, before: Workload | None = None, old: Object | None = None
) -> Workload:
    """`order_by`: whether an eviction for PodsReady puts it at the back (Eviction) or it keeps its place (Creation).

    `before`: as it was read with this very spec. `old`: what that was read from: an admission that stays is kept.
    """
    spec, status, metadata = obj.get("spec") or {}, obj.get("status") or {}, obj["metadata"]
    known = conditions(obj)
    created = parse_rfc3339(metadata["creationTimestamp"])
    evicted = known.get("Evicted") or {}
    order_at = created
    timed_out = evicted.get("reason") == "PodsReadyTimeout" and order_by == EVICTION
    if evicted.get("status") == "True" and (timed_out or evicted.get("reason") == "AdmissionCheck"):
        order_at = parse_rfc3339(evicted["lastTransitionTime"])
    reserved = known.get("QuotaReserved") or {}
    has_quota = reserved.get("status") == "True"
    admission = _admission(status.get("admission") or {}, before, old) if has_quota else None
    requeue = status.get("requeueState") or {}
    leaving = "deletionTimestamp" in metadata  # it has its quota until nothing of it runs, and gets none
    return Workload(
        key=(metadata.get("namespace") or "", metadata["name"]),
        uid=metadata["uid"],
        local_queue=spec.get("queueName") or "",
        priority=int(spec.get("priority") or 0),
        created=created,
        order_at=order_at,
        shape=shapes.of(spec.get("podSets") or [], metadata.get("namespace") or "") if before is None else before.shape,
        admission=admission,
        usage=_used(admission, status) if admission else {},
        reserved_at=parse_rfc3339(reserved["lastTransitionTime"]) if has_quota else 0.0,
        evicted=leaving or evicted.get("status") == "True",
        active=spec.get("active", True) is not False and not leaving,
        finished=(known.get("Finished") or {}).get("status") == "True",
        admitted=(known.get("Admitted") or {}).get("status") == "True",
        ready=(known.get("PodsReady") or {}).get("status") == "True",
        requeue_at=_requeue_at(known, requeue),
        owners=tuple(owner["name"] for owner in metadata.get("ownerReferences") or ()),
        unhealthy=tuple(node["name"] for node in status.get("unhealthyNodes") or ()),
        held=any(check.get("state") in _HELD for check in status.get("admissionChecks") or ()),
        lacking_pods=(known.get(kueue.WAITS_FOR_PODS) or {}).get("status") == "True",
    )


def _requeue_at(known: Mapping[str, Object], requeue: Object) -> float:
    """0 unless it must wait: Requeued=False says so."""
    if (known.get("Requeued") or {}).get("status") != "False" or not requeue.get("requeueAt"):
        return 0.0
    return parse_rfc3339(requeue["requeueAt"])


def _admission(value: Object, before: Workload | None, old: Object | None) -> Admission:
    known = before.admission if before is not None else None
    if known is not None and old is not None and (old.get("status") or {}).get("admission") == value:
        return known
    return Admission(
        value["clusterQueue"],
        tuple(
            PodSetAssignment(
                item.get("name") or "main",
                item.get("flavors") or {},
                {name: amount_of(name, amount) for name, amount in (item.get("resourceUsage") or {}).items()},
                int(item.get("count") or 0),
                topology_assignment(item.get("topologyAssignment")),
            )
            for item in value.get("podSetAssignments") or ()
        ),
    )


def topology_assignment(found: Object | None) -> TopologyAssignment | None:
    """Of a podSetAssignment's topologyAssignment, as v1beta2 has it."""
    if not found:
        return None
    domains = domains_of(found)["domains"]
    values = tuple((tuple(it["values"]), it["count"]) for it in domains)
    return by_leaf(TopologyAssignment(tuple(found["levels"]), values))


def _used(admission: Admission, status: Object) -> dict[FlavorResource, int]:
    """What it uses, without the pods that are done (reclaimablePods)."""
    done: dict[str, Any] = {item["name"]: item["count"] for item in status.get("reclaimablePods") or ()}
    if not done:
        return admission.usage()
    left = []
    for pods in admission.pod_sets:
        rest = max(0, pods.count - done.get(pods.name, 0))
        usage = {name: amount * rest // pods.count if pods.count else 0 for name, amount in pods.usage.items()}
        left.append(PodSetAssignment(pods.name, pods.flavors, usage, rest, pods.topology))
    return Admission(admission.queue, tuple(left)).usage()
