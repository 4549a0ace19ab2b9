"""fmt.Sprintf over JSON values."""

from __future__ import annotations

import re
from typing import Any

from atoll.objects.gotemplate.values import (
    Number,
    float_text,
    go_quote,
    go_syntax,
    is_nil,
    text_of,
    type_name,
)

_VERB = re.compile(r"%(?P<flags>[-+# 0]*)(?P<width>\*|\d+)?(?:\.(?P<precision>\*|\d*))?(?P<verb>.)?", re.DOTALL)


def sprintf(layout: str, *args: Any) -> str:
    """Go's Sprintf, its complaints about wrong verbs and missing or extra arguments included."""
    out: list[str] = []
    rest = list(args)
    position = 0
    for match in _VERB.finditer(layout):
        out.append(layout[position : match.start()])
        position = match.end()
        verb = match["verb"]
        if verb is None:
            out.append("%!(NOVERB)")
            continue
        if verb == "%":
            out.append("%")
            continue
        width = _size(match["width"], rest)
        precision = _size(match["precision"], rest) if match["precision"] != "" else 0
        if not rest:
            out.append(f"%!{verb}(MISSING)")
            continue
        out.append(_padded(_formatted(rest.pop(0), verb, match["flags"], precision, width), match["flags"], width))
    out.append(layout[position:])
    if rest:
        extra = ", ".join("<nil>" if is_nil(item) else f"{type_name(item)}={text_of(item)}" for item in rest)
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _size(text: str | None, rest: list[Any]) -> int | None:
    if text is None:
        return None
    if text == "*":
        return int(rest.pop(0)) if rest else None
    return int(text)


def _padded(text: str, flags: str, width: int | None) -> str:
    if width is None or len(text) >= width:
        return text
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and text[:1] in "+-0123456789":
        sign = text[0] if text[0] in "+-" else ""
        return sign + text[len(sign) :].rjust(width - len(sign), "0")
    return text.rjust(width)


def _formatted(value: Any, verb: str, flags: str, precision: int | None, width: int | None) -> str:
    if verb == "T":
        return type_name(value)
    if verb == "v":
        if "#" in flags:
            return go_syntax(value)
        if isinstance(value, float) and precision is not None:
            return float_text(value, "g", precision)
        text = text_of(value)
        plus = "+" in flags and isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
        return f"+{text}" if plus else text
    if is_nil(value):
        return f"%!{verb}(<nil>)"
    if isinstance(value, (list, tuple)) and verb != "p":
        return "[" + " ".join(_formatted(item, verb, flags, precision, None) for item in value) + "]"
    if isinstance(value, dict):
        items = (f"{_formatted(k, verb, flags, precision, None)}:{_formatted(value[k], verb, flags, precision, None)}"
                 for k in sorted(value))  # fmt: skip
        return "map[" + " ".join(items) + "]"
    if isinstance(value, bool):
        return ("true" if value else "false") if verb == "t" else _bad(value, verb)
    if isinstance(value, str):
        return _string(value, verb, flags, precision)
    if isinstance(value, int):
        return _integer(value, verb, flags)
    if isinstance(value, float):
        if verb not in "eEfFgG":
            return _bad(value, verb)
        text = float_text(value, verb, -1 if precision is None else precision)
        return f"+{text}" if "+" in flags and value >= 0 else text
    return _bad(value, verb)


def _string(value: str, verb: str, flags: str, precision: int | None) -> str:
    text = str(value) if precision is None else str(value)[:precision]
    if verb == "s":
        return text
    if verb == "q":
        if "#" in flags and "`" not in text:
            return f"`{text}`"
        return go_quote(text)
    if verb in "xX":
        found = text.encode().hex()
        return found.upper() if verb == "X" else found
    return f"%!{verb}({'json.Number' if isinstance(value, Number) else 'string'}={value})"


def _integer(value: int, verb: str, flags: str) -> str:
    value = int(value)
    sign = "-" if value < 0 else "+" if "+" in flags else " " if " " in flags else ""
    size = abs(value)
    if verb == "d":
        return f"{sign}{size}"
    if verb == "b":
        return f"{sign}{'0b' if '#' in flags else ''}{size:b}"
    if verb in "oO":
        return f"{sign}{'0o' if verb == 'O' else '0' if '#' in flags else ''}{size:o}"
    if verb in "xX":
        prefix = f"0{verb}" if "#" in flags else ""
        return f"{sign}{prefix}{size:{verb}}"
    if verb == "c":
        return chr(value)
    if verb == "q":
        return go_quote(chr(value), "'")
    if verb == "U":
        return f"U+{value:04X}"
    return _bad(value, verb)


def _bad(value: Any, verb: str) -> str:
    return f"%!{verb}({type_name(value)}={text_of(value)})"


def sprint(*args: Any) -> str:
    """Sprint: spaces between operands when neither is a string."""
    out: list[str] = []
    for place, value in enumerate(args):
        if place and not _is_string(value) and not _is_string(args[place - 1]):
            out.append(" ")
        out.append(text_of(value))
    return "".join(out)


def _is_string(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def sprintln(*args: Any) -> str:
    return " ".join(text_of(value) for value in args) + "\n"
