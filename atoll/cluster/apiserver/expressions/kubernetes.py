"""Kubernetes' CEL libraries: quantity, url, ip, cidr, semver and named formats (apiserver pkg/cel/library)."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.expressions import values
from atoll.cluster.apiserver.expressions.errors import EvaluationError
from atoll.cluster.apiserver.expressions.functions import Overload, fixed, overload, traversal
from atoll.cluster.apiserver.expressions.values import NONE, Address, Cidr, Format, Optional, Quantity, Url, Version

_DIGITS, _ALPHANUMERIC = re.compile("[0-9]+"), re.compile("[0-9A-Za-z-]+")
_UUID = re.compile(r"(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}")
_Q, _U, _A, _C, _V, _F = (
    "kubernetes.Quantity", "kubernetes.URL", "net.IP", "net.CIDR", "kubernetes.Semver", "kubernetes.NamedFormat"
)  # fmt: skip


def library() -> Iterator[Overload]:
    yield from _quantities()
    yield from _urls()
    yield from _addresses()
    yield from _networks()
    yield from _versions()
    yield from _formats()


def _holds(read: Callable[..., Any]) -> Callable[..., bool]:
    def holds(*arguments: Any) -> bool:
        try:
            read(*arguments)
        except EvaluationError:
            return False
        return True

    return holds


def _quantities() -> Iterator[Overload]:
    yield overload(f"quantity(string) -> {_Q}", to_quantity, traversal())
    yield overload("isQuantity(string) -> bool", _holds(to_quantity), traversal())
    yield overload(f"sign({_Q}) -> int", lambda value: (value.nano > 0) - (value.nano < 0))
    yield overload(f"<{_Q}>.isGreaterThan({_Q}) -> bool", lambda a, b: a.nano > b.nano)
    yield overload(f"<{_Q}>.isLessThan({_Q}) -> bool", lambda a, b: a.nano < b.nano)
    yield overload(f"<{_Q}>.compareTo({_Q}) -> int", lambda a, b: (a.nano > b.nano) - (a.nano < b.nano))
    yield overload(f"<{_Q}>.asApproximateFloat() -> double", lambda value: value.nano / quantity.NANO)
    yield overload(f"<{_Q}>.asInteger() -> int", _as_integer)
    yield overload(f"<{_Q}>.isInteger() -> bool", _holds(_as_integer))
    for name, sign in (("add", 1), ("sub", -1)):
        yield overload(f"<{_Q}>.{name}({_Q}) -> {_Q}", _sum(sign))
        yield overload(f"<{_Q}>.{name}(int) -> {_Q}", _sum(sign))


def to_quantity(text: str) -> Quantity:
    try:
        return Quantity(quantity.parse(text))
    except ValueError as error:
        raise EvaluationError(str(error)) from None


def _as_integer(value: Quantity) -> int:
    """Kubernetes caps what is larger than an int64: that is no integer any more."""
    whole, rest = divmod(value.nano, quantity.NANO)
    if rest or abs(whole) >= (1 << 63) - 1:
        raise EvaluationError("cannot convert value to integer")
    return whole


def _sum(sign: int) -> Callable[[Quantity, Any], Quantity]:
    def add(left: Quantity, right: Any) -> Quantity:
        amount = right.nano if isinstance(right, Quantity) else right * quantity.NANO
        return Quantity(left.nano + sign * amount)

    return add


def _urls() -> Iterator[Overload]:
    yield overload(f"url(string) -> {_U}", to_url, traversal())
    yield overload("isURL(string) -> bool", _holds(to_url))
    yield overload(f"<{_U}>.getScheme() -> string", lambda url: url.scheme)
    yield overload(f"<{_U}>.getHost() -> string", lambda url: url.host)
    yield overload(f"<{_U}>.getHostname() -> string", lambda url: _host_and_port(url.host)[0])
    yield overload(f"<{_U}>.getPort() -> string", lambda url: _host_and_port(url.host)[1])
    yield overload(f"<{_U}>.getEscapedPath() -> string", lambda url: quote(url.path, safe="/%:@!$&'()*+,;=-._~"))
    yield overload(
        f"<{_U}>.getQuery() -> map(string, list(string))", lambda url: parse_qs(url.query, keep_blank_values=True)
    )


def to_url(text: str) -> Url:
    shown = values_quoted(text)
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        raise _url_error(shown, "net/url: invalid control character in URL")
    if not text:
        raise _url_error(shown, "empty url")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _url_error(shown, "invalid URI for request") from None
    if not parts.scheme and not text.startswith("/"):
        raise _url_error(shown, "invalid URI for request")
    user, _, host = parts.netloc.rpartition("@")
    if host.rpartition(":")[2] and not host.endswith("]") and ":" in host and not _host_and_port(host)[1].isdigit():
        raise _url_error(shown, f'invalid port ":{host.rpartition(":")[2]}" after host')
    return Url(text, parts.scheme, user, host, parts.path, parts.query)


def values_quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _url_error(shown: str, why: str) -> EvaluationError:
    return EvaluationError(f"URL parse error during conversion from string: parse {shown}: {why}")


def _host_and_port(host: str) -> tuple[str, str]:
    if host.startswith("["):
        inner, _, rest = host[1:].partition("]")
        return inner, rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port


def _addresses() -> Iterator[Overload]:
    one = fixed(1)
    yield overload(f"ip(string) -> {_A}", to_address, traversal())
    yield overload("isIP(string) -> bool", _holds(to_address), traversal())
    yield overload("ip.isCanonical(string) -> bool", lambda text: str(to_address(text).value) == text, traversal())
    yield overload(f"string({_A}) -> string", lambda ip: str(ip.value))
    yield overload(f"<{_A}>.family() -> int", lambda ip: ip.value.version, one)
    yield overload(f"<{_A}>.isUnspecified() -> bool", lambda ip: ip.value.is_unspecified, one)
    yield overload(f"<{_A}>.isLoopback() -> bool", lambda ip: ip.value.is_loopback, one)
    yield overload(f"<{_A}>.isLinkLocalMulticast() -> bool", _link_local_multicast, one)
    yield overload(f"<{_A}>.isLinkLocalUnicast() -> bool", lambda ip: ip.value.is_link_local, one)
    yield overload(f"<{_A}>.isGlobalUnicast() -> bool", _global_unicast, one)


def to_address(text: str) -> Address:
    if "%" in text:
        raise EvaluationError(f'IP address "{text}" with zone value is not allowed')
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        why = f'ParseAddr("{text}"): unable to parse IP'
        raise EvaluationError(f'IP Address "{text}" parse error during conversion from string: {why}') from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Address(found)


_LINK_LOCAL = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))


def _link_local_multicast(ip: Address) -> bool:
    return any(ip.value.version == net.version and ip.value in net for net in _LINK_LOCAL)


def _global_unicast(ip: Address) -> bool:
    found = ip.value
    broadcast = found == ipaddress.ip_address("255.255.255.255")
    return not (found.is_unspecified or found.is_loopback or found.is_multicast or found.is_link_local or broadcast)


def _networks() -> Iterator[Overload]:
    one = fixed(1)
    yield overload(f"cidr(string) -> {_C}", to_cidr, traversal())
    yield overload("isCIDR(string) -> bool", _holds(to_cidr), traversal())
    yield overload(f"string({_C}) -> string", values.plain)
    yield overload(f"<{_C}>.containsIP(string) -> bool", lambda net, text: _contains_ip(net, to_address(text)))
    yield overload(f"<{_C}>.containsIP({_A}) -> bool", _contains_ip)
    yield overload(f"<{_C}>.containsCIDR(string) -> bool", lambda net, text: _contains(net, to_cidr(text)))
    yield overload(f"<{_C}>.containsCIDR({_C}) -> bool", lambda net, other: _contains(net, other))
    yield overload(f"<{_C}>.ip() -> {_A}", lambda net: Address(net.address), one)
    yield overload(f"<{_C}>.masked() -> {_C}", lambda net: Cidr(net.network.network_address, net.bits), one)
    yield overload(f"<{_C}>.prefixLength() -> int", lambda net: net.bits, one)


def to_cidr(text: str) -> Cidr:
    address, slash, bits = text.partition("/")
    try:
        if not slash or not bits.isdigit() or (len(bits) > 1 and bits[0] == "0") or "%" in address:
            raise ValueError(text)
        found = ipaddress.ip_address(address)
        if int(bits) > found.max_prefixlen:
            raise ValueError(text)
    except ValueError:
        prefix = "network address parse error during conversion from string: "
        why = "no '/'" if not slash else "prefix length out of range" if bits.isdigit() else "bad bits after slash"
        raise EvaluationError(f'{prefix}{prefix}netip.ParsePrefix("{text}"): {why}') from None
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        raise EvaluationError(f'IPv4-mapped IPv6 address "{text}" is not allowed')
    return Cidr(found, int(bits))


def _contains_ip(net: Cidr, ip: Address) -> bool:
    return net.address.version == ip.value.version and ip.value in net.network


def _contains(net: Cidr, other: Cidr) -> bool:
    same = net.address.version == other.address.version
    return same and net.bits <= other.bits and other.network.network_address in net.network


def _versions() -> Iterator[Overload]:
    yield overload(f"semver(string) -> {_V}", to_version, traversal())
    yield overload(f"semver(string, bool) -> {_V}", to_version, traversal())
    yield overload("isSemver(string) -> bool", _holds(to_version), traversal())
    yield overload("isSemver(string, bool) -> bool", _holds(to_version), traversal())
    yield overload(f"<{_V}>.isGreaterThan({_V}) -> bool", lambda a, b: a.order > b.order)
    yield overload(f"<{_V}>.isLessThan({_V}) -> bool", lambda a, b: a.order < b.order)
    yield overload(f"<{_V}>.compareTo({_V}) -> int", lambda a, b: (a.order > b.order) - (a.order < b.order))
    for place, name in enumerate(("major", "minor", "patch")):
        yield overload(f"<{_V}>.{name}() -> int", lambda version, place=place: version.release[place])


def to_version(text: str, normalize: bool = False) -> Version:
    """As blang/semver reads it, in its words."""
    written = _normalized(text) if normalize else text
    if not written:
        raise EvaluationError("Version string empty")
    parts = written.split(".", 2)
    if len(parts) != 3:
        raise EvaluationError("No Major.Minor.Patch elements found")
    rest, plus, build = parts[2].partition("+")
    patch, dash, tail = rest.partition("-")
    numbers = zip(("Major", "Minor", "Patch"), (*parts[:2], patch), strict=True)
    major, minor, last = (_number(name, digits) for name, digits in numbers)
    pre = tuple(_prerelease(part) for part in tail.split(".")) if dash else ()
    for part in build.split(".") if plus else ():
        if not part:
            raise EvaluationError("Build meta data is empty")
        if not _ALPHANUMERIC.fullmatch(part):
            raise EvaluationError(f'Invalid character(s) found in build meta data "{part}"')
    return Version(written, (major, minor, last), pre)


def _number(name: str, digits: str) -> int:
    if digits and not _DIGITS.fullmatch(digits):
        raise EvaluationError(f'Invalid character(s) found in {name.lower()} number "{digits}"')
    if len(digits) > 1 and digits[0] == "0":
        raise EvaluationError(f'{name} number must not contain leading zeroes "{digits}"')
    if not digits or int(digits) >= 1 << 64:
        why = "value out of range" if digits else "invalid syntax"
        raise EvaluationError(f'strconv.ParseUint: parsing "{digits}": {why}')
    return int(digits)


def _prerelease(part: str) -> tuple[int, int, str]:
    if not part:
        raise EvaluationError("Prerelease is empty")
    if _DIGITS.fullmatch(part):
        if len(part) > 1 and part[0] == "0":
            raise EvaluationError(f'Numeric PreRelease version must not contain leading zeroes "{part}"')
        return 0, int(part), ""
    if not _ALPHANUMERIC.fullmatch(part):
        raise EvaluationError(f'Invalid character(s) found in prerelease "{part}"')
    return 1, 0, part


def _normalized(text: str) -> str:
    """Without a v before it and zeros before its numbers, and with all three of them."""
    parts = [_without_zeros(part) for part in text.removeprefix("v").split(".", 2)]
    if len(parts) < 3 and set(parts[-1]) & {"+", "-"}:
        raise EvaluationError("short version cannot contain PreRelease/Build meta data")
    return ".".join([*parts, *["0"] * (3 - len(parts))])


def _without_zeros(part: str) -> str:
    if len(part) < 2:
        return part
    short = part.lstrip("0")
    return short if short[:1] in set("0123456789") and short else "0" + short


def _formats() -> Iterator[Overload]:
    yield overload(f"format.named(string) -> optional({_F})", _named, fixed(1))
    yield overload(f"<{_F}>.validate(string) -> optional(list(string))", _validate, _format_cost)
    for name, found in FORMATS.items():
        yield overload(f"format.{name}() -> {_F}", lambda found=found: found, fixed(1))


def _format_cost(arguments: list[Any], _: Any) -> int:
    amount: int = -(-(1 + len(arguments[1])) // 10) * -(-arguments[0].regex_size // 4)
    return amount


def _named(name: str) -> Optional:
    found = FORMATS.get(name)
    return NONE if found is None else Optional(found, True)


def _validate(found: Format, text: str) -> Optional:
    problems = list(found.check(text))
    return Optional(problems, True) if problems else NONE


def _prefix(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """A name that generateName may end in a dash for."""
    return lambda text: check(text[:-1] + "a" if text.endswith("-") and len(text) > 1 else text)


def _uri(text: str) -> list[str]:
    try:
        to_url(text)
    except EvaluationError as error:
        return [str(error).removeprefix("URL parse error during conversion from string: ")]
    return []


def _base64(text: str) -> list[str]:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ["invalid base64"]
    return []


def _date(text: str) -> list[str]:
    try:
        date.fromisoformat(text)
    except ValueError:
        return ["invalid date"]
    return []


def _datetime(text: str) -> list[str]:
    try:
        values.parse_timestamp(text)
    except ValueError:
        return ["invalid datetime"]
    return []


def _uuid(text: str) -> list[str]:
    return [] if _UUID.fullmatch(text) else ["does not match the UUID format"]


FORMATS = {
    name: Format(name, check, size)
    for name, check, size in (
        ("dns1123Label", names.dns_label, 30), ("dns1123Subdomain", names.dns_subdomain, 60),
        ("dns1035Label", names.dns_1035_label, 30), ("qualifiedName", names.qualified_name, 60),
        ("dns1123LabelPrefix", _prefix(names.dns_label), 30),
        ("dns1123SubdomainPrefix", _prefix(names.dns_subdomain), 60),
        ("dns1035LabelPrefix", _prefix(names.dns_1035_label), 30), ("labelValue", names.label_value, 40),
        ("uri", _uri, 250), ("uuid", _uuid, 73), ("byte", _base64, 69), ("date", _date, 100),
        ("datetime", _datetime, 100),
    )
}  # fmt: skip
