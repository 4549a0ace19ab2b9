"""Kueue's own configuration (config.kueue.x-k8s.io Configuration), as its ConfigMap holds it; the parts we act upon.

Read from ConfigMap kueue-system/kueue-manager-config, key controller_manager_config.yaml: waitForPodsReady,
fairSharing, admissionFairSharing, manageJobsWithoutQueueName with managedJobsNamespaceSelector, multiKueue's origin,
workerLostTimeout, gcInterval and dispatcherName, resources' excludeResourcePrefixes, transformations and
deviceClassMappings. Everything else there is for Kueue's own process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import yaml

from atoll.capacity.queueing.dispatch import ALL_AT_ONCE
from atoll.capacity.queueing.fair import FINAL, INITIAL
from atoll.capacity.queueing.model import FairSharing, PastUsage
from atoll.capacity.queueing.read import CREATION, EVICTION
from atoll.capacity.queueing.requests import Counting, Transformation, quantities
from atoll.objects.selectors import from_object

NAMESPACE, NAME, FILE = "kueue-system", "kueue-manager-config", "controller_manager_config.yaml"
_GROUP = "config.kueue.x-k8s.io"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
T = TypeVar("T")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


class ConfigError(ValueError):
    """The text names the key."""


@dataclass(frozen=True, slots=True)
class PodsReady:
    """waitForPodsReady. `backoff_limit` None: requeued without end."""

    enabled: bool = False
    timeout_seconds: float = 300.0
    recovery_seconds: float | None = None
    block: bool = False
    order_by: str = EVICTION
    backoff_limit: int | None = None
    backoff_base_seconds: float = 60.0
    backoff_most_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Unnamed:
    """What becomes of jobs that name no queue: if `managed`, those of selected namespaces wait until they name one."""

    managed: bool = False
    selector: Mapping[str, Any] | None = None  # of namespaces; None: all but kube-system and kueue-system

    def selects(self, namespace: str, labels: Mapping[str, str]) -> bool:
        if not self.managed:
            return False
        if self.selector is None:
            return namespace not in ("kube-system", NAMESPACE)
        return from_object(dict(self.selector)).matches(labels)


@dataclass(frozen=True, slots=True)
class MultiKueueOptions:
    """multiKueue. `origin` marks what this manager makes on workers: managers that share one must differ in it."""

    origin: str = "multikueue"
    lost_seconds: float = 900.0  # how long a worker may be silent before its workloads are queued anew
    gc_seconds: float = 60.0  # how often workers are looked through for what nobody wants; 0: never
    dispatcher: str = ALL_AT_ONCE  # one of Kueue's two, or the name of somebody's own


@dataclass(frozen=True, slots=True)
class Options:
    pods_ready: PodsReady = field(default_factory=PodsReady)
    fair: FairSharing = field(default_factory=FairSharing)
    past: PastUsage = field(default_factory=PastUsage)
    unnamed: Unnamed = field(default_factory=Unnamed)
    multi: MultiKueueOptions = field(default_factory=MultiKueueOptions)
    counting: Counting = field(default_factory=Counting)


def parse(text: str) -> Options:
    """Raises ConfigError."""
    try:
        found = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {error}") from None
    if not isinstance(found, dict) or not str(found.get("apiVersion", "")).startswith(f"{_GROUP}/"):
        raise ConfigError(f"must be a Configuration of {_GROUP}")
    return Options(
        _read(found, "waitForPodsReady", _pods_ready_of_old if _is_old(found) else _pods_ready),
        _read(found, "fairSharing", _fair),
        _read(found, "admissionFairSharing", _past),
        _unnamed(found),
        _read(found, "multiKueue", _multi),
        _read(found, "resources", _counting),
    )


def _read(found: Mapping[str, Any], key: str, reader: Callable[[Mapping[str, Any]], T]) -> T:
    """A section; a value of another type than its reader expects is a mistake like any other."""
    try:
        return reader(_part(found, key))
    except ConfigError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"{key}: {error}") from None


def _part(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = found.get(key) or {}
    if not isinstance(part, dict):
        raise ConfigError(f"{key}: must be a mapping")
    return part


def _multi(part: Mapping[str, Any]) -> MultiKueueOptions:
    plain = MultiKueueOptions()
    names = {"origin": part.get("origin", plain.origin), "dispatcherName": part.get("dispatcherName", ALL_AT_ONCE)}
    for key, name in names.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"multiKueue.{key}: {name!r} is no name")
    durations = ("workerLostTimeout", "gcInterval")
    seconds = {key: _seconds(part[key], f"multiKueue.{key}") for key in durations if key in part}
    return MultiKueueOptions(
        names["origin"],
        seconds.get("workerLostTimeout", plain.lost_seconds),
        seconds.get("gcInterval", plain.gc_seconds),
        names["dispatcherName"],
    )


def _unnamed(found: Mapping[str, Any]) -> Unnamed:
    managed = found.get("manageJobsWithoutQueueName", False)
    if not isinstance(managed, bool):
        raise ConfigError(f"manageJobsWithoutQueueName: {managed!r} is not true or false")
    selector = found.get("managedJobsNamespaceSelector")
    if selector is None:
        return Unnamed(managed)
    if not isinstance(selector, dict):
        raise ConfigError("managedJobsNamespaceSelector: must be a label selector")
    try:
        from_object(selector)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"managedJobsNamespaceSelector: {error}") from None
    return Unnamed(managed, selector)


def _is_old(found: Mapping[str, Any]) -> bool:
    return str(found["apiVersion"]).endswith("/v1beta1")


def _pods_ready_of_old(part: Mapping[str, Any]) -> PodsReady:
    """v1beta1's is on where it says so, and blocks unless it says otherwise; v1beta2's is on where it is there."""
    return _pods_ready({"blockAdmission": True, **part}) if part.get("enable") is True else PodsReady()


def _pods_ready(part: Mapping[str, Any]) -> PodsReady:
    if not part or part.get("enable") is False:
        return PodsReady()
    requeuing = _part(part, "requeuingStrategy")
    order_by = requeuing.get("timestamp", EVICTION)
    if order_by not in (CREATION, EVICTION):
        raise ConfigError(f"waitForPodsReady.requeuingStrategy.timestamp: {order_by!r} is not Eviction or Creation")
    recovery = part.get("recoveryTimeout")
    return PodsReady(
        True,
        _seconds(part.get("timeout", "5m"), "waitForPodsReady.timeout"),
        None if recovery is None else _seconds(recovery, "waitForPodsReady.recoveryTimeout"),
        bool(part.get("blockAdmission", False)),
        order_by,
        None if requeuing.get("backoffLimitCount") is None else int(requeuing["backoffLimitCount"]),
        float(requeuing.get("backoffBaseSeconds", 60)),
        float(requeuing.get("backoffMaxSeconds", 3600)),
    )


def _fair(part: Mapping[str, Any]) -> FairSharing:
    if not part or part.get("enable") is False:
        return FairSharing()
    strategies = tuple(part.get("preemptionStrategies") or (FINAL, INITIAL))
    if strategies not in ((FINAL,), (INITIAL,), (FINAL, INITIAL)):
        raise ConfigError(f"fairSharing.preemptionStrategies: one of [{FINAL}], [{INITIAL}], [{FINAL}, {INITIAL}]")
    return FairSharing(True, strategies)


def _past(part: Mapping[str, Any]) -> PastUsage:
    if not part:
        return PastUsage()
    weights = {str(name): float(weight) for name, weight in (part.get("resourceWeights") or {}).items()}
    return PastUsage(
        _seconds(part.get("usageHalfLifeTime", "0s"), "admissionFairSharing.usageHalfLifeTime"),
        _seconds(part.get("usageSamplingInterval", "5m"), "admissionFairSharing.usageSamplingInterval"),
        weights,
    )


def _counting(part: Mapping[str, Any]) -> Counting:
    prefixes = part.get("excludeResourcePrefixes") or []
    if not isinstance(prefixes, list) or not all(isinstance(item, str) and item for item in prefixes):
        raise ConfigError("resources.excludeResourcePrefixes: must be a list of prefixes of resources' names")
    found: dict[str, Transformation] = {}
    for index, item in enumerate(part.get("transformations") or ()):
        key = f"resources.transformations[{index}]"
        name = item.get("input") if isinstance(item, dict) else None
        if not isinstance(name, str) or not name or name in found:
            raise ConfigError(f"{key}.input: must name a resource that no other transformation names")
        if item.get("strategy", "Retain") not in ("Retain", "Replace"):
            raise ConfigError(f"{key}.strategy: {item['strategy']!r} is not Retain or Replace")
        try:
            outputs = quantities(_part(item, "outputs"))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{key}.outputs: {error}") from None
        found[name] = Transformation(outputs, item.get("strategy") != "Replace", item.get("multiplyBy") or "")
    return Counting(tuple(prefixes), found, _classes(part.get("deviceClassMappings") or ()))


def _classes(listed: Any) -> dict[str, str]:
    """By DeviceClass the resource as which its devices count."""
    found: dict[str, str] = {}
    for index, item in enumerate(listed):
        key = f"resources.deviceClassMappings[{index}]"
        name, classes = (item.get("name"), item.get("deviceClassNames")) if isinstance(item, dict) else (None, None)
        if not isinstance(name, str) or not name or not isinstance(classes, list) or not classes:
            raise ConfigError(f"{key}: must have a name and deviceClassNames")
        if "sources" in item:
            raise ConfigError(f"{key}.sources: counters are not counted here, only devices")
        for one in classes:
            if not isinstance(one, str) or one in found:
                raise ConfigError(f"{key}.deviceClassNames: {one!r} is mapped already, or no name")
            found[one] = name
    return found


def _seconds(text: Any, key: str) -> float:
    """Go's durations: 5m, 1h30m, 0s."""
    parts = _DURATION.findall(str(text))
    if "".join(number + unit for number, unit in parts) != str(text) or not parts:
        raise ConfigError(f"{key}: {text!r} is not a duration such as 5m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
