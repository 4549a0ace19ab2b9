"""What a call may cost at most, by function and overload: cel-go's own functions and Kubernetes' libraries
(checker/cost.go, ext/lists.go, ext/sets.go, apiserver pkg/cel/library/cost.go)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from atoll.cluster.apiserver.expressions.estimate import MOST, ONE, UNKNOWN, Argument, Called, Sizes, Span, exactly
from atoll.cluster.apiserver.expressions.functions import REGEX, TRAVERSAL
from atoll.cluster.apiserver.expressions.syntax import Constant
from atoll.cluster.apiserver.expressions.types import Signature

_CHECK = exactly(350_000)  # of an authorizer: two fit into an expression
_NAME_REGEX = 128
_FORMAT = 64
_ADDRESS = Span(4, 16)  # bytes
_LIST = 10
Arguments = Sequence[Argument]
_Cost = Callable[[Signature, Argument, Arguments, Sizes], Called]

_CONSTANT = frozenset(
    {
        "serviceAccount", "path", "group", "resource", "subresource", "namespace", "name", "allowed", "reason", "error",
        "errored", "masked", "prefixLength", "family", "isUnspecified", "isLoopback", "isLinkLocalMulticast",
        "isLinkLocalUnicast", "isGlobalUnicast", "format.named", "sign", "asInteger", "isInteger", "asApproximateFloat",
        "isGreaterThan", "isLessThan", "compareTo", "add", "sub", "major", "minor", "patch", "getScheme",
        "getHostname", "getHost", "getPort", "getEscapedPath", "getQuery",
    }
)  # fmt: skip
_ORDERED = frozenset({"_<_", "_<=_", "_>_", "_>=_"})
_EQUAL_AT_ONCE = frozenset({"net.IP", "net.CIDR"})
_STRUCTS_AT_ONCE = frozenset({"kubernetes.Quantity", "kubernetes.Semver"})


def call_cost(overload: Signature, target: Argument | None, arguments: Arguments, sizes: Sizes) -> Called:
    """See `estimate.CallCost`."""
    function = overload.function
    if function in _CONSTANT:
        return Called(ONE)
    if function == "check":
        return Called(_CHECK)
    by_target = _OF_TARGET.get(function)
    if by_target is not None and target is not None:
        return by_target(overload, target, arguments, sizes)
    by_first = _OF_FIRST.get(function)
    if by_first is not None and arguments:
        return by_first(overload, arguments[0], arguments, sizes)
    if function in ("_==_", "_!=_") or (function in _ORDERED and overload.parameters[0].kind in ("string", "bytes")):
        return _compared(function, arguments)
    return Called(ONE)


def _known(argument: Argument) -> Span:
    return argument.size or UNKNOWN


def _walk(factor: float = 1.0, *, sized: bool = False, declared: bool = True) -> _Cost:
    """Once over a text. `sized`: the result may be as long; `declared`: the schema is asked for the length."""

    def cost(_: Signature, text: Argument, __: Arguments, sizes: Sizes) -> Called:
        size = text.span(sizes) if declared else _known(text)
        return Called(size.scaled(factor * TRAVERSAL), size if sized else None)

    return cost


def _selector(_: Signature, __: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    length = arguments[0].span(sizes)
    return Called(exactly(_LIST).plus(length.scaled(TRAVERSAL)).plus(length.scaled(0.5).scaled(50)))


def _each(_: Signature, target: Argument, __: Arguments, sizes: Sizes) -> Called:
    """A comparison with each element, or once over a text."""
    if not target.type.parameters:
        return Called(target.span(sizes).scaled(TRAVERSAL))
    one = ONE
    if target.type.parameters[0].kind in ("string", "bytes"):
        one = one.plus(target.elements(sizes).scaled(TRAVERSAL))
    return Called(target.span(sizes).times(one))


def _replace(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    size = target.span(sizes)
    old, new = arguments[0].span(sizes), arguments[1].span(sizes)
    most, kept_most = _replaced(size.most, old.least, grows=new.most > old.least)
    least, kept_least = _replaced(size.least, old.most, grows=old.most > new.least)
    result = Span(least, most).times(new).plus(Span(kept_least, kept_most))
    return Called(size.scaled(2 * TRAVERSAL), result)


def _replaced(length: int, part: int, *, grows: bool) -> tuple[int, int]:
    """(how often, characters that stay) where parts of that length are replaced; an empty one stands everywhere."""
    if part == 0:
        return min(length + 1, MOST), length
    return (math.ceil(length / part), 0) if grows else (0, length)


def _split(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    size, most = target.span(sizes), target.span(sizes).most
    limit = arguments[1].node if len(arguments) > 1 else None
    if isinstance(limit, Constant) and isinstance(limit.value, int):
        most = limit.value % (MOST + 1)
    return Called(size.scaled(2 * TRAVERSAL), Span(0, most))


def _join(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    count = target.span(sizes)
    size = count.times(target.elements(sizes)) if target.type.parameters else Span(0, 0)
    if arguments:
        between = Span(max(count.least - 1, 0), max(count.most - 1, 0))
        size = size.plus(arguments[0].span(sizes).times(between))
    return Called(size.scaled(TRAVERSAL), size)


def _pattern_cost(text: Span, pattern: Span) -> Span:
    return text.plus(ONE).scaled(TRAVERSAL).times(pattern.scaled(REGEX))


def _find(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    size = target.span(sizes)
    return Called(_pattern_cost(size, arguments[0].span(sizes)), Span(0, size.most))


def _ip(_: Signature, text: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    return Called(text.span(sizes).scaled(TRAVERSAL)) if arguments else Called(ONE)  # a CIDR's own is but read


def _contains_address(overload: Signature, _: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    cost = _ADDRESS.plus(_ADDRESS).scaled(TRAVERSAL)
    if overload.function == "containsCIDR":
        cost = cost.plus(_ADDRESS.scaled(TRAVERSAL)).plus(ONE)
    if overload.parameters[1].kind == "string":
        cost = cost.plus(arguments[0].span(sizes).scaled(TRAVERSAL))
    return Called(cost)


def _validate(_: Signature, __: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    return Called(arguments[0].span(sizes).scaled(TRAVERSAL).scaled(_NAME_REGEX * REGEX))


def _encoded(overload: Signature, text: Argument, _: Arguments, __: Sizes) -> Called:
    """bytes(string) and string(bytes); other conversions are cheap."""
    size, kind = _known(text), overload.parameters[0].kind
    if overload.function == "bytes" and kind == "string":
        return Called(size.scaled(TRAVERSAL), Span(size.least, size.most * 4 % (MOST + 1)))
    if overload.function == "string" and kind == "bytes":
        return Called(size.scaled(TRAVERSAL), Span(size.least // 4, size.most))
    return Called(ONE)


def _quoted(_: Signature, text: Argument, __: Arguments, ___: Sizes) -> Called:
    size = _known(text)
    return Called(size.scaled(TRAVERSAL), Span(size.least + 2, (size.most * 2 + 2) % (MOST + 1)))


def _prefix(_: Signature, __: Argument, arguments: Arguments, ___: Sizes) -> Called:
    return Called(_known(arguments[0]).scaled(TRAVERSAL))


def _contains(_: Signature, target: Argument, arguments: Arguments, __: Sizes) -> Called:
    return Called(_known(target).scaled(TRAVERSAL).times(_known(arguments[0]).scaled(TRAVERSAL)))


def _matches_target(_: Signature, target: Argument, arguments: Arguments, __: Sizes) -> Called:
    return Called(_pattern_cost(_known(target), _known(arguments[0])))


def _matches(_: Signature, text: Argument, arguments: Arguments, __: Sizes) -> Called:
    return Called(_pattern_cost(_known(text), _known(arguments[1])))


def _in(overload: Signature, _: Argument, arguments: Arguments, __: Sizes) -> Called:
    return Called(_known(arguments[1]).scaled(1)) if overload.parameters[1].kind == "list" else Called(ONE)


def _added(overload: Signature, left: Argument, arguments: Arguments, _: Sizes) -> Called:
    kind = overload.parameters[0].kind
    if kind not in ("string", "bytes", "list"):
        return Called(ONE)
    size = _known(left).plus(_known(arguments[1]))
    return Called(ONE if kind == "list" else size.scaled(TRAVERSAL), size)


def _compared(function: str, arguments: Arguments) -> Called:
    left, right = arguments
    if function == "_==_" and left.type == right.type:
        name = left.type.name
        if name in _EQUAL_AT_ONCE or name in _STRUCTS_AT_ONCE:
            return Called(ONE)
        if name == "kubernetes.NamedFormat":
            return Called(Span(1, _FORMAT).scaled(TRAVERSAL))
        if name == "kubernetes.URL":
            return Called(Span(1, right.size.most if right.size is not None else 1).scaled(TRAVERSAL))
    most = min(_known(left).most, _known(right).most)
    return Called(Span(1 if most > 0 else 0, most).scaled(TRAVERSAL))


def _made(factor: float, size: Span) -> Called:
    """A new list."""
    return Called(size.scaled(factor).plus(ONE).plus(exactly(_LIST)), size)


def _number(argument: Argument, otherwise: int) -> int:
    node = argument.node
    return node.value if isinstance(node, Constant) and isinstance(node.value, int) and node.value >= 0 else otherwise


def _slice(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    start, end = _number(arguments[0], 0), _number(arguments[1], target.span(sizes).most)
    return _made(1, exactly((end - start) % (MOST + 1)))


def _flatten(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
    return _made(_number(arguments[0], MOST) if arguments else 1, target.span(sizes))


def _range(_: Signature, count: Argument, __: Arguments, ___: Sizes) -> Called:
    return _made(1, exactly(_number(count, MOST)))


def _reverse(_: Signature, target: Argument, __: Arguments, sizes: Sizes) -> Called:
    return _made(1, target.span(sizes))


def _pairs(by_argument: bool, sorting: bool) -> _Cost:
    """Every element with every other one."""

    def cost(_: Signature, target: Argument, arguments: Arguments, sizes: Sizes) -> Called:
        keys = arguments[0] if by_argument else target
        size = keys.span(sizes)
        textual = sorting and keys.type.parameters and keys.type.parameters[0].kind in ("string", "bytes", "dyn")
        return _made(2.0 + TRAVERSAL if textual else 2.0, size.times(size))

    return cost


def _sets(factor: float) -> _Cost:
    def cost(_: Signature, left: Argument, arguments: Arguments, sizes: Sizes) -> Called:
        return Called(left.span(sizes).times(arguments[1].span(sizes)).scaled(factor).plus(ONE))

    return cost


_OF_TARGET: dict[str, _Cost] = {
    "fieldSelector": _selector, "labelSelector": _selector,
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _each),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _walk(sized=True)),
    "replace": _replace, "split": _split, "join": _join, "find": _find, "findAll": _find, "ip": _ip,
    "containsIP": _contains_address, "containsCIDR": _contains_address, "validate": _validate,
    "format": _walk(declared=False), "startsWith": _prefix, "endsWith": _prefix, "contains": _contains,
    "matches": _matches_target, "slice": _slice, "flatten": _flatten, "reverse": _reverse,
    "distinct": _pairs(False, False), "sort": _pairs(False, True), "@sortByAssociatedKeys": _pairs(True, True),
}  # fmt: skip
_OF_FIRST: dict[str, _Cost] = {
    "url": _walk(sized=True), "jsonpatch.escapeKey": _walk(sized=True), "ip.isCanonical": _walk(2.0), "ip": _ip,
    **dict.fromkeys(("cidr", "isIP", "isCIDR", "quantity", "isQuantity", "semver", "isSemver"), _walk()),
    "bytes": _encoded, "string": _encoded, "strings.quote": _quoted, "matches": _matches, "@in": _in, "_in_": _in,
    "_+_": _added, "lists.range": _range, "sets.contains": _sets(1), "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
}  # fmt: skip
