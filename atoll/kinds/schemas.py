"""Schemas of the built-in kinds, compiled on demand.

The raw definitions come from the build step (hatch_build.py); two committed tables beside them say what OpenAPI does
not: `fields.json`, how Go's JSON encoding treats each field (made by tools/kind_tables.py). One `Schemas` is loaded
per process, lazily, in about 4 ms; a kind is compiled when it is first asked for (a Pod: about 2 ms).
"""

from __future__ import annotations

import functools
import importlib.resources
import zlib
from typing import Any

import orjson

from atoll.base.errors import InternalError
from atoll.kinds.nodes import (
    ANY,
    ARRAY,
    BOOLEAN,
    DEDUCED,
    INT_OR_STRING,
    INTEGER,
    NUMBER,
    OBJECT,
    QUANTITY,
    STRING,
    UNTYPED,
    SchemaNode,
)

_DATA = importlib.resources.files("atoll.kinds") / "data"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
OBJECT_META = _META + "ObjectMeta"
_QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_RAW = "io.k8s.apimachinery.pkg.runtime.RawExtension"
_RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint8": (0, 255)}

# Defaults that upstream's OpenAPI v3 has for keys of list-maps; server-side apply completes keys with them.
_KEY_DEFAULTS: dict[tuple[str, str], Any] = {
    ("io.k8s.api.core.v1.ContainerPort", "protocol"): "TCP",
    ("io.k8s.api.core.v1.ServicePort", "protocol"): "TCP",
    ("io.k8s.api.core.v1.LocalObjectReference", "name"): "",
}
_ZERO_KEYS: dict[str, Any] = {"string": "", "integer": 0}


