"""Names, label keys and values as upstream's apimachinery checks them, in its words.

Each check returns messages (empty: fine) and caches: the same names come again and again.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_VALUE = f"({_QUALIFIED})?"

_label = re.compile(rf"{_LABEL}\Z")
_subdomain = re.compile(rf"{_SUBDOMAIN}\Z")
_label_1035 = re.compile(rf"{_LABEL_1035}\Z")
_qualified = re.compile(rf"{_QUALIFIED}\Z")
_value = re.compile(rf"{_VALUE}\Z")

NameCheck = Callable[[str], tuple[str, ...]]


def _regex_error(message: str, pattern: str, *examples: str) -> str:
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def _too_long(most: int) -> str:
    return f"must be no more than {most} characters"


@functools.lru_cache(4096)
def dns_subdomain(name: str) -> tuple[str, ...]:
    errors = [_too_long(253)] if len(name) > 253 else []
    if not _subdomain.match(name):
        errors.append(
            _regex_error(
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
                " and must start and end with an alphanumeric character",
                _SUBDOMAIN,
                "example.com",
            )
        )
    return tuple(errors)


@functools.lru_cache(4096)
def dns_label(name: str) -> tuple[str, ...]:
    errors = [_too_long(63)] if len(name) > 63 else []
    if not _label.match(name):
        if _subdomain.match(name):
            errors.append("must not contain dots")
        else:
            errors.append(
                _regex_error(
                    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must"
                    " start and end with an alphanumeric character",
                    _LABEL,
                    "my-name",
                    "123-abc",
                )
            )
    return tuple(errors)


@functools.lru_cache(4096)
def dns_1035_label(name: str) -> tuple[str, ...]:
    errors = [_too_long(63)] if len(name) > 63 else []
    if not _label_1035.match(name):
        errors.append(
            _regex_error(
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic"
                " character, and end with an alphanumeric character",
                _LABEL_1035,
                "my-name",
                "abc-123",
            )
        )
    return tuple(errors)


@functools.lru_cache(4096)
def path_segment(name: str) -> tuple[str, ...]:
    if name in (".", ".."):
        return (f"may not be '{name}'",)
    return tuple(f"may not contain '{bad}'" for bad in ("/", "%") if bad in name)


@functools.lru_cache(4096)
def qualified_name(key: str) -> tuple[str, ...]:
    """A label key, annotation key (lower-cased first) or finalizer."""
    errors: list[str] = []
    prefix, slash, name = key.rpartition("/")
    if slash and "/" in prefix:
        return (
            "a valid label key "
            + _regex_error(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc")
            + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
        )
    if slash:
        if not prefix:
            errors.append("prefix part must be non-empty")
        else:
            errors += [f"prefix part {message}" for message in dns_subdomain(prefix)]
    if not name:
        errors.append("name part must be non-empty")
    elif len(name) > 63:
        errors.append("name part must be no more than 63 bytes")
    if not _qualified.match(name):
        errors.append("name part " + _regex_error(_QUALIFIED_MESSAGE, _QUALIFIED, "MyName", "my.name", "123-abc"))
    return tuple(errors)


_QUALIFIED_MESSAGE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)


@functools.lru_cache(4096)
def label_value(value: str) -> tuple[str, ...]:
    errors = ["must be no more than 63 bytes"] if len(value) > 63 else []
    if not _value.match(value):
        errors.append(
            _regex_error(
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and"
                " must start and end with an alphanumeric character",
                _VALUE,
                "MyValue",
                "my_value",
                "12345",
            )
        )
    return tuple(errors)


def as_prefix(name: str) -> str:
    """generateName checked as if a letter followed (upstream's maskTrailingDash)."""
    return name[:-1] + "a" if len(name) > 1 and name.endswith("-") else name


# Kinds whose names are not DNS subdomains; everything else is one.
_BY_RESOURCE: dict[str, NameCheck] = {
    "namespaces": dns_label,
    "services": dns_label,
    "statefulsets.apps": dns_label,
    "roles.rbac.authorization.k8s.io": path_segment,
    "ipaddresses.networking.k8s.io": path_segment,  # its own validation says what an address is
    "rolebindings.rbac.authorization.k8s.io": path_segment,
    "clusterroles.rbac.authorization.k8s.io": path_segment,
    "clusterrolebindings.rbac.authorization.k8s.io": path_segment,
    "certificatesigningrequests.certificates.k8s.io": path_segment,
    "apiservices.apiregistration.k8s.io": path_segment,
}


def check_for(group_resource: str) -> NameCheck:
    return _BY_RESOURCE.get(group_resource, dns_subdomain)
