"""Label selectors, node selector terms and tolerations, compiled to plain functions.

The semantics are upstream's scheduler's: a null label selector matches nothing, an empty one everything; a node
selector's terms are OR-ed, and an empty term matches no node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Object = dict[str, Any]
Labels = Mapping[str, str]
LabelMatcher = Callable[[Labels], bool]
NodeMatcher = Callable[[str, Labels], bool]  # (node name, node labels)

_NO_SCHEDULE = ("NoSchedule", "NoExecute")


def nothing(_: Labels) -> bool:
    return False


def everything(_: Labels) -> bool:
    return True


def _integer(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _requirement(key: str, operator: str, values: list[str]) -> LabelMatcher:
    if operator == "In":
        wanted = frozenset(values)
        return lambda labels: labels.get(key) in wanted
    if operator == "NotIn":
        unwanted = frozenset(values)
        return lambda labels: labels.get(key) not in unwanted
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    if operator in ("Gt", "Lt") and len(values) == 1:
        bound = _integer(values[0])
        if bound is None:
            return nothing
        limit: int = bound
        greater = operator == "Gt"

        def compare(labels: Labels) -> bool:
            value = _integer(labels[key]) if key in labels else None
            return value is not None and (value > limit if greater else value < limit)

        return compare
    return nothing


def _all(matchers: list[LabelMatcher]) -> LabelMatcher:
    if not matchers:
        return everything
    if len(matchers) == 1:
        return matchers[0]
    return lambda labels: all(matcher(labels) for matcher in matchers)


def label_selector(selector: Object | None, extra: Mapping[str, str] | None = None) -> LabelMatcher:
    """A metav1.LabelSelector; `extra` labels (matchLabelKeys) are AND-ed to it."""
    if selector is None and not extra:
        return nothing
    matchers: list[LabelMatcher] = []
    equal = dict((selector or {}).get("matchLabels") or {})
    if equal:
        items = tuple(equal.items())
        matchers.append(lambda labels: all(labels.get(key) == value for key, value in items))
    for item in (selector or {}).get("matchExpressions") or ():
        matchers.append(_requirement(item["key"], item["operator"], item.get("values") or []))
    if extra:
        pairs = tuple(extra.items())
        matchers.append(lambda labels: all(labels.get(key) == value for key, value in pairs))
    return _all(matchers)


class NodeTerm:
    """One NodeSelectorTerm, compiled; an empty one matches nothing. Its parts are there for who matches many nodes."""

    __slots__ = ("_all", "expressions", "fields")

    def __init__(self, term: Object) -> None:
        self.expressions = [_keyed(item) for item in term.get("matchExpressions") or ()]
        fields = [_keyed(item) for item in term.get("matchFields") or ()]
        self.fields: LabelMatcher | None = _all([matcher for _, matcher in fields]) if fields else None
        if self.expressions or fields:
            self._all = _all([matcher for _, matcher in self.expressions])
        else:
            self._all = nothing

    @property
    def empty(self) -> bool:
        return self._all is nothing and not self.expressions

    def __call__(self, name: str, labels: Labels) -> bool:
        if self.fields is not None and not self.fields({"metadata.name": name}):
            return False
        return self._all(labels)


def _keyed(item: Object) -> tuple[str, LabelMatcher]:
    return item["key"], _requirement(item["key"], item["operator"], item.get("values") or [])


class NodeSelector:
    """A core/v1 NodeSelector: any of its terms."""

    __slots__ = ("terms",)

    def __init__(self, selector: Object) -> None:
        self.terms = [NodeTerm(term) for term in selector.get("nodeSelectorTerms") or ()]

    def __call__(self, name: str, labels: Labels) -> bool:
        return any(term(name, labels) for term in self.terms)


def node_selector(selector: Object | None) -> NodeSelector | None:
    """None for no selector."""
    return None if selector is None else NodeSelector(selector)


def topology_selector(terms: list[Object] | None) -> NodeMatcher | None:
    """A StorageClass' allowedTopologies; None when it allows every node."""
    if not terms:
        return None
    compiled = [
        _all([_requirement(item["key"], "In", item.get("values") or []) for item in term["matchLabelExpressions"]])
        for term in terms
        if term.get("matchLabelExpressions")
    ]
    return lambda _name, labels: any(matcher(labels) for matcher in compiled)


def tolerates(toleration: Object, taint: Object) -> bool:
    """Whether one toleration tolerates one taint (Equal, Exists, Lt and Gt)."""
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if not key:
        return False
    if operator == "Equal":
        return bool((toleration.get("value") or "") == (taint.get("value") or ""))
    if operator in ("Lt", "Gt"):
        have, limit = _integer(taint.get("value") or ""), _integer(toleration.get("value") or "")
        if have is None or limit is None:
            return False
        return have < limit if operator == "Lt" else have > limit
    return False


def untolerated(taints: list[Object], tolerations: list[Object], effects: tuple[str, ...] = _NO_SCHEDULE) -> bool:
    """Whether any taint of these effects is not tolerated."""
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(item, taint) for item in tolerations):
            return True
    return False
