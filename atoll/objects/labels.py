"""Label keys and values as apimachinery validates them, in its words. Empty lists mean valid."""

from __future__ import annotations

import functools
import re

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"
_MATCH_SUBDOMAIN = re.compile(rf"{_SUBDOMAIN}\Z")
_MATCH_QUALIFIED = re.compile(rf"{_QUALIFIED}\Z")
_MATCH_VALUE = re.compile(rf"{_VALUE}\Z")
_MOST = 63
_MOST_PREFIX = 253


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


_KEY_ERROR = _regex_error(
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
    _QUALIFIED, "MyName", "my.name", "123-abc",
)  # fmt: skip
_VALUE_ERROR = _regex_error(
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start "
    "and end with an alphanumeric character",
    _VALUE, "MyValue", "my_value", "12345",
)  # fmt: skip
_SUBDOMAIN_ERROR = _regex_error(
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start "
    "and end with an alphanumeric character",
    _SUBDOMAIN, "example.com",
)  # fmt: skip


@functools.lru_cache(maxsize=8192)
def key_errors(key: str) -> tuple[str, ...]:
    """What is wrong with a label key (a qualified name)."""
    parts = key.split("/")
    if len(parts) > 2:
        return (
            f"a valid label key {_KEY_ERROR} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    errors: list[str] = []
    if len(parts) == 2:
        prefix = parts[0]
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            if len(prefix) > _MOST_PREFIX:
                errors.append(f"prefix part must be no more than {_MOST_PREFIX} bytes")
            if not _MATCH_SUBDOMAIN.match(prefix):
                errors.append(f"prefix part {_SUBDOMAIN_ERROR}")
    name = parts[-1]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > _MOST:
        errors.append(f"name part must be no more than {_MOST} bytes")
    if not _MATCH_QUALIFIED.match(name):
        errors.append(f"name part {_KEY_ERROR}")
    return tuple(errors)


def is_subdomain(text: str) -> bool:
    """Whether it can be an object's name (a DNS subdomain)."""
    return len(text) <= _MOST_PREFIX and _MATCH_SUBDOMAIN.match(text) is not None


@functools.lru_cache(maxsize=8192)
def value_errors(value: str) -> tuple[str, ...]:
    """What is wrong with a label value."""
    errors = []
    if len(value) > _MOST:
        errors.append(f"must be no more than {_MOST} bytes")
    if not _MATCH_VALUE.match(value):
        errors.append(_VALUE_ERROR)
    return tuple(errors)
