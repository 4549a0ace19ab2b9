"""Digests of JSON values: the same value gives the same digest, whatever the order of its members."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson


def canonical(value: Any) -> bytes:
    """Canonical JSON: members sorted by name, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(value: Any, length: int = 16) -> str:
    """The first `length` hex digits of a value's SHA-256."""
    return hashlib.sha256(canonical(value)).hexdigest()[:length]
