"""Runs a parsed template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from atoll.objects.gotemplate import nodes
from atoll.objects.gotemplate.builtins import BUILTINS, SHORT_CIRCUIT, FunctionError
from atoll.objects.gotemplate.errors import TemplateError
from atoll.objects.gotemplate.parser import Parser
from atoll.objects.gotemplate.values import NO_VALUE, is_nil, text_of, truth, type_name

Functions = Mapping[str, Callable[..., Any]]
_MOST_DEPTH = 200
_ABSENT: Any = object()


class Template:
    """A parsed template. `functions` names what it may call; `render` may be given others of the same names."""

    def __init__(self, text: str, functions: Functions | None = None) -> None:
        self._functions: dict[str, Callable[..., Any]] = {**BUILTINS, **(functions or {})}
        parser = Parser(text, {*self._functions, *SHORT_CIRCUIT})
        self._body = parser.parse()
        self._defined = parser.defined

    def render(self, data: Any, functions: Functions | None = None) -> str:
        """The template's text for `data`. Raises TemplateError."""
        table = {**self._functions, **functions} if functions else self._functions
        run = _Run(table, self._defined, data)
        run.walk(self._body, data)
        return "".join(run.out)


class _Jump(Exception):
    def __init__(self, keyword: str) -> None:
        self.keyword = keyword


