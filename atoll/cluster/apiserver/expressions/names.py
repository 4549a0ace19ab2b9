"""How properties are spelled as CEL identifiers, and back (apiserver pkg/cel/escaping.go)."""

from __future__ import annotations

import functools
import re

_ESCAPES = {"__dot__": ".", "__dash__": "-", "__slash__": "/", "__underscores__": "__"}
_RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip


def unescape(name: str) -> str:
    """The property that a CEL identifier names."""
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _RESERVED:
        return name[2:-2]
    for escaped, plain in _ESCAPES.items():
        name = name.replace(escaped, plain)
    return name


@functools.lru_cache(4096)
def escape(name: str) -> str | None:
    """The CEL identifier of a property; None if it can't have one."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = name.replace("__", "__underscores__")
    for code, plain in _ESCAPES.items():
        if plain != "__":
            escaped = escaped.replace(plain, code)
    return escaped if re.fullmatch(r"[A-Za-z_]\w*", escaped) else None
