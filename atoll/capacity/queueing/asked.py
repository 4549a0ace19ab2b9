"""What pod templates ask of a topology, by annotations: read into a Workload's topologyRequest, and checked. Pure."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress

from atoll.capacity.queueing.model import Object
from atoll.kinds import kueue

_MOST_LAYERS = 3
_OF_GROUPS = ("leaderTemplate", "workerTemplate")
_WISHES = (kueue.REQUIRED_TOPOLOGY, kueue.PREFERRED_TOPOLOGY, kueue.UNCONSTRAINED_TOPOLOGY)


def topology_request(template: Object, index_label: str, *, slice_size: int | None = None) -> Object | None:
    """What a pod template's annotations ask of a topology. `index_label`: the pods' label with their rank, or "".

    `slice_size`: of slices that do not say theirs.
    """
    notes = _notes(template)
    found: Object = {}
    for name, annotation in (("required", kueue.REQUIRED_TOPOLOGY), ("preferred", kueue.PREFERRED_TOPOLOGY)):
        if notes.get(annotation):
            found[name] = notes[annotation]
    if notes.get(kueue.UNCONSTRAINED_TOPOLOGY) == "true":
        found["unconstrained"] = True
    if notes.get(kueue.SLICE_TOPOLOGY):
        size = notes.get(kueue.SLICE_SIZE, "")
        found["podSetSliceRequiredTopology"] = notes[kueue.SLICE_TOPOLOGY]
        found["podSetSliceSize"] = int(size) if size.isdigit() and int(size) > 0 else slice_size or 1
    elif notes.get(kueue.SLICE_LAYERS):
        with suppress(ValueError):
            found["podsetSliceRequiredTopologyConstraints"] = slice_layers(notes[kueue.SLICE_LAYERS])
    if notes.get(kueue.POD_SET_GROUP):
        found["podSetGroupName"] = notes[kueue.POD_SET_GROUP]
    if found and index_label:
        found["podIndexLabel"] = index_label
    return found or None


def slice_layers(text: str) -> list[Object]:
    """[{"topology": level, "size": pods}, …], from the coarsest to the finest. Raises ValueError."""
    try:
        found = json.loads(text)
        layers = [(str(item["topology"]), int(item["size"])) for item in found]
    except (ValueError, TypeError, KeyError):
        raise ValueError('must be a JSON list of {"topology": LEVEL, "size": PODS}') from None
    sizes = [size for _, size in layers]
    if not 1 <= len(layers) <= _MOST_LAYERS:
        raise ValueError(f"must have 1 to {_MOST_LAYERS} layers, not {len(layers)}")
    if min(sizes) < 1 or any(outer % inner for outer, inner in itertools.pairwise(sizes)):
        raise ValueError("each size must divide the one before it: layers go from the coarsest to the finest")
    if len({level for level, _ in layers}) < len(layers):
        raise ValueError("each layer must name a level of its own")
    return [{"topology": level, "size": size} for level, size in layers]


def topology_problems(template: Object) -> list[tuple[str, str]]:
    """(annotation, why) of what can't be meant."""
    notes = _notes(template)
    found = []
    wishes = [name for name in _WISHES if name in notes]
    if len(wishes) > 1:
        found.append((wishes[1], f"can't be together with {wishes[0]}: name one"))
    size = notes.get(kueue.SLICE_SIZE)
    if size is not None and not (size.isdigit() and int(size) > 0):
        found.append((kueue.SLICE_SIZE, f"must be a number of pods, 1 or more, not {size!r}"))
    if size is not None and kueue.SLICE_TOPOLOGY not in notes:
        found.append((kueue.SLICE_SIZE, f"has no meaning without {kueue.SLICE_TOPOLOGY}"))
    if kueue.SLICE_LAYERS in notes:
        if kueue.SLICE_TOPOLOGY in notes or size is not None:
            found.append((kueue.SLICE_LAYERS, f"can't be together with {kueue.SLICE_TOPOLOGY} or {kueue.SLICE_SIZE}"))
        try:
            slice_layers(notes[kueue.SLICE_LAYERS])
        except ValueError as error:
            found.append((kueue.SLICE_LAYERS, str(error)))
    if kueue.POD_SET_GROUP in notes and not any(name in notes for name in _WISHES[:2]):
        found.append((kueue.POD_SET_GROUP, f"needs {kueue.REQUIRED_TOPOLOGY} or {kueue.PREFERRED_TOPOLOGY}"))
    return found


def template_problems(kind: str, obj: Object) -> list[tuple[str, str]]:
    """(field, why) of a job's pod templates, or of a pod."""
    templates = _templates(kind, obj)
    found = [(path, name, why) for path, template in templates.items() for name, why in topology_problems(template)]
    groups: dict[str, tuple[str | None, ...]] = {}
    for path, template in templates.items():
        notes = _notes(template)
        group, own = notes.get(kueue.POD_SET_GROUP), tuple(notes.get(name) for name in _WISHES)
        if group and groups.setdefault(group, own) != own:
            why = f"all of group {group} must ask for the same level, required or preferred"
            found.append((path, kueue.POD_SET_GROUP, why))
    return [(f"{path}metadata.annotations[{name}]", why) for path, name, why in found]


def _templates(kind: str, obj: Object) -> dict[str, Object]:
    """By the path that leads to it."""
    spec = obj.get("spec") or {}
    if kind == "Pod":
        return {"": obj}
    if kind == "JobSet":
        jobs = enumerate(it["template"].get("spec") or {} for it in spec.get("replicatedJobs") or ())
        return {f"spec.replicatedJobs[{i}].template.spec.template.": it.get("template") or {} for i, it in jobs}
    if kind == "LeaderWorkerSet":
        both = spec.get("leaderWorkerTemplate") or {}
        return {f"spec.leaderWorkerTemplate.{name}.": both[name] for name in _OF_GROUPS if both.get(name)}
    return {"spec.template.": spec.get("template") or {}}


def _notes(template: Object) -> dict[str, str]:
    return (template.get("metadata") or {}).get("annotations") or {}
