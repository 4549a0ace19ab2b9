"""What makes a CRD's schema structural and allowed, with upstream's messages for the common mistakes
(apiextensions pkg/apiserver/schema/validation.go, pkg/apis/apiextensions/validation)."""

from __future__ import annotations

from collections.abc import Iterator

from atoll.base.errors import BadRequest
from atoll.cluster.apiserver.extensions import structure, validation
from atoll.cluster.apiserver.extensions.rule_checks import RuleCosts, check_rules
from atoll.cluster.apiserver.extensions.sizes import occurrences
from atoll.cluster.apiserver.extensions.structure import Json
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required
from atoll.kinds import schemas
from atoll.kinds.decode import DecodeError, decode
from atoll.objects.regexp import compile_pattern

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_FORBIDDEN = {
    "id": "id is not supported",
    "additionalItems": "additionalItems is not supported",
    "patternProperties": "patternProperties is not supported",
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "$ref": "$ref is not supported",
}
_SCHEMA = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
_OPEN = ("items", "additionalProperties", "additionalItems")  # one schema, or something else
_NESTED = ("allOf", "anyOf", "oneOf")
_EMPTY_IN_NESTED = ("type", "default", "title", "description", "nullable")


def check_schema(schema: Json, path: str, unchanged: bool = False) -> list[Cause]:
    """Of one version's openAPIV3Schema. `unchanged`: a rule that is there already may cost what it costs.

    Raises BadRequest: what is no schema at all.
    """
    _decode_open(schema)
    causes: list[Cause] = []
    if schema.get("nullable"):
        causes.append(not_allowed(f"{path}.nullable", "nullable cannot be true at the root"))
    costs = RuleCosts(each=not unchanged)
    _walk(schema, path, causes, "root", costs, 1)
    causes += costs.conclude(path)
    if not causes:
        causes += _defaults(schema, path)
    return causes


def _decode_open(schema: Json) -> None:
    """Decode in place what upstream's program decodes as schemas and its published OpenAPI leaves open.

    Raises BadRequest.
    """
    for name in _OPEN:
        value = schema.get(name)
        if isinstance(value, dict):
            schema[name] = _decoded(value)
        elif isinstance(value, list):
            schema[name] = [_decoded(item or {}) for item in value]
    for name, value in (schema.get("dependencies") or {}).items():
        if isinstance(value, dict):
            schema["dependencies"][name] = _decoded(value)
    for name in ("properties", "patternProperties", "definitions"):
        for below in (schema.get(name) or {}).values():
            _decode_open(below)
    for name in _NESTED:
        for below in schema.get(name) or ():
            _decode_open(below)
    if schema.get("not"):
        _decode_open(schema["not"])


def _decoded(value: Json) -> Json:
    found: Json
    try:
        found, _ = decode(value, schemas.builtin().node(_SCHEMA))
    except DecodeError as error:
        raise BadRequest(str(error)) from None
    _decode_open(found)
    return found


def _walk(schema: Json, path: str, causes: list[Cause], level: str, costs: RuleCosts, here: int | None) -> None:
    """`here`: how often this may occur in an object; None: without a limit."""
    kind = schema.get("type") or ""
    int_or_string = bool(schema.get("x-kubernetes-int-or-string"))
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if not kind and not int_or_string and not (preserve and level != "root"):
        where = {"root": "at the root", "item": "for specified array items", "field": "for specified object fields"}
        causes.append(required(f"{path}.type", f"must not be empty {where[level]}"))
    elif kind and kind not in _TYPES:
        causes.append(not_supported(f"{path}.type", kind, _TYPES))
    if level == "root" and kind and kind != "object":
        causes.append(bad_value(f"{path}.type", kind, "must be object at the root"))
    _keywords(schema, path, causes)
    _extensions(schema, path, causes)
    check_rules(schema, path, causes, costs, here)
    if kind == "array" and not isinstance(schema.get("items"), dict):
        causes.append(required(f"{path}.items", "must be specified"))
    if level == "root" and schema.get("additionalProperties") is not None:
        causes.append(not_allowed(f"{path}.additionalProperties", "must not be used at the root"))
    if level == "root" or schema.get("x-kubernetes-embedded-resource"):
        _metadata(schema, path, causes)
    for below, below_path, below_level in _children(schema, path):
        _walk(below, below_path, causes, below_level, costs, occurrences(schema, here))
    for name in _NESTED:
        for index, item in enumerate(schema.get(name) or ()):
            _nested(item, f"{path}.{name}[{index}]", causes, int_or_string and name in ("anyOf", "allOf"))
    if isinstance(schema.get("not"), dict):
        _nested(schema["not"], f"{path}.not", causes, False)


def _metadata(schema: Json, path: str, causes: list[Cause]) -> None:
    """apiVersion, kind and metadata are implied: little may be said about them."""
    properties = schema.get("properties") or {}
    for name in ("kind", "apiVersion"):
        if name in properties and properties[name].get("type") != "string":
            where = f"{path}.properties[{name}].type"
            causes.append(bad_value(where, properties[name].get("type") or "", "must be string"))
    metadata = properties.get("metadata")
    if metadata is None:
        return
    where = f"{path}.properties[metadata]"
    if metadata.get("type") != "object":
        causes.append(bad_value(f"{where}.type", metadata.get("type") or "", "must be object"))
    allowed = {"type", "description", "properties", "title"}
    if set(metadata) - allowed or set(metadata.get("properties") or {}) - {"name", "generateName"}:
        why = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        causes.append(not_allowed(where, why))


def _children(schema: Json, path: str) -> Iterator[tuple[Json, str, str]]:
    for name, item in (schema.get("properties") or {}).items():
        yield item, f"{path}.properties[{name}]", "field"
    if isinstance(schema.get("items"), dict):
        yield schema["items"], f"{path}.items", "item"
    if isinstance(schema.get("additionalProperties"), dict):
        yield schema["additionalProperties"], f"{path}.additionalProperties", "field"


