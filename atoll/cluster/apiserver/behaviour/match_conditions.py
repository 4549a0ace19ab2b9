"""Checks of matchConditions, which webhooks and admission policies have alike: names, and CEL that compiles."""

from __future__ import annotations

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, required

_MOST = 64


def match_conditions(errors: Errors, path: str, conditions: list[Object], *, params: bool = False) -> None:
    """`params`: expressions may name them (policies)."""
    if len(conditions) > _MOST:
        text = f"Too many: {len(conditions)}: must have at most {_MOST} items"
        errors.append(Cause("FieldValueTooMany", text, path))
    seen: set[str] = set()
    for index, condition in enumerate(conditions):
        at = f"{path}[{index}]"
        expression = (condition.get("expression") or "").strip()
        if not expression:
            errors.append(required(f"{at}.expression"))
        else:
            _compiles(errors, f"{at}.expression", expression, params)
        name = condition.get("name") or ""
        if not name:
            errors.append(required(f"{at}.name"))
            continue
        checks.named(errors, f"{at}.name", name, names.qualified_name)
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)


def _compiles(errors: Errors, path: str, expression: str, params: bool) -> None:
    from atoll.cluster.apiserver.expressions.admission import environment  # all of CEL: only where there is some
    from atoll.cluster.apiserver.expressions.errors import CompileError
    from atoll.cluster.apiserver.expressions.types import BOOL

    try:
        environment(params=params).compile(expression, BOOL)
    except CompileError as error:
        errors.append(bad_value(path, expression, str(error)))
