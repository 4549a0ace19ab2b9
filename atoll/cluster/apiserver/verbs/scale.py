"""The scale subresource: autoscaling/v1 Scale over the replicas of workloads and of custom resources."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from atoll.base.errors import BadRequest
from atoll.client.port import APPLY_PATCH
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs.accept import check, typed
from atoll.cluster.apiserver.verbs.answer import Answer
from atoll.cluster.apiserver.verbs.get import get as get_record
from atoll.cluster.apiserver.verbs.patch import Patch, apply_to, invalid_patch
from atoll.cluster.apiserver.verbs.update import Change, Strategy, carry_out, main_strategy
from atoll.kinds import schemas
from atoll.kinds.nodes import SchemaNode
from atoll.kinds.resource import Resource
from atoll.objects.selectors import SelectorError, from_labels, from_object

SCALE = Resource("autoscaling", "v1", "scales", "Scale")


class Paths(Struct, frozen=True):
    """Where a kind keeps its replicas; selector None where it has none."""

    spec: tuple[str, ...] = ("spec", "replicas")
    status: tuple[str, ...] = ("status", "replicas")
    selector: tuple[str, ...] | None = ("spec", "selector")


_BUILTIN = Paths()


def _node() -> SchemaNode:
    node = schemas.schema_for(SCALE.group, SCALE.version, SCALE.kind)
    assert node is not None
    return node


def paths_of(served: Served) -> Paths:
    if served.custom is None:
        return _BUILTIN
    found: Paths | None = served.custom.scale_paths(served.resource.version)
    if found is None:
        raise problems.no_such_path()
    return found


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(step)
    return obj


def scale_of(served: Served, obj: Object) -> Object:
    """The Scale that shows an object. Raises BadRequest where a custom resource's selector is not text."""
    where = paths_of(served)
    metadata = obj["metadata"]
    shown = {
        key: metadata[key]
        for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        if key in metadata
    }
    replicas = _at(obj, where.spec)
    spec = {"replicas": replicas} if replicas else {}
    status: Object = {"replicas": _at(obj, where.status) or 0}
    selector = _selector(served, obj, where)
    if selector:
        status["selector"] = selector
    return {"kind": "Scale", "apiVersion": SCALE.api_version, "metadata": shown, "spec": spec, "status": status}


def _selector(served: Served, obj: Object, where: Paths) -> str:
    if where.selector is None:
        return ""
    found = _at(obj, where.selector)
    if not found:
        return ""
    if served.custom is not None:
        return str(found)
    try:
        structured = "matchLabels" in found or "matchExpressions" in found
        return str(from_object(found) if structured else from_labels(found))
    except SelectorError as error:
        raise BadRequest(str(error)) from None


def get(api: Api, served: Served, namespace: str, name: str) -> Answer:
    record = get_record(api, served, namespace, name)
    return Answer(None, None, scale_of(served, served.present(record)))


async def update(
    api: Api, context: Context, served: Served, namespace: str, name: str, raw: Any, repeated: Sequence[str]
) -> Answer:
    scale = check(context, _node(), typed(raw, SCALE), SCALE.api_version, SCALE.kind, repeated)
    own = scale["metadata"].get("name") or ""
    if own != name:
        raise BadRequest(f"the name of the object ({own}) does not match the name on the URL ({name})")
    return await _carry_out(api, context, served, namespace, name, lambda _current: scale)


async def patch(api: Api, context: Context, served: Served, namespace: str, name: str, request: Patch) -> Answer:
    """An apply is taken as a merge of what it names."""

    def make(current: Object) -> Object:
        if request.content_type == APPLY_PATCH:
            merged = Patch("application/merge-patch+json", request.body)
            patched = apply_to(None, current, merged)
        else:
            patched = apply_to(_node(), current, request)
        try:
            return check(context, _node(), typed(patched, SCALE), SCALE.api_version, SCALE.kind, request.repeated)
        except BadRequest as error:
            raise invalid_patch(patched, request, error) from None

    return await _carry_out(api, context, served, namespace, name, make)


async def _carry_out(api: Api, context: Context, served: Served, namespace: str, name: str, make_scale: Any) -> Answer:
    where = paths_of(served)
    main = main_strategy(served)
    strategy = Strategy("scale", main.prepare, main.validate, defaults=False)

    def make(_stored: Object | None, shown: Object) -> Object:
        change.sent = scale = make_scale(scale_of(served, shown))
        replicas = (scale.get("spec") or {}).get("replicas") or 0
        if replicas < 0:
            cause = problems.bad_value("spec.replicas", replicas, "must be greater than or equal to 0")
            raise problems.invalid(SCALE.group, SCALE.kind, name, [cause])
        wanted_uid = scale["metadata"].get("uid")
        if wanted_uid and wanted_uid != shown["metadata"].get("uid"):
            why = f"Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: "
            raise problems.conflict(served.resource, name, why + str(shown["metadata"].get("uid")))
        metadata = dict(shown["metadata"])
        version = scale["metadata"].get("resourceVersion")
        metadata["resourceVersion"] = version or metadata["resourceVersion"]
        return _with(({**shown, "metadata": metadata}), where.spec, replicas)

    change = Change(namespace, name, make, strategy)
    outcome = await carry_out(api, context, served, change)
    await served.ready(outcome.record)
    return Answer(None, None, scale_of(served, served.present(outcome.record)))


def with_replicas(served: Served, obj: Object, replicas: int) -> Object:
    """The object (in its stored version) with another number of replicas."""
    return _with(obj, paths_of(served).spec, replicas)


def _with(obj: Object, path: tuple[str, ...], value: Any) -> Object:
    """A copy along the path."""
    step, rest = path[0], path[1:]
    if not rest:
        return {**obj, step: value}
    return {**obj, step: _with(obj.get(step) or {}, rest, value)}