def _keywords(schema: Json, path: str, causes: list[Cause]) -> None:
    for name, why in _FORBIDDEN.items():
        if schema.get(name):
            causes.append(not_allowed(f"{path}.{name}", why))
    if schema.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        causes.append(not_allowed(f"{path}.uniqueItems", why))
    additional = schema.get("additionalProperties")
    if additional is False:
        causes.append(not_allowed(f"{path}.additionalProperties", "additionalProperties cannot be set to false"))
    if additional is not None and schema.get("properties"):
        why = "additionalProperties and properties are mutual exclusive"
        causes.append(not_allowed(f"{path}.additionalProperties", why))
    pattern = schema.get("pattern")
    if pattern:
        try:
            compile_pattern(pattern)
        except ValueError as error:
            why = f"must be a valid regular expression, but isn't: {error}"
            causes.append(bad_value(f"{path}.pattern", pattern, why))


def _extensions(schema: Json, path: str, causes: list[Cause]) -> None:
    kind = schema.get("type") or ""
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        causes.append(bad_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined"))
    if schema.get("x-kubernetes-embedded-resource"):
        if not kind:
            causes.append(required(f"{path}.type", "must be object if x-kubernetes-embedded-resource is true"))
        if not schema.get("properties") and not schema.get("x-kubernetes-preserve-unknown-fields"):
            why = "must not be empty if x-kubernetes-embedded-resource is true without"
            why += " x-kubernetes-preserve-unknown-fields"
            causes.append(required(f"{path}.properties", why))
    if schema.get("x-kubernetes-int-or-string") and schema.get("x-kubernetes-preserve-unknown-fields"):
        why = "must be false if x-kubernetes-int-or-string is true"
        causes.append(bad_value(f"{path}.x-kubernetes-preserve-unknown-fields", True, why))
    map_type = schema.get("x-kubernetes-map-type")
    if map_type is not None and map_type not in ("atomic", "granular"):
        causes.append(not_supported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular")))
    _list_type(schema, path, kind, causes)


def _list_type(schema: Json, path: str, kind: str, causes: list[Cause]) -> None:
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if list_type is not None and kind != "array":
        why = "must be array if x-kubernetes-list-type is specified"
        causes.append(bad_value(f"{path}.type", kind, why) if kind else required(f"{path}.type", why))
    if list_type not in (None, "atomic", "set", "map"):
        causes.append(not_supported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map")))
    if keys and list_type != "map":
        field, why = f"{path}.x-kubernetes-list-type", "must be map if x-kubernetes-list-map-keys is non-empty"
        causes.append(bad_value(field, list_type, why) if list_type else required(field, why))
    if list_type == "map":
        if not keys:
            why = "must not be empty if x-kubernetes-list-type is map"
            causes.append(required(f"{path}.x-kubernetes-list-map-keys", why))
        items = schema.get("items") or {}
        properties, needed = items.get("properties") or {}, items.get("required") or ()
        for key in keys:
            if key not in properties:
                why = "entries must all be names of item properties"
                causes.append(bad_value(f"{path}.x-kubernetes-list-map-keys", keys, why))
            elif "default" not in properties[key] and key not in needed:
                why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required"
                why += " property"
                causes.append(required(f"{path}.items.properties[{key}].default", why))


def _nested(schema: Json, path: str, causes: list[Cause], type_allowed: bool) -> None:
    """Inside allOf, anyOf, oneOf, not: only validations."""
    for name in _EMPTY_IN_NESTED:
        if name == "type" and type_allowed:
            continue
        if schema.get(name) not in (None, "", False):
            word = {"default": "undefined", "nullable": "false"}.get(name, "empty")
            causes.append(not_allowed(f"{path}.{name}", f"must be {word} to be structural"))
    for extension in ("preserve-unknown-fields", "embedded-resource", "int-or-string"):
        name = f"x-kubernetes-{extension}"
        if schema.get(name):
            causes.append(not_allowed(f"{path}.{name}", "must be false to be structural"))
    if schema.get("additionalProperties") is not None:
        causes.append(not_allowed(f"{path}.additionalProperties", "must be undefined to be structural"))
    for name, item in (schema.get("properties") or {}).items():
        _nested(item, f"{path}.properties[{name}]", causes, False)
    if isinstance(schema.get("items"), dict):
        _nested(schema["items"], f"{path}.items", causes, False)
    for name in _NESTED:
        for index, item in enumerate(schema.get(name) or ()):
            _nested(item, f"{path}.{name}[{index}]", causes, type_allowed)


def _defaults(schema: Json, path: str) -> list[Cause]:
    """A default must be valid by its own schema, and not be pruned."""
    causes: list[Cause] = []
    for below, where, _ in _children(schema, path):
        if "default" in below:
            at = structure.Structure(below)
            value = below["default"]
            dropped: list[str] = []
            structure.take(value, at, dropped)
            if dropped:
                unknown = structure.unknown_fields(value, at, root=False)
                fields = ", ".join(item.removeprefix('unknown field "').rstrip('"') for item in unknown)
                why = "must not have unknown fields"
                causes.append(bad_value(f"{where}.default", value, f"{why}: {fields}" if "." in fields else why))
            found: list[Cause] = []
            if value is not None or not below.get("nullable"):
                found = validation.by_schema(value, at)
            causes += [Cause(cause.reason, cause.message, f"{where}.default" + _under(cause.field)) for cause in found]
        causes += _defaults(below, where)
    return causes


def _under(field: str) -> str:
    return "" if field in ("", "<nil>") else f".{field}"
