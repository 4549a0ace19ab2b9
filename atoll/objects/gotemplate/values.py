"""Go's view of JSON values: truth, kinds, printing."""

from __future__ import annotations

import math
from typing import Any, Final


class NoValue:
    """What a missing map key yields (an invalid reflect.Value)."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "<no value>"


NO_VALUE: Final = NoValue()


class Number(str):
    """A json.Number: a number that Go keeps as text; a string to comparisons and to truth."""

    __slots__ = ()


class Char(int):
    """A character constant ('x'): an int that remembers that it is a rune."""


def with_numbers(value: Any) -> Any:
    """A copy in which numbers are `Number`s, as a decoder with UseNumber gives them."""
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return Number(value)
    if isinstance(value, float):
        return Number(int(value)) if value.is_integer() and abs(value) < 1e21 else Number(repr(value))
    return value


def is_nil(value: Any) -> bool:
    return value is None or value is NO_VALUE


def truth(value: Any) -> bool:
    """Go's IsTrue: false, 0, nil and anything of length zero are false."""
    if is_nil(value):
        return False
    if isinstance(value, (bool, int, float)):
        return bool(value)
    if isinstance(value, (str, list, tuple, dict)):
        return len(value) > 0
    return True


def basic_kind(value: Any) -> str:
    """bool, int, float, string, or "" for what can't be ordered."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    return "string" if isinstance(value, str) else ""


def type_name(value: Any) -> str:
    """As %T prints it."""
    if is_nil(value):
        return "<nil>"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Char):
        return "int32"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float64"
    if isinstance(value, Number):
        return "json.Number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    return "func"


def kind_name(value: Any) -> str:
    """reflect.Kind's name (sprig's kindOf)."""
    if is_nil(value):
        return "invalid"
    if isinstance(value, dict):
        return "map"
    if isinstance(value, (list, tuple)):
        return "slice"
    name = type_name(value)
    return "string" if name == "json.Number" else name


def float_text(value: float, verb: str = "g", precision: int = -1) -> str:
    """strconv.FormatFloat."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if verb in "fF":
        return f"{value:.{6 if precision < 0 else precision}f}"
    if verb in "eE":
        return f"{value:.{6 if precision < 0 else precision}{verb}}"
    if precision >= 0:
        return f"{value:.{precision or 1}{verb}}"
    digits = repr(value)
    mantissa, _, power = digits.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    fraction = "" if fraction == "0" else fraction
    figures = (whole + fraction).lstrip("0")
    exponent = int(power or 0) + len(whole) - 1
    if whole == "0":
        exponent = int(power or 0) - (len(fraction) - len(fraction.lstrip("0"))) - 1
    figures = figures.rstrip("0") or "0"
    if figures == "0":
        return f"{sign}0"
    if exponent < -4 or exponent >= 6:
        tail = f".{figures[1:]}" if len(figures) > 1 else ""
        return f"{sign}{figures[0]}{tail}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    if exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{figures}"
    if len(figures) <= exponent + 1:
        return f"{sign}{figures}{'0' * (exponent + 1 - len(figures))}"
    return f"{sign}{figures[: exponent + 1]}.{figures[exponent + 1 :]}"


def text_of(value: Any, top: bool = False) -> str:
    """%v: how fmt prints a value. `top`: as a template prints the result of an action."""
    if isinstance(value, str):
        return str(value)
    if value is True:
        return "true"
    if value is False:
        return "false"
    if is_nil(value):
        return "<no value>" if top else "<nil>"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{text_of(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(text_of(item) for item in value) + "]"
    return str(value)


def go_syntax(value: Any) -> str:
    """%#v: Go syntax."""
    if is_nil(value):
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return go_quote(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return float_text(value)
    if isinstance(value, dict):
        inner = ", ".join(f"{go_quote(key)}:{_element(value[key])}" for key in sorted(value))
        return "map[string]interface {}{" + inner + "}"
    if isinstance(value, (list, tuple)):
        return "[]interface {}{" + ", ".join(_element(item) for item in value) + "}"
    return str(value)


def _element(value: Any) -> str:
    return "interface {}(nil)" if is_nil(value) else go_syntax(value)


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


def go_quote(text: str, quote: str = '"') -> str:
    """strconv.Quote."""
    out = [quote]
    for char in text:
        if char == quote or char == "\\":
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        elif ord(char) < 0x10000:
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(f"\\U{ord(char):08x}")
    return "".join([*out, quote])
