"""Label selectors compiled to a predicate (metav1.LabelSelectorAsSelector)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Labels = Mapping[str, str]
Matcher = Callable[[Labels], bool]


def nothing(_: Labels) -> bool:
    return False


def everything(_: Labels) -> bool:
    return True


def compile_selector(selector: Mapping[str, Any] | None) -> Matcher:
    """A null selector matches nothing, an empty one everything. Raises ValueError for an unknown operator."""
    if selector is None:
        return nothing
    exact = dict(selector.get("matchLabels") or {})
    tests = [_requirement(item) for item in selector.get("matchExpressions") or []]
    if not tests:
        return compile_map(exact)

    def matches(labels: Labels) -> bool:
        return all(labels.get(key) == value for key, value in exact.items()) and all(test(labels) for test in tests)

    return matches


def compile_map(wanted: Mapping[str, str] | None) -> Matcher:
    """A plain map of labels (ReplicationController, Service); an empty one matches everything."""
    if not wanted:
        return everything
    if len(wanted) == 1:
        ((only, text),) = wanted.items()
        return lambda labels: labels.get(only) == text
    pairs = dict(wanted).items()
    return lambda labels: pairs <= labels.items()


def is_empty(selector: Mapping[str, Any] | None) -> bool:
    """{}: selects everything."""
    return selector is not None and not selector.get("matchLabels") and not selector.get("matchExpressions")


def _requirement(item: Mapping[str, Any]) -> Matcher:
    key, operator, values = item["key"], item["operator"], frozenset(item.get("values") or ())
    if operator == "In":
        return lambda labels: key in labels and labels[key] in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    raise ValueError(f'"{operator}" is not a valid label selector operator')
