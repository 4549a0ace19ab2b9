"""patch: JSON, merge, strategic merge and server-side apply, each over what now stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from atoll.base.clock import rfc3339
from atoll.base.errors import ApiError, BadRequest, Invalid, UnsupportedMediaType
from atoll.client.port import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from atoll.cluster.apiserver import metadata as metas
from atoll.cluster.apiserver import problems
from atoll.cluster.apiserver.api import Api
from atoll.cluster.apiserver.ports import Object
from atoll.cluster.apiserver.request import Context
from atoll.cluster.apiserver.served import Served
from atoll.cluster.apiserver.verbs import ownership
from atoll.cluster.apiserver.verbs.accept import accept, accept_status
from atoll.cluster.apiserver.verbs.update import Change, Outcome, Strategy, carry_out
from atoll.kinds.nodes import SchemaNode
from atoll.objects.apply import apply
from atoll.objects.patch_json import apply_json_patch
from atoll.objects.patch_merge import apply_merge_patch
from atoll.objects.patch_strategic import apply_strategic_patch

CONTENT_TYPES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
CUSTOM_TYPES = (JSON_PATCH, MERGE_PATCH, APPLY_PATCH)


class Patch(Struct, frozen=True):
    """`body` is parsed and private; `repeated` names keys that came twice."""

    content_type: str
    body: Any
    force: bool = False
    repeated: Sequence[str] = ()


async def patch(
    api: Api, context: Context, served: Served, namespace: str, name: str, strategy: Strategy, request: Patch
) -> Outcome:
    """Raises NotFound, Invalid, BadRequest, Conflict, UnsupportedMediaType."""
    check_supported(served, request.content_type)
    applying = request.content_type == APPLY_PATCH
    if applying and not isinstance(request.body, dict):
        raise BadRequest("error decoding YAML: error unmarshaling JSON: while decoding JSON: not an object")
    scope = namespace if served.resource.namespaced else ""

    def make(stored: Object | None, shown: Object) -> Object:
        if applying:
            obj = _applied(api, context, served, shown if stored is not None else None, request, strategy)
        else:
            obj = _patched(context, served, shown, request, strategy.subresource == "status")
        metas.ensure_namespace(obj["metadata"], scope)
        check_name(obj, name)
        return obj

    # an apply of a status makes no object; the main resource's does
    may_create = applying and not strategy.subresource
    change = Change(namespace, name, make, strategy, may_create=may_create, managed=not applying, verb="patch")
    return await carry_out(api, context, served, change)


def check_supported(served: Served, content_type: str) -> None:
    """Custom resources have no strategic merge. Raises UnsupportedMediaType."""
    kinds = CUSTOM_TYPES if served.custom is not None else CONTENT_TYPES
    if content_type not in kinds:
        raise UnsupportedMediaType(
            "the body of the request was in an unknown format - accepted media types include: " + ", ".join(kinds)
        )


def check_name(obj: Object, name: str) -> None:
    """Raises BadRequest where the object came to have another name than the path."""
    own = obj["metadata"].get("name") or ""
    if not own:
        raise BadRequest(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if own != name:
        raise BadRequest(f"the name of the object ({own}) does not match the name on the URL ({name})")


def _applied(
    api: Api, context: Context, served: Served, live: Object | None, request: Patch, strategy: Strategy
) -> Object:
    schema = ownership.schema_of(served, strategy.subresource)
    if schema is None:
        raise BadRequest(f"server-side apply is not supported for {served.resource.group_resource}")
    result = apply(
        live,
        request.body,
        schema,
        manager=context.field_manager,
        now=rfc3339(api.clock.wall()),
        force=request.force,
    )
    if request.repeated and context.field_validation != "Ignore":
        texts = [f"error converting YAML to JSON: {text}" for text in request.repeated]
        if context.field_validation == "Strict":
            raise BadRequest("error strict decoding YAML: " + ", ".join(texts))
        for text in texts:
            context.warn(text)
    metadata = result["metadata"] = dict(result.get("metadata") or {})
    if live is not None:
        asked = (request.body.get("metadata") or {}).get("resourceVersion")
        metadata["resourceVersion"] = asked or live["metadata"]["resourceVersion"]
    return accept(replace(context, field_validation="Ignore"), served, result)


def _patched(context: Context, served: Served, shown: Object, request: Patch, status: bool) -> Object:
    """Raises Invalid where the result is not a valid object."""
    node = served.schema
    patched = apply_to(node, shown, request)
    try:
        if status:
            return accept_status(context, served, patched, shown, request.repeated)
        return accept(context, served, patched, request.repeated)
    except BadRequest as error:
        if served.custom is not None:
            raise
        raise invalid_patch(patched, request, error) from None


def invalid_patch(patched: Any, request: Patch, error: ApiError) -> Invalid:
    """A result that does not decode is the patch's fault: 422 with the result (or the patch) quoted."""
    detail = error.message
    _, found, rest = detail.partition(" cannot be handled as a ")
    if found:
        detail = rest.partition(": ")[2]
    if request.content_type == STRATEGIC_PATCH:
        text, detail = go_text(request.body), _conversion_fault(detail)
    else:
        text = orjson.dumps(_in_go_order(patched)).decode()
    return problems.invalid("", "", "", [problems.bad_value("patch", text, detail)])


_MISMATCH = re.compile(r"json: cannot unmarshal (\w+) into Go (?:struct field \S+|value) of type (\S+)")
_GO_TYPES = {"number": "int64", "object": "map[string]interface {}", "array": "[]interface {}"}
_METADATA_ORDER = (
    "name", "generateName", "namespace", "selfLink", "uid", "resourceVersion", "generation", "creationTimestamp",
    "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    "managedFields",
)  # fmt: skip


def _conversion_fault(detail: str) -> str:
    """A strategic patch is converted, not decoded: other words for the same mismatch."""
    match = _MISMATCH.match(detail)
    if match is None:
        return detail
    given, wanted = _GO_TYPES.get(match[1], match[1]), match[2]
    if wanted.startswith("[]"):
        return f"cannot restore slice from {given.partition('[')[0] or 'slice'}"
    if wanted.startswith("map["):
        return f"cannot restore map from {given.partition('[')[0]}"
    if "." in wanted:
        return f"cannot restore struct from: {given.partition('[')[0]}"
    return f"cannot convert {given} to {wanted}"


def _in_go_order(patched: Any) -> Any:
    """Top-level names sorted and metadata in the order of its Go type, as upstream shows a patched object."""
    if not isinstance(patched, dict):
        return patched
    shown = {name: patched[name] for name in sorted(patched)}
    metadata = shown.get("metadata")
    if isinstance(metadata, dict):
        known = {name: metadata[name] for name in _METADATA_ORDER if name in metadata}
        shown["metadata"] = known | metadata
    return shown


def go_text(value: Any) -> str:
    """A value as Go's %+v prints it."""
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{go_text(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(go_text(item) for item in value) + "]"
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def apply_to(node: SchemaNode | None, shown: Object, request: Patch) -> Any:
    """A private patched object; `shown` is left as it is."""
    if request.content_type == JSON_PATCH:
        return apply_json_patch(shown, request.body)
    if request.content_type == MERGE_PATCH or node is None:
        return apply_merge_patch(shown, request.body)
    return apply_strategic_patch(shown, request.body, node)
