"""A CRD's rules (x-kubernetes-validations) when the definition is written: they compile, say what they may say, and
cannot cost more than an API server has time for (apiextensions pkg/apis/apiextensions/validation)."""

from __future__ import annotations

from atoll.cluster.apiserver.expressions.estimate import MOST
from atoll.cluster.apiserver.extensions import cel
from atoll.cluster.apiserver.extensions.structure import Json
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required

EXPRESSION_LIMIT = 10_000_000
SCHEMA_LIMIT = 100_000_000
_WORTH_TELLING = SCHEMA_LIMIT // 100
_MOST_TOLD = 4
_REASONS = ("FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid", "FieldValueDuplicate")
_TOTAL = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"


class RuleCosts:
    """What the rules of one schema may cost together. `each`: one alone may be too dear."""

    def __init__(self, each: bool) -> None:
        self._each = each
        self._total = 0
        self._dear: list[tuple[int, str]] = []

    def observe(self, field: str, what: str, cost: int) -> list[Cause]:
        cost = min(cost, MOST)
        self._total = min(self._total + cost, MOST)
        if cost >= _WORTH_TELLING:
            self._dear.append((cost, field))
        return [_exceeds(field, what, cost, EXPRESSION_LIMIT)] if self._each and cost > EXPRESSION_LIMIT else []

    def conclude(self, path: str) -> list[Cause]:
        """Once all are seen: whether they are too dear together, and which are the dearest."""
        if self._total <= SCHEMA_LIMIT:
            return []
        why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        dearest = sorted(self._dear, key=lambda item: -item[0])[:_MOST_TOLD]
        told = [not_allowed(field, why) for _, field in dearest]
        return [*told, _exceeds(path, _TOTAL, self._total, SCHEMA_LIMIT)]


def _exceeds(field: str, what: str, cost: int, limit: int) -> Cause:
    factor = cost / limit
    if factor > 100:
        shown = "more than 100x"
    else:
        shown = f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    advice = "adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared"
    why = f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or {advice})"
    return not_allowed(field, why)


def check_rules(schema: Json, path: str, causes: list[Cause], costs: RuleCosts, here: int | None) -> None:
    """Of one place of a schema, which may occur `here` times in an object (None: without a limit)."""
    rules = cel.Rules(schema, root=path.endswith("openAPIV3Schema"))
    found = schema.get("x-kubernetes-validations") or ()
    for index, rule in enumerate(found):
        where = f"{path}.x-kubernetes-validations[{index}]"
        source = (rule.get("rule") or "").strip()
        if not source:
            causes.append(required(f"{where}.rule", "rule is not specified"))
            continue
        _messages(rule, where, causes)
    if any(cause.field.startswith(path) for cause in causes):
        return  # no expression is looked at where the schema itself is wrong, here or below
    for index, rule in enumerate(found):
        _compile(rules, rule, f"{path}.x-kubernetes-validations[{index}]", causes, costs, here)


def _messages(rule: Json, where: str, causes: list[Cause]) -> None:
    message = rule.get("message")
    if message is not None and message and not message.strip():
        causes.append(bad_value(f"{where}.message", message, "must be non-empty if specified"))
    elif message and "\n" in message.strip():
        causes.append(bad_value(f"{where}.message", message, "must not contain line breaks"))
    elif "\n" in rule["rule"].strip() and not message:
        causes.append(required(f"{where}.message", "message must be specified if rule contains line breaks"))
    reason = rule.get("reason")
    if reason is not None and reason not in _REASONS:
        causes.append(not_supported(f"{where}.reason", reason, sorted(_REASONS)))


def _compile(rules: cel.Rules, rule: Json, where: str, causes: list[Cause], costs: RuleCosts, here: int | None) -> None:
    optional = bool(rule.get("optionalOldSelf"))
    program: cel.Rule | None
    try:
        program = rules.rule(rule["rule"], optional)
        times = rules.repeats if here is None else here
        causes += costs.observe(f"{where}.rule", "estimated rule cost", rules.cost(program) * times)
    except cel.CelError as error:
        causes.append(bad_value(f"{where}.rule", _as_go(rule), str(error)))
        program = None
    if rule.get("optionalOldSelf") is not None and not (program and program.uses_old):
        why = "may not be set if oldSelf is not used in rule"
        causes.append(bad_value(f"{where}.optionalOldSelf", rule["optionalOldSelf"], why))
    if program is not None and rule.get("messageExpression"):
        try:
            message = rules.message(rule["messageExpression"], optional)
            told = "estimated messageExpression cost"
            causes += costs.observe(f"{where}.messageExpression", told, rules.cost(message))
        except cel.CelError as error:
            causes.append(bad_value(f"{where}.messageExpression", _as_go(rule), str(error)))


def _as_go(rule: Json) -> Json:
    """As upstream shows a rule: its Go struct."""
    return {
        "Rule": rule.get("rule") or "",
        "Message": rule.get("message") or "",
        "MessageExpression": rule.get("messageExpression") or "",
        "Reason": rule.get("reason"),
        "FieldPath": rule.get("fieldPath") or "",
        "OptionalOldSelf": rule.get("optionalOldSelf"),
    }
