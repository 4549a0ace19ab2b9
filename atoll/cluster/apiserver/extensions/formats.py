"""String formats that CRD schemas check (kube-openapi strfmt); others are ignored, as upstream does."""

from __future__ import annotations

import base64
import binascii
import functools
import ipaddress
import re
from collections.abc import Callable
from datetime import date, datetime
from urllib.parse import urlsplit

_DURATION = re.compile(r"([+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h|d|w))+|0")
_UUID = re.compile(r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$")
_MAC = re.compile(r"(?i)^([0-9a-f]{2}([:-]|$)){6}$")
_HOST = re.compile(r"^[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]{0,61}[a-zA-Z0-9])?)*\.?$")
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")
_COLOR = re.compile(r"(?i)^#?([a-f0-9]{3}|[a-f0-9]{6})$")


@functools.lru_cache(maxsize=1024)  # a status is full of the same few seconds
def _date_time(text: str) -> bool:
    if not re.match(r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([zZ]|[+-]\d\d:?\d\d)?$", text):
        return False
    return _parses(datetime.fromisoformat, text.upper().replace("Z", "+00:00"))


def _parses(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except (ValueError, binascii.Error):
        return False
    return True


def _uri(text: str) -> bool:
    parts = urlsplit(text)
    return bool(parts.scheme) or text.startswith("/")


CHECKS: dict[str, Callable[[str], bool]] = {
    "date-time": _date_time,
    "datetime": _date_time,
    "date": lambda text: len(text) == 10 and _parses(date.fromisoformat, text),
    "duration": lambda text: bool(_DURATION.fullmatch(text.replace(" ", ""))),
    "ipv4": lambda text: _parses(ipaddress.IPv4Address, text),
    "ipv6": lambda text: _parses(ipaddress.IPv6Address, text),
    "cidr": lambda text: "/" in text and _parses(lambda item: ipaddress.ip_network(item, strict=False), text),
    "mac": lambda text: bool(_MAC.match(text)),
    "uuid": lambda text: bool(_UUID.match(text)),
    "uuid3": lambda text: bool(_UUID.match(text)),
    "uuid4": lambda text: bool(_UUID.match(text)),
    "uuid5": lambda text: bool(_UUID.match(text)),
    "hostname": lambda text: len(text) < 256 and bool(_HOST.match(text)),
    "email": lambda text: bool(_EMAIL.match(text)),
    "uri": _uri,
    "byte": lambda text: _parses(lambda item: base64.b64decode(item, validate=True), text),
    "hexcolor": lambda text: bool(_COLOR.match(text)),
}
