"""What pods that are yet to be made will ask for, and what quota counts of it. Pure.

A job's template says less than its pods will: the API server makes requests of limits, LimitRanges have defaults, and a
RuntimeClass adds its overhead, all when a pod is made. The configuration's `resources` may leave some resources out of
quotas, or count others in their stead (upstream's pkg/workload/resources.go), and say as which resource the devices of
ResourceClaimTemplates count (pkg/dra). Amounts are as in the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.base import quantity
from atoll.objects.pod_resources import as_made, pod_limits, pod_requests

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Transformation:
    """One of the configuration's resources.transformations: each unit of its input counts as so much of others, in
    nano-units; `times`: so often as the pod asks for that resource."""

    outputs: Mapping[str, int]
    retain: bool = True
    times: str = ""


@dataclass(frozen=True, slots=True)
class Counting:
    """The configuration's `resources`: prefixes of what no quota counts, transformations by their input, and by
    DeviceClass the resource as which its devices count; without any, devices are not counted."""

    excluded: tuple[str, ...] = ()
    transformations: Mapping[str, Transformation] = field(default_factory=dict)
    classes: Mapping[str, str] = field(default_factory=dict)

    def of(self, requests: Mapping[str, int]) -> dict[str, int]:
        """Of one pod, in nano-units: what quota counts."""
        kept = {name: nano for name, nano in requests.items() if not name.startswith(self.excluded)}
        counted: dict[str, int] = {}
        for name, nano in kept.items():
            rule = self.transformations.get(name)
            if rule is None or rule.retain:
                counted[name] = counted.get(name, 0) + nano
            if rule is not None:
                units = _whole(nano) * (_whole(kept.get(rule.times, quantity.NANO)) if rule.times else 1)
                for output, factor in rule.outputs.items():
                    counted[output] = counted.get(output, 0) + factor * units
        return counted


@dataclass(frozen=True)
class Surroundings:
    """What pods are made in: LimitRanges' `spec.limits` by namespace, RuntimeClasses' overhead by name, what of them is
    counted. `template(name, namespace)`: a ResourceClaimTemplate, as it is known now."""

    limits: Mapping[str, list[Object]] = field(default_factory=dict)
    overheads: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    counting: Counting = field(default_factory=Counting)
    template: Callable[[str, str], Object | None] = field(default=lambda name, namespace: None, compare=False)

    def differs(self, namespace: str) -> bool:
        """Whether pods of that namespace may be made otherwise than those of others."""
        return bool(self.counting.classes) or namespace in self.limits

    def spec_of(self, namespace: str, template: Object) -> Object:
        """Of a pod of that template, as far as its resources go."""
        spec = template.get("spec") or {}
        ranges = [item for item in self.limits.get(namespace, ()) if item.get("type") == "Container"]
        defaults = {
            name: {key: value for item in ranges for key, value in (item.get(source) or {}).items()}
            for name, source in (("requests", "defaultRequest"), ("limits", "default"))
        }
        return as_made(spec, defaults, self.overheads.get(spec.get("runtimeClassName") or ""))

    def devices(self, namespace: str, spec: Object) -> tuple[dict[str, int], list[str]]:
        """(what quota counts of the devices of one pod's claims, in nano-units; why they can't be counted)."""
        counted: dict[str, int] = {}
        problems: list[str] = []
        for claim in spec.get("resourceClaims") or () if self.counting.classes else ():
            name = claim.get("resourceClaimTemplateName")
            if not name:
                continue  # a claim that several pods share is nobody's alone
            template = self.template(name, namespace)
            if template is None:
                problems.append(f"there is no ResourceClaimTemplate {name}")
            for request in _device_requests(template or {}):
                most: dict[str, int] = {}
                for item in request.get("firstAvailable") or [request.get("exactly") or {}]:
                    resource = self.counting.classes.get(item.get("deviceClassName") or "")
                    if resource is None:
                        problems.append(
                            f"DeviceClass {item.get('deviceClassName')} is not mapped in deviceClassMappings"
                        )
                    elif item.get("allocationMode") == "All":
                        problems.append(f"request {request.get('name')}: all devices of a node can't be counted")
                    else:
                        most[resource] = max(most.get(resource, 0), int(item.get("count") or 1) * quantity.NANO)
                for resource, nano in most.items():
                    counted[resource] = counted.get(resource, 0) + nano
        return counted, list(dict.fromkeys(problems))

    def problems(self, namespace: str, name: str, spec: Object) -> list[str]:
        """Why pods of that spec, of the pod set of that name, would be refused in their namespace."""
        found = []
        for limit in self.limits.get(namespace, ()):
            if limit.get("type") == "Pod":
                both = pod_requests({"spec": spec}, overhead=False), pod_limits({"spec": spec}, overhead=False)
                found += _out_of_range(f"podSets[{name}]", limit, *both)
            if limit.get("type") == "Container":
                for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                    own = container.get("resources") or {}
                    both = quantities(own.get("requests")), quantities(own.get("limits"))
                    found += _out_of_range(f"podSets[{name}] container {container.get('name')}", limit, *both)
        return list(dict.fromkeys(found))


def surroundings_of(
    limit_ranges: Iterable[Object],
    runtime_classes: Iterable[Object],
    counting: Counting,
    template: Callable[[str, str], Object | None] = lambda name, namespace: None,
) -> Surroundings:
    limits: dict[str, list[Object]] = {}
    for item in limit_ranges:
        limits.setdefault(item["metadata"]["namespace"], []).extend((item.get("spec") or {}).get("limits") or ())
    overheads = {item["metadata"]["name"]: (item.get("overhead") or {}).get("podFixed") for item in runtime_classes}
    return Surroundings(limits, {name: found for name, found in overheads.items() if found}, counting, template)


def _device_requests(template: Object) -> list[Object]:
    return (((template.get("spec") or {}).get("spec") or {}).get("devices") or {}).get("requests") or []


def quantities(found: Mapping[str, Any] | None) -> dict[str, int]:
    """In nano-units."""
    return {name: quantity.parse(value) for name, value in (found or {}).items()}


def _out_of_range(what: str, limit: Object, requests: Mapping[str, int], limits: Mapping[str, int]) -> list[str]:
    found = []
    for name, value in (limit.get("max") or {}).items():
        if max(requests.get(name, 0), limits.get(name, 0)) > quantity.parse(value):
            found.append(f"{what}: {name} is above the maximum of {value}")
    for name, value in (limit.get("min") or {}).items():
        if name in requests and requests[name] < quantity.parse(value):
            found.append(f"{what}: {name} is below the minimum of {value}")
    return found


def _whole(nano: int) -> int:
    return -(-nano // quantity.NANO)
