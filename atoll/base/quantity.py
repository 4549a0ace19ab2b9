"""Kubernetes' resource quantities (apimachinery pkg/api/resource): exact, as integers of nano units.

`parse("100m") == Fraction`-free: a quantity is an int of nano-units (1 = 1_000_000_000).
"""

from __future__ import annotations

import functools
import re

NANO = 1_000_000_000
_MOST = ((1 << 63) - 1) * NANO  # what is more is taken for this, as upstream does
_BEYOND = len(str(_MOST))
_PATTERN = re.compile(r"^([+-]?)(\d*)(?:\.(\d*))?(?:([eE][+-]?\d{1,18})|([numkMGTPE]|[KMGTPE]i))?$")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


@functools.lru_cache(maxsize=16384)
def _parse_text(text: str) -> int:
    match = _PATTERN.match(text)
    if not match or not (match[2] or match[3]):
        raise ValueError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    sign, whole, fraction, exponent, suffix = match.groups()
    fraction = fraction or ""
    digits: int = int((whole or "0") + fraction)
    scale = -len(fraction) + 9
    if exponent:
        scale += int(exponent[1:])
    elif suffix in _BINARY:
        digits <<= _BINARY[suffix]
    else:
        scale += _DECIMAL[suffix or ""]
    scale = max(-1 - len(whole + fraction), min(scale, _BEYOND))  # an exponent may be any number: don't write it out
    if scale >= 0:
        nano: int = min(_MOST, digits * 10**scale)
    else:  # finer than nano rounds up, away from zero
        nano = min(_MOST, -(-digits // 10**-scale))
    return -nano if sign == "-" else nano


def parse(value: str | int | float) -> int:
    """Nano-units of a quantity as written in a manifest ("1", "100m", "2Gi", 1.5). Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("a quantity is a number or a string")
    if isinstance(value, int):
        return value * NANO
    return _parse_text(str(value))


def milli(value: str | int | float) -> int:
    """Milli-units, rounded up as upstream's MilliValue()."""
    return -(-parse(value) // 1_000_000)


def units(value: str | int | float) -> int:
    """Whole units, rounded up as upstream's Value()."""
    return -(-parse(value) // NANO)


def canonical(value: str | int | float) -> str:
    """The canonical form that the API server writes: suffix family kept, largest exact suffix."""
    text = str(value)
    nano = parse(value)
    match = _PATTERN.match(text)
    if match and match[5] in _BINARY:
        whole = nano // NANO
        if whole * NANO == nano and (abs(whole) >= 1024 or whole == 0):
            return _binary(whole)
        if whole * NANO == nano:
            return str(whole)
        return _decimal(nano)
    if match and match[4]:
        return _exponent(nano)
    return _decimal(nano)


def _binary(whole: int) -> str:
    if whole == 0:
        return "0"
    for suffix, bits in reversed(_BINARY.items()):
        if whole % (1 << bits) == 0:
            return f"{whole >> bits}{suffix}"
    return str(whole)


def _decimal(nano: int) -> str:
    if nano == 0:
        return "0"
    for suffix, power in sorted(_DECIMAL.items(), key=lambda item: -item[1]):
        unit = 10 ** (power + 9)
        if nano % unit == 0:
            return f"{nano // unit}{suffix}"
    return f"{nano}n"


def _exponent(nano: int) -> str:
    if nano == 0:
        return "0"
    for power in (18, 15, 12, 9, 6, 3, 0, -3, -6, -9):
        unit = 10 ** (power + 9)
        if nano % unit == 0:
            return f"{nano // unit}" + (f"e{power}" if power else "")
    return f"{nano}e-9"


def from_milli(value: int) -> str:
    """Canonical decimal text of milli-units."""
    return _decimal(value * 1_000_000)


def from_units_binary(value: int) -> str:
    """Canonical binary text (Ki, Mi …) of whole units, e.g. bytes of memory."""
    return _binary(value)


def from_nano(value: int) -> str:
    """Canonical decimal text of nano-units."""
    return _decimal(value)
