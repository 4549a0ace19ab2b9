"""From a KWOK `Stage` document to a stage that can be matched and played."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atoll.base.clock import parse_rfc3339
from atoll.base.errors import UserError
from atoll.client.port import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from atoll.cluster.nodes.stages.model import ApplyStep, DeleteStep, EventStep, Functions, PatchStep, Step
from atoll.cluster.nodes.stages.queries import CelEnvironment, Query, StageError, query
from atoll.cluster.nodes.stages.render import Renderer
from atoll.objects.gotemplate.sprig_more import parse_duration

Object = dict[str, Any]
log = logging.getLogger(__name__)

API_VERSION = "kwok.x-k8s.io/v1alpha1"
_PATCH_TYPES = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC_PATCH, "apply": APPLY_PATCH}


@dataclass(frozen=True, slots=True)
class Toolbox:
    """What documents are compiled with. `default_patch`: the type of patches that name none."""

    renderer: Renderer
    cel: CelEnvironment
    default_patch: str = MERGE_PATCH


def resource_of(document: Object) -> tuple[str, str]:
    """(apiVersion, kind) of what the stage is about."""
    reference = (document.get("spec") or {}).get("resourceRef") or {}
    return reference.get("apiGroup") or "v1", reference.get("kind") or ""


def compile_stage(document: Object, tools: Toolbox) -> CompiledStage | None:
    """A stage; None for one without a selector, which selects nothing. Raises StageError naming the stage."""
    name = (document.get("metadata") or {}).get("name") or ""
    spec = document.get("spec") or {}
    if spec.get("selector") is None:
        return None
    try:
        return CompiledStage(name, spec, tools)
    except StageError as error:
        raise StageError(f"stage {name!r}: {error.message}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise StageError(f"stage {name!r} is malformed: {error!r}") from error


class CompiledStage:
    """One stage (see `model.Stage`). Selectors are AND-ed: labels, annotations, jq, then CEL."""

    def __init__(self, name: str, spec: Object, tools: Toolbox) -> None:
        self.name = name
        self.immediate = bool(spec.get("immediateNextStage"))
        self._tools = tools
        selector = spec["selector"]
        self._labels: Object = selector.get("matchLabels") or {}
        self._annotations: Object = selector.get("matchAnnotations") or {}
        self._jq: list[Callable[[Object], bool]] = []
        self._cel: list[Callable[[Object], Any]] = []
        for item in selector.get("matchExpressions") or ():
            plain = item.get("jq") or (item if item.get("key") else None)
            if plain is not None:
                self._jq.append(_requirement(plain))
            elif item.get("cel"):
                self._cel.append(tools.cel.program(item["cel"]["expression"]))
            else:
                raise StageError("invalid expression")
        self._weight = _weight(int(spec.get("weight") or 0), spec.get("weightFrom"), tools.cel)
        self._delay: _Duration | None = None
        self._jitter: _Duration | None = None
        self._delays(spec.get("delay"), tools.cel)
        self._steps = _steps(spec)

    def _delays(self, delay: Object | None, cel: CelEnvironment) -> None:
        if delay is None:
            return
        self._delay = _duration(delay.get("durationMilliseconds") or 0, delay.get("durationFrom"), cel)
        source = delay.get("jitterDurationFrom")
        if source is not None and _jq_source(source) is None:
            source = None  # KWOK 0.8 does not look at a CEL expression here
        if delay.get("jitterDurationMilliseconds") is not None or source is not None:
            self._jitter = _duration(delay.get("jitterDurationMilliseconds"), source, cel)

    def matches(self, obj: Object) -> bool:
        """Whether the object is selected. A CEL expression that fails on it does not select it."""
        metadata = obj["metadata"]
        if not _contains(metadata.get("labels"), self._labels):
            return False
        if not _contains(metadata.get("annotations"), self._annotations):
            return False
        if not all(requirement(obj) for requirement in self._jq):
            return False
        try:
            return all(program(obj) is True for program in self._cel)
        except StageError as error:
            log.debug("stage %s: %s", self.name, error)
            return False

    def weight(self, obj: Object) -> int | None:
        return self._weight(obj)

    def delay(self, obj: Object, wall: float) -> tuple[float, float] | None:
        """(least, most) seconds; where the jitter's bound is not above the delay, it is the delay."""
        if self._delay is None:
            return None
        least = self._delay(obj, wall)
        if least is None:
            return None
        most = self._jitter(obj, wall) if self._jitter is not None else None
        if most is None:
            return least, least
        return (most, most) if most <= least else (least, most)

    def steps(self, obj: Object, functions: Functions) -> Sequence[Step]:
        """Raises UserError when a template can't be rendered for the object."""
        table = functions.table(obj)
        found: list[Step] = []
        deleted = False
        for step in self._steps:
            if step.get("event"):
                event = step["event"]
                found.append(EventStep(event.get("type") or "", event.get("reason") or "", event.get("message") or ""))
            if deleted:
                continue
            if step.get("finalizers"):
                patch = finalizers_patch(obj["metadata"].get("finalizers") or [], step["finalizers"])
                if patch:
                    found.append(PatchStep(JSON_PATCH, patch))
            if step.get("delete"):
                deleted = True
                found.append(DeleteStep())
                continue
            if step.get("patch"):
                found.append(self._patch(step["patch"], obj, table))
            if step.get("apply"):
                found.append(self._apply(step["apply"], obj, table))
        return found

    def _render(self, template: str, obj: Object, table: Mapping[str, Any]) -> Any:
        try:
            return self._tools.renderer.render(template, obj, table)
        except UserError as error:
            raise StageError(f"stage {self.name!r}: {error.message}") from error

    def _patch(self, patch: Object, obj: Object, table: Mapping[str, Any]) -> PatchStep:
        kind = patch.get("type") or ""
        if kind and kind not in ("json", "merge", "strategic"):
            raise StageError(f"stage {self.name!r}: unknown patch type {kind}")
        data = self._render(patch.get("template") or "", obj, table)
        root = patch.get("root") or ""
        if root and kind == "json":
            data = [{**operation, "path": f"/{root}{operation.get('path') or ''}"} for operation in data or ()]
        elif root:
            data = {root: data}
        content_type = _PATCH_TYPES[kind] if kind else self._tools.default_patch
        return PatchStep(content_type, data, patch.get("subresource") or "", _user(patch))

    def _apply(self, apply: Object, obj: Object, table: Mapping[str, Any]) -> ApplyStep:
        kind = apply.get("type") or "apply"
        if kind not in ("merge", "strategic", "apply"):
            raise StageError(f"stage {self.name!r}: unknown apply type {kind}")
        data = self._render(apply.get("template") or "", obj, table)
        if not isinstance(data, dict) or not data.get("apiVersion") or not data.get("kind"):
            raise StageError(f"stage {self.name!r}: template must include apiVersion and kind")
        return ApplyStep(_PATCH_TYPES[kind], data, apply.get("subresource") or "", _user(apply))


