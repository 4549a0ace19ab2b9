"""Paths of the OpenAPI documents, made from the catalog's entries: what `kubectl explain`, its dry-run and field
validation checks and generated clients look up (methods, parameters, media types, x-kubernetes-action and kind)."""

from __future__ import annotations

from typing import Any

from atoll.cluster.apiserver.openapi_schemas import META, V2_PREFIX, V3_PREFIX, custom_name
from atoll.kinds.catalog import ApiResource, Subresource
from atoll.kinds.schemas import builtin

_JSON = "application/json"
_MEDIA = (_JSON, "application/vnd.kubernetes.protobuf", "application/yaml")
_STREAMS = ("application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
_PATCHES = (
    "application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)  # fmt: skip
_CONNECT = frozenset({"exec", "attach", "portforward", "proxy"})


def _parameter(name: str, kind: str, text: str, place: str = "query") -> dict[str, Any]:
    result: dict[str, Any] = {"name": name, "in": place, "description": text}
    if place == "path":
        result["required"] = True
    result["schema"] = {"type": kind, "uniqueItems": True}
    return result


_DRY_RUN = _parameter("dryRun", "string", "All: go through every step of the request, but store nothing.")
_MANAGER = _parameter("fieldManager", "string", "Who makes the change, at most 128 printable characters.")
_VALIDATION = _parameter("fieldValidation", "string", "Unknown and duplicate fields: Ignore, Warn (default) or Strict.")
_FORCE = _parameter("force", "boolean", "Take over conflicting fields; only for apply.")
_PRETTY = _parameter("pretty", "string", "'true' gives indented output.")
_NAMESPACE = _parameter("namespace", "string", "The namespace of the object.", "path")
_LIST = [
    _parameter("allowWatchBookmarks", "boolean", "Ask for BOOKMARK events in a watch."),
    _parameter("continue", "string", "The continue token of the page before."),
    _parameter("fieldSelector", "string", "Select objects by their fields."),
    _parameter("labelSelector", "string", "Select objects by their labels."),
    _parameter("limit", "integer", "The most objects to return in one page."),
    _parameter("resourceVersion", "string", "The version to list at or watch from."),
    _parameter("resourceVersionMatch", "string", "How resourceVersion applies to a list: Exact or NotOlderThan."),
    _parameter("sendInitialEvents", "boolean", "Begin a watch with the current objects, then a bookmark."),
    _parameter("timeoutSeconds", "integer", "How long a list or watch may last."),
    _parameter("watch", "boolean", "Stream changes instead of listing."),
]
_DELETE = [
    _DRY_RUN,
    _parameter("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0 is at once."),
    _parameter(
        "ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Delete even if the object can't be read."
    ),
    _parameter("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    _parameter("propagationPolicy", "string", "Orphan, Background or Foreground."),
]
_WRITE = [_DRY_RUN, _MANAGER, _VALIDATION]


def _camel(group: str) -> str:
    """apps → Apps, rbac.authorization.k8s.io → RbacAuthorization, "" → Core (as operation ids have it)."""
    name = group.removesuffix(".k8s.io") or "core"
    return "".join(part[:1].upper() + part[1:] for part in name.replace("-", ".").split("."))


def definition_name(api_version: str, kind: str, default_group: str = "") -> str:
    """The definition of a kind: built-in if there is one, else the custom name."""
    group, _, version = api_version.rpartition("/")
    return builtin().definition_of(group, version, kind) or custom_name(group or default_group, version, kind)


class Paths:
    """Path items of one resource, in OpenAPI v3 form."""

    def __init__(self, item: ApiResource, *, custom: bool) -> None:
        self._item = item
        self._custom = custom
        resource = item.resource
        self._camel = _camel(resource.group) + resource.version[:1].upper() + resource.version[1:]
        self._tag = self._camel[:1].lower() + _camel(resource.group)[1:] + "_" + resource.version
        self._scope = "Namespaced" if resource.namespaced else ""
        self._kind_name = definition_name(resource.api_version, resource.kind)
        self._list_name = definition_name(resource.api_version, item.list_kind)

    def build(self) -> dict[str, dict[str, Any]]:
        """{path: path item}."""
        resource, verbs = self._item.resource, set(self._item.verbs)
        root = resource.path("{namespace}")
        shared = [_NAMESPACE, _PRETTY] if resource.namespaced else [_PRETTY]
        paths: dict[str, dict[str, Any]] = {}
        collection: dict[str, Any] = {}
        if "list" in verbs:
            collection["get"] = self._list(self._scope)
        if "create" in verbs:
            collection["post"] = self._operation("create", "post", f"create a {resource.kind}", _WRITE, self._kind_name,
                                                 body=self._kind_name, codes=("200", "201", "202"))  # fmt: skip
        if "deletecollection" in verbs:
            collection["delete"] = self._operation(
                "deleteCollection", "deletecollection", f"delete collection of {resource.kind}",
                [*(item for item in _LIST if item["name"] not in ("allowWatchBookmarks", "watch")), *_DELETE],
                META + "Status", body=META + "DeleteOptions", required=False,
            )  # fmt: skip
        if collection:
            paths[root] = {**collection, "parameters": shared}
        if resource.namespaced and "list" in verbs:
            paths[resource.path()] = {"get": self._list("", "ForAllNamespaces"), "parameters": [*_LIST, _PRETTY]}
            paths[resource.path()]["get"].pop("parameters")
        name = _parameter("name", "string", f"name of the {resource.kind}", "path")
        one = self._one(verbs)
        if one:
            paths[f"{root}/{{name}}"] = {**one, "parameters": [name, *shared]}
        for sub in self._item.subresources:
            made = self._subresource(sub)
            if made:
                paths[f"{root}/{{name}}/{sub.name}"] = {**made, "parameters": [name, *shared]}
        return paths

    def _one(self, verbs: set[str]) -> dict[str, Any]:
        kind, name = self._item.resource.kind, self._kind_name
        one: dict[str, Any] = {}
        if "get" in verbs:
            one["get"] = self._operation("read", "get", f"read the specified {kind}", [], name)
        if "update" in verbs:
            one["put"] = self._operation("replace", "put", f"replace the specified {kind}", _WRITE, name, body=name,
                                         codes=("200", "201"))  # fmt: skip
        if "delete" in verbs:
            one["delete"] = self._operation(
                "delete", "delete", f"delete a {kind}", _DELETE, META + "Status",
                body=META + "DeleteOptions", required=False, codes=("200", "202"),
            )  # fmt: skip
        if "patch" in verbs:
            one["patch"] = self._patch(name, f"partially update the specified {kind}", "")
        return one

    def _subresource(self, sub: Subresource) -> dict[str, Any]:
        resource = self._item.resource
        gvk_version = sub.api_version or resource.api_version
        name = definition_name(gvk_version, sub.kind)
        if sub.kind == resource.kind:
            name = self._kind_name
        group, _, version = gvk_version.rpartition("/")
        gvk = {"group": group, "version": version, "kind": sub.kind}
        suffix = "".join(part[:1].upper() + part[1:] for part in sub.name.split("/"))
        what = f"{sub.name} of the specified {resource.kind}"
        made: dict[str, Any] = {}
        if sub.name in _CONNECT or sub.name == "log":
            verb, action = ("read", "get") if sub.name == "log" else ("connectGet", "connect")
            return {"get": self._operation(verb, action, what, [], "", gvk=gvk, suffix=suffix)}
        if "get" in sub.verbs:
            made["get"] = self._operation("read", "get", f"read {what}", [], name, gvk=gvk, suffix=suffix)
        if "update" in sub.verbs:
            made["put"] = self._operation("replace", "put", f"replace {what}", _WRITE, name, body=name, gvk=gvk,
                                          suffix=suffix, codes=("200", "201"))  # fmt: skip
        if "patch" in sub.verbs:
            made["patch"] = self._patch(name, f"partially update {what}", suffix, gvk)
        if "create" in sub.verbs:
            made["post"] = self._operation("create", "post", f"create {what}", _WRITE, name, body=name, gvk=gvk,
                                           suffix=suffix, codes=("200", "201", "202"))  # fmt: skip
        return made

    def _list(self, scope: str, suffix: str = "") -> dict[str, Any]:
        resource = self._item.resource
        text = f"list or watch objects of kind {resource.kind}"
        made = self._operation("list", "list", text, _LIST, self._list_name, suffix=suffix, scope=scope)
        content = made["responses"]["200"]["content"]
        for media in _STREAMS:
            if not self._custom or "protobuf" not in media:
                content[media] = content[_JSON]
        return made

    def _patch(self, name: str, text: str, suffix: str, gvk: dict[str, str] | None = None) -> dict[str, Any]:
        made = self._operation("patch", "patch", text, [_DRY_RUN, _MANAGER, _VALIDATION, _FORCE], name, gvk=gvk,
                               suffix=suffix, codes=("200",) if self._custom else ("200", "201"))  # fmt: skip
        schema = {"schema": {"$ref": V3_PREFIX + META + "Patch"}}
        kinds = _PATCHES[:3] if self._custom else _PATCHES
        made["requestBody"] = {"content": dict.fromkeys(kinds, schema), "required": True}
        return made

    def _operation(
        self, verb: str, action: str, text: str, parameters: list[dict[str, Any]], answer: str, *,
        body: str = "", required: bool = True, gvk: dict[str, str] | None = None, suffix: str = "",
        codes: tuple[str, ...] = ("200",), scope: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        resource = self._item.resource
        where = self._scope if scope is None else scope
        collection = "Collection" if verb == "deleteCollection" else ""
        operation = f"{verb.removesuffix('Collection')}{self._camel}{collection}{where}{resource.kind}{suffix}"
        made: dict[str, Any] = {"tags": [self._tag], "description": text, "operationId": operation}
        if parameters:
            made["parameters"] = parameters
        if body:
            media = (_JSON, "application/yaml") if self._custom else ("*/*",)
            made["requestBody"] = {"content": {key: {"schema": {"$ref": V3_PREFIX + body}} for key in media}}
            if required:
                made["requestBody"]["required"] = True
        made["responses"] = {code: self._response(code, answer) for code in codes}
        made["responses"]["401"] = {"description": "Unauthorized"}
        made["x-kubernetes-action"] = action
        made["x-kubernetes-group-version-kind"] = gvk or {
            "group": resource.group, "version": resource.version, "kind": resource.kind,
        }  # fmt: skip
        return made

    def _response(self, code: str, answer: str) -> dict[str, Any]:
        made: dict[str, Any] = {"description": {"200": "OK", "201": "Created", "202": "Accepted"}[code]}
        if answer:
            schema = {"schema": {"$ref": V3_PREFIX + answer}}
            made["content"] = {media: schema for media in _MEDIA if not self._custom or "protobuf" not in media}
        return made


def to_v2(item: dict[str, Any]) -> dict[str, Any]:
    """A v3 path item as OpenAPI v2 has it."""
    result: dict[str, Any] = {}
    for key, value in item.items():
        result[key] = [_parameter_v2(one) for one in value] if key == "parameters" else _operation_v2(value)
    return result


def _parameter_v2(parameter: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in parameter.items() if key != "schema"}
    made.update(parameter["schema"])
    return made


def _schema_v2(content: dict[str, Any]) -> dict[str, Any]:
    reference: str = next(iter(content.values()))["schema"]["$ref"]
    return {"$ref": V2_PREFIX + reference.removeprefix(V3_PREFIX)}


def _operation_v2(operation: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in operation.items() if key not in ("requestBody", "responses", "parameters")}
    parameters = [_parameter_v2(one) for one in operation.get("parameters", ())]
    made["consumes"] = ["*/*"]
    body = operation.get("requestBody")
    if body:
        entry: dict[str, Any] = {"name": "body", "in": "body", "schema": _schema_v2(body["content"])}
        if body.get("required"):
            entry["required"] = True
        parameters.insert(0, entry)
        made["consumes"] = list(body["content"])
    if parameters:
        made["parameters"] = parameters
    made["schemes"] = ["https"]
    made["responses"] = {}
    for code, response in operation["responses"].items():
        answer = {"description": response["description"]}
        if "content" in response:
            made["produces"] = list(response["content"])
            answer["schema"] = _schema_v2(response["content"])
        made["responses"][code] = answer
    return made
