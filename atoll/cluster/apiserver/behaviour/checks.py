"""Small checks that many kinds share, in the words of apimachinery's validation package.

Each appends Causes to `errors`; `path` is the field's path as upstream prints it.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Any

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required

Errors = list[Cause]

_PORT_NAME = re.compile(r"[-a-z0-9]+\Z")
_CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+\Z")
_HTTP_HEADER = re.compile(r"[-A-Za-z0-9]+\Z")
_PERCENT = re.compile(r"[0-9]+%\Z")
MAX_INT32 = 2**31 - 1
IMMUTABLE = "field is immutable"
FILE_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def regex_error(message: str, pattern: str, *examples: str) -> str:
    if not examples:
        return f"{message} (regex used for validation is '{pattern}')"
    shown = " or ".join(f"'{example}', " for example in examples)
    return f"{message} (e.g. {shown}regex used for validation is '{pattern}')"


def inclusive_range(low: int, high: int) -> str:
    return f"must be between {low} and {high}, inclusive"


def named(errors: Errors, path: str, value: str, check: names.NameCheck) -> None:
    for message in check(value):
        errors.append(bad_value(path, value, message))


def nonnegative(errors: Errors, path: str, value: int | None) -> None:
    if value is not None and value < 0:
        errors.append(bad_value(path, value, "must be greater than or equal to 0"))


def positive(errors: Errors, path: str, value: int) -> None:
    if value <= 0:
        errors.append(bad_value(path, value, "must be greater than zero"))


def one_of(errors: Errors, path: str, value: Any, allowed: Sequence[str], *, empty: str | None = "") -> None:
    """`empty`: what a missing value is told (None: it is unsupported like any other)."""
    if value in allowed:
        return
    if not value and empty is not None:
        errors.append(required(path, empty))
    else:
        errors.append(not_supported(path, value or "", allowed))


def immutable(errors: Errors, path: str, new: Any, old: Any) -> None:
    if new != old:
        errors.append(bad_value(path, new, IMMUTABLE))


def labels(errors: Errors, path: str, values: dict[str, str] | None) -> None:
    for key, value in (values or {}).items():
        named(errors, path, key, names.qualified_name)
        for message in names.label_value(value):
            errors.append(bad_value(path, value, message))


def label_name(errors: Errors, path: str, value: str) -> None:
    for message in names.qualified_name(value):
        errors.append(bad_value(path, value, message))


def annotation_keys(errors: Errors, path: str, values: dict[str, str] | None) -> None:
    for key in values or {}:
        for message in names.qualified_name(key.lower()):
            errors.append(bad_value(path, key, message))


def label_selector(errors: Errors, path: str, selector: dict[str, Any] | None, *, invalid_values: bool = False) -> None:
    if not selector:
        return
    labels(errors, f"{path}.matchLabels", selector.get("matchLabels"))
    for index, requirement in enumerate(selector.get("matchExpressions") or ()):
        at = f"{path}.matchExpressions[{index}]"
        operator = requirement.get("operator", "")
        values = requirement.get("values") or ()
        if operator in ("In", "NotIn"):
            if not values:
                errors.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(not_allowed(f"{at}.values", why))
        else:
            errors.append(bad_value(f"{at}.operator", operator, "not a valid selector operator"))
        label_name(errors, f"{at}.key", requirement.get("key", ""))
        if not invalid_values:
            for place, value in enumerate(values):
                named(errors, f"{at}.values[{place}]", value, names.label_value)


def selects(selector: dict[str, Any], found: dict[str, str]) -> bool:
    """Whether a valid LabelSelector matches."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if found.get(key) != value:
            return False
    for requirement in selector.get("matchExpressions") or ():
        key, operator, values = requirement["key"], requirement["operator"], requirement.get("values") or ()
        if operator == "In":
            matches = found.get(key) in values
        elif operator == "NotIn":
            matches = key not in found or found[key] not in values
        else:
            matches = (key in found) is (operator == "Exists")
        if not matches:
            return False
    return True


def empty_selector(selector: dict[str, Any]) -> bool:
    return not selector.get("matchLabels") and not selector.get("matchExpressions")


def port_number(errors: Errors, path: str, port: Any) -> None:
    if not 1 <= port <= 65535:
        errors.append(bad_value(path, port, inclusive_range(1, 65535)))


@functools.lru_cache(maxsize=1024)
def port_name_errors(name: str) -> tuple[str, ...]:
    errors = []
    if len(name) > 15:
        errors.append("must be no more than 15 characters")
    if not _PORT_NAME.match(name):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", name):
        errors.append("must contain at least one letter (a-z)")
    if "--" in name:
        errors.append("must not contain consecutive hyphens")
    if name and (name[0] == "-" or name[-1] == "-"):
        errors.append("must not begin or end with a hyphen")
    return tuple(errors)


def port_or_name(errors: Errors, path: str, port: int | str) -> None:
    if isinstance(port, str):
        named(errors, path, port, port_name_errors)
    else:
        port_number(errors, path, port)


def _change_directory(value: str) -> list[str]:
    if value == ".":
        return ["must not be '.'"]
    if value == "..":
        return ["must not be '..'"]
    if value.startswith(".."):
        return ["must not start with '..'"]
    return []


