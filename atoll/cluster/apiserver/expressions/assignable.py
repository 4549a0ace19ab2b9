"""Whether one type may stand for another, with type parameters bound as the check goes (cel-go's checker/types.go)."""

from __future__ import annotations

from atoll.cluster.apiserver.expressions.types import DYN, Type

Bindings = dict[str, Type]  # type parameter → what it stands for

_NULLABLE = ("opaque", "struct", "duration", "timestamp")


def assignable(bindings: Bindings, one: Type, two: Type) -> Bindings | None:
    """The bindings with which `two` may be used as `one`, or None."""
    tried = dict(bindings)
    return tried if _assignable(tried, one, two) else None


def all_assignable(bindings: Bindings, ones: tuple[Type, ...], twos: tuple[Type, ...]) -> Bindings | None:
    tried = dict(bindings)
    return tried if _all(tried, ones, twos) else None


def _all(bindings: Bindings, ones: tuple[Type, ...], twos: tuple[Type, ...]) -> bool:
    return len(ones) == len(twos) and all(_assignable(bindings, a, b) for a, b in zip(ones, twos, strict=True))


def _assignable(bindings: Bindings, one: Type, two: Type) -> bool:
    if two.kind == "param":
        valid, bound = _substitutes(bindings, one, two)
        if valid:
            return True
        if bound:
            return False
    if one.kind == "param":
        return _substitutes(bindings, two, one)[0]
    if one.loose or two.loose:
        return True
    if one.kind == "null":
        return two.kind == "null" or two.kind in _NULLABLE
    if two.kind == "null":
        return one.kind in _NULLABLE
    if one.kind == "type":
        return two.kind == "type"
    if one.kind in ("opaque", "list", "map"):
        return one.kind == two.kind and one.name == two.name and _all(bindings, one.parameters, two.parameters)
    return one.kind == two.kind and one.name == two.name


def _substitutes(bindings: Bindings, one: Type, param: Type) -> tuple[bool, bool]:
    """(whether it may, whether the parameter was bound already)"""
    if one == param:
        return True, True
    bound = bindings.get(param.name)
    if bound is not None:
        if one == bound:
            return True, True
        if _assignable(bindings, one, bound):
            general = more_general(one, bound)
            if _absent(bindings, param, general):
                bindings[param.name] = general
            return True, True
        return False, True
    if _absent(bindings, param, one):
        bindings[param.name] = one
        return True, False
    return False, False


def _absent(bindings: Bindings, param: Type, within: Type) -> bool:
    if within == param:
        return False
    if within.kind == "param":
        bound = bindings.get(within.name)
        return bound is None or _absent(bindings, param, bound)
    return all(_absent(bindings, param, inner) for inner in within.parameters)


def more_general(one: Type, two: Type) -> Type:
    return one if _less_specific(one, two) else two


def _less_specific(one: Type, two: Type) -> bool:
    if one.kind in ("dyn", "any", "param"):
        return True
    if two.kind in ("dyn", "any", "param") or one.kind != two.kind:
        return False
    if one.kind in ("opaque", "list", "map"):
        same = one.name == two.name and len(one.parameters) == len(two.parameters)
        return same and all(_less_specific(a, b) for a, b in zip(one.parameters, two.parameters, strict=True))
    return one.kind == "type" or one.name == two.name


def substitute(bindings: Bindings, kind: Type, free_to_dyn: bool) -> Type:
    """With every bound parameter replaced; free ones become dyn at the end of a check."""
    if kind.kind == "param":
        bound = bindings.get(kind.name)
        if bound is not None:
            return substitute(bindings, bound, free_to_dyn)
        return DYN if free_to_dyn else kind
    if not kind.parameters:
        return kind
    inner = tuple(substitute(bindings, item, free_to_dyn) for item in kind.parameters)
    return Type(kind.kind, kind.name, inner)
