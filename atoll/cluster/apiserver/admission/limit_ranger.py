"""LimitRanger: defaults for containers, and the minimum, maximum and ratio of a LimitRange, in upstream's words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver.admission.errors import forbidden
from atoll.cluster.apiserver.ports import AdmissionRequest, User
from atoll.cluster.store.port import Store
from atoll.objects.pod_resources import pod_limits, pod_requests

Object = dict[str, Any]
_ANNOTATION = "kubernetes.io/limit-ranger"


class LimitRanger:
    resources = frozenset(("pods", "persistentvolumeclaims"))

    def __init__(self, store: Store) -> None:
        self._store = store

    def depends_on(self, user: User) -> tuple[str, ...]:
        return ("limitranges",)

    def mutate(self, request: AdmissionRequest) -> None:
        if request.operation != "CREATE" or request.subresource or request.obj is None:
            return
        if request.resource.plural == "pods" and self._store.count("limitranges"):
            for limit_range in self._ranges(request):
                _default_pod(request.obj, limit_range)

    def validate(self, request: AdmissionRequest) -> None:
        pods = request.resource.plural == "pods"
        if request.obj is None or request.operation == "DELETE" or request.subresource not in ("", "resize"):
            return
        if (pods and request.operation == "UPDATE" and request.subresource != "resize") or not self._store.count(
            "limitranges"
        ):
            return
        problems: list[str] = []
        for limit_range in self._ranges(request):
            for limit in limit_range["spec"].get("limits") or ():
                problems += _check_pod(request.obj, limit) if pods else _check_claim(request.obj, limit)
        if problems:
            unique = list(dict.fromkeys(problems))
            raise forbidden(request, unique[0] if len(unique) == 1 else "[" + ", ".join(unique) + "]")

    def _ranges(self, request: AdmissionRequest) -> Iterator[Object]:
        return (record.object for record in self._store.scan("limitranges", request.namespace))


def _default_pod(pod: Object, limit_range: Object) -> None:
    limits: Object = {}
    requests: Object = {}
    for limit in limit_range["spec"].get("limits") or ():
        if limit.get("type") == "Container":
            requests |= limit.get("defaultRequest") or {}
            limits |= limit.get("default") or {}
    if not limits and not requests:
        return
    notes: list[str] = []
    spec = pod["spec"]
    for kind, field in (("container", "containers"), ("init container", "initContainers")):
        for container in spec.get(field) or ():
            resources = container["resources"] = dict(container.get("resources") or {})
            for name, defaults, word in (("requests", requests, "request"), ("limits", limits, "limit")):
                own = resources.get(name) or {}
                added = sorted(key for key in defaults if key not in own)
                if added:
                    resources[name] = {**own, **{key: defaults[key] for key in added}}
                    notes.append(f"{', '.join(added)} {word} for {kind} {container['name']}")
    if notes:
        metadata = pod["metadata"]
        value = "LimitRanger plugin set: " + "; ".join(notes)
        metadata["annotations"] = {**(metadata.get("annotations") or {}), _ANNOTATION: value}


def _check_pod(pod: Object, limit: Object) -> list[str]:
    spec = pod["spec"]
    if limit.get("type") == "Container":
        problems: list[str] = []
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            resources = container.get("resources") or {}
            problems += _check(limit, _parsed(resources.get("requests")), _parsed(resources.get("limits")))
        return problems
    if limit.get("type") == "Pod":
        return _check(limit, pod_requests(pod, overhead=False), pod_limits(pod, overhead=False))
    return []


def _check_claim(claim: Object, limit: Object) -> list[str]:
    if limit.get("type") != "PersistentVolumeClaim":
        return []
    requests = _parsed((claim["spec"].get("resources") or {}).get("requests"))
    problems = [_minimum("PersistentVolumeClaim", n, v, requests, {}) for n, v in _each(limit, "min")]
    for name, value in _each(limit, "max"):
        has = name in requests
        text = f"maximum {name} usage per PersistentVolumeClaim is {value}"
        if not has:
            problems.append(f"{text}.  No request is specified")
        elif requests[name] > quantity.parse(value):
            problems.append(f"{text}, but request is {_text(name, requests[name])}")
    return [problem for problem in problems if problem]


def _check(limit: Object, requests: dict[str, int], limits: dict[str, int]) -> list[str]:
    kind = limit["type"]
    problems = [_minimum(kind, name, value, requests, limits) for name, value in _each(limit, "min")]
    problems += [_maximum(kind, name, value, requests, limits) for name, value in _each(limit, "max")]
    problems += [_ratio(kind, name, value, requests, limits) for name, value in _each(limit, "maxLimitRequestRatio")]
    return [problem for problem in problems if problem]


def _each(limit: Object, field: str) -> list[tuple[str, str]]:
    return sorted((limit.get(field) or {}).items())


def _parsed(resources: Object | None) -> dict[str, int]:
    return {name: quantity.parse(value) for name, value in (resources or {}).items()}


def _text(name: str, nano: int) -> str:
    if name in ("memory", "storage", "ephemeral-storage") and nano % quantity.NANO == 0:
        return quantity.canonical(quantity.from_units_binary(nano // quantity.NANO))
    return quantity.from_nano(nano)


def _minimum(kind: str, name: str, value: str, requests: dict[str, int], limits: dict[str, int]) -> str:
    bound = quantity.parse(value)
    text = f"minimum {name} usage per {kind} is {value}"
    if name not in requests:
        return f"{text}.  No request is specified"
    if requests[name] < bound:
        return f"{text}, but request is {_text(name, requests[name])}"
    if name in limits and limits[name] < bound:
        return f"{text}, but limit is {_text(name, limits[name])}"
    return ""


def _maximum(kind: str, name: str, value: str, requests: dict[str, int], limits: dict[str, int]) -> str:
    bound = quantity.parse(value)
    text = f"maximum {name} usage per {kind} is {value}"
    if name not in limits:
        return f"{text}.  No limit is specified"
    if limits[name] > bound:
        return f"{text}, but limit is {_text(name, limits[name])}"
    if requests.get(name, 0) > bound:
        return f"{text}, but request is {_text(name, requests[name])}"
    return ""


def _ratio(kind: str, name: str, value: str, requests: dict[str, int], limits: dict[str, int]) -> str:
    text = f"{name} max limit to request ratio per {kind} is {value}"
    if not requests.get(name):
        return f"{text}, but no request is specified or request is 0"
    if not limits.get(name):
        return f"{text}, but no limit is specified or limit is 0"
    ratio = limits[name] / requests[name]
    if ratio * quantity.NANO > quantity.parse(value):
        return f"{text}, but provided ratio is {ratio:f}"
    return ""
