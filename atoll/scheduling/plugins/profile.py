"""Profiles: which plugins decide for the pods of one schedulerName, as kube-scheduler's configuration file says it.

Read is `KubeSchedulerConfiguration`: of each profile `plugins` (`multiPoint`, `filter` and `score`, enabled and
disabled, `*` for all, weights) and `pluginConfig`. Start is what the default profile has. Two sorts of plugins wait to
be enabled: Open-Gpu-Share, and the GPU scores (`gpu_scores.py`), whose argument `typicalPods` says which pods are to be
expected:

    typicalPods: [{cpu: 4, gpuMilli: 500, gpuCount: 1, gpuModel: "V100M16|V100M32", weight: 12}]

Refused are plugins, extension points and arguments that are not known here, rather than passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

from atoll.base.chance import Chance
from atoll.base.errors import UserError
from atoll.scheduling.devices.annotations import COUNT, MILLI, MODEL, share_of
from atoll.scheduling.devices.model import Request
from atoll.scheduling.plugins.chosen import Chosen
from atoll.scheduling.plugins.gpu_scores import GPU_SCORES, gpu_score
from atoll.scheduling.plugins.gpu_share import NAME as GPU_SHARE
from atoll.scheduling.plugins.gpu_share import GpuShare
from atoll.scheduling.plugins.port import Plugin
from atoll.scheduling.plugins.registry import default_plugins
from atoll.scheduling.resources import CPU, amount

Object = Mapping[str, Any]
KIND = "KubeSchedulerConfiguration"
_GROUP = "kubescheduler.config.k8s.io/"
_MOST_WEIGHT = 100_000
_PODS = "typicalPods"
# Points that a plugin of these names has upstream and that are part of its filter or score here.
_IMPLIED = ("queueSort", "preEnqueue", "preFilter", "preScore", "postFilter", "reserve", "permit", "preBind", "bind")


def gpu_profile(score: str, chance: Chance, expected: Sequence[Request] = ()) -> tuple[Plugin, ...]:
    """The default filters and Open-Gpu-Share's, and one GPU score in place of the default scores."""
    filters = [Chosen(plugin, scores=False) for plugin in default_plugins()]
    return (*filters, GpuShare(), gpu_score(score, chance, expected))


def profiles_of(document: Any, chance: Chance, installed: Sequence[Plugin] = ()) -> dict[str, tuple[Plugin, ...]]:
    """By schedulerName. Raises UserError, which names the key that is wrong."""
    if not isinstance(document, Mapping) or document.get("kind") != KIND:
        raise UserError(f"kind: is not {KIND}", hint="give the file that kube-scheduler takes with --config")
    if not str(document.get("apiVersion", "")).startswith(_GROUP):
        raise UserError(f"apiVersion: {document.get('apiVersion')!r} is not {_GROUP}v1", hint=f"write {_GROUP}v1")
    found: dict[str, tuple[Plugin, ...]] = {}
    for number, item in enumerate(_list(document, "profiles", "")):
        key = f"profiles[{number}]"
        if not isinstance(item, Mapping):
            raise _wrong(key, "is not a map", "give each profile a schedulerName and plugins")
        name = item.get("schedulerName") or "default-scheduler"
        if not isinstance(name, str) or name in found:
            raise _wrong(f"{key}.schedulerName", f"{name!r} is taken or no name", "give each profile a name of its own")
        found[name] = _Reader(key, item, chance.stream(f"profile-{name}"), installed).plugins()
    return found


