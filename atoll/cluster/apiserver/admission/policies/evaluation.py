"""One validating policy evaluated on the values of one request: pure, in upstream's order and words (validator.go)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atoll.cluster.apiserver.admission.policies.model import Expression, Policy
from atoll.cluster.apiserver.expressions import admission
from atoll.cluster.apiserver.expressions.environment import BUDGET, PER_CALL_LIMIT
from atoll.cluster.apiserver.expressions.errors import CostExceeded, EvaluationError
from atoll.cluster.apiserver.expressions.values import type_name

_LONGEST_MESSAGE = 5 * 1024


class OutOfBudget(Exception):
    """The policy's expressions together cost too much."""

    def __init__(self) -> None:
        super().__init__(admission.OUT_OF_BUDGET)


@dataclass(frozen=True, slots=True)
class Denial:
    message: str
    reason: str
    index: int  # of the validation


@dataclass(slots=True)
class Verdict:
    """`denials`: validations that are false, and errors where the policy fails on them."""

    denials: list[Denial] = field(default_factory=list)
    annotations: dict[str, str] = field(default_factory=dict)
    annotation_errors: list[str] = field(default_factory=list)


class Run:
    """Expressions that share composed variables and a budget (upstream's ForInput)."""

    def __init__(self, policy: Policy, names: Mapping[str, Any], budget: int) -> None:
        self._variables = policy.composition.values(names)
        self._names = {**names, "variables": self._variables}
        self.budget = budget

    def evaluate(self, expression: Expression) -> tuple[Any, str]:
        """(value, "") or (None, what went wrong). Raises OutOfBudget."""
        if expression.program is None:
            return None, f"compilation error: {expression.error}"
        try:
            value, cost = expression.program.priced(self._names, PER_CALL_LIMIT)
        except EvaluationError as error:
            self._spend(0)
            return None, f"expression '{expression.source}' resulted in error: {error}"
        except CostExceeded as error:
            self._spend(PER_CALL_LIMIT)
            return None, f"expression '{expression.source}' resulted in error: {error}"
        self._spend(cost)
        return value, ""

    def _spend(self, cost: int) -> None:
        self.budget -= cost + self._variables.take_cost()
        if self.budget < 0:
            raise OutOfBudget


def matches(policy: Policy, names: Mapping[str, Any]) -> admission.Match:
    if not policy.conditions:
        return admission.Match(True)
    composed = {**names, "namespaceObject": None}
    composed["variables"] = policy.composition.values(composed)
    return admission.matches(policy.conditions, composed, policy.failure_policy)


def validate(policy: Policy, names: Mapping[str, Any]) -> Verdict:
    fails = policy.failure_policy != "Ignore"
    match = matches(policy, names)
    if match.error:
        return _failed(match.error)
    if not match.matched:
        return Verdict()
    verdict = Verdict()
    try:
        run = Run(policy, names, BUDGET)
        results = [run.evaluate(validation) for validation in policy.validations]
        messages = _Messages(policy, names, run.budget)
        for index, (value, error) in enumerate(results):
            if error:
                if fails:
                    verdict.denials.append(Denial(error, "", index))
            elif messages.error:
                if fails:
                    verdict.denials.append(Denial(f"failed messageExpression: {messages.error}", "", index))
            elif value is not True:
                validation = policy.validations[index]
                told = messages.of(index) or _fallback(validation)
                verdict.denials.append(Denial(told, validation.data.get("reason") or "Invalid", index))
        _annotate(policy, Run(policy, names, BUDGET), verdict, fails)
    except OutOfBudget as error:
        return _failed(str(error)) if fails else Verdict()
    return verdict


def _failed(why: str) -> Verdict:
    return Verdict([Denial(why, "", 0)])


def _fallback(validation: Expression) -> str:
    message = (validation.data.get("message") or "").strip()
    return message or f"failed expression: {validation.source.strip()}"


class _Messages:
    """messageExpressions, evaluated only once one is asked for by a failure; they share one budget."""

    def __init__(self, policy: Policy, names: Mapping[str, Any], budget: int) -> None:
        self._policy = policy
        quiet = {name: value for name, value in names.items() if not name.startswith("authorizer")}
        self._run = Run(policy, quiet, budget)
        self.error = ""

    def of(self, index: int) -> str:
        """ "" where there is none that may be shown."""
        expression = self._policy.messages[index]
        if expression is None:
            return ""
        try:
            value, error = self._run.evaluate(expression)
        except OutOfBudget as spent:
            self.error = str(spent)
            return ""
        if error or not isinstance(value, str):
            return ""
        text = value.strip()
        return "" if len(text) > _LONGEST_MESSAGE or "\n" in text else text


def _annotate(policy: Policy, run: Run, verdict: Verdict, fails: bool) -> None:
    for audit in policy.audits:
        value, error = run.evaluate(audit)
        if error:
            if fails:
                verdict.annotation_errors.append(error)
        elif isinstance(value, str):
            if value.strip():
                verdict.annotations[audit.data.get("key") or ""] = value.strip()
        elif value is not None:
            verdict.annotation_errors.append(
                f"valueExpression '{audit.source}' resulted in unsupported return type: {type_name(value)}."
                " Return type must be either string or null."
            )
