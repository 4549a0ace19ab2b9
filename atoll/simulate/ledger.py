"""What the API server has committed, kept as small values, commit by commit: what invariants and records look at.

The ledger sees every write of the store in its order, in the very call that makes it, so nothing can happen between
two looks. It believes no controller and no cache; listeners get a pod's (a node's, a Workload's) state before and
after each change. It also digests all commits: two runs are the same if their digests are.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct, structs

from atoll.base import quantity
from atoll.base.clock import Clock
from atoll.cluster.gpus.claims import claims_of
from atoll.cluster.gpus.settings import NAMESPACE as OPERATOR
from atoll.cluster.gpus.slices import DRIVER
from atoll.cluster.store.memory import MemoryStore
from atoll.cluster.store.port import Encoded, Event, Key, Record
from atoll.kinds import kueue
from atoll.objects import meta
from atoll.objects.meta import condition, controller_of
from atoll.objects.pod_resources import pod_requests
from atoll.objects.resource_claims import results
from atoll.scheduling.devices.annotations import COUNT, INDEX, devices_of, share_of
from atoll.simulate.membership import Member, member_of
from atoll.simulate.scenario.model import GPU, TEAM_LABEL
from atoll.simulate.shares import WHOLE, Declared, Shares

import asyncio  # isort: skip

Object = dict[str, Any]
_NANO = 1_000_000_000
_MILLI = 1_000_000
_NVIDIA = "nvidia.com/"


class ObservedStore(MemoryStore):
    """A MemoryStore that shows each commit to `see` before the writer goes on."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.see: Callable[[Event], None] | None = None

    def write(self, key: Key, expected: int, obj: Object | Encoded | None) -> asyncio.Future[Record]:
        previous = self.get(key)
        done = super().write(key, expected, obj)
        if self.see is not None:
            record = done.result()
            if obj is None:
                self.see(Event("DELETED", record.version, record, previous))
            else:
                self.see(Event("ADDED" if previous is None else "MODIFIED", record.version, record, previous))
        return done


class Pod(Struct, frozen=True):
    """A pod as far as simulations care. Requests in nano-units, by resource."""

    key: tuple[str, str]
    uid: str
    job: str  # the owning Job's name, "" where there is none
    team: str
    requests: Mapping[str, int]
    labels: Mapping[str, str]
    node: str
    phase: str
    ready: bool
    deleting: bool
    disruption: str  # the reason of its DisruptionTarget condition
    tolerations: tuple[Mapping[str, Any], ...]
    gang: Member | None = None  # that it names itself
    parts: tuple[tuple[int, int], ...] = ()  # (number, milli) of the node's GPUs that it shares
    devices: tuple[str, ...] = ()  # ids of the GPUs, partitions and time slices that its containers were given
    claims: tuple[str, ...] = ()  # ResourceClaims
    claimed: tuple[str, ...] = ()  # devices of its node that it has by them
    gpus: float = 0.0  # what it asks for, in whole GPUs of its node

    @property
    def holds(self) -> bool:
        """It is on a node and has not ended: what it asked for is taken."""
        return bool(self.node) and self.phase not in ("Succeeded", "Failed")

    @property
    def running(self) -> bool:
        return self.phase == "Running" and not self.deleting


class Node(Struct, frozen=True):
    """A node as far as simulations care. Amounts in nano-units."""

    name: str
    ready: bool
    unschedulable: bool
    capacity: Mapping[str, int]
    allocatable: Mapping[str, int]
    taints: tuple[Mapping[str, Any], ...]
    labels: Mapping[str, str]
    gpus: int = 0  # physical ones
    units: Mapping[str, float] = {}  # how much of a GPU one of each resource is

    @property
    def advertised(self) -> int:
        """nvidia.com/gpu: partitions and time slices among them, where the node gives these out under that name."""
        return self.capacity.get(GPU, 0) // _NANO


class Listener(Protocol):
    """Who wants to know; each method's default is to do nothing. `now`: seconds of the run."""

    def on_pod(self, old: Pod | None, new: Pod | None, now: float) -> None:
        return None

    def on_node(self, old: Node | None, new: Node | None, now: float) -> None:
        return None

    def on_object(self, resource: str, old: Object | None, new: Object | None, now: float) -> None:
        """Of the resources that it names in `resources`."""
        return

    resources: tuple[str, ...] = ()


