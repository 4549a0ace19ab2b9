"""Expressions are what the C++ CEL says they are: values, and whether there is an error, over random expressions.

The C++ engine (cel-expr-python) is the reference; libraries that it lacks are not drawn here.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional, ext_strings
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.cluster.apiserver.expressions.environment import Environment
from atoll.cluster.apiserver.expressions.errors import CompileError, ExpressionError
from atoll.cluster.apiserver.expressions.types import DYN, INT, STRING, list_of
from atoll.cluster.apiserver.expressions.values import plain

NAMES: dict[str, Any] = {
    "o": {"n": 3, "s": "abc", "l": [1, 2, 3], "m": {"a": 1, "b": 2}, "t": True, "d": 1.5, "z": None},
    "n": 7,
    "s": "hello",
    "l": [3, 1, 2],
}
OURS = Environment({"o": DYN, "n": INT, "s": STRING, "l": list_of(INT)})


@functools.cache
def theirs() -> Any:
    extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional()]
    variables = {"o": cel.Type.DYN, "n": cel.Type.INT, "s": cel.Type.STRING, "l": cel.Type.List(cel.Type.INT)}
    return cel.NewEnv(variables=variables, extensions=extensions)


NUMBERS = st.one_of(
    st.sampled_from(["n", "o.n", "o.l[0]", "o.m.a", "size(l)", "o.missing", "l[9]", "size(s)", "x", "-n"]),
    st.integers(-3, 12).map(str),
)
TEXTS = st.sampled_from(["s", "o.s", "'a'", "''", "'hello'", "o.m.b", "string(n)", "s + 'x'", "o.none.s", "y"])
LISTS = st.sampled_from(["l", "o.l", "[1, 2]", "l + [9]", "o.l.map(a, a + 1)", "l.filter(a, a > 1)", "[n]", "o.z"])


def numbers(depth: int) -> st.SearchStrategy[str]:
    if not depth:
        return NUMBERS
    inner = numbers(depth - 1)
    binary = st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    choice = st.tuples(truths(depth - 1), inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})")
    return st.one_of(NUMBERS, binary, choice)


def truths(depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(["true", "false", "o.t", "has(o.n)", "has(o.nope)", "'a' in o.m", "'q' in o.m", "o.n"])
    if not depth:
        return leaf
    inner, number = truths(depth - 1), numbers(depth - 1)
    comparison = st.tuples(number, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), number).map(" ".join)
    logic = st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    text = st.tuples(TEXTS, st.sampled_from(["startsWith", "endsWith", "contains"]), TEXTS).map(
        lambda t: f"{t[0]}.{t[1]}({t[2]})"
    )
    equal = st.tuples(TEXTS, TEXTS).map(lambda t: f"{t[0]} == {t[1]}")
    loops = st.tuples(LISTS, st.sampled_from(["all", "exists", "exists_one"]), inner, number).map(
        lambda t: f"{t[0]}.{t[1]}(x, {t[2]} || x < {t[3]})"
    )
    member = st.tuples(number, LISTS).map(" in ".join)
    negated = inner.map(lambda item: f"!({item})")
    return st.one_of(leaf, comparison, logic, text, equal, loops, member, negated)


def ours_of(source: str) -> Any:
    try:
        return plain(OURS.compile(source).run(NAMES))
    except ExpressionError as error:
        return type(error)


def theirs_of(source: str) -> Any:
    try:
        expression = theirs().compile(source)
    except RuntimeError:
        return CompileError
    result = expression.eval(data=NAMES)
    return ExpressionError if result.type() == cel.Type.ERROR else result.plain_value()


def agree(ours: Any, reference: Any) -> bool:
    if isinstance(reference, type):
        return ours is reference if reference is CompileError else isinstance(ours, type) and ours is not CompileError
    if isinstance(ours, float) and isinstance(reference, float):
        return math.isclose(ours, reference) or (math.isnan(ours) and math.isnan(reference))
    return type(ours) is type(reference) and bool(ours == reference)


@settings(max_examples=400, deadline=None)
@given(st.one_of(truths(3), numbers(3), LISTS))
def test_as_the_reference(source: str) -> None:
    ours, reference = ours_of(source), theirs_of(source)
    assert agree(ours, reference), f"{source}: {ours!r}, not {reference!r}"
