"""Subresources: those that take the whole object (status, finalize, approval, resize, ephemeralcontainers), and
those with kinds of their own (scale, binding, eviction, token)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import AdmissionRequest, Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import scale
from atoll.cluster.apiserver.verbs.accept import check, typed
from atoll.cluster.apiserver.verbs.answer import Answer
from atoll.cluster.apiserver.verbs.binding import bind
from atoll.cluster.apiserver.verbs.eviction import evict
from atoll.cluster.apiserver.verbs.get import get as get_record
from atoll.cluster.apiserver.verbs.update import Strategy, main_strategy, status_strategy
from atoll.kinds import schemas
from atoll.kinds.resource import Resource

OTHER_KINDS = frozenset({"scale"})
_BINDING = Resource("", "v1", "bindings", "Binding")
_EVICTION = Resource("policy", "v1", "evictions", "Eviction")
_TOKEN = Resource("authentication.k8s.io", "v1", "tokenrequests", "TokenRequest")
_PLAIN_BINDING, _NAMES = {"apiVersion", "kind", "metadata", "target"}, {"name", "namespace", "uid"}
_TARGET = {"kind", "name"}
_KINDS = {"binding": _BINDING, "eviction": _EVICTION, "token": _TOKEN}


def strategy(served: Served, subresource: str) -> Strategy:
    """Raises MethodNotAllowed for what can't be written as a whole object."""
    if subresource == "status":
        return status_strategy(served)
    extra = served.behaviour.extra
    main = main_strategy(served)
    if subresource == "finalize":
        return Strategy("finalize", extra.get("prepare_finalize", main.prepare), lambda *_: [])
    if subresource == "approval":
        return Strategy(
            "approval",
            extra.get("prepare_approval", _approval),
            extra.get("validate_approval", served.behaviour.validate_status),
        )
    if subresource == "resize":
        return Strategy("resize", extra.get("prepare_resize", _resize), extra.get("validate_resize", lambda *_: []))
    if subresource == "ephemeralcontainers":
        return Strategy(
            "ephemeralcontainers",
            extra.get("prepare_ephemeral", _ephemeral),
            extra.get("validate_ephemeral", lambda *_: []),
        )
    raise problems.method_not_allowed()


def _approval(new: Object, old: Object) -> None:
    """Only the conditions of approval are taken."""
    status = {**(old.get("status") or {}), "conditions": (new.get("status") or {}).get("conditions") or []}
    _as_it_was(new, old)
    new["status"] = status


def _ephemeral(new: Object, old: Object) -> None:
    added = (new.get("spec") or {}).get("ephemeralContainers")
    _as_it_was(new, old)
    if added:
        new["spec"] = {**old["spec"], "ephemeralContainers": added}
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + (new["spec"] != old["spec"])


def _resize(new: Object, old: Object) -> None:
    """Only the resources and resize policies of containers are taken."""
    wanted = new.get("spec") or {}
    _as_it_was(new, old)
    spec = dict(old["spec"])
    for field in ("containers", "initContainers"):
        by_name = {item.get("name"): item for item in wanted.get(field) or ()}
        if field in spec:
            spec[field] = [_resized(item, by_name.get(item.get("name"))) for item in spec[field]]
    if spec != old["spec"]:
        new["spec"] = spec
        new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1


def _resized(container: Object, wanted: Object | None) -> Object:
    if wanted is None:
        return container
    result = dict(container)
    for field in ("resources", "resizePolicy"):
        if field in wanted:
            result[field] = wanted[field]
    return result


def _as_it_was(new: Object, old: Object) -> None:
    for field in ("spec", "status"):
        if field in old:
            new[field] = old[field]
        else:
            new.pop(field, None)


def get(api: Api, served: Served, namespace: str, name: str, subresource: str) -> Answer:
    if subresource == "scale":
        return scale.get(api, served, namespace, name)
    return Answer(served, get_record(api, served, namespace, name))


async def create(
    api: Api,
    context: Context,
    served: Served,
    namespace: str,
    name: str,
    subresource: str,
    raw: Any,
    repeated: Sequence[str],
) -> Answer:
    """binding, eviction, token."""
    kind = _KINDS.get(subresource)
    if kind is None:
        raise problems.method_not_allowed()
    obj = raw if kind is _BINDING and not repeated and is_plain(raw) else decoded(context, kind, raw, repeated)
    obj["metadata"].setdefault("namespace", namespace)
    if subresource == "binding":
        return Answer(None, None, await bind(api, context, served, namespace, name, obj), created=True)
    request = AdmissionRequest(
        "CREATE", served.resource, subresource, namespace, name, obj, None, context.user,
        context.dry_run, context.operation_options(), context.warnings, kind.kind, context.annotations,
    )  # fmt: skip
    await api.hooks.admission.mutate(request)
    await api.hooks.admission.validate(request)
    if subresource == "eviction":
        return Answer(None, None, await evict(api, context, served, namespace, name, obj), created=True)
    issue = api.hooks.token_request
    if issue is None:
        raise problems.no_such_path()
    return Answer(None, None, issue(context.user, name, namespace, obj, context.dry_run), created=True)


def is_plain(binding: Any) -> bool:
    """Whether decoding would leave a binding as it is: as schedulers send it, with nothing but names."""
    if binding.__class__ is not dict or binding.keys() != _PLAIN_BINDING or binding["apiVersion"] != "v1":
        return False
    metadata, target = binding["metadata"], binding["target"]
    if binding["kind"] != "Binding" or metadata.__class__ is not dict or target.__class__ is not dict:
        return False
    texts = (*metadata.values(), *target.values())
    return (
        metadata.keys() <= _NAMES and target.keys() <= _TARGET and all(text.__class__ is str and text for text in texts)
    )


async def bind_legacy(api: Api, context: Context, pods: Served, namespace: str, obj: Object) -> Answer:
    """POST to namespaces/NS/bindings."""
    name = obj["metadata"].get("name") or ""
    return Answer(None, None, await bind(api, context, pods, namespace, name, obj), created=True)


def decoded(context: Context, kind: Resource, raw: Any, repeated: Sequence[str]) -> Object:
    """Raises BadRequest."""
    if kind is _EVICTION and isinstance(raw, dict) and raw.get("apiVersion") == "policy/v1beta1":
        raw["apiVersion"] = "policy/v1"
    node = schemas.schema_for(kind.group, kind.version, kind.kind)
    assert node is not None
    return check(context, node, typed(raw, kind), kind.api_version, kind.kind, repeated)