def _user(step: Object) -> str:
    return str((step.get("impersonation") or {}).get("username") or "")


def _contains(have: Mapping[str, str] | None, wanted: Object) -> bool:
    return all((have or {}).get(key) == value for key, value in wanted.items())


def _steps(spec: Object) -> list[Object]:
    """`steps`, or what the older `next` says as steps."""
    if spec.get("steps"):
        return list(spec["steps"])
    following = spec.get("next") or {}
    steps: list[Object] = []
    if following.get("event"):
        steps.append({"event": following["event"]})
    if following.get("finalizers"):
        steps.append({"finalizers": following["finalizers"]})
    if following.get("patches"):
        steps += [{"patch": patch} for patch in following["patches"]]
    elif following.get("statusTemplate"):
        patch = {"root": "status", "template": following["statusTemplate"]}
        subresource = following.get("statusSubresource")
        patch["subresource"] = "status" if subresource is None else subresource
        if following.get("statusPatchAs"):
            patch["impersonation"] = following["statusPatchAs"]
        steps.append({"patch": patch})
    if following.get("delete"):
        steps.append({"delete": True})
    return steps


def _requirement(item: Object) -> Callable[[Object], bool]:
    run, operator = query(item["key"]), item.get("operator") or ""
    values = frozenset(item.get("values") or ())
    if operator in ("In", "NotIn"):
        if not values:
            raise StageError("for 'in', 'notin' operators, values set can't be empty")
        positive = operator == "In"
        return lambda obj: any(_text(found) in values for found in run(obj)) is positive
    if operator in ("Exists", "DoesNotExist"):
        if values:
            raise StageError("values set must be empty for exists and does not exist")
        present = operator == "Exists"
        return lambda obj: bool(run(obj)) is present
    raise StageError(f"operator {operator!r} is not supported")


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else None


