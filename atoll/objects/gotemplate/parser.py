"""Tokens to nodes. Raises TemplateError with Go's messages where they are plain."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from atoll.objects.gotemplate import nodes
from atoll.objects.gotemplate.errors import TemplateError
from atoll.objects.gotemplate.lexer import Piece, Token, split


class Parser:
    """One template text; `defined` collects its {{define}}s and {{block}}s."""

    def __init__(self, source: str, functions: Collection[str]) -> None:
        self._pieces = split(source)
        self._position = 0
        self._functions = functions
        self._variables: list[str] = ["$"]
        self._loops = 0
        self.defined: dict[str, list[Any]] = {}

    def parse(self) -> list[Any]:
        body, end = self._list()
        if end is not None:
            raise self._error(end[0], f"unexpected {{{{{end[1]}}}}}")
        return body

    # structure

    def _list(self) -> tuple[list[Any], tuple[int, str, list[Token]] | None]:
        """Nodes up to an {{end}} or {{else}}, which is returned."""
        found: list[Any] = []
        while self._position < len(self._pieces):
            piece = self._pieces[self._position]
            self._position += 1
            if piece.text is not None:
                found.append(nodes.Text(piece.text))
                continue
            tokens = _trimmed(piece.tokens)
            if not tokens:
                raise self._error(piece.line, "missing value for command")
            if tokens[0].kind != "keyword":
                found.append(nodes.Action(self._pipeline(tokens, piece.line)))
                continue
            keyword = str(tokens[0].value)
            if keyword in ("end", "else"):
                return found, (piece.line, keyword, tokens[1:])
            self._control(keyword, tokens[1:], piece, found)
        return found, None

    def _control(self, keyword: str, tokens: list[Token], piece: Piece, found: list[Any]) -> None:
        if keyword in ("if", "with", "range"):
            found.append(self._branch(keyword, tokens, piece.line))
        elif keyword in ("break", "continue"):
            if not self._loops:
                raise self._error(piece.line, f"{{{{{keyword}}}}} outside {{{{range}}}}")
            found.append(nodes.Jump(keyword))
        elif keyword == "template":
            name, rest = self._name(tokens, piece.line)
            found.append(nodes.Call(name, self._pipeline(rest, piece.line) if rest else None, piece.line))
        elif keyword in ("define", "block"):
            name, rest = self._name(tokens, piece.line)
            call = None
            if keyword == "block":
                call = nodes.Call(name, self._pipeline(rest, piece.line), piece.line)
            outer, self._variables = self._variables, ["$"]
            body, end = self._list()
            self._variables = outer
            if end is None or end[1] != "end":
                raise self._error(piece.line, f"unexpected EOF in {keyword}")
            if keyword == "define" or name not in self.defined:
                self.defined[name] = body
            if call is not None:
                found.append(call)
        else:
            raise self._error(piece.line, f"unexpected {keyword}")

    def _name(self, tokens: list[Token], line: int) -> tuple[str, list[Token]]:
        tokens = _trimmed(tokens)
        if not tokens or tokens[0].kind != "string":
            raise self._error(line, "template name expected")
        return str(tokens[0].value), _trimmed(tokens[1:])

    def _branch(self, keyword: str, tokens: list[Token], line: int) -> nodes.Branch:
        depth = len(self._variables)
        pipeline = self._pipeline(_trimmed(tokens), line, in_range=keyword == "range")
        self._loops += keyword == "range"
        body, end = self._list()
        self._loops -= keyword == "range"
        otherwise: list[Any] | None = None
        if end is not None and end[1] == "else":
            rest = _trimmed(end[2])
            if rest and rest[0].kind == "keyword" and rest[0].value == keyword and keyword in ("if", "with"):
                otherwise = [self._branch(keyword, rest[1:], end[0])]
                del self._variables[depth:]
                return nodes.Branch(keyword, pipeline, body, otherwise)
            if rest:
                raise self._error(end[0], "unexpected token in {{else}}")
            otherwise, end = self._list()
        if end is None or end[1] != "end":
            raise self._error(line, f"unexpected EOF in {keyword}")
        del self._variables[depth:]
        return nodes.Branch(keyword, pipeline, body, otherwise)

    # pipelines

    def _pipeline(self, tokens: list[Token], line: int, in_range: bool = False) -> nodes.Pipeline:
        tokens = _trimmed(tokens)
        declared, assign, tokens = self._declaration(tokens, line, in_range)
        commands: list[nodes.Command] = []
        for part in _split_pipes(tokens):
            part = _trimmed(part)
            if not part:
                raise self._error(line, "missing value for command")
            commands.append(nodes.Command(self._operands(part), part[0].line))
        for place, command in enumerate(commands):
            if place and not isinstance(
                command.operands[0], (nodes.Function, nodes.Field, nodes.Variable, nodes.Chain)
            ):
                raise self._error(line, f"non executable command in pipeline stage {place + 1}")
        if declared and not assign:
            self._variables += declared
        return nodes.Pipeline(commands, declared, assign, line)

    def _declaration(self, tokens: list[Token], line: int, in_range: bool) -> tuple[list[str], bool, list[Token]]:
        plain = [token for token in tokens if token.kind != "space"]
        if not plain or plain[0].kind != "variable":
            return [], False, tokens
        names = [f"${plain[0].value}"]
        place = 1
        if in_range and len(plain) > 3 and plain[1].kind == "comma" and plain[2].kind == "variable":
            names.append(f"${plain[2].value}")
            place = 3
        if len(plain) <= place or plain[place].kind not in ("declare", "assign"):
            return [], False, tokens
        assign = plain[place].kind == "assign"
        if assign:
            for name in names:
                self._known(name, line)
        rest = tokens[tokens.index(plain[place]) + 1 :]
        return names, assign, rest

    def _operands(self, tokens: list[Token]) -> list[Any]:
        operands: list[Any] = []
        position = 0
        while position < len(tokens):
            token = tokens[position]
            if token.kind == "space":
                position += 1
                continue
            operand, position = self._operand(tokens, position)
            operands.append(operand)
            if position < len(tokens) and tokens[position].kind not in ("space",):
                raise self._error(token.line, f"unexpected {tokens[position].value!r} in operand")
        return operands

    def _operand(self, tokens: list[Token], position: int) -> tuple[Any, int]:
        token = tokens[position]
        position += 1
        base: Any
        if token.kind in ("string", "number", "bool"):
            base = nodes.Constant(token.value)
        elif token.kind == "nil":
            base = nodes.Nil()
        elif token.kind == "dot":
            base = nodes.Dot()
        elif token.kind == "field":
            base = nodes.Field([str(token.value)])
        elif token.kind == "variable":
            name = f"${token.value}"
            self._known(name, token.line)
            base = nodes.Variable(name)
        elif token.kind == "ident":
            if token.value not in self._functions:
                raise self._error(token.line, f'function "{token.value}" not defined')
            base = nodes.Function(str(token.value))
        elif token.kind == "lparen":
            end = _closing(tokens, position)
            if end is None:
                raise self._error(token.line, "unclosed left paren")
            base = self._pipeline(tokens[position:end], token.line)
            position = end + 1
        else:
            raise self._error(token.line, f"unexpected {token.value!r} in operand")
        names: list[str] = []
        while position < len(tokens) and tokens[position].kind == "field":
            names.append(str(tokens[position].value))
            position += 1
        if names:
            if isinstance(base, (nodes.Field, nodes.Variable)):
                base.names += names
            elif isinstance(base, (nodes.Constant, nodes.Nil)):
                raise self._error(token.line, f"unexpected . after term {token.value!r}")
            else:
                base = nodes.Chain(base, names)
        return base, position

    def _known(self, name: str, line: int) -> None:
        if name not in self._variables:
            raise self._error(line, f"undefined variable {name!r}".replace("'", '"'))

    def _error(self, line: int, message: str) -> TemplateError:
        return TemplateError(f"template: line {line}: {message}")


def _trimmed(tokens: list[Token]) -> list[Token]:
    start, end = 0, len(tokens)
    while start < end and tokens[start].kind == "space":
        start += 1
    while end > start and tokens[end - 1].kind == "space":
        end -= 1
    return tokens[start:end]


def _split_pipes(tokens: list[Token]) -> list[list[Token]]:
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.kind == "lparen") - (token.kind == "rparen")
        if token.kind == "pipe" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _closing(tokens: list[Token], position: int) -> int | None:
    depth = 1
    for place in range(position, len(tokens)):
        depth += (tokens[place].kind == "lparen") - (tokens[place].kind == "rparen")
        if depth == 0:
            return place
    return None
