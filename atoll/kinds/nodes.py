"""SchemaNode: one compiled schema, of a built-in kind or of a CRD alike.

Everything that walks objects by schema (decoding, strategic merge, server-side apply, pruning, defaulting,
`explain`) walks these nodes, so a CRD works in the same functions as a built-in kind. Nodes may be recursive
(JSONSchemaProps), so never print or compare them deeply.
"""

from __future__ import annotations

from typing import Any

# SchemaNode.kind
OBJECT = "object"  # named properties and/or `additional`
ARRAY = "array"
STRING = "string"
INTEGER = "integer"
NUMBER = "number"
BOOLEAN = "boolean"
INT_OR_STRING = "int-or-string"
QUANTITY = "quantity"
ANY = "any"

NO_KEYS: tuple[str, ...] = ()


class SchemaNode:
    """One place in a schema: its type, its children, and how lists and maps there are merged.

    `omit_empty`: a zero value is not written (Go's omitempty on a non-pointer field); `fill`: names of the
    properties that are always written, with the node they have (Go's value structs and fields without omitempty).
    """

    __slots__ = (
        "additional", "atomic", "default", "definition", "enum", "extra", "fill", "format", "go_type", "has_default",
        "items", "key_defaults", "kind", "list_keys", "list_type", "maximum", "merge_key", "minimum", "nullable",
        "omit_empty", "omit_zero", "patch_strategies", "preserve_unknown", "properties", "required",
    )  # fmt: skip

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.format = ""
        self.definition = ""  # e.g. io.k8s.api.core.v1.PodSpec; "" for inline schemas
        self.go_type = ""  # as decode errors name it, e.g. int32, v1.PodSpec
        self.properties: dict[str, SchemaNode] | None = None
        self.additional: SchemaNode | None = None  # of map values
        self.items: SchemaNode | None = None
        self.required: tuple[str, ...] = NO_KEYS
        self.enum: list[Any] | None = None
        self.default: Any = None
        self.has_default = False
        self.nullable = False
        self.preserve_unknown = False
        self.minimum: int | None = None  # of integers, by their Go type
        self.maximum: int | None = None
        # strategic merge patch
        self.merge_key = ""
        self.patch_strategies: tuple[str, ...] = NO_KEYS
        # server-side apply; `atomic` is of a list or of a map/struct
        self.atomic = False
        self.list_type = ""  # "", atomic, set, map
        self.list_keys: tuple[str, ...] = NO_KEYS
        self.key_defaults: dict[str, Any] | None = None
        # Go's JSON encoding
        self.omit_empty = False
        self.omit_zero = False
        self.fill: tuple[tuple[str, SchemaNode], ...] = ()
        # a CRD's own schema value, for what is not compiled here (validations, pattern …)
        self.extra: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"SchemaNode({self.kind}, {self.definition or self.go_type})"

    def copy(self) -> SchemaNode:
        """A shallow copy: it shares `properties`, so it may be taken while those are still being filled."""
        twin = SchemaNode.__new__(SchemaNode)
        for name in SchemaNode.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def at(self, *path: str) -> SchemaNode | None:
        """The node under property names (`"[]"` steps into a list's items); None where the schema has none."""
        node: SchemaNode | None = self
        for step in path:
            if node is None:
                return None
            if step == "[]":
                node = node.items
            else:
                node = (node.properties or {}).get(step) or node.additional
        return node


def _untyped(*, atomic: bool) -> SchemaNode:
    node = SchemaNode(ANY)
    node.preserve_unknown = True
    node.atomic = atomic
    node.additional = node
    node.items = node
    node.go_type = "interface {}"
    return node


UNTYPED = _untyped(atomic=True)
"""Any value, owned as a whole (RawExtension)."""

DEDUCED = _untyped(atomic=False)
"""Any value: maps are walked, lists are owned as a whole (JSON, preserve-unknown-fields)."""
DEDUCED.items = UNTYPED
