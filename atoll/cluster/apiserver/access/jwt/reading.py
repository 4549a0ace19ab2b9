"""An issuer's rules, read from its configuration: expressions compiled, mistakes told in upstream's words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.access.documents import compile_problem
from atoll.cluster.apiserver.access.jwt.rules import Condition, Rules, Source
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, required

if TYPE_CHECKING:
    from atoll.cluster.apiserver.expressions.environment import Environment, Program

Object = dict[str, Any]


@cache
def _environments() -> tuple[Environment, Environment]:
    """Of claims and of users; loaded where there are expressions."""
    from atoll.cluster.apiserver.expressions.environment import Environment
    from atoll.cluster.apiserver.expressions.types import DYN, STRING, list_of, map_of, struct

    strings = list_of(STRING)
    user = struct(
        "kubernetes.UserInfo",
        {"username": STRING, "uid": STRING, "groups": strings, "extra": map_of(STRING, strings)},
    )
    return Environment({"claims": map_of(STRING, DYN)}), Environment({"user": user})


def _compile(errors: list[Cause], path: str, text: str, *, user: bool = False, boolean: bool = False) -> Program | None:
    from atoll.cluster.apiserver.expressions.errors import CompileError
    from atoll.cluster.apiserver.expressions.types import BOOL

    environment = _environments()[1 if user else 0]
    try:
        return environment.compile(text, BOOL) if boolean else environment.compile(text)
    except CompileError as error:
        errors.append(bad_value(path, text, compile_problem(error)))
        return None


def read(errors: list[Cause], path: str, item: Object) -> Rules:
    """The rules of one issuer; what is wrong goes to `errors`."""
    needed, claim_conditions = _claim_rules(errors, f"{path}.claimValidationRules", item.get("claimValidationRules"))
    at, mappings = f"{path}.claimMappings", item.get("claimMappings") or {}
    username = _source(errors, f"{at}.username", mappings.get("username") or {}, needed=True)
    groups = _source(errors, f"{at}.groups", mappings.get("groups") or {})
    uid = _uid_source(errors, f"{at}.uid", mappings.get("uid") or {})
    extra = _extra_rules(errors, f"{at}.extra", mappings.get("extra") or [])
    programs = [condition.program for condition in claim_conditions] + [program for _, program in extra]
    named = username.program
    if (
        named is not None
        and _selects(named, "email")
        and not any(_selects(program, "email_verified") for program in (named, *programs))
    ):
        why = (
            "claims.email_verified must be used in claimMappings.username.expression or "
            "claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is "
            "used in claimMappings.username.expression"
        )
        errors.append(bad_value(f"{at}.username.expression", named.source, why))
    user_conditions = _user_rules(errors, f"{path}.userValidationRules", item.get("userValidationRules") or [])
    return Rules(username, groups, uid, extra, needed, claim_conditions, user_conditions)


def _source(errors: list[Cause], path: str, given: Object, *, needed: bool = False) -> Source:
    claim, expression, prefix = given.get("claim") or "", given.get("expression") or "", given.get("prefix")
    if claim and expression:
        errors.append(bad_value(path, "", "claim and expression can't both be set"))
    elif expression:
        if prefix is not None:
            errors.append(bad_value(f"{path}.prefix", prefix, "may not be specified when expression is set"))
        return Source(program=_compile(errors, f"{path}.expression", expression))
    elif claim:
        if prefix is None:
            why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing"
            errors.append(required(f"{path}.prefix", why))
        return Source(claim, prefix or "")
    elif needed:
        errors.append(required(path, "claim or expression is required"))
    return Source()


def _uid_source(errors: list[Cause], path: str, given: Object) -> Source:
    claim, expression = given.get("claim") or "", given.get("expression") or ""
    if claim and expression:
        errors.append(bad_value(path, "", "claim and expression can't both be set"))
        return Source()
    return Source(program=_compile(errors, f"{path}.expression", expression)) if expression else Source(claim)


def _extra_rules(errors: list[Cause], path: str, given: list[Object]) -> tuple[tuple[str, Program], ...]:
    found = []
    seen: set[str] = set()
    for index, item in enumerate(given):
        at, key = f"{path}[{index}]", item.get("key") or ""
        _extra_key(errors, f"{at}.key", key)
        if key in seen:
            errors.append(duplicate(f"{at}.key", key))
            continue
        seen.add(key)
        expression = item.get("valueExpression") or ""
        if not expression:
            errors.append(required(f"{at}.valueExpression"))
            continue
        program = _compile(errors, f"{at}.valueExpression", expression)
        if program is not None:
            found.append((key, program))
    return tuple(found)


def _extra_key(errors: list[Cause], path: str, key: str) -> None:
    domain, slash, rest = key.partition("/")
    if not key:
        errors.append(required(path))
    elif not (slash and domain and rest):
        errors.append(bad_value(path, key, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        errors.extend(bad_value(path, domain, why) for why in names.dns_subdomain(domain))
    if key != key.lower():
        errors.append(bad_value(path, key, "must be lowercase"))
    if slash and (f".{domain}".endswith((".kubernetes.io", ".k8s.io"))):
        why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use"
        errors.append(bad_value(path, key, why))


def _claim_rules(
    errors: list[Cause], path: str, given: list[Object] | None
) -> tuple[tuple[tuple[str, str], ...], tuple[Condition, ...]]:
    needed: list[tuple[str, str]] = []
    conditions: list[Condition] = []
    claims: set[str] = set()
    expressions: set[str] = set()
    for index, rule in enumerate(given or ()):
        at, claim, expression = f"{path}[{index}]", rule.get("claim") or "", rule.get("expression") or ""
        if claim and expression:
            errors.append(bad_value(at, claim, "claim and expression can't both be set"))
        elif claim:
            if rule.get("message"):
                errors.append(bad_value(f"{at}.message", rule["message"], "may not be specified when claim is set"))
            if claim in claims:
                errors.append(duplicate(f"{at}.claim", claim))
            claims.add(claim)
            needed.append((claim, rule.get("requiredValue") or ""))
        elif expression:
            if rule.get("requiredValue"):
                why = "may not be specified when expression is set"
                errors.append(bad_value(f"{at}.requiredValue", rule["requiredValue"], why))
            if expression in expressions:
                errors.append(duplicate(f"{at}.expression", expression))
                continue
            expressions.add(expression)
            program = _compile(errors, f"{at}.expression", expression, boolean=True)
            if program is not None:
                conditions.append(Condition(program, rule.get("message") or ""))
        else:
            errors.append(required(at, "claim or expression is required"))
    return tuple(needed), tuple(conditions)


def _user_rules(errors: list[Cause], path: str, given: list[Object]) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    seen: set[str] = set()
    for index, rule in enumerate(given):
        at, expression = f"{path}[{index}].expression", rule.get("expression") or ""
        if not expression:
            errors.append(required(at))
        elif expression in seen:
            errors.append(duplicate(at, expression))
        else:
            seen.add(expression)
            program = _compile(errors, at, expression, user=True, boolean=True)
            if program is not None:
                conditions.append(Condition(program, rule.get("message") or ""))
    return tuple(conditions)


def _selects(program: Program, claim: str) -> bool:
    """Whether an expression reads `claims.CLAIM`, also as `claims.?CLAIM`."""
    from atoll.cluster.apiserver.expressions.syntax import Call, Constant, Identifier, Select

    for node in _nodes(program.root):
        if isinstance(node, Select) and node.field == claim and isinstance(node.operand, Identifier):
            if node.operand.name == "claims":
                return True
        elif isinstance(node, Call) and node.function == "_?._" and len(node.arguments) == 2:
            operand, field = node.arguments
            known = isinstance(operand, Identifier) and operand.name == "claims"
            if known and isinstance(field, Constant) and field.value == claim:
                return True
    return False


def _nodes(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from _nodes(getattr(value, field.name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _nodes(item)
