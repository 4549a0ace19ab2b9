"""Definitions of the OpenAPI documents: built-in ones from the built schemas, CRDs' from their own.

OpenAPI v3 gets defaults and enums, v2 is as upstream publishes it (no defaults, references without siblings).
Each definition is made once and kept as bytes (`Fragment`s of the documents).
"""

from __future__ import annotations

import functools
import importlib.resources
from typing import Any

import orjson

from atoll.kinds.schemas import builtin, descriptions

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
V3_PREFIX = "#/components/schemas/"
V2_PREFIX = "#/definitions/"
_SPECIAL: dict[str, dict[str, Any]] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "description": "A fixed-point number with an optional suffix, such as 100m, 1.5 or 2Gi.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "description": "An int32 or a string, for example a port's number or name, or a percentage.",
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
# Marshalled by their own code, so upstream's generator gives them no default.
_NO_DEFAULT = (META + "Time", META + "MicroTime", *_SPECIAL, "io.k8s.apimachinery.pkg.runtime.RawExtension")
_ZEROS: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}


@functools.cache
def _facts() -> tuple[dict[str, list[str]], dict[str, Any], dict[str, Any]]:
    folder = importlib.resources.files("atoll.kinds") / "data"
    table = orjson.loads((folder / "openapi.json").read_bytes())
    return table["enums"], table["defaults"], orjson.loads((folder / "fields.json").read_bytes())


def definition_v3(name: str) -> dict[str, Any]:
    """A built-in definition as OpenAPI v3 has it. Raises KeyError."""
    raw = builtin().definitions[name]
    if name in _SPECIAL:
        return _SPECIAL[name]
    _, defaults, fields = _facts()
    texts, facts = descriptions().get(name, {}), fields.get(name, {})
    filled = {*facts.get("always", "").split(), *facts.get("struct", "").split(), *facts.get("zero", "").split()}
    filled -= set(facts.get("null", "").split())
    result = {key: value for key, value in raw.items() if key != "properties"}
    if "" in texts:
        result["description"] = texts[""]
    if "properties" in raw:
        result["properties"] = {}
        for field, schema in raw["properties"].items():
            key = f"{name} {field}"
            default = defaults[key] if key in defaults else _zero(schema) if field in filled else None
            made = _schema_v3(schema, texts.get(field), default)
            _add_enum(made, key)
            result["properties"][field] = made
    return result


def _add_enum(made: dict[str, Any], key: str) -> None:
    values = _facts()[0].get(key)
    if values:
        (made["items"] if made.get("type") == "array" else made)["enum"] = values


def _zero(schema: dict[str, Any]) -> Any:
    """The default that upstream's generator writes for a field that is always encoded; None for none."""
    reference = schema.get("$ref")
    if reference is not None:
        return None if reference in _NO_DEFAULT or "properties" not in builtin().definitions[reference] else {}
    return None if schema.get("format") == "byte" else _ZEROS.get(schema.get("type", ""))


