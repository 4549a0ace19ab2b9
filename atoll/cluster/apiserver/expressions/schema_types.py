"""Types of expressions made from schemas: of built-in kinds, of CRDs (apiserver pkg/cel/common SchemaDeclType).

Objects are made field by field when they are asked for, so recursive schemas are no trouble. What has no type of its
own (any, `x-kubernetes-preserve-unknown-fields` without properties) is not a field, as upstream.
"""

from __future__ import annotations

from collections.abc import Callable

from atoll.cluster.apiserver.expressions import types
from atoll.cluster.apiserver.expressions.names import unescape
from atoll.cluster.apiserver.expressions.types import Struct, Type
from atoll.kinds.nodes import ARRAY, BOOLEAN, INT_OR_STRING, INTEGER, NUMBER, OBJECT, QUANTITY, STRING, SchemaNode

_SCALARS = {
    BOOLEAN: types.BOOL, INTEGER: types.INT, NUMBER: types.DOUBLE, INT_OR_STRING: types.DYN, QUANTITY: types.STRING,
}  # fmt: skip
_FORMATS = {
    "byte": types.BYTES, "duration": types.DURATION, "date": types.TIMESTAMP, "date-time": types.TIMESTAMP,
}  # fmt: skip


def type_of(node: SchemaNode | None, name: str) -> Type | None:
    """`name`: of the object type, if it is one: unique in an environment."""
    if node is None:
        return None
    if node.kind == STRING:
        return _FORMATS.get(node.format, types.STRING)
    if node.kind in _SCALARS:
        return _SCALARS[node.kind]
    if node.kind == ARRAY:
        element = type_of(node.items, f"{name}.@idx")
        return None if element is None else types.list_of(element)
    if node.kind != OBJECT:
        return None
    if node.additional is not None and not node.properties:
        value = type_of(node.additional, f"{name}.@elem")
        return None if value is None else types.map_of(types.STRING, value)
    return Struct("struct", name, (), {}, _fields(node, name))


def _fields(node: SchemaNode, name: str) -> Callable[[str], Type | None]:
    known: dict[str, Type | None] = {}

    def find(field: str) -> Type | None:
        if field not in known:
            found = (node.properties or {}).get(unescape(field))
            known[field] = type_of(found, f"{name}.{field}")
        return known[field]

    return find