@functools.lru_cache(maxsize=4096)
def config_key_errors(key: str) -> tuple[str, ...]:
    errors = []
    if len(key) > 253:
        errors.append("must be no more than 253 characters")
    if not _CONFIG_KEY.match(key):
        why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        errors.append(regex_error(why, "[-._a-zA-Z0-9]+", "key.name", "KEY_NAME", "key-name"))
    return (*errors, *_change_directory(key))


@functools.lru_cache(maxsize=4096)
def env_name_errors(name: str) -> tuple[str, ...]:
    """The relaxed check, on by default since 1.34."""
    if not name:
        return ("environment variable name must be non-empty",)
    if any(not " " <= character <= "~" or character == "=" for character in name):
        return ("a valid environment variable name must consist only of printable ASCII characters other than '='",)
    return ()


def http_header(errors: Errors, path: str, name: str) -> None:
    if not _HTTP_HEADER.match(name):
        why = "a valid HTTP header must consist of alphanumeric characters or '-'"
        errors.append(bad_value(path, name, regex_error(why, "[-A-Za-z0-9]+", "X-Header-Name")))


def user_id(errors: Errors, path: str, value: int | None) -> None:
    if value is not None and not 0 <= value <= MAX_INT32:
        errors.append(bad_value(path, value, inclusive_range(0, MAX_INT32)))


IP_ERROR = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


@functools.lru_cache(maxsize=4096)
def parse_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def ip_address(errors: Errors, path: str, value: str) -> None:
    if parse_ip(value) is None:
        errors.append(bad_value(path, value, IP_ERROR))


def file_mode(errors: Errors, path: str, mode: int | None) -> None:
    if mode is not None and not 0 <= mode <= 0o777:
        errors.append(bad_value(path, mode, FILE_MODE))


def is_percent(value: Any) -> bool:
    return isinstance(value, str) and _PERCENT.match(value) is not None


def int_or_percent(errors: Errors, path: str, value: Any) -> None:
    """A percentage or a number that is not negative."""
    if isinstance(value, str):
        if not is_percent(value):
            why = "a valid percent string must be a numeric string followed by an ending '%'"
            errors.append(bad_value(path, value, regex_error(why, "[0-9]+%", "1%", "93%")))
    else:
        nonnegative(errors, path, value)


def not_over_hundred(errors: Errors, path: str, value: Any) -> None:
    if is_percent(value) and int(value[:-1]) > 100:
        errors.append(bad_value(path, value, "must not be greater than 100%"))


def no_backsteps(errors: Errors, path: str, value: str) -> None:
    if ".." in value.split("/"):
        errors.append(bad_value(path, value, "must not contain '..'"))


def descending_path(errors: Errors, path: str, value: str) -> None:
    if value.startswith("/"):
        errors.append(bad_value(path, value, "must be a relative path"))
    no_backsteps(errors, path, value)


def relative_path(errors: Errors, path: str, value: str) -> None:
    """Also not one that a volume reserves."""
    descending_path(errors, path, value)
    if value.startswith("..") and not value.startswith("../"):
        errors.append(bad_value(path, value, "must not start with '..'"))


# Resource amounts

_STANDARD_CONTAINER = frozenset(("cpu", "memory", "ephemeral-storage"))
_INTEGER = frozenset(
    (
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    )
)
_COMPUTE = frozenset(f"{prefix}{name}" for prefix in ("", "requests.", "limits.") for name in _STANDARD_CONTAINER)
_QUOTA = _INTEGER | _COMPUTE | {"requests.storage"}
_STANDARD = _QUOTA | {"storage"}


def is_huge_pages(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")


def overcommits(name: str) -> bool:
    return is_native(name) and not is_huge_pages(name)


def resource_name(errors: Errors, path: str, name: str) -> bool:
    problems = names.qualified_name(name)
    for message in problems:
        errors.append(bad_value(path, name, message))
    if problems:
        return False
    if "/" not in name and name not in _STANDARD and not is_huge_pages(name) and not is_quota_name(name):
        errors.append(bad_value(path, name, "must be a standard resource type or fully qualified"))
        return False
    return True


def is_quota_name(name: str) -> bool:
    return name in _QUOTA or name.startswith(("requests.hugepages-", "hugepages-", "limits.hugepages-"))


def quota_resource_name(errors: Errors, path: str, name: str) -> None:
    resource_name(errors, path, name)
    if "/" not in name and not is_quota_name(name):
        errors.append(bad_value(path, name, "must be a standard resource for quota"))


def container_resource_name(errors: Errors, path: str, name: str) -> None:
    if name in _STANDARD_CONTAINER:
        return
    resource_name(errors, path, name)
    if "/" not in name:
        if not is_huge_pages(name):
            errors.append(bad_value(path, name, "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        errors.append(bad_value(path, name, "doesn't follow extended resource name standard"))


def resource_amount(errors: Errors, path: str, name: str, amount: str) -> None:
    nano = quantity.parse(amount)
    if nano < 0:
        errors.append(bad_value(path, quantity.canonical(amount), "must be greater than or equal to 0"))
    if nano % quantity.NANO and (is_extended(name) or name in _INTEGER):
        errors.append(bad_value(path, amount, "must be an integer"))


def duplicates(values: Iterable[str]) -> list[tuple[int, str]]:
    seen: set[str] = set()
    found = []
    for index, value in enumerate(values):
        if value in seen:
            found.append((index, value))
        seen.add(value)
    return found