class Schemas:
    """The built-in definitions of one Kubernetes version."""

    def __init__(self, definitions: dict[str, Any], fields: dict[str, Any]) -> None:
        self.definitions = definitions
        self._fields = fields
        self._nodes: dict[str, SchemaNode] = {}
        self._by_kind: dict[tuple[str, str, str], str] = {}
        for name, schema in definitions.items():
            for gvk in schema.get("x-kubernetes-group-version-kind", ()):
                key = (gvk["group"], gvk["version"], gvk["kind"])
                # DeleteOptions and WatchEvent are listed for every group
                self._by_kind.setdefault(key, name)

    def definition_of(self, group: str, version: str, kind: str) -> str | None:
        """The OpenAPI definition's name."""
        return self._by_kind.get((group, version, kind))

    def for_kind(self, group: str, version: str, kind: str) -> SchemaNode | None:
        """The compiled schema of a built-in kind; None if there is none."""
        name = self._by_kind.get((group, version, kind))
        return None if name is None else self.node(name)

    def node(self, definition: str) -> SchemaNode:
        """The compiled node of a definition. Raises KeyError."""
        node = self._nodes.get(definition)
        return node if node is not None else self._compile_definition(definition)

    def _compile_definition(self, name: str) -> SchemaNode:
        if name == _QUANTITY:
            node = SchemaNode(QUANTITY)
        elif name == _RAW:
            node = UNTYPED.copy()
        else:
            raw = self.definitions[name]
            node = self._shell(raw)
            node.definition = name
            self._nodes[name] = node  # before the children: schemas may be recursive
            self._fill(node, raw, self._fields.get(name, {}))
        node.definition = name
        node.go_type = ".".join(name.split(".")[-2:])
        self._nodes[name] = node
        return node

    def _shell(self, raw: dict[str, Any]) -> SchemaNode:
        """The node without children."""
        kind = raw.get("type", ANY)
        text_format = raw.get("format", "")
        if text_format == "int-or-string":
            kind = INT_OR_STRING
        if kind == ANY or (kind == OBJECT and not raw.get("properties") and "additionalProperties" not in raw):
            node = DEDUCED.copy()
            node.kind = OBJECT if kind == OBJECT else ANY
        else:
            node = SchemaNode(kind)
        node.format = text_format
        node.go_type = {STRING: "string", BOOLEAN: "bool", NUMBER: "float64"}.get(kind, "")
        if kind == INTEGER:
            node.go_type = text_format or "int64"
            node.minimum, node.maximum = _RANGES.get(node.go_type, _RANGES["int64"])
        if raw.get("properties"):
            node.properties = {}
        node.required = tuple(raw.get("required", ()))
        self._merging(node, raw)
        return node

    def _merging(self, node: SchemaNode, raw: dict[str, Any]) -> None:
        """What the x-kubernetes-* extensions say about patches and apply."""
        node.merge_key = raw.get("x-kubernetes-patch-merge-key", node.merge_key)
        strategy = raw.get("x-kubernetes-patch-strategy")
        if strategy:
            node.patch_strategies = tuple(strategy.split(","))
        if node.kind == ARRAY:
            node.list_type = raw.get("x-kubernetes-list-type", node.list_type)
            node.list_keys = tuple(raw.get("x-kubernetes-list-map-keys", node.list_keys))
            node.atomic = node.list_type not in ("set", "map")
        elif "x-kubernetes-map-type" in raw:
            node.atomic = raw["x-kubernetes-map-type"] == "atomic"

    def _fill(self, node: SchemaNode, raw: dict[str, Any], facts: dict[str, Any]) -> None:
        additional = raw.get("additionalProperties")
        if additional:
            node.additional = self._child(additional)
            node.go_type = node.go_type or "map[string]" + node.additional.go_type
        if "items" in raw:
            node.items = self._child(raw["items"])
            node.go_type = node.go_type or "[]" + node.items.go_type
            if node.list_type == "map":
                node.key_defaults = self._key_defaults(node.items.definition, node.list_keys) or None
        if node.properties is not None:
            self._properties(node, raw, facts)

    def _key_defaults(self, definition: str, keys: tuple[str, ...]) -> dict[str, Any]:
        """Declared ones, and Go's zero value for keys that are always written: upstream's OpenAPI has both."""
        always = self._fields.get(definition, {}).get("always", "").split()
        properties = self.definitions.get(definition, {}).get("properties", {})
        found: dict[str, Any] = {}
        for key in keys:
            if (definition, key) in _KEY_DEFAULTS:
                found[key] = _KEY_DEFAULTS[definition, key]
            elif key in always and properties.get(key, {}).get("type") in _ZERO_KEYS:
                found[key] = _ZERO_KEYS[properties[key]["type"]]
        return found

    def _properties(self, node: SchemaNode, raw: dict[str, Any], facts: dict[str, Any]) -> None:
        properties = node.properties
        if properties is None:
            raise InternalError("properties of a node without any")
        omit = set(facts.get("omit", "").split())
        zero = set(facts.get("zero", "").split())
        fill = {*facts.get("always", "").split(), *facts.get("struct", "").split()}
        null = set(facts.get("null", "").split())
        types = facts.get("types", {})
        filled = []
        for name, schema in raw["properties"].items():
            child = self._child(schema)
            if name in omit or name in zero or name in null or name in types:
                child = child.copy()
                child.omit_empty = name in omit
                child.omit_zero = name in zero
                child.nullable = name in null
                child.go_type = types.get(name, child.go_type)
            properties[name] = child
            if name in fill:
                filled.append((name, child))
        node.fill = tuple(filled)

    def _child(self, raw: dict[str, Any]) -> SchemaNode:
        reference = raw.get("$ref")
        if reference is None:
            node = self._shell(raw)
            self._fill(node, raw, {})
            return node
        node = self.node(reference)
        if len(raw) > 1 and any(key.startswith("x-kubernetes-") for key in raw):
            node = node.copy()
            self._merging(node, raw)
        return node


@functools.cache
def builtin() -> Schemas:
    """The one table of built-in schemas (immutable data, loaded on first use). Raises InternalError if not built."""
    try:
        raw = (_DATA / "built" / "schemas.json").read_bytes()
    except FileNotFoundError as error:
        raise InternalError("the built-in schemas are missing", hint="install atoll again: `make setup`") from error
    return Schemas(orjson.loads(raw), orjson.loads((_DATA / "fields.json").read_bytes()))


@functools.cache
def descriptions() -> dict[str, dict[str, str]]:
    """{definition: {"": its text, field: the field's text}}: only for explain and OpenAPI."""
    raw = (_DATA / "built" / "descriptions.json.z").read_bytes()
    found: dict[str, dict[str, str]] = orjson.loads(zlib.decompress(raw))
    return found


def schema_for(group: str, version: str, kind: str) -> SchemaNode | None:
    """The compiled schema of a built-in kind, e.g. schema_for("apps", "v1", "Deployment")."""
    return builtin().for_kind(group, version, kind)


def object_meta() -> SchemaNode:
    """The schema of metadata, for kinds that come from a CRD."""
    return builtin().node(OBJECT_META)
