"""CEL rules of CRDs (x-kubernetes-validations): compiled once with Kubernetes' libraries, evaluated on JSON values.

Values are dynamically typed here: what only upstream's static types find (an unknown field in a rule) is found by
`undefined_fields` for plain `self.a.b` paths, at CRD creation as upstream.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_bindings, ext_encoders, ext_math, ext_optional, ext_strings

from atoll.cluster.apiserver.extensions import cel_library

_OLD = "oldSelf"
_OLD_LIST = "__old_self"
_PATH = re.compile(r"(?<![\w.\"'])self((?:\.[A-Za-z_]\w*)+)(\s*\()?")
_ESCAPES = {"__dot__": ".", "__dash__": "-", "__slash__": "/", "__underscores__": "__"}
_RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip


class CelError(Exception):
    """A rule that does not compile; the text is the compiler's."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression. `uses_old`: a transition rule."""

    source: str
    expression: Any
    uses_old: bool
    optional_old: bool = False

    def evaluate(self, value: Any, old: Any, has_old: bool) -> tuple[Any, str]:
        """(the result, "") or (None, what went wrong)."""
        data: dict[str, Any] = {"self": value}
        if self.optional_old:
            data[_OLD_LIST] = [old] if has_old else []
        elif self.uses_old:
            data[_OLD] = old
        result = self.expression.eval(data=data)
        if result.type() == cel.Type.ERROR:
            return None, _runtime_error(str(result.value()))
        return result.plain_value(), ""


def _runtime_error(text: str) -> str:
    """In cel-go's words where they are known."""
    _, _, rest = text.partition(": ")
    missing = re.match(r'Key not found in map : "(.*)"', rest)
    if missing:
        return f"no such key: {missing[1]}"
    if rest.startswith("No matching overloads"):
        return "no such overload"
    if rest == "divide by zero":
        return "division by zero"
    return rest or text


@functools.cache
def _environment() -> Any:
    extensions = [
        ext_strings.ExtStrings(),
        ext_optional.ExtOptional(),
        ext_math.ExtMath(),
        ext_encoders.ExtEncoders(),
        ext_bindings.ExtBindings(),
        cel.CelExtension("kubernetes", cel_library.functions()),
    ]
    names = {"self": cel.Type.DYN, _OLD: cel.Type.DYN, _OLD_LIST: cel.Type.LIST}
    return cel.NewEnv(variables=names, extensions=extensions)


@functools.lru_cache(4096)
def compile_rule(source: str, optional_old: bool = False) -> Program:
    """A boolean rule. Raises CelError."""
    program = _compile(source, optional_old)
    if program.expression.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
        raise CelError("cel expression must evaluate to a bool")
    return program


@functools.lru_cache(4096)
def compile_message(source: str) -> Program:
    """A messageExpression. Raises CelError."""
    program = _compile(source, False)
    if program.expression.return_type() not in (cel.Type.STRING, cel.Type.DYN):
        raise CelError("messageExpression must evaluate to a string")
    return program


def _compile(source: str, optional_old: bool) -> Program:
    uses_old = re.search(r"\boldSelf\b", source) is not None
    text = source
    if optional_old and uses_old:
        old = f"size({_OLD_LIST}) == 0 ? optional.none() : optional.of({_OLD_LIST}[0])"
        text = f"cel.bind({_OLD}, {old}, {source})"
    try:
        expression = _environment().compile(text)
    except RuntimeError as error:
        raise CelError("compilation failed: " + _compiler_text(str(error))) from None
    return Program(source, expression, uses_old, optional_old and uses_old)


def _compiler_text(text: str) -> str:
    return text.removeprefix("INVALID_ARGUMENT: ").replace(" [INVALID_ARGUMENT]", "").strip()


def undefined_fields(source: str, has_field: Callable[[list[str]], bool]) -> str | None:
    """The first `self.a.b` path in a rule that the schema does not have; `has_field` takes unescaped names."""
    for match in _PATH.finditer(re.sub(r"\"[^\"]*\"|'[^']*'", '""', source)):
        names = [unescape(name) for name in match[1].strip(".").split(".")]
        if match[2]:
            names = names[:-1]  # a method call
        for count in range(1, len(names) + 1):
            if not has_field(names[:count]):
                return names[count - 1]
    return None


def unescape(name: str) -> str:
    """The property that a CEL identifier names."""
    if name.startswith("__") and name.endswith("__") and name[2:-2] in _RESERVED:
        return name[2:-2]
    for escaped, plain in _ESCAPES.items():
        name = name.replace(escaped, plain)
    return name


def escape(name: str) -> str | None:
    """The CEL identifier of a property; None if it can't have one."""
    if name in _RESERVED:
        return f"__{name}__"
    escaped = name.replace("__", "__underscores__")
    for code, plain in _ESCAPES.items():
        if plain != "__":
            escaped = escaped.replace(plain, code)
    return escaped if re.fullmatch(r"[A-Za-z_]\w*", escaped) else None
