"""Splits a template into text and actions, and actions into tokens."""

from __future__ import annotations

import re
from typing import NamedTuple

from atoll.objects.gotemplate.errors import TemplateError
from atoll.objects.gotemplate.values import Char


class Token(NamedTuple):
    """kind: ident keyword field variable string number bool nil dot pipe lparen rparen comma declare assign space"""

    kind: str
    value: object
    line: int


class Piece(NamedTuple):
    """A stretch of text, or an action's tokens."""

    text: str | None
    tokens: list[Token]
    line: int


KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"))
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    |(?P<declare>:=)|(?P<assign>=)|(?P<pipe>\|)|(?P<lparen>\()|(?P<rparen>\))|(?P<comma>,)
    |(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<raw>`[^`]*`)|(?P<char>'(?:[^'\\]|\\.)+')
    |(?P<number>[+-]?(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|(?:[0-9][0-9_]*)?\.?[0-9][0-9_]*(?:[eE][+-]?[0-9]+)?\.?))
    |(?P<field>\.[^\W\d]\w*)|(?P<dot>\.)|(?P<variable>\$\w*)|(?P<ident>[^\W\d]\w*)""",
    re.VERBOSE,
)
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)


def split(source: str) -> list[Piece]:
    """The pieces of a template, trim markers applied. Raises TemplateError."""
    pieces: list[Piece] = []
    position, line, trim = 0, 1, False
    while True:
        start = source.find("{{", position)
        text = source[position:] if start < 0 else source[position:start]
        trim_before = start >= 0 and source.startswith("{{-", start) and source[start + 3 : start + 4].isspace()
        shown = text.lstrip(" \t\r\n") if trim else text
        shown = shown.rstrip(" \t\r\n") if trim_before else shown
        if shown:
            pieces.append(Piece(shown, [], line))
        line += text.count("\n")
        if start < 0:
            return pieces
        begin = start + (3 if trim_before else 2)
        end, trim, tokens = _action(source, begin, line)
        if tokens is not None:
            pieces.append(Piece(None, tokens, line))
        line += source.count("\n", start, end)
        position = end


def _action(source: str, position: int, line: int) -> tuple[int, bool, list[Token] | None]:
    """(end, whether the text after is trimmed, tokens or None for a comment)."""
    stripped = position
    while source[stripped : stripped + 1].isspace():
        stripped += 1
    if source.startswith("/*", stripped):
        close = source.find("*/", stripped)
        if close < 0:
            raise TemplateError(f"template: line {line}: unclosed comment")
        rest = re.compile(r"(\s+-)?\}\}").match(source, close + 2)
        if rest is None:
            raise TemplateError(f"template: line {line}: comment ends before closing delimiter")
        return rest.end(), rest[1] is not None, None
    tokens: list[Token] = []
    while True:
        if source.startswith("}}", position):
            return position + 2, False, tokens
        trimmed = re.compile(r"\s-\}\}").match(source, position)
        if trimmed is not None:
            return trimmed.end(), True, tokens
        match = _TOKEN.match(source, position)
        if match is None or match.end() == position:
            found = source[position : position + 1]
            what = f"unexpected {found!r} in action" if found else "unclosed action"
            raise TemplateError(f"template: line {line}: {what}")
        tokens.append(_token(str(match.lastgroup), match[0], line))
        line += match[0].count("\n")
        position = match.end()


def _token(kind: str, text: str, line: int) -> Token:
    if kind == "ident":
        if text in ("true", "false"):
            return Token("bool", text == "true", line)
        if text == "nil":
            return Token("nil", None, line)
        return Token("keyword" if text in KEYWORDS else "ident", text, line)
    if kind == "string":
        return Token("string", _unquote(text[1:-1]), line)
    if kind == "raw":
        return Token("string", text[1:-1].replace("\r", ""), line)
    if kind == "char":
        inner = _unquote(text[1:-1])
        if len(inner) != 1:
            raise TemplateError(f"template: line {line}: malformed character constant: {text}")
        return Token("number", Char(ord(inner)), line)
    if kind == "number":
        return Token("number", _number(text, line), line)
    if kind in ("field", "variable"):
        return Token(kind, text[1:], line)
    return Token(kind, text, line)


def _number(text: str, line: int) -> int | float:
    plain = text.replace("_", "")
    digits = plain.lstrip("+-")
    try:
        if re.fullmatch(r"0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+", digits):
            return int(plain, 0)
        if re.fullmatch(r"0[0-7]+", digits):
            return int(plain, 8)
        if re.fullmatch(r"[0-9]+", digits):
            return int(plain)
        value = float(plain)
    except ValueError:
        raise TemplateError(f"template: line {line}: bad number syntax: {text!r}") from None
    return value


def _unquote(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        body = match[1]
        if body[0] in "xuU":
            return chr(int(body[1:], 16))
        if len(body) == 3 and body.isdigit():
            return chr(int(body, 8))
        return _SIMPLE.get(body, body)

    return _ESCAPE.sub(replace, text)