def _jq_source(source: Object) -> str | None:
    found = (source.get("jq") or {}).get("expression") or source.get("expressionFrom")
    return str(found) if found else None


def _weight(value: int, source: Object | None, cel: CelEnvironment) -> Callable[[Object], int | None]:
    if source is None:
        return lambda _obj: value
    if source.get("cel"):
        program = cel.program(source["cel"]["expression"])
        return lambda obj: _integer(program(obj))
    text = _jq_source(source)
    if text is None:
        return lambda _obj: value
    run: Query = query(text)

    def weight(obj: Object) -> int | None:
        found = run(obj)
        if not found:
            return value
        if isinstance(found[0], str):
            try:
                return int(found[0], 0)
            except ValueError:
                return None
        if isinstance(found[0], (int, float)) and not isinstance(found[0], bool):
            return int(found[0])
        return value

    return weight


def _integer(value: Any) -> int:
    if hasattr(value, "total_seconds"):
        return int(value.total_seconds() * 1e9)
    if isinstance(value, (int, float)):
        return int(value)
    raise StageError(f"a weight is a number, not {value!r}")


_Duration = Callable[[Object, float], float | None]


def _duration(milliseconds: int | None, source: Object | None, cel: CelEnvironment) -> _Duration:
    default = None if milliseconds is None else milliseconds / 1000
    if source is None:
        return lambda _obj, _wall: default
    if source.get("cel"):
        program = cel.program(source["cel"]["expression"])
        return lambda obj, _wall: _seconds(program(obj))
    text = _jq_source(source)
    if text is None:
        return lambda _obj, _wall: default
    run: Query = query(text)

    def duration(obj: Object, wall: float) -> float | None:
        found = run(obj)
        if not found or not isinstance(found[0], str):
            return default
        if not found[0]:
            return None
        for parse in (lambda value: parse_rfc3339(value) - wall, parse_duration):
            try:
                return float(parse(found[0]))
            except ValueError:
                continue
        return default

    return duration


def _seconds(value: Any) -> float:
    """A CEL result as a duration: text, a duration, or nanoseconds."""
    if hasattr(value, "total_seconds"):
        return float(value.total_seconds())
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except ValueError as error:
            raise StageError(str(error)) from error
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value / 1e9
    raise StageError(f"a delay is a duration, not {value!r}")


def finalizers_patch(have: list[str], change: Object) -> list[Object]:
    """The JSON patch that adds, removes or empties finalizers."""
    added = [item.get("value") or "" for item in change.get("add") or ()]
    removed = {item.get("value") or "" for item in change.get("remove") or ()}
    patch: list[Object] = []
    emptied = bool(change.get("empty"))
    if not emptied and removed:
        places = [place for place in range(len(have) - 1, -1, -1) if have[place] in removed]
        if len(places) == len(have):
            emptied = True
        else:
            patch += [{"op": "remove", "path": f"/metadata/finalizers/{place}"} for place in places]
    if emptied and have:
        patch.append({"op": "remove", "path": "/metadata/finalizers"})
    if added:
        if have and not emptied:
            patch += [
                {"op": "add", "path": "/metadata/finalizers/-", "value": value} for value in added if value not in have
            ]
        else:
            patch.append({"op": "add", "path": "/metadata/finalizers", "value": added})
    return patch