class _Run:
    """One execution: output and variables."""

    def __init__(self, functions: Functions, defined: dict[str, list[Any]], data: Any, depth: int = 0) -> None:
        self.out: list[str] = []
        self._functions = functions
        self._defined = defined
        self._variables: list[tuple[str, Any]] = [("$", data)]
        self._depth = depth

    def walk(self, body: list[Any], dot: Any) -> None:
        out = self.out
        for node in body:
            kind = type(node)
            if kind is nodes.Text:
                out.append(node.text)
            elif kind is nodes.Action:
                value = self._pipeline(node.pipeline, dot)
                if not node.pipeline.declared:
                    out.append(text_of(value, True))
            elif kind is nodes.Branch:
                mark = len(self._variables)
                try:
                    (self._range if node.keyword == "range" else self._branch)(node, dot)
                finally:
                    del self._variables[mark:]
            elif kind is nodes.Jump:
                raise _Jump(node.keyword)
            else:
                self._call_template(node, dot)

    def _branch(self, node: nodes.Branch, dot: Any) -> None:
        value = self._pipeline(node.pipeline, dot)
        if truth(value):
            self.walk(node.body, value if node.keyword == "with" else dot)
        elif node.otherwise is not None:
            self.walk(node.otherwise, dot)

    def _range(self, node: nodes.Branch, dot: Any) -> None:
        pipeline = node.pipeline
        mark = len(self._variables)
        value = self._pipeline(pipeline, dot, in_range=True)
        pairs = self._pairs(value, pipeline.line)
        if not pairs:
            if node.otherwise is not None:
                self.walk(node.otherwise, dot)
            return
        names = pipeline.declared
        for key, item in pairs:
            del self._variables[mark:]
            if names:
                values = [item] if len(names) == 1 else [key, item]
                for name, bound in zip(names, values, strict=True):
                    if pipeline.assign:
                        self._assign(name, bound)
                    else:
                        self._variables.append((name, bound))
            try:
                self.walk(node.body, item)
            except _Jump as jump:
                if jump.keyword == "break":
                    break

    def _pairs(self, value: Any, line: int) -> list[tuple[Any, Any]]:
        if is_nil(value):
            return []
        if isinstance(value, (list, tuple)):
            return list(enumerate(value))
        if isinstance(value, dict):
            return [(key, value[key]) for key in sorted(value)]
        if isinstance(value, int) and not isinstance(value, bool):
            return [(number, number) for number in range(value)]
        raise TemplateError(f"template: line {line}: range can't iterate over {text_of(value)}")

    def _call_template(self, node: nodes.Call, dot: Any) -> None:
        body = self._defined.get(node.name)
        if body is None:
            raise TemplateError(f'template: line {node.line}: template "{node.name}" not defined')
        if self._depth >= _MOST_DEPTH:
            raise TemplateError(f"template: line {node.line}: exceeded maximum template depth ({_MOST_DEPTH})")
        data = self._pipeline(node.pipeline, dot) if node.pipeline is not None else NO_VALUE
        run = _Run(self._functions, self._defined, data, self._depth + 1)
        run.out = self.out
        run.walk(body, data)

    # values

    def _pipeline(self, pipeline: nodes.Pipeline, dot: Any, in_range: bool = False) -> Any:
        value: Any = _ABSENT
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        if pipeline.declared and not in_range:
            for name in pipeline.declared:
                if pipeline.assign:
                    self._assign(name, value)
                else:
                    self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: Any) -> None:
        for place in range(len(self._variables) - 1, -1, -1):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return

    def _command(self, command: nodes.Command, dot: Any, final: Any) -> Any:
        first = command.operands[0]
        if type(first) is nodes.Function:
            return self._call(first.name, command, dot, final)
        value = self._value(first, dot, command.line)
        if len(command.operands) > 1 or final is not _ABSENT:
            if callable(value):
                args = [self._value(operand, dot, command.line) for operand in command.operands[1:]]
                return value(*args, *([] if final is _ABSENT else [final]))
            raise TemplateError(f"template: line {command.line}: can't give argument to non-function {_shown(first)}")
        if type(first) is nodes.Nil:
            raise TemplateError(f"template: line {command.line}: nil is not a command")
        return value

    def _call(self, name: str, command: nodes.Command, dot: Any, final: Any) -> Any:
        line, operands = command.line, command.operands
        if name == "and" or name == "or":
            return self._short_circuit(name, operands[1:], dot, final, line)
        args = [self._value(operand, dot, line) for operand in operands[1:]]
        if final is not _ABSENT:
            args.append(final)
        return self._invoke(name, args, line)

    def _invoke(self, name: str, args: list[Any], line: int) -> Any:
        try:
            return self._functions[name](*[None if item is NO_VALUE else item for item in args])
        except (FunctionError, TemplateError) as error:
            raise TemplateError(f"template: line {line}: error calling {name}: {error}") from error
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            raise TemplateError(f"template: line {line}: error calling {name}: {error}") from error

    def _short_circuit(self, name: str, operands: list[Any], dot: Any, final: Any, line: int) -> Any:
        if not operands and final is _ABSENT:
            raise TemplateError(f"template: line {line}: wrong number of args for {name}: want at least 1 got 0")
        value: Any = None
        for operand in operands:
            value = self._value(operand, dot, line)
            if truth(value) == (name == "or"):
                return value
        return value if final is _ABSENT else final

    def _value(self, node: Any, dot: Any, line: int) -> Any:
        kind = type(node)
        if kind is nodes.Field:
            return self._fields(dot, node.names, line)
        if kind is nodes.Constant:
            return node.value
        if kind is nodes.Variable:
            return (
                self._fields(self._variable(node.name), node.names, line) if node.names else self._variable(node.name)
            )
        if kind is nodes.Dot:
            return dot
        if kind is nodes.Function:
            return self._call(node.name, nodes.Command([node], line), dot, _ABSENT)
        if kind is nodes.Pipeline:
            return self._pipeline(node, dot)
        if kind is nodes.Chain:
            return self._fields(self._value(node.base, dot, line), node.names, line)
        return None

    def _variable(self, name: str) -> Any:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        return NO_VALUE

    def _fields(self, value: Any, names: list[str], line: int) -> Any:
        for name in names:
            if isinstance(value, dict):
                value = value.get(name, NO_VALUE)
            elif value is NO_VALUE:
                return NO_VALUE
            elif value is None:
                raise TemplateError(f"template: line {line}: nil pointer evaluating interface {{}}.{name}")
            else:
                raise TemplateError(f"template: line {line}: can't evaluate field {name} in type {type_name(value)}")
        return value


def _shown(node: Any) -> str:
    if isinstance(node, nodes.Field):
        return "." + ".".join(node.names)
    return type(node).__name__.lower()