def _schema_v3(schema: dict[str, Any], text: str | None, default: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if text is not None:
        result["description"] = text
    if default is not None:
        result["default"] = default
    for key, value in schema.items():
        if key == "$ref":
            reference = {"$ref": V3_PREFIX + value}
            if len(schema) > 1 or result:
                result["allOf"] = [reference]
            else:
                result.update(reference)
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = _schema_v3(value, None, _zero(value))
        else:
            result[key] = value
    return result


def definition_v2(name: str) -> dict[str, Any]:
    """A built-in definition as OpenAPI v2 has it. Raises KeyError."""
    raw = builtin().definitions[name]
    texts = descriptions().get(name, {})
    result = {key: value for key, value in raw.items() if key != "properties"}
    if name in _SPECIAL:
        result["description"] = _SPECIAL[name]["description"]
    elif "" in texts:
        result["description"] = texts[""]
    if "properties" in raw:
        result["properties"] = {}
        for field, schema in raw["properties"].items():
            made: dict[str, Any] = {"description": texts[field]} if field in texts else {}
            made |= _schema_v2(schema)
            _add_enum(made, f"{name} {field}")
            result["properties"][field] = made
    return result


def _schema_v2(schema: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref":
            result[key] = V2_PREFIX + value
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = _schema_v2(value)
        else:
            result[key] = value
    return result


def references(value: Any, found: set[str]) -> None:
    """Names of all definitions that a schema (raw, v3 or v2) refers to."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            found.add(reference.rsplit("/", 1)[-1])
        for item in value.values():
            if isinstance(item, dict | list):
                references(item, found)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, dict | list):
                references(item, found)


@functools.cache
def closure(name: str) -> frozenset[str]:
    """A built-in definition and all that it refers to."""
    seen: set[str] = set()
    todo = {name}
    while todo:
        current = todo.pop()
        seen.add(current)
        found: set[str] = set()
        references(builtin().definitions[current], found)
        todo |= found - seen
    return frozenset(seen)


@functools.cache
def bytes_v3(name: str) -> bytes:
    return orjson.dumps(definition_v3(name))


@functools.cache
def bytes_v2(name: str) -> bytes:
    return orjson.dumps(definition_v2(name))


# --- CRDs ---


def custom_name(group: str, version: str, kind: str) -> str:
    """The definition name of a custom kind: com.example.v1.Widget."""
    return ".".join([*reversed(group.split(".")), version, kind])


def delete_options(group: str, version: str) -> dict[str, Any]:
    """DeleteOptions as one group version's document has it: upstream lists it there for that version only."""
    name = META + "DeleteOptions"
    result = definition_v3(name)
    kinds = [{"group": "", "kind": "DeleteOptions", "version": "v1"}]
    own = {"group": group, "kind": "DeleteOptions", "version": version}
    listed = result["x-kubernetes-group-version-kind"]
    if own in listed and own not in kinds:
        kinds.append(own)
    return {**result, "x-kubernetes-group-version-kind": kinds}


def _type_meta() -> dict[str, Any]:
    """apiVersion, kind and metadata with the texts that every kind has."""
    pod = descriptions()["io.k8s.api.core.v1.Pod"]
    return {
        "apiVersion": {"description": pod.get("apiVersion", ""), "type": "string"},
        "kind": {"description": pod.get("kind", ""), "type": "string"},
        "metadata": {
            "description": pod.get("metadata", ""),
            "allOf": [{"$ref": V3_PREFIX + META + "ObjectMeta"}],
        },
    }


def custom_v3(schema: dict[str, Any] | None, gvk: dict[str, str]) -> dict[str, Any]:
    """A CRD version's schema as OpenAPI v3 shows it."""
    result: dict[str, Any] = dict(_published(schema)) if schema else {"type": "object"}
    result["properties"] = {**(result.get("properties") or {}), **_type_meta()}
    if schema is None or schema.get("x-kubernetes-preserve-unknown-fields"):
        result["x-kubernetes-preserve-unknown-fields"] = True
    result["x-kubernetes-group-version-kind"] = [gvk]
    return result


def custom_v2(v3: dict[str, Any]) -> dict[str, Any]:
    """The same as v2: one that keeps unknown fields says no more than that it is an object.

    kubectl takes any property that is listed there for all that may be.
    """
    if v3.get("x-kubernetes-preserve-unknown-fields"):
        gvk = "x-kubernetes-group-version-kind"
        return {"type": "object", gvk: v3[gvk]}
    return to_v2(v3)


def _published(schema: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            result[key] = {name: _published(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties", "not") and isinstance(value, dict):
            result[key] = _published(value)
        else:
            result[key] = value
    if schema.get("x-kubernetes-int-or-string") and "anyOf" not in schema:
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return result


_V2_DROPPED = frozenset({"anyOf", "oneOf", "allOf", "not", "nullable", "default", "x-kubernetes-validations"})


def to_v2(schema: dict[str, Any]) -> dict[str, Any]:
    """A custom kind's v3 schema as v2 can say it: what v2 can't express is left out, as upstream does."""
    reference = next((item["$ref"] for item in schema.get("allOf", ()) if "$ref" in item), schema.get("$ref"))
    keeps = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
    result: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _V2_DROPPED or (keeps and key in ("type", "properties", "items", "additionalProperties")):
            continue
        if schema.get("nullable") and key in ("type", "items", "properties"):
            continue
        if key == "properties":
            result[key] = {name: to_v2(item) for name, item in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            result[key] = to_v2(value)
        else:
            result[key] = value
    if reference:
        result["$ref"] = V2_PREFIX + reference.rsplit("/", 1)[-1]
    return result


def list_v3(name: str, kind: str, gvk: dict[str, str]) -> dict[str, Any]:
    """The list kind of a custom kind."""
    meta = _type_meta()
    pods = descriptions()["io.k8s.api.core.v1.PodList"]
    return {
        "description": f"{gvk['kind']} is a list of {kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": meta["apiVersion"],
            "items": {"description": f"List of {kind}.", "type": "array", "items": {"$ref": V3_PREFIX + name}},
            "kind": meta["kind"],
            "metadata": {
                "description": pods.get("metadata", ""),
                "allOf": [{"$ref": V3_PREFIX + META + "ListMeta"}],
            },
        },
        "x-kubernetes-group-version-kind": [gvk],
    }
