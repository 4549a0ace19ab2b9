"""Go's words for malformed JSON (encoding/json's scanner), which clients see in the answers of an API server."""

from __future__ import annotations

_LITERALS = {"t": "true", "f": "false", "n": "null"}
_SPACE = " \t\r\n"
_END = "unexpected end of JSON input"


class _Fault(Exception):
    """The text for the first character that can't be."""


def fault(body: bytes) -> str:
    """What Go says of a body that does not parse; "" if it does."""
    scanner = _Scanner(body.decode("latin-1"))  # Go shows the byte that it met
    try:
        scanner.document()
    except _Fault as found:
        return str(found)
    except RecursionError:
        return "exceeded max depth"
    return ""


def kind_name(value: object) -> str:
    """How Go's decoder names the kind of a value in a type mismatch."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def _quoted(character: str) -> str:
    if character == "'":
        return r"'\''"
    if character == '"':
        return "'\"'"
    return f"'{quote(character)[1:-1]}'"


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_ESCAPES |= {"\\": "\\\\", '"': '\\"'}


def quote(text: str) -> str:
    """Go's strconv.Quote."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    known = _ESCAPES.get(character)
    if known is not None:
        return known
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def document(self) -> None:
        self._value("looking for beginning of value")
        self._skip()
        if self._at < len(self._text):
            self._bad("after top-level value")

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _Fault(_END)
        return self._text[self._at]

    def _bad(self, context: str) -> None:
        raise _Fault(f"invalid character {_quoted(self._next())} {context}")

    def _value(self, context: str) -> None:
        self._skip()
        character = self._next()
        if character == "{":
            self._object()
        elif character == "[":
            self._array()
        elif character == '"':
            self._string()
        elif character in _LITERALS:
            self._literal(_LITERALS[character])
        elif character == "-" or character.isdigit():
            self._number()
        else:
            self._bad(context)

    def _literal(self, word: str) -> None:
        for expected in word:
            if self._next() != expected:
                self._bad(f"in literal {word} (expecting {_quoted(expected)})")
            self._at += 1

    def _object(self) -> None:
        self._at += 1
        self._skip()
        if self._next() == "}":
            self._at += 1
            return
        while True:
            self._skip()
            if self._next() != '"':
                self._bad("looking for beginning of object key string")
            self._string()
            self._skip()
            if self._next() != ":":
                self._bad("after object key")
            self._at += 1
            self._value("looking for beginning of value")
            self._skip()
            if self._next() == "}":
                self._at += 1
                return
            if self._next() != ",":
                self._bad("after object key:value pair")
            self._at += 1

    def _array(self) -> None:
        self._at += 1
        self._skip()
        if self._next() == "]":
            self._at += 1
            return
        while True:
            self._value("looking for beginning of value")
            self._skip()
            if self._next() == "]":
                self._at += 1
                return
            if self._next() != ",":
                self._bad("after array element")
            self._at += 1

    def _string(self) -> None:
        self._at += 1
        while True:
            character = self._next()
            if character == '"':
                self._at += 1
                return
            if character == "\\":
                self._at += 1
                if self._next() not in '"\\/bfnrtu':
                    self._bad("in string escape code")
            elif ord(character) < 0x20:
                self._bad("in string literal")
            self._at += 1

    def _number(self) -> None:
        if self._next() == "-":
            self._at += 1
            if not self._next().isdigit():
                self._bad("in numeric literal")
        if self._next() == "0":
            self._at += 1
        else:
            self._digits()
        if self._at < len(self._text) and self._text[self._at] == ".":
            self._at += 1
            if not self._next().isdigit():
                self._bad("after decimal point in numeric literal")
            self._digits()
        if self._at < len(self._text) and self._text[self._at] in "eE":
            self._at += 1
            if self._next() in "+-":
                self._at += 1
            if not self._next().isdigit():
                self._bad("in exponent of numeric literal")
            self._digits()

    def _digits(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isdigit():
            self._at += 1