class _Reader:
    """One profile."""

    def __init__(self, key: str, item: Object, chance: Chance, installed: Sequence[Plugin]) -> None:
        self._key = key
        self._item = item
        self._chance = chance
        self._known = {plugin.name: plugin for plugin in (*default_plugins(), *installed)}
        self._all = (*self._known, GPU_SHARE, *GPU_SCORES)
        self._filters: dict[str, None] = dict.fromkeys(self._known)
        self._scores: dict[str, int | None] = dict.fromkeys(self._known)

    def plugins(self) -> tuple[Plugin, ...]:
        arguments = self._arguments()
        points = self._map(self._item, "plugins")
        for point in ("multiPoint", "filter", "score"):
            self._point(point, self._map(points, point))
        for point in points:
            if point not in (*_IMPLIED, "multiPoint", "filter", "score"):
                raise self._wrong(f"plugins.{point}", "is no extension point", "use multiPoint, filter and score")
            self._enabled(point, self._map(points, point))
        chosen = [name for name in self._all if name in self._filters or name in self._scores]
        if set(chosen) & set(GPU_SCORES) and GPU_SHARE not in self._filters:
            raise self._wrong(
                "plugins.filter", f"{GPU_SHARE} is missing", f"enable {GPU_SHARE} beside a GPU score: it refuses nodes"
            )
        return tuple(
            Chosen(
                self._made(name, arguments.get(name, ())),
                filters=name in self._filters,
                scores=name in self._scores,
                weight=self._scores.get(name),
            )
            for name in chosen
        )

    def _made(self, name: str, expected: Sequence[Request]) -> Plugin:
        if name == GPU_SHARE:
            return GpuShare()
        if name in GPU_SCORES:
            return gpu_score(name, self._chance.stream(name), expected)
        return self._known[name]

    def _point(self, point: str, sets: Object) -> None:
        targets = {"multiPoint": (True, True), "filter": (True, False), "score": (False, True)}[point]
        for name in self._names(f"plugins.{point}.disabled", sets.get("disabled")):
            gone = list(self._all) if name == "*" else [name]
            for each in gone:
                if targets[0]:
                    self._filters.pop(each, None)
                if targets[1]:
                    self._scores.pop(each, None)
        for name, weight in self._enabled(point, sets).items():
            if targets[0]:
                self._filters[name] = None
            if targets[1]:
                self._scores[name] = weight

    def _names(self, key: str, items: Any) -> list[str]:
        names = [item.get("name") if isinstance(item, Mapping) else None for item in items or ()]
        for name in names:
            if name != "*" and name not in self._all:
                raise self._wrong(key, f"{name!r} is no plugin here", f"known are {', '.join(self._all)}")
        return [str(name) for name in names]

    def _enabled(self, point: str, sets: Object) -> dict[str, int | None]:
        key = f"plugins.{point}.enabled"
        found: dict[str, int | None] = {}
        for name, item in zip(self._names(key, sets.get("enabled")), sets.get("enabled") or (), strict=True):
            weight = item.get("weight")
            if weight is not None and not (isinstance(weight, int) and 1 <= weight <= _MOST_WEIGHT):
                raise self._wrong(key, f"{name}: weight {weight!r}", f"a whole number from 1 to {_MOST_WEIGHT:,}")
            found[name] = weight
        return found

    def _arguments(self) -> dict[str, list[Request]]:
        found: dict[str, list[Request]] = {}
        for number, item in enumerate(_list(self._item, "pluginConfig", self._key)):
            key = f"pluginConfig[{number}]"
            name = item.get("name") if isinstance(item, Mapping) else None
            arguments = self._map(item, "args") if isinstance(item, Mapping) else {}
            if name not in GPU_SCORES or set(arguments) - {_PODS, "apiVersion", "kind"}:
                raise self._wrong(key, f"arguments of {name!r}", f"only GPU scores take one here, {_PODS}")
            found[name] = [
                request
                for place, pod in enumerate(_list(arguments, _PODS, key))
                for request in self._typical(f"{key}.args.{_PODS}[{place}]", pod)
            ]
        return found

    def _typical(self, key: str, pod: Any) -> repeat[Request]:
        if not isinstance(pod, Mapping):
            raise self._wrong(key, "is not a map", "cpu, gpuMilli, gpuCount, gpuModel, weight")
        words = {MILLI: "gpuMilli", COUNT: "gpuCount", MODEL: "gpuModel"}
        share = share_of({name: str(pod[word]) for name, word in words.items() if word in pod})
        weight = pod.get("weight", 1)
        if (share is not None and share.wrong) or not isinstance(weight, int) or not 1 <= weight <= _MOST_WEIGHT:
            raise self._wrong(key, f"{dict(pod)}", "gpuMilli from 1 to 1000, gpuCount and weight whole numbers from 1")
        cpu = amount(CPU, str(pod.get("cpu", 0)))
        if share is None:
            return repeat(Request(cpu, 0), weight)
        return repeat(Request(cpu, 0, share.count, share.milli, share.models), weight)

    def _map(self, value: Object, name: str) -> Object:
        found = value.get(name) or {}
        if not isinstance(found, Mapping):
            raise self._wrong(name, "is not a map", "write it as kube-scheduler's configuration has it")
        return found

    def _wrong(self, key: str, problem: str, hint: str) -> UserError:
        return _wrong(f"{self._key}.{key}", problem, hint)


def _list(value: Object, name: str, key: str) -> Sequence[Any]:
    found = value.get(name) or ()
    if not isinstance(found, list | tuple):
        raise _wrong(f"{key}.{name}".lstrip("."), "is not a list", "write it as kube-scheduler's configuration has it")
    return found


def _wrong(key: str, problem: str, hint: str) -> UserError:
    return UserError(f"{key}: {problem}", hint=hint)
