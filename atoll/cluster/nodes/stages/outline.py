"""What stages would do to an object, told without doing it, in the form of KWOK's own stage tests.

Times, addresses and names that only a running simulation knows are shown as place-holders: `<Now>`,
`<PodIP>`, `<PodIPWith("node", false, "", "pod", "")>`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atoll.base.chance import Chance
from atoll.base.clock import ManualClock
from atoll.cluster.nodes.stages.document import API_VERSION, CompiledStage, Toolbox, compile_stage, resource_of
from atoll.cluster.nodes.stages.model import ApplyStep, DeleteStep, EventStep, Step, possible
from atoll.cluster.nodes.stages.queries import CelEnvironment, StageError
from atoll.cluster.nodes.stages.render import Renderer
from atoll.objects.gotemplate.sprig_more import functions
from atoll.objects.gotemplate.values import go_syntax

Object = dict[str, Any]
_WALL = 1136214245.0  # 2006-01-02T15:04:05Z, Go's reference time
_SINGLE = ("NodeIP", "NodeName", "NodePort", "PodIP", "NodeIPWith", "PodIPWith", "Now", "now", "Version")
_PLURAL = ("NodeIPsWith", "PodIPsWith")


class _PlaceHolders:
    """Functions that print their own call."""

    def table(self, obj: Object) -> Mapping[str, Callable[..., Any]]:
        found: dict[str, Callable[..., Any]] = {name: _single(name) for name in _SINGLE}
        return found | {name: _plural(name) for name in _PLURAL}


def _shown(name: str, args: tuple[Any, ...]) -> str:
    return f"{name}({', '.join(go_syntax(item) for item in args)})" if args else name


def _single(name: str) -> Callable[..., str]:
    return lambda *args: f"<{_shown(name, args)}>"


def _plural(name: str) -> Callable[..., list[str]]:
    return lambda *args: [f"<{place} of {_shown(name, args)}>" for place in range(2)]


def outline(documents: Sequence[Object], obj: Object) -> Object:
    """The stages possible for an object, their delays, weights and steps. Raises StageError."""
    clock, chance = ManualClock(_WALL), Chance(0, "outline")
    renderer = Renderer(functions(chance, clock.wall), remember=False)
    tools = Toolbox(renderer, CelEnvironment(clock, chance))
    wanted = (obj["apiVersion"], obj["kind"])
    stages: list[CompiledStage] = []
    for document in documents:
        if document.get("apiVersion") != API_VERSION or document.get("kind") != "Stage":
            continue
        stage = compile_stage(document, tools) if resource_of(document) == wanted else None
        if stage is not None:
            stages.append(stage)
    found: Object = {"apiGroup": wanted[0], "kind": wanted[1], "name": obj["metadata"].get("name") or ""}
    if obj["metadata"].get("namespace"):
        found["namespace"] = obj["metadata"]["namespace"]
    found["stages"] = [_stage(stage, obj) for stage in possible(stages, obj) if isinstance(stage, CompiledStage)]
    return found


def _stage(stage: CompiledStage, obj: Object) -> Object:
    told: Object = {"stage": stage.name}
    delay = stage.delay(obj, _WALL)
    if delay is not None:
        least, most = (round(seconds * 1e9) for seconds in delay)
        told["delay"] = [least] if least == most else [least, most]
    weight = stage.weight(obj)
    if weight is not None:
        told["weight"] = weight
    told["next"] = [_step(step) for step in stage.steps(obj, _PlaceHolders())]
    if stage.immediate:
        told["next"].append({"kind": "immediate"})
    return told


def _step(step: Step) -> Object:
    if isinstance(step, EventStep):
        return {"kind": "event", "type": step.type, "reason": step.reason, "message": step.message}
    if isinstance(step, DeleteStep):
        return {"kind": "delete"}
    told: Object = {"kind": "apply" if isinstance(step, ApplyStep) else "patch", "type": step.content_type}
    if step.subresource:
        told["subresource"] = step.subresource
    told["data"] = step.data
    if step.user:
        told["impersonation"] = step.user
    return told


__all__ = ["StageError", "outline"]
