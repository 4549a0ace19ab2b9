"""Feeds the planner's state and the queue from informers' events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from atoll.base.clock import Clock
from atoll.cluster.scheduler.queue import SchedulingQueue
from atoll.kinds.builtin import (
    DEVICE_CLASSES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    STORAGE_CLASSES,
)
from atoll.kinds.devices import DEVICE_TAINT_RULES
from atoll.objects.resource_claims import ClaimProblem, allocation, known_names, pod_claims
from atoll.runtime.informer import Informer, Informers
from atoll.scheduling.plan import Planner
from atoll.scheduling.pod import PodInfo
from atoll.scheduling.volumes import claim_names

Object = dict[str, Any]
_FINISHED = ("Succeeded", "Failed")
_SPEC_FIELDS = ("schedulingGates", "tolerations", "nodeSelector", "affinity", "resources", "containers")


class SchedulerCache:
    """The scheduler's view of the cluster.

    `is_ours`: whether pods of that schedulerName are to be placed. `wake` is called when there may be something to do.
    """

    def __init__(
        self,
        informers: Informers,
        planner: Planner,
        clock: Clock,
        is_ours: Callable[[str], bool],
        wake: Callable[[], None],
        taint_rules: bool = False,
    ) -> None:
        """`taint_rules`: whether DeviceTaintRules are looked at."""
        self.queue = SchedulingQueue()
        self._planner = planner
        self._clock = clock
        self._is_ours = is_ours
        self._wake = wake
        self._pods = informers.of(PODS)
        self._claims = informers.of(PERSISTENT_VOLUME_CLAIMS)
        self.budgets = informers.of(POD_DISRUPTION_BUDGETS)
        self._others: dict[Informer, Callable[[Object | None, Object | None], None]] = {
            informers.of(NAMESPACES): self._namespace,
            informers.of(NODES): self._node,
            informers.of(STORAGE_CLASSES): self._storage_class,
            informers.of(PERSISTENT_VOLUMES): self._volume,
            self._claims: self._claim,
            informers.of(DEVICE_CLASSES): self._device_class,
            informers.of(RESOURCE_SLICES): self._resource_slice,
            informers.of(RESOURCE_CLAIMS): self._resource_claim,
            self._pods: self._pod,
        }
        if taint_rules:
            self._others[informers.of(DEVICE_TAINT_RULES)] = self._taint_rule
        self.claim_changed: dict[object, Callable[[], None]] = {}  # who waits for claims to be bound
        self._device_waiters: dict[object, Callable[[], None]] = {}  # who waits for devices to be made ready
        self._held: dict[str, PodInfo] = {}  # pods whose ResourceClaims are not there yet

    def start(self) -> None:
        """Take up what the informers have, and follow them."""
        for informer, handler in self._others.items():
            informer.add_handler(handler)

    def informers(self) -> tuple[Informer, ...]:
        return (*self._others, self.budgets)

    def pod(self, namespace: str, name: str) -> Object | None:
        return self._pods.get(name, namespace)

    def claim(self, namespace: str, name: str) -> Object | None:
        return self._claims.get(name, namespace)

    def watch_devices(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call `changed` on every change of a ResourceClaim, until what is returned is called."""
        token = object()
        self._device_waiters[token] = changed
        return lambda: self._device_waiters.pop(token, None) and None

    def helped(self) -> None:
        """Something changed that may let unschedulable pods fit."""
        self.queue.helped()
        self._wake()

    # handlers

    def _namespace(self, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        labels = (metadata.get("labels") or {}) if new is not None else None
        if self._planner.state.templates.set_namespace(metadata["name"], labels) and old is not None:
            self._planner.forget()
            self.helped()

    def _node(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            self._planner.state.remove_node((old or {})["metadata"]["name"])
        elif self._planner.state.set_node(new):
            self.helped()

    def _storage_class(self, old: Object | None, new: Object | None) -> None:
        classes = self._planner.volumes.classes
        name = (new or old or {})["metadata"]["name"]
        if new is None:
            classes.pop(name, None)
        else:
            classes[name] = new
        self._planner.volumes.changed()
        self.helped()

    def _volume(self, old: Object | None, new: Object | None) -> None:
        volumes = self._planner.volumes
        name = (new or old or {})["metadata"]["name"]
        if new is None:
            volumes.volumes.pop(name, None)
            volumes.assumed.pop(name, None)
        else:
            volumes.volumes[name] = new
            if new["spec"].get("claimRef"):
                volumes.assumed.pop(name, None)
        volumes.changed()
        self.helped()

    def _claim(self, old: Object | None, new: Object | None) -> None:
        metadata = (new or old or {})["metadata"]
        key = (metadata.get("namespace") or "", metadata["name"])
        claims = self._planner.volumes.claims
        if new is None:
            claims.pop(key, None)
        else:
            claims[key] = new
        self._planner.volumes.changed()
        for listener in list(self.claim_changed.values()):
            listener()
        self.helped()

    def _device_class(self, old: Object | None, new: Object | None) -> None:
        self._planner.devices.set_class(new, (new or old or {})["metadata"]["name"])
        self.helped()

    def _resource_slice(self, old: Object | None, new: Object | None) -> None:
        self._planner.devices.set_slice(new, (new or old or {})["metadata"]["name"])
        if self._held or len(self.queue):
            self.helped()

    def _taint_rule(self, old: Object | None, new: Object | None) -> None:
        self._planner.devices.set_rule(new, (new or old or {})["metadata"]["name"])
        self.helped()

    def _resource_claim(self, old: Object | None, new: Object | None) -> None:
        self._planner.devices.set_claim(new, old)
        for listener in list(self._device_waiters.values()):
            listener()
        metadata = (new or old or {})["metadata"]
        for pod in [pod for pod in self._held.values() if _waits_for(pod.obj, metadata)]:
            self._pending_claims(pod)
        if _frees(old, new) or old is None or (old.get("status") or {}) != ((new or {}).get("status") or {}):
            self.helped()

    def _pending_claims(self, pod: PodInfo) -> None:
        """Queue a pod that was held back, if its claims are there now."""
        if not self._lacks_claims(pod):
            self._held.pop(pod.uid, None)
            self.queue.add(pod, self._clock.monotonic())
            self._wake()

    def _lacks_claims(self, pod: PodInfo) -> bool:
        """A pod is not tried before its claims are there (upstream's PreEnqueue)."""
        if not pod_claims(pod.obj):
            return False
        try:
            self._planner.devices.of_pod(pod.obj)
        except ClaimProblem:
            return True
        return False

    def _pod(self, old: Object | None, new: Object | None) -> None:
        if new is None:
            if old is not None:
                self._gone(old)
            return
        if old is not None and old["metadata"].get("uid") != new["metadata"].get("uid"):
            self._gone(old)
        spec = new.get("spec") or {}
        if spec.get("nodeName"):
            self._bound(new, spec["nodeName"])
        elif self._is_ours(spec.get("schedulerName") or "default-scheduler"):
            self._pending(old, new)

    def _view(self, obj: Object) -> PodInfo:
        uid = obj["metadata"].get("uid") or ""
        waiting = self.queue.get(uid)
        known = self._planner.state.placed(uid) if waiting is None else waiting.pod
        return self._planner.pod(obj) if known is None else self._planner.state.templates.renewed(known, obj)

    def _bound(self, new: Object, node: str) -> None:
        state = self._planner.state
        if (new.get("status") or {}).get("phase") in _FINISHED:
            self._lift(new)
            return
        pod = self._view(new)
        known = pod.uid in state.pod_nodes
        self.queue.remove(pod.uid)
        self._held.pop(pod.uid, None)
        state.withdraw(pod.uid)
        before = state.journal.end
        state.place(pod, node)
        self._use_claims(pod, True)
        if (not known or pod.terminating) and state.journal.end != before and self._waiting():
            self.helped()

    def _pending(self, old: Object | None, new: Object) -> None:
        now = self._clock.monotonic()
        pod = self._view(new)
        if pod.terminating or (new.get("status") or {}).get("phase") in _FINISHED:
            self.queue.remove(pod.uid)
            self._held.pop(pod.uid, None)
            self._planner.state.withdraw(pod.uid)
            return
        if pod.uid in self._planner.state.pod_nodes:
            return  # assumed: its binding is on the way
        nominated = (new.get("status") or {}).get("nominatedNodeName")
        if nominated:
            self._planner.state.nominate(pod, nominated)
        if self._lacks_claims(pod):
            self._held[pod.uid] = pod
            self.queue.remove(pod.uid)
            return
        self._held.pop(pod.uid, None)
        if old is None or self.queue.get(pod.uid) is None or _matters(old, new):
            self.queue.add(pod, now)
            self._wake()
        else:
            self.queue.refresh(pod)

    def _gone(self, old: Object) -> None:
        self.queue.remove(old["metadata"].get("uid") or "")
        self._held.pop(old["metadata"].get("uid") or "", None)
        self._lift(old)

    def _lift(self, obj: Object) -> None:
        state = self._planner.state
        uid = obj["metadata"].get("uid") or ""
        state.withdraw(uid)
        self._use_claims(self._planner.pod(obj), False)
        if state.lift(uid) is not None:
            self.helped()

    def _use_claims(self, pod: PodInfo, used: bool) -> None:
        used_by = self._planner.volumes.used
        for name, _ in claim_names(pod.obj):
            pods = used_by.setdefault((pod.template.namespace, name), {})
            if used:
                pods[pod.uid] = None
            else:
                pods.pop(pod.uid, None)

    def _waiting(self) -> bool:
        """Whether a pod's arrival on a node could help anyone: only where affinity is wanted."""
        return any(item.pod.template.affinity or item.pod.template.hard_spread for item in self.queue.parked())


def _matters(old: Object, new: Object) -> bool:
    """Whether a pending pod's own change may let it fit."""
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        return True
    before, after = old.get("spec") or {}, new.get("spec") or {}
    return any(before.get(field) != after.get(field) for field in _SPEC_FIELDS)


def _waits_for(pod: Object, claim: Object) -> bool:
    return pod["metadata"].get("namespace") == claim.get("namespace") and claim["name"] in known_names(pod)


def _frees(old: Object | None, new: Object | None) -> bool:
    """Whether a change of a claim gives devices back."""
    return old is not None and allocation(old) is not None and (new is None or allocation(new) is None)
