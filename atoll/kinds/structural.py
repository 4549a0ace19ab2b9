"""SchemaNodes from a CRD's openAPIV3Schema, for what walks objects by schema (patches, apply, differences).

The schema must be structural (the CRD's validation sees to that). Server-side apply reads list types as
structured-merge-diff does: a CRD's lists are atomic unless they say otherwise, its maps and objects granular.
"""

from __future__ import annotations

from typing import Any

from atoll.kinds.nodes import ANY, ARRAY, DEDUCED, INT_OR_STRING, INTEGER, NUMBER, OBJECT, STRING, SchemaNode
from atoll.kinds.schemas import object_meta

_META_FIELDS = ("apiVersion", "kind")


def compile_crd(schema: dict[str, Any] | None, *, preserve_all: bool = False) -> SchemaNode:
    """The node of a whole custom object. `schema` None (or preserve_all) keeps every field."""
    if schema is None:
        node = SchemaNode(OBJECT)
        node.preserve_unknown = True
        node.additional = DEDUCED
        node.properties = {}
    else:
        node = _compile(schema)
        node.properties = node.properties or {}
        if preserve_all:
            node.preserve_unknown = True
            node.additional = node.additional or DEDUCED
    _type_meta(node)
    return node


def _type_meta(node: SchemaNode) -> None:
    if node.properties is None:
        node.properties = {}
    for name in _META_FIELDS:
        node.properties[name] = SchemaNode(STRING)
    node.properties["metadata"] = object_meta()


def _compile(schema: dict[str, Any]) -> SchemaNode:
    preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    kind = schema.get("type", "")
    if schema.get("x-kubernetes-int-or-string"):
        node = SchemaNode(INT_OR_STRING)
    elif kind:
        node = SchemaNode(kind)
    else:
        node = SchemaNode(ANY)
        node.additional = node.items = DEDUCED
        preserve = True
    node.extra = schema
    node.preserve_unknown = preserve
    node.format = schema.get("format", "")
    node.nullable = bool(schema.get("nullable"))
    node.required = tuple(schema.get("required", ()))
    node.enum = schema.get("enum")
    node.go_type = kind
    if "default" in schema:
        node.default, node.has_default = schema["default"], True
    if kind == OBJECT:
        _object(node, schema)
    elif kind == ARRAY:
        node.items = _compile(schema["items"]) if isinstance(schema.get("items"), dict) else DEDUCED
        node.list_type = schema.get("x-kubernetes-list-type", "")
        node.list_keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        node.atomic = node.list_type not in ("set", "map")
        properties = node.items.properties or {}
        node.key_defaults = {
            key: properties[key].default for key in node.list_keys if key in properties and properties[key].has_default
        } or None
    elif kind in (INTEGER, NUMBER):
        node.minimum, node.maximum = -(2**63), 2**63 - 1
    return node


def _object(node: SchemaNode, schema: dict[str, Any]) -> None:
    properties = schema.get("properties")
    if properties:
        node.properties = {name: _compile(item) for name, item in properties.items()}
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        node.additional = _compile(additional)
    elif additional is True or node.preserve_unknown or not properties:
        node.additional = DEDUCED
    node.atomic = schema.get("x-kubernetes-map-type") == "atomic"
    if schema.get("x-kubernetes-embedded-resource"):
        _type_meta(node)
        if node.preserve_unknown:
            node.additional = DEDUCED