class Ledger:
    """`pods` and `nodes` are what is there now; `digest()` is of all commits so far."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hash = hashlib.sha256()
        self._listeners: list[Listener] = []
        self._named: dict[str, list[Listener]] = {}
        self._shares = Shares()
        self._declared: dict[str, Declared] = {}
        self._claims: dict[tuple[str, str], Object] = {}
        self._templates: dict[tuple[str, str], int] = {}  # ResourceClaimTemplate → devices that it asks for
        self._operators: dict[str, Object] = {}  # ConfigMaps of the GPU operator's namespace
        self._typical: dict[str, tuple[float, float]] = {}  # resource → units that there are, and GPUs that they are
        self.pods: dict[tuple[str, str], Pod] = {}
        self.nodes: dict[str, Node] = {}
        self.commits = 0
        self.answers_since = -math.inf  # the API server; inf while it does not
        self._away = 0

    def add(self, listener: Listener) -> None:
        self._listeners.append(listener)
        for resource in listener.resources:
            self._named.setdefault(resource, []).append(listener)

    def away(self, change: int, now: float) -> None:
        """The API server stops (1) or begins again (-1) to answer; several faults may hold it."""
        self._away += change
        self.answers_since = math.inf if self._away else now

    def digest(self) -> str:
        return self._hash.hexdigest()

    def see(self, event: Event) -> None:
        """One commit."""
        record = event.record
        self.commits += 1
        self._hash.update(f"{event.version} {event.type} {record.key}".encode())
        self._hash.update(record.data)
        resource = record.key.resource
        if resource == "pods":
            self._pod(event)
        elif resource == "nodes":
            self._node(event)
        elif resource == "resourceclaims.resource.k8s.io":
            self._claim(event)
        elif resource == "resourceclaimtemplates.resource.k8s.io":
            self._templates[record.key.namespace, record.key.name] = _asked(record.object)
        elif resource == "configmaps" and record.key.namespace == OPERATOR:
            self._operators.pop(record.key.name, None)
            if event.type != "DELETED":
                self._operators[record.key.name] = record.object
            self._shares.configure(self._operators.values())
        for listener in self._named.get(resource, ()):
            old = None if event.previous is None else event.previous.object
            new = None if event.type == "DELETED" else record.object
            listener.on_object(resource, old, new, self._clock.monotonic())

    def _pod(self, event: Event) -> None:
        key = (event.record.key.namespace, event.record.key.name)
        old = self.pods.get(key)
        new: Pod | None = None
        if event.type == "DELETED":
            self.pods.pop(key, None)
        else:
            new = pod_of(event.record.object, old)
            settled = old is not None and old.uid == new.uid and bool(old.node)
            if old is not None and settled:
                new = structs.replace(new, gpus=old.gpus, claimed=old.claimed)
            else:
                claimed = self._devices_of(new)
                new = structs.replace(new, gpus=self.gpus_of(new.requests, new.node, claimed), claimed=claimed)
            if new == old:
                return
            self.pods[key] = new
        now = self._clock.monotonic()
        for listener in self._listeners:
            listener.on_pod(old, new, now)

    def _claim(self, event: Event) -> None:
        key = (event.record.key.namespace, event.record.key.name)
        if event.type == "DELETED":
            self._claims.pop(key, None)
        else:
            self._claims[key] = event.record.object

    def _devices_of(self, pod: Pod) -> tuple[str, ...]:
        """GPUs and partitions of its node that its claims have, whoever shares them."""
        given = (
            result
            for name in pod.claims if pod.node
            for result in devices_given(self._claims.get((pod.key[0], name)))
        )  # fmt: skip
        return tuple(it["device"] for it in given if it["driver"] == DRIVER and it["pool"] == pod.node)

    def _node(self, event: Event) -> None:
        name = event.record.key.name
        old = self.nodes.get(name)
        new: Node | None = None
        if event.type == "DELETED":
            self.nodes.pop(name, None)
            self._declared.pop(name, None)
        else:
            declared = self._shares.of(event.record.object)
            if declared is not None:
                self._declared[name] = declared
            new = node_of(event.record.object, declared)
            if new == old:
                return
            self.nodes[name] = new
        self._count(old, -1)
        self._count(new, 1)
        now = self._clock.monotonic()
        for listener in self._listeners:
            listener.on_node(old, new, now)

    def _count(self, node: Node | None, sign: int) -> None:
        for name, part in node.units.items() if node is not None else ():
            units, gpus = self._typical.get(name, (0.0, 0.0))
            amount = sign * node.capacity.get(name, 0) / _NANO  # type: ignore[union-attr]
            self._typical[name] = (units + amount, gpus + amount * part)

    def gpus_of_job(self, job: Object) -> float:
        """What each of its pods asks for; a device counts as a GPU as long as nobody knows which it will be."""
        spec, space = job["spec"]["template"]["spec"], job["metadata"]["namespace"]
        names = [item.get("resourceClaimTemplateName") for item in spec.get("resourceClaims") or ()]
        claimed = sum(self._templates.get((space, name), 0) for name in names if name)
        return claimed + self.gpus_of(requests_of(job["spec"]["template"]))

    def gpus_of(self, requests: Mapping[str, int], node: str = "", claimed: Iterable[str] = ()) -> float:
        """Whole GPUs that requests and devices are: on a node, or on the mean of those that have the resource."""
        found, there = 0.0, self.nodes.get(node)
        if node in self._declared:
            found += sum(self._declared[node].claimed(device) for device in claimed)
        for name, amount in requests.items():
            if amount and name.startswith(_NVIDIA):
                units, gpus = self._typical.get(name, (0.0, 0.0))
                part = there.units.get(name) if there is not None else None
                if part is None:
                    part = gpus / units if units > 0 else WHOLE.get(name, 0.0)
                found += amount * part / _NANO
        return found


def pod_of(obj: Object, old: Pod | None = None) -> Pod:
    """`old`: its state before; what can't change is taken from that."""
    metadata, spec, status = obj["metadata"], obj["spec"], obj.get("status") or {}
    labels = metadata.get("labels") or {}
    disrupted = condition(obj, "DisruptionTarget")
    if old is not None and old.uid == metadata["uid"]:
        job, team, requests, gang = old.job, old.team, old.requests, old.gang
    else:
        owner = controller_of(obj)
        job = owner["name"] if owner is not None and owner["kind"] == "Job" else ""
        team = labels.get(TEAM_LABEL) or labels.get(kueue.QUEUE_LABEL) or metadata["namespace"]
        requests, gang = requests_of(obj), member_of(obj)
    return Pod(
        key=(metadata["namespace"], metadata["name"]), uid=metadata["uid"], job=job, team=team, requests=requests,
        labels=labels, node=spec.get("nodeName") or "", phase=status.get("phase") or "Pending",
        ready=(condition(obj, "Ready") or {}).get("status") == "True", deleting="deletionTimestamp" in metadata,
        disruption=disrupted["reason"] if disrupted is not None and disrupted["status"] == "True" else "",
        tolerations=tuple(spec.get("tolerations") or ()), gang=gang,
        parts=_parts(obj), devices=_devices(status), claims=tuple(sorted(filter(None, claims_of(obj).values()))),
    )  # fmt: skip


