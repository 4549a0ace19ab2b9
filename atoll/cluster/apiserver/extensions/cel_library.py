"""Kubernetes' CEL libraries: lists, regex, url, ip, cidr, quantity, semver, format and sets.

Quantities, URLs, addresses and versions are text in canonical form here, so that equality holds; their methods
read it again.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cel_expr_python import cel

from atoll.base import quantity
from atoll.cluster.apiserver import names

_STRING, _INT, _BOOL, _LIST, _DYN, _DOUBLE, _MAP = (
    cel.Type.STRING,
    cel.Type.INT,
    cel.Type.BOOL,
    cel.Type.LIST,
    cel.Type.DYN,
    cel.Type.DOUBLE,
    cel.Type.MAP,
)
_Impl = Callable[..., Any]
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?")


class _Table:
    """Gathers overloads by function name, as the library wants them declared."""

    def __init__(self) -> None:
        self._overloads: dict[str, list[Any]] = {}

    def member(self, name: str, parameters: list[Any], result: Any, implementation: _Impl) -> None:
        self._add(name, parameters, result, implementation, True)

    def function(self, name: str, parameters: list[Any], result: Any, implementation: _Impl) -> None:
        self._add(name, parameters, result, implementation, False)

    def _add(self, name: str, parameters: list[Any], result: Any, implementation: _Impl, member: bool) -> None:
        found = self._overloads.setdefault(name, [])
        label = f"k8s_{name.replace('.', '_')}_{len(found)}"
        found.append(cel.Overload(label, result, parameters, member, implementation))

    def declarations(self) -> list[Any]:
        return [cel.FunctionDecl(name, overloads) for name, overloads in self._overloads.items()]


def functions() -> list[Any]:
    table = _Table()
    _lists(table)
    _regex(table)
    _quantities(table)
    _addresses(table)
    _urls(table)
    _versions(table)
    _formats(table)
    _sets(table)
    return table.declarations()


def _plain(items: Any) -> list[Any]:
    return [item.plain_value() if hasattr(item, "plain_value") else item for item in items]


def _lists(table: _Table) -> None:
    table.member("isSorted", [_LIST], _BOOL, lambda items: _plain(items) == sorted(_plain(items)))
    table.member("sum", [_LIST], _DYN, lambda items: sum(_plain(items)))
    table.member("min", [_LIST], _DYN, lambda items: min(_plain(items)))
    table.member("max", [_LIST], _DYN, lambda items: max(_plain(items)))
    table.member("indexOf", [_LIST, _DYN], _INT, lambda items, value: _index(_plain(items), value))
    table.member("lastIndexOf", [_LIST, _DYN], _INT, lambda items, value: _last_index(_plain(items), value))
    table.member("slice", [_LIST, _INT, _INT], _LIST, lambda items, start, end: _plain(items)[start:end])
    table.member("distinct", [_LIST], _LIST, lambda items: _distinct(_plain(items)))
    table.member("flatten", [_LIST], _LIST, lambda items: _flat(_plain(items)))
    table.member("sort", [_LIST], _LIST, lambda items: sorted(_plain(items)))
    table.member("reverse", [_LIST], _LIST, lambda items: _plain(items)[::-1])


def _index(items: list[Any], value: Any) -> int:
    return items.index(value) if value in items else -1


def _last_index(items: list[Any], value: Any) -> int:
    return len(items) - 1 - items[::-1].index(value) if value in items else -1


def _distinct(items: list[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if item not in found:
            found.append(item)
    return found


def _flat(items: list[Any]) -> list[Any]:
    return [inner for item in items for inner in (item if isinstance(item, list) else [item])]


def _regex(table: _Table) -> None:
    table.member("find", [_STRING, _STRING], _STRING, lambda text, pattern: _first(text, pattern))
    table.member("findAll", [_STRING, _STRING], _LIST, lambda text, pattern: _all(text, pattern))
    table.member("findAll", [_STRING, _STRING, _INT], _LIST, lambda text, pattern, most: _all(text, pattern)[:most])


def _first(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    return match[0] if match else ""


def _all(text: str, pattern: str) -> list[str]:
    return [match[0] for match in re.finditer(pattern, text)]


def _is(check: _Impl) -> Callable[[str], bool]:
    def holds(text: str) -> bool:
        try:
            check(text)
        except ValueError:
            return False
        return True

    return holds


def _quantities(table: _Table) -> None:
    parse = quantity.parse
    table.function("quantity", [_STRING], _STRING, lambda text: quantity.from_nano(parse(text)))
    table.function("isQuantity", [_STRING], _BOOL, _is(parse))
    table.member("isGreaterThan", [_STRING, _STRING], _BOOL, lambda left, right: _compare(left, right) > 0)
    table.member("isLessThan", [_STRING, _STRING], _BOOL, lambda left, right: _compare(left, right) < 0)
    table.member("compareTo", [_STRING, _STRING], _INT, _compare)
    table.member("sign", [_STRING], _INT, lambda text: (parse(text) > 0) - (parse(text) < 0))
    table.member("isInteger", [_STRING], _BOOL, lambda text: parse(text) % quantity.NANO == 0)
    table.member("asInteger", [_STRING], _INT, lambda text: parse(text) // quantity.NANO)
    table.member("asApproximateFloat", [_STRING], _DOUBLE, lambda text: parse(text) / quantity.NANO)
    for name, sign in (("add", 1), ("sub", -1)):
        table.member(name, [_STRING, _STRING], _STRING, _sum(sign))
        table.member(name, [_STRING, _INT], _STRING, _sum(sign))


def _sum(sign: int) -> Callable[[str, Any], str]:
    return lambda left, right: quantity.from_nano(quantity.parse(left) + sign * quantity.parse(right))


def _compare(left: str, right: str) -> int:
    """Quantities, or versions where both are."""
    ours, theirs = _version(left), _version(right)
    if ours is not None and theirs is not None:
        return (ours > theirs) - (ours < theirs)
    a, b = quantity.parse(left), quantity.parse(right)
    return (a > b) - (a < b)


def _addresses(table: _Table) -> None:
    address, network = ipaddress.ip_address, ipaddress.ip_network
    table.function("ip", [_STRING], _STRING, lambda text: str(address(text)))
    table.function("isIP", [_STRING], _BOOL, _is(address))
    table.function("ip.isCanonical", [_STRING], _BOOL, lambda text: str(address(text)) == text)
    table.member("family", [_STRING], _INT, lambda text: address(text).version)
    table.member("isUnspecified", [_STRING], _BOOL, lambda text: address(text).is_unspecified)
    table.member("isLoopback", [_STRING], _BOOL, lambda text: address(text).is_loopback)
    table.member("isLinkLocalMulticast", [_STRING], _BOOL, lambda text: address(text).is_multicast)
    table.member("isLinkLocalUnicast", [_STRING], _BOOL, lambda text: address(text).is_link_local)
    table.member("isGlobalUnicast", [_STRING], _BOOL, lambda text: _is_global(text))
    table.function("cidr", [_STRING], _STRING, _checked(lambda text: network(text, strict=False)))
    table.function("isCIDR", [_STRING], _BOOL, _is(lambda text: network(text, strict=False) if "/" in text else _no()))
    table.member("containsIP", [_STRING, _STRING], _BOOL, lambda net, ip: address(ip) in network(net, strict=False))
    table.member("containsCIDR", [_STRING, _STRING], _BOOL, _contains)
    table.member("ip", [_STRING], _STRING, lambda text: text.partition("/")[0])
    table.member("masked", [_STRING], _STRING, lambda text: str(network(text, strict=False)))
    table.member("prefixLength", [_STRING], _INT, lambda text: network(text, strict=False).prefixlen)


def _checked(check: _Impl) -> Callable[[str], str]:
    """The text itself, if it can be read."""

    def read(text: str) -> str:
        check(text)
        return text

    return read


def _no() -> None:
    raise ValueError


def _is_global(text: str) -> bool:
    found = ipaddress.ip_address(text)
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local)


def _contains(outer: str, inner: str) -> bool:
    big, small = ipaddress.ip_network(outer, strict=False), ipaddress.ip_network(inner, strict=False)
    return big.version == small.version and small.subnet_of(big)  # type: ignore[arg-type]


def _url(text: str) -> Any:
    parts = urlsplit(text)
    if not parts.scheme and not text.startswith("/"):
        raise ValueError(f'parse "{text}": invalid URI for request')
    return parts


def _urls(table: _Table) -> None:
    table.function("url", [_STRING], _STRING, _checked(_url))
    table.function("isURL", [_STRING], _BOOL, _is(_url))
    table.member("getScheme", [_STRING], _STRING, lambda text: _url(text).scheme)
    table.member("getHost", [_STRING], _STRING, lambda text: _url(text).netloc.rpartition("@")[2])
    table.member("getHostname", [_STRING], _STRING, lambda text: _url(text).hostname or "")
    table.member("getPort", [_STRING], _STRING, lambda text: str(_url(text).port or ""))
    table.member("getEscapedPath", [_STRING], _STRING, lambda text: _url(text).path)
    table.member("getQuery", [_STRING], _MAP, lambda text: parse_qs(_url(text).query, keep_blank_values=True))


def _version(text: str) -> tuple[Any, ...] | None:
    match = _SEMVER.fullmatch(text)
    if match is None:
        return None
    release = tuple(int(part) for part in match.groups()[:3])
    if match[4] is None:
        return (*release, 1, ())
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in match[4].split("."))
    return (*release, 0, parts)


def _semver(text: str) -> str:
    if _version(text) is None:
        raise ValueError("No Major.Minor.Patch elements found")
    return text


def _versions(table: _Table) -> None:
    table.function("semver", [_STRING], _STRING, _semver)
    table.function("isSemver", [_STRING], _BOOL, _is(_semver))
    for index, name in enumerate(("major", "minor", "patch")):
        table.member(name, [_STRING], _INT, _part(index))


def _part(index: int) -> Callable[[str], int]:
    def part(text: str) -> int:
        found = _version(text)
        if found is None:
            raise ValueError("not a version")
        number: int = found[index]
        return number

    return part


_FORMATS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "dns1123Label": names.dns_label,
    "dns1123Subdomain": names.dns_subdomain,
    "dns1035Label": names.dns_1035_label,
    "qualifiedName": names.qualified_name,
    "labelValue": names.label_value,
}


def _formats(table: _Table) -> None:
    for name in _FORMATS:
        table.function(f"format.{name}", [], _STRING, _constant(name))
    table.member("validate", [_STRING, _STRING], cel.Type.DYN, _validate)


def _constant(name: str) -> Callable[[], str]:
    return lambda: name


def _validate(form: str, text: str) -> list[str]:
    check = _FORMATS.get(form)
    return list(check(text)) if check is not None else []


def _sets(table: _Table) -> None:
    table.function("sets.contains", [_LIST, _LIST], _BOOL, lambda a, b: all(item in _plain(a) for item in _plain(b)))
    table.function("sets.intersects", [_LIST, _LIST], _BOOL, lambda a, b: any(item in _plain(a) for item in _plain(b)))
    table.function("sets.equivalent", [_LIST, _LIST], _BOOL, _equivalent)


def _equivalent(left: Any, right: Any) -> bool:
    a, b = _plain(left), _plain(right)
    return all(item in b for item in a) and all(item in a for item in b)
