"""Devices, slices and requests of resource.k8s.io/v1 as the allocator sees them, parsed once from their objects.

Amounts are nano-units (`base.quantity`). What one object says never changes: a changed slice is a new `Slice`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from atoll.base import quantity
from atoll.base.errors import AtollError
from atoll.objects.resource_claims import DeviceId
from atoll.scheduling.matching import NodeSelector, node_selector

Object = dict[str, Any]
PoolId = tuple[str, str]  # driver, pool
Attribute = tuple[str, Any]  # which of int, bool, string and version it is, and its value
Counters = Mapping[str, Mapping[str, int]]  # counter set → counter → amount
_EFFECTS = ("NoSchedule", "NoExecute")


class AllocationError(AtollError):
    """Something is wrong with a claim, a class or a slice: no node will do until that is mended."""


class SelectorError(AtollError):
    """An expression does not compile (`compiling`), or fails on a device."""

    def __init__(self, message: str, *, compiling: bool = False) -> None:
        super().__init__(message)
        self.compiling = compiling


class Selectors(Protocol):
    """CEL over devices, which whoever wires the scheduler plugs in."""

    def matches(self, expression: str, device: Device) -> bool:
        """Raises SelectorError."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """An amount of which claims may take parts, and what parts they may ask for."""

    text: str
    amount: int
    policy: Object | None = None


@dataclass(slots=True, eq=False)
class Device:
    """One device of a slice. `view` and `matched` are memories of the selectors."""

    id: DeviceId
    source: Object
    slice: Slice
    attributes: dict[str, Attribute]
    capacity: dict[str, Capacity]
    consumes: list[tuple[str, dict[str, int]]]
    taints: list[Object]
    shared: bool  # several claims may have it
    places: NodeSelection
    view: Any = None
    matched: dict[str, bool] = field(default_factory=dict)

    @property
    def binding_conditions(self) -> list[str]:
        found: list[str] = self.source.get("bindingConditions") or []
        return found

    def taint(self, more: Sequence[Object]) -> bool:
        """Published taints and `more` that matter to allocation; whether that changes anything."""
        taints = [item for item in (*(self.source.get("taints") or ()), *more) if item.get("effect") in _EFFECTS]
        changed = taints != self.taints
        self.taints = taints
        return changed

    def attribute(self, name: str) -> Attribute | None:
        """By its fully qualified name; the driver's own may lack the domain."""
        found = self.attributes.get(name)
        if found is None:
            domain, _, identifier = name.partition("/")
            if domain == self.id[0]:
                found = self.attributes.get(identifier)
        return found


@dataclass(slots=True, eq=False)
class NodeSelection:
    """Where a device, or all of a slice, can be used."""

    node: str = ""
    everywhere: bool = False
    selector: NodeSelector | None = None
    source: Object | None = None  # the selector as written

    @staticmethod
    def of(holder: Object) -> NodeSelection:
        source = holder.get("nodeSelector")
        return NodeSelection(holder.get("nodeName") or "", bool(holder.get("allNodes")), node_selector(source), source)

    def includes(self, name: str, labels: Mapping[str, str]) -> bool:
        if self.node:
            return name == self.node
        if self.everywhere:
            return True
        return self.selector is not None and self.selector(name, dict(labels))


@dataclass(slots=True, eq=False)
class Slice:
    """A ResourceSlice."""

    name: str
    pool: PoolId
    generation: int
    count: int  # of slices that the pool has in this generation
    places: NodeSelection
    by_device: bool
    counter_sets: dict[str, dict[str, int]]
    devices: list[Device]

    @property
    def holds_counters(self) -> bool:
        return bool(self.counter_sets)

    @property
    def home(self) -> str:
        """The one node that it is local to, "" if it may concern several."""
        return "" if self.by_device else self.places.node

    def concerns(self, name: str, labels: Mapping[str, str]) -> bool:
        """Whether a node needs to look at it."""
        if self.holds_counters:
            return True
        if self.by_device:
            return any(device.places.includes(name, labels) for device in self.devices)
        return self.places.includes(name, labels)