def requests_of(pod: Object) -> Mapping[str, int]:
    """Of a pod or a template, in nano-units; parts of GPUs count as such."""
    requests, share = pod_requests(pod), share_of(meta.annotations(pod))
    if share is None:
        return requests
    return {**requests, GPU: requests.get(GPU, 0) + share.count * share.milli * _MILLI}


def _parts(pod: Object) -> tuple[tuple[int, int], ...]:
    """What the scheduler has written with the binding."""
    notes = meta.annotations(pod)
    share = share_of(notes) if INDEX in notes else None
    return () if share is None else tuple((device, share.milli) for device in devices_of(notes))


def _devices(status: Object) -> tuple[str, ...]:
    """Where kubelet tells of them (KEP-4680); an app container may have what an init container had."""
    found = {
        item["resourceID"]
        for kind in ("containerStatuses", "initContainerStatuses")
        for container in status.get(kind) or ()
        for resource in container.get("allocatedResourcesStatus") or ()
        if resource["name"].startswith(_NVIDIA)
        for item in resource.get("resources") or ()
    }
    return tuple(sorted(found))


def _asked(template: Object) -> int:
    requests = ((template["spec"].get("spec") or {}).get("devices") or {}).get("requests") or ()
    return sum((item.get("exactly") or {}).get("count", 1) for item in requests)


def devices_given(claim: Object | None) -> Iterator[Object]:
    """The devices of a claim, but for those that are only looked at."""
    for result in results(claim or {}):
        if not result.get("adminAccess"):
            yield result


def node_of(obj: Object, declared: Declared | None = None) -> Node:
    """`declared`: where it declares GPUs."""
    metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
    capacity = _amounts(status.get("capacity"))
    gpus = len(declared.gpus) if declared is not None else capacity.get(GPU, 0) // _NANO
    units = declared.units if declared is not None else WHOLE
    return Node(
        name=metadata["name"], ready=(condition(obj, "Ready") or {}).get("status") == "True",
        unschedulable=bool(spec.get("unschedulable")), capacity=capacity, gpus=gpus, units=units,
        allocatable=_amounts(status.get("allocatable")), taints=tuple(spec.get("taints") or ()),
        labels=metadata.get("labels") or {},
    )  # fmt: skip


def _amounts(amounts: Object | None) -> dict[str, int]:
    found = {name: quantity.parse(value) for name, value in (amounts or {}).items()}
    if COUNT in found:
        found[GPU] = found.get(GPU, 0) + found[COUNT]  # GPUs that are given in parts
    return found
