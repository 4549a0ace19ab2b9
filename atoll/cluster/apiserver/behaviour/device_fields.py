"""What the kinds of resource.k8s.io/v1 share: names, selectors, taints, opaque parameters, and upstream's limits
(pkg/apis/resource/validation)."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import orjson

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import (
    bad_value,
    duplicate,
    internal_error,
    not_allowed,
    not_supported,
    required,
    too_long,
    too_many,
)

SELECTORS, CONFIGS, TAINTS = 32, 32, 16
_PARAMETERS = 10 * 1024
_DRIVER, _IDENTIFIER, _POOL = 63, 32, 253
_C_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_EFFECTS = ("NoExecute", "NoSchedule", "None")
_NOT_C = checks.regex_error(
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric"
    " characters or '_'",
    "[A-Za-z_][A-Za-z0-9_]*",
    "my_name",
    "MY_NAME",
    "MyName",
)

Check = Callable[[Errors, str, Any], None]


def every(errors: Errors, path: str, values: Sequence[Any] | None, most: int | None, check: Check) -> bool:
    """Each item by `check`; False where there are too many, which then are not looked at."""
    if most is not None and len(values or ()) > most:
        errors.append(too_many(path, len(values or ()), most))
        return False
    for index, value in enumerate(values or ()):
        check(errors, f"{path}[{index}]", value)
    return True


def unique(
    errors: Errors,
    path: str,
    values: Sequence[Any] | None,
    most: int | None,
    check: Check,
    key: Callable[[Any], Hashable] = lambda value: value,
) -> None:
    """As `every`; no two may have the same key."""
    if not every(errors, path, values, most, check):
        return
    seen: set[Hashable] = set()
    for index, value in enumerate(values or ()):
        if key(value) in seen:
            errors.append(duplicate(f"{path}[{index}]", key(value)))
        seen.add(key(value))


def name_of(item: Object) -> str:
    return item.get("name") or ""


def label(errors: Errors, path: str, name: str) -> None:
    """A DNS label, as devices, requests and counters are named."""
    checks.named(errors, path, name, names.dns_label)


def needed_label(errors: Errors, path: str, name: str) -> None:
    label(errors, path, name) if name else errors.append(required(path))


def driver(errors: Errors, path: str, name: str) -> None:
    if not name:
        errors.append(required(path))
        return
    if len(name) > _DRIVER:
        errors.append(too_long(path, _DRIVER))
    for message in names.dns_subdomain(name.lower()):
        errors.append(bad_value(path, name, message))


def pool_name(errors: Errors, path: str, name: str) -> None:
    if not name:
        errors.append(required(path))
        return
    if len(name) > _POOL:
        errors.append(too_long(path, _POOL))
    for part in name.split("/"):
        checks.named(errors, path, part, names.dns_subdomain)


def class_name(errors: Errors, path: str, name: str) -> None:
    if not name:
        errors.append(required(path))
    else:
        checks.named(errors, path, name, names.dns_subdomain)


def qualified_name(errors: Errors, path: str, name: str) -> None:
    """An attribute's or a capacity's: an identifier, perhaps with a domain before it."""
    domain, slash, identifier = name.partition("/")
    if not slash:
        _identifier(errors, path, name)
        return
    if "/" in identifier:
        return  # more than one slash is not looked at, as upstream
    if domain:
        driver(errors, path, domain)
    else:
        errors.append(bad_value(path, "", "the domain must not be empty"))
    if identifier:
        _identifier(errors, path, identifier)
    else:
        errors.append(bad_value(path, "", "the name must not be empty"))


def fully_qualified_name(errors: Errors, path: str, name: str) -> None:
    qualified_name(errors, path, name)
    if "/" not in name:
        errors.append(bad_value(path, name, "a fully qualified name must be a domain and a name separated by a slash"))


def _identifier(errors: Errors, path: str, name: str) -> None:
    if len(name) > _IDENTIFIER:
        errors.append(too_long(path, _IDENTIFIER))
    if not _C_IDENTIFIER.match(name):
        errors.append(bad_value(path, name, _NOT_C))


def selectors(errors: Errors, path: str, found: Sequence[Object] | None) -> None:
    every(errors, path, found, SELECTORS, _selector)


def _selector(errors: Errors, path: str, selector: Object) -> None:
    from atoll.cluster.apiserver.expressions import devices  # CEL is loaded by the first expression that is written
    from atoll.cluster.apiserver.expressions.errors import CompileError

    if selector.get("cel") is None:
        errors.append(required(f"{path}.cel"))
        return
    at, expression = f"{path}.cel.expression", selector["cel"].get("expression") or ""
    if len(expression.encode()) > devices.MOST_CHARACTERS:
        errors.append(too_long(at, devices.MOST_CHARACTERS))
        return
    try:
        most = devices.compile_selector(expression).most
    except CompileError as error:
        told = internal_error(at, str(error)) if error.internal else bad_value(at, expression, str(error))
        errors.append(told)
        return
    if most > devices.COST_LIMIT:
        errors.append(not_allowed(at, "too complex, exceeds cost limit"))


def opaque(errors: Errors, path: str, config: Object) -> None:
    """A configuration for a driver: parameters of its own."""
    found = config.get("opaque")
    if found is None:
        errors.append(required(f"{path}.opaque"))
        return
    driver(errors, f"{path}.opaque.driver", found.get("driver") or "")
    raw(errors, f"{path}.opaque.parameters", found.get("parameters"), _PARAMETERS)


def raw(errors: Errors, path: str, value: Any, most: int) -> None:
    """Any JSON object."""
    if value is None:
        errors.append(required(path))
    elif len(orjson.dumps(value)) > most:
        errors.append(too_long(path, most))
    elif not isinstance(value, dict):
        errors.append(bad_value(path, "<value omitted>", "must be a valid JSON object"))


def taint(errors: Errors, path: str, found: Object) -> None:
    checks.label_name(errors, f"{path}.key", found.get("key") or "")
    if found.get("value"):
        checks.named(errors, f"{path}.value", found["value"], names.label_value)
    effect = found.get("effect") or ""
    if not effect:
        errors.append(required(f"{path}.effect"))
    elif effect not in _EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _EFFECTS))


def toleration(errors: Errors, path: str, found: Object) -> None:
    if found.get("key"):
        checks.label_name(errors, f"{path}.key", found["key"])
    operator, value = found.get("operator") or "", found.get("value") or ""
    if operator == "Exists":
        if value:
            errors.append(bad_value(f"{path}.value", value, "must be empty for operator `Exists`"))
    elif operator == "Equal":
        checks.named(errors, f"{path}.value", value, names.label_value)
    elif not operator:
        errors.append(required(f"{path}.operator"))
    else:
        errors.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    effect = found.get("effect")
    if effect and effect not in _EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, _EFFECTS))


def binding_conditions(errors: Errors, path: str, holder: Object) -> None:
    """Conditions that a driver sets before a pod may be bound, and those that say that it never may."""
    wanted, failing = holder.get("bindingConditions") or (), holder.get("bindingFailureConditions") or ()
    every(errors, f"{path}.bindingConditions", wanted, 4, checks.label_name)
    every(errors, f"{path}.bindingFailureConditions", failing, 4, checks.label_name)
    for index, value in checks.duplicates(wanted):
        errors.append(duplicate(f"{path}.bindingConditions[{index}]", value))
    repeated = dict(checks.duplicates(failing))
    for index, value in enumerate(failing):
        at = f"{path}.bindingFailureConditions[{index}]"
        if index in repeated:
            errors.append(duplicate(at, value))
        if value in wanted:
            errors.append(bad_value(at, value, "bindingFailureConditions must not overlap with bindingConditions"))
    for one, other, has, lacks in (
        ("bindingConditions", "bindingFailureConditions", failing, wanted),
        ("bindingFailureConditions", "bindingConditions", wanted, failing),
    ):
        if has and not lacks:
            errors.append(bad_value(f"{path}.{one}", None, f"{one} are required to use {other}"))