def parse_slice(obj: Object) -> Slice:
    """A ResourceSlice object; it has passed validation."""
    spec = obj["spec"]
    pool = spec["pool"]
    by_device = bool(spec.get("perDeviceNodeSelection"))
    made = Slice(
        name=obj["metadata"]["name"],
        pool=(spec["driver"], pool["name"]),
        generation=pool.get("generation") or 0,
        count=pool.get("resourceSliceCount") or 0,
        places=NodeSelection.of(spec),
        by_device=by_device,
        counter_sets={item["name"]: _amounts(item.get("counters")) for item in spec.get("sharedCounters") or ()},
        devices=[],
    )
    made.devices = [_device(item, made) for item in spec.get("devices") or ()]
    return made


def _device(source: Object, owner: Slice) -> Device:
    return Device(
        id=(*owner.pool, source["name"]),
        source=source,
        slice=owner,
        attributes={
            name: next(iter(value.items()), ("", None)) for name, value in (source.get("attributes") or {}).items()
        },
        capacity={
            name: Capacity(item["value"], quantity.parse(item["value"]), item.get("requestPolicy"))
            for name, item in (source.get("capacity") or {}).items()
        },
        consumes=[
            (item["counterSet"], _amounts(item.get("counters"))) for item in source.get("consumesCounters") or ()
        ],
        taints=[item for item in source.get("taints") or () if item.get("effect") in _EFFECTS],
        shared=bool(source.get("allowMultipleAllocations")),
        places=NodeSelection.of(source) if owner.by_device else owner.places,
    )


def _amounts(counters: Mapping[str, Object] | None) -> dict[str, int]:
    return {name: quantity.parse(item["value"]) for name, item in (counters or {}).items()}


@dataclass(slots=True, eq=False)
class Request:
    """One request of a claim, or one of its alternatives (`parent` is then the request's name)."""

    name: str
    parent: str
    class_name: str
    selectors: list[str]
    everything: bool  # allocationMode All
    count: int
    admin: bool
    tolerations: list[Object]
    capacity: Mapping[str, str]

    @property
    def full_name(self) -> str:
        return f"{self.parent}/{self.name}" if self.parent else self.name

    def is_named(self, names: Sequence[str]) -> bool:
        """Whether a constraint or configuration that names requests (none: all) means it."""
        return not names or self.full_name in names or (bool(self.parent) and self.parent in names)


def parse_requests(spec: Object) -> list[list[Request]]:
    """A claim's requests, each as its alternatives in order of preference. Raises AllocationError."""
    found = []
    for item in (spec.get("devices") or {}).get("requests") or ():
        if item.get("exactly") is not None:
            found.append([_request(item["name"], "", item["exactly"])])
        elif item.get("firstAvailable"):
            found.append([_request(each["name"], item["name"], each) for each in item["firstAvailable"]])
        else:
            raise AllocationError(f"request {item['name']}: unknown request type")
    return found


def _request(name: str, parent: str, source: Object) -> Request:
    mode = source.get("allocationMode") or "ExactCount"
    if mode not in ("All", "ExactCount"):
        raise AllocationError(f"request {name}: unsupported count mode {mode}")
    return Request(
        name=name,
        parent=parent,
        class_name=source.get("deviceClassName") or "",
        selectors=_expressions(source.get("selectors")),
        everything=mode == "All",
        count=source.get("count") or (1 if mode == "ExactCount" else 0),
        admin=bool(source.get("adminAccess")),
        tolerations=source.get("tolerations") or [],
        capacity=(source.get("capacity") or {}).get("requests") or {},
    )


def _expressions(selectors: Sequence[Object] | None) -> list[str]:
    return [item["cel"]["expression"] for item in selectors or ()]


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """`selectors` and `config` as written."""

    name: str
    selectors: tuple[str, ...] = ()
    config: tuple[Object, ...] = ()
    extended_resource: str = ""
    created: str = ""

    @staticmethod
    def of(obj: Object) -> DeviceClass:
        spec = obj.get("spec") or {}
        return DeviceClass(
            obj["metadata"]["name"],
            tuple(_expressions(spec.get("selectors"))),
            tuple(spec.get("config") or ()),
            spec.get("extendedResourceName") or "",
            obj["metadata"].get("creationTimestamp") or "",
        )
