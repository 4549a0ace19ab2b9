"""The CEL rules of custom resources (x-kubernetes-validations), with upstream's messages.

What an update leaves as it was is not held against it (upstream's ratcheting), transition rules aside. A place whose
rules all held for the same inputs (`reads`) is passed over: its rules would hold again, at the same cost.
"""

from __future__ import annotations

import functools
from typing import Any

from atoll.cluster.apiserver.extensions.reads import Held
from atoll.cluster.apiserver.extensions.structure import Json, Structure
from atoll.cluster.apiserver.extensions.validation import MISSING, correlate
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, required

_MOST_MESSAGE_BYTES = 5 * 1024  # of what a messageExpression gives


def by_rules(value: Any, at: Structure, path: str, old: Any, causes: list[Cause]) -> None:
    """The x-kubernetes-validations of this place and below. `old` is `MISSING` where there is none."""
    if value is None or not at.rules_below:
        return
    if not at.transitions_below and old is not MISSING and (old is value or old == value):
        return  # as it was, all of it: not held against this write
    rules = at.rules
    for nested in at.raw.get("allOf") or ():
        rules = rules + (nested.get("x-kubernetes-validations") or [])
    if rules:
        _rules(rules, value, at, path, old, causes)
    if isinstance(value, dict):
        before = old if isinstance(old, dict) else {}
        prefix = f"{path}." if path else ""
        for name, item in value.items():
            below = at.properties.get(name)
            if below is not None:
                if below.rules_below:
                    by_rules(item, below, prefix + name, before.get(name, MISSING), causes)
            elif isinstance(at.additional, Structure):
                by_rules(item, at.additional, f"{path}[{name}]", before.get(name, MISSING), causes)
    elif isinstance(value, list) and at.items is not None and at.items.rules_below:
        correlated = correlate(at.raw, old)
        for index, item in enumerate(value):
            by_rules(item, at.items, f"{path}[{index}]", correlated(item), causes)


def _rules(rules: list[Json], value: Any, at: Structure, path: str, old: Any, causes: list[Cause]) -> None:
    if at.expressions is None:
        from atoll.cluster.apiserver.extensions import cel  # with all that CEL needs, only where there are rules

        at.expressions = cel.Rules(at.raw, root=not path)
        at.held = _held(rules, at)
    has_old = old is not MISSING and old is not None
    inputs = at.held.key(value, old, has_old) if at.held is not None else None
    if inputs is not None and inputs in at.held:
        return
    seen = _Seen(value, old, has_old, at.expressions)
    before = len(causes)
    judged = [_judge(rule, value, at, path, old, seen, causes) for rule in rules]
    if at.held is not None and all(judged) and len(causes) == before:
        at.held.add(inputs)


def _held(rules: list[Json], at: Structure) -> Held | None:
    """None where a rule does not compile: it is told with each write."""
    from atoll.cluster.apiserver.extensions import cel

    try:
        return Held(_program(rule, at).program.root for rule in rules)
    except cel.CelError:
        return None


def _program(rule: Json, at: Structure) -> Any:
    """Raises CelError."""
    return at.expressions.rule(rule.get("rule") or "", bool(rule.get("optionalOldSelf")))


class _Seen:
    """The values as rules see them, made when the first rule asks."""

    def __init__(self, value: Any, old: Any, has_old: bool, expressions: Any) -> None:
        self._value, self._old = value, old
        self._expressions = expressions
        self.has_old = has_old

    @functools.cached_property
    def value(self) -> Any:
        return self._expressions.typed(self._value)

    @functools.cached_property
    def old(self) -> Any:
        return self._expressions.typed(self._old) if self.has_old else None


def _judge(rule: Json, value: Any, at: Structure, path: str, old: Any, seen: _Seen, causes: list[Cause]) -> bool:
    """Whether it was judged by its inputs alone (or is not to be run for them)."""
    from atoll.cluster.apiserver.extensions import cel

    kind = at.type
    shown_path = path or "<nil>"
    try:
        program = _program(rule, at)
    except cel.CelError as error:
        causes.append(bad_value(shown_path, kind, f"rule compile error: {error}"))
        return False
    if program.uses_old and not seen.has_old and not program.optional_old:
        return True
    if not program.uses_old and old is not MISSING and old == value:
        return False  # as it was: not held against this write
    holds, fault = program.evaluate(seen.value, seen.old, seen.has_old)
    if fault:
        text = f"{fault} evaluating rule: {_named(rule)}"
        if fault == "no such overload":
            text = (
                f"'{fault}': call arguments did not match a supported operator, function or macro signature for rule:"
                f" {_named(rule)}"
            )
        causes.append(bad_value(shown_path, kind, text))
    elif holds is not True:
        causes.append(_failed(rule, value, at, path, seen))
    return True


def _failed(rule: Json, value: Any, at: Structure, path: str, seen: _Seen) -> Cause:
    from atoll.cluster.apiserver.extensions import cel

    where = path + (rule.get("fieldPath") or "")
    where = where.removeprefix(".") or "<nil>"
    detail = ""
    if rule.get("messageExpression"):
        try:
            program = at.expressions.message(rule["messageExpression"], bool(rule.get("optionalOldSelf")))
            text, fault = program.evaluate(seen.value, seen.old, seen.has_old)
            if not fault and isinstance(text, str) and _can_be_told(text.strip()):
                detail = text.strip()
        except cel.CelError:
            detail = ""
    detail = detail or (rule.get("message") or "").strip() or f"failed rule: {_named(rule)}"
    reason = rule.get("reason")
    if reason == "FieldValueForbidden":
        return not_allowed(where, detail)
    if reason == "FieldValueRequired":
        return required(where, detail)
    if reason == "FieldValueDuplicate":
        return duplicate(where, value)
    if at.type in ("object", "array"):
        return Cause("FieldValueInvalid", f"Invalid value: {detail}", where)
    return bad_value(where, value, detail)


def _can_be_told(text: str) -> bool:
    return bool(text) and "\n" not in text and len(text.encode()) <= _MOST_MESSAGE_BYTES


def _named(rule: Json) -> str:
    """What an error calls a rule that went wrong: by its message, where it has one."""
    return (rule.get("message") or rule.get("rule") or "").strip()
