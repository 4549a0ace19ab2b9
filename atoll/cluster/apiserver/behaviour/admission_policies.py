"""Checks of admission policies and their bindings (upstream's validation): every expression is compiled when it is
written, with the variables, params and authorizer that it will have, and refused in the compiler's words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.match_conditions import match_conditions
from atoll.cluster.apiserver.behaviour.registrations import FAILURES, MATCHES, rule_with_operations
from atoll.cluster.apiserver.expressions import admission, mutations
from atoll.cluster.apiserver.expressions.composition import Composition
from atoll.cluster.apiserver.expressions.environment import Environment
from atoll.cluster.apiserver.expressions.errors import CompileError
from atoll.cluster.apiserver.expressions.types import BOOL, NULL, STRING, Type, list_of
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required

_DENY_AND_WARN = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and"
    " headers serves no purpose)"
)
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_RESERVED = frozenset(
    {
        "true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import",
        "let", "loop", "package", "namespace", "return", "var", "void", "while",
    }
)  # fmt: skip
_ANNOTATIONS, _VALUE_EXPRESSION = 20, 5 * 1024
_MUTATING = ("*", "CONNECT", "CREATE", "UPDATE")


def validating_policy(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    has_params = spec.get("paramKind") is not None
    composition = _common(errors, spec, has_params)
    within = _environment(composition, spec, has_params)
    messages = _environment(composition, spec, has_params, authorizer=False)
    validations, audits = spec.get("validations") or (), spec.get("auditAnnotations") or ()
    if not validations and not audits:
        why = "validations or auditAnnotations must contain at least one item"
        errors += [required("spec.validations", why), required("spec.auditAnnotations", why)]
        return errors
    for index, validation in enumerate(validations):
        _validation(errors, f"spec.validations[{index}]", validation, within, messages)
    _audit_annotations(errors, obj["metadata"].get("name", ""), audits, within)
    return errors


def mutating_policy(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    has_params = spec.get("paramKind") is not None
    composition = _common(errors, spec, has_params, mutating=True)
    within = composition.environment(mutations.environment(has_params))
    found = spec.get("mutations") or ()
    if not found:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for index, mutation in enumerate(found):
        _mutation(errors, f"spec.mutations[{index}]", mutation, within)
    again = spec.get("reinvocationPolicy") or ""
    if not again:
        errors.append(required("spec.reinvocationPolicy"))
    elif again not in ("IfNeeded", "Never"):
        errors.append(not_supported("spec.reinvocationPolicy", again, ("IfNeeded", "Never")))
    return errors


def _common(errors: Errors, spec: Object, has_params: bool, mutating: bool = False) -> Composition:
    """All that both kinds have, but for what they do; the variables are declared."""
    failure = spec.get("failurePolicy")
    if failure is None:
        errors.append(required("spec.failurePolicy"))
    elif failure not in FAILURES:
        errors.append(not_supported("spec.failurePolicy", failure, FAILURES))
    if has_params:
        _param_kind(errors, "spec.paramKind", spec["paramKind"])
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
    else:
        _match_resources(errors, "spec.matchConstraints", constraints)
        if not constraints.get("resourceRules"):
            errors.append(required("spec.matchConstraints.resourceRules"))
        if mutating:
            _mutating_operations(errors, "spec.matchConstraints", constraints)
    match_conditions(errors, "spec.matchConditions", spec.get("matchConditions") or [], params=has_params)
    base = mutations.environment(has_params) if mutating else admission.environment(params=has_params)
    composition = Composition(base)
    for index, variable in enumerate(spec.get("variables") or ()):
        _variable(errors, f"spec.variables[{index}]", variable, composition)
    return composition


def _environment(composition: Composition, spec: Object, has_params: bool, authorizer: bool = True) -> Environment:
    base = admission.environment(params=has_params, authorizer=authorizer)
    return composition.environment(base) if spec.get("variables") else base


def _mutating_operations(errors: Errors, path: str, resources: Object) -> None:
    for rule in resources.get("resourceRules") or ():
        for operation in rule.get("operations") or ():
            if operation not in _MUTATING:
                errors.append(not_supported(f"{path}.resourceRules.operations", operation, _MUTATING))


def _param_kind(errors: Errors, path: str, kind: Object) -> None:
    version = kind.get("apiVersion") or ""
    at = f"{path}.apiVersion"
    if not version:
        errors.append(required(at))
    elif version.count("/") > 1:
        errors.append(bad_value(at, version, f"unexpected GroupVersion string: {version}"))
    else:
        group, _, plain = version.rpartition("/")
        if group and (problems := names.dns_subdomain(group)):
            errors.append(bad_value(at, group, ",".join(problems)))
        if not plain:
            errors.append(bad_value(at, version, "version must be specified"))
        elif problems := names.dns_1035_label(plain):
            errors.append(bad_value(at, plain, ",".join(problems)))
    name = kind.get("kind") or ""
    if not name:
        errors.append(required(f"{path}.kind"))
    elif problems := names.dns_1035_label(name.lower()):
        why = "may have mixed case, but should otherwise match: " + ",".join(problems)
        errors.append(bad_value(f"{path}.kind", name, why))


def _match_resources(errors: Errors, path: str, resources: Object | None) -> None:
    if resources is None:
        return
    policy = resources.get("matchPolicy")
    if policy is None:
        errors.append(required(f"{path}.matchPolicy"))
    elif policy not in MATCHES:
        errors.append(not_supported(f"{path}.matchPolicy", policy, MATCHES))
    for field in ("namespaceSelector", "objectSelector"):
        if resources.get(field) is None:
            errors.append(required(f"{path}.{field}"))
        else:
            checks.label_selector(errors, f"{path}.{field}", resources[field])
    for field in ("resourceRules", "excludeResourceRules"):
        for index, rule in enumerate(resources.get(field) or ()):
            _named_rule(errors, f"{path}.{field}[{index}]", rule)


def _named_rule(errors: Errors, path: str, rule: Object) -> None:
    seen: set[str] = set()
    for index, name in enumerate(rule.get("resourceNames") or ()):
        at = f"{path}.resourceNames[{index}]"
        checks.named(errors, at, name, names.path_segment)
        if name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
    rule_with_operations(errors, path, rule)


def _compiles(
    errors: Errors, path: str, expression: str, within: Environment, *results: Type, told: str | None = None
) -> None:
    try:
        within.compile(expression, *results)
    except CompileError as error:
        errors.append(bad_value(path, told if told is not None else expression, str(error)))


def _variable(errors: Errors, path: str, variable: Object, composition: Composition) -> None:
    name, expression = variable.get("name") or "", variable.get("expression") or ""
    if not name.strip():
        errors.append(required(f"{path}.name", "name is not specified"))
    elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
        errors.append(bad_value(f"{path}.name", name, "must be a valid CEL identifier"))
    if not expression.strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
        return
    try:
        composition.declare(name, expression)
    except CompileError as error:
        errors.append(bad_value(f"{path}.expression", expression, str(error)))


def _validation(errors: Errors, path: str, validation: Object, within: Environment, messages: Environment) -> None:
    expression = validation.get("expression") or ""
    if not expression.strip():
        errors.append(required(f"{path}.expression", "expression is not specified"))
    else:
        _compiles(errors, f"{path}.expression", expression, within, BOOL)
    computed = validation.get("messageExpression") or ""
    if computed and not computed.strip():
        errors.append(bad_value(f"{path}.messageExpression", computed, "must be non-empty if specified"))
    elif computed:
        _compiles(errors, f"{path}.messageExpression", computed, messages, STRING)
    message = validation.get("message") or ""
    if message and not message.strip():
        errors.append(bad_value(f"{path}.message", message, "must be non-empty if specified"))
    elif "\n" in message.strip() or "\r" in message.strip():
        errors.append(bad_value(f"{path}.message", message, "must not contain line breaks"))
    reason = validation.get("reason")
    if reason is not None and reason not in (*_REASONS, "Unauthorized"):
        errors.append(not_supported(f"{path}.reason", reason, _REASONS))


def _audit_annotations(errors: Errors, policy: str, audits: Sequence[Object], within: Environment) -> None:
    if len(audits) > _ANNOTATIONS:
        why = f"must not have more than {_ANNOTATIONS} auditAnnotations"
        errors.append(bad_value("spec.auditAnnotations", list(audits), why))
    seen: set[str] = set()
    for index, audit in enumerate(audits):
        path, key = f"spec.auditAnnotations[{index}]", audit.get("key") or ""
        if policy:
            checks.named(errors, f"{path}.key", f"{policy}/{key}", names.qualified_name)
        else:
            errors.append(bad_value(f"{path}.key", key, "requires metadata.name be non-empty"))
        expression = audit.get("valueExpression") or ""
        at = f"{path}.valueExpression"
        if not expression.strip():
            errors.append(required(at, "valueExpression is not specified"))
        elif len(expression.strip().encode()) > _VALUE_EXPRESSION:
            errors.append(required(at, f"must not exceed {_VALUE_EXPRESSION} bytes in length"))
        else:
            _compiles(errors, at, expression.strip(), within, STRING, NULL, told=expression)
        if key in seen:
            errors.append(duplicate(f"{path}.key", key))
        seen.add(key)


def _mutation(errors: Errors, path: str, mutation: Object, within: Environment) -> None:
    kind = mutation.get("patchType") or ""
    results: dict[str, tuple[str, str, Type]] = {
        "JSONPatch": ("jsonPatch", "applyConfiguration", list_of(mutations.JSON_PATCH)),
        "ApplyConfiguration": ("applyConfiguration", "jsonPatch", mutations.OBJECT),
    }
    if not kind:
        errors.append(required(f"{path}.patchType"))
        return
    if kind not in results:
        errors.append(not_supported(f"{path}.patchType", kind, ("ApplyConfiguration", "JSONPatch")))
        return
    field, other, result = results[kind]
    given = mutation.get(field)
    if given is None:
        errors.append(required(f"{path}.{field}", f"must be specified when patchType is {kind}"))
    else:
        expression = (given.get("expression") or "").strip()
        if not expression:
            errors.append(required(f"{path}.{field}.expression"))
        else:
            _compiles(errors, f"{path}.{field}.expression", expression, within, result)
    if mutation.get(other) is not None:
        why = f"must not be specified when patchType is {kind}"
        errors.append(bad_value(f"{path}.{other}", "{" + other + "}", why))


def validating_binding(obj: Object) -> Errors:
    return _binding(obj, _actions)


def mutating_binding(obj: Object) -> Errors:
    return _binding(obj, _only_writes)


def _binding(obj: Object, more: Callable[[Errors, Object], None]) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    name = spec.get("policyName") or ""
    if not name:
        errors.append(required("spec.policyName"))
    else:
        checks.named(errors, "spec.policyName", name, names.dns_subdomain)
    _param_ref(errors, "spec.paramRef", spec.get("paramRef"))
    _match_resources(errors, "spec.matchResources", spec.get("matchResources"))
    more(errors, spec)
    return errors


def _only_writes(errors: Errors, spec: Object) -> None:
    if spec.get("matchResources") is not None:
        _mutating_operations(errors, "spec.matchResources", spec["matchResources"])


def _actions(errors: Errors, spec: Object) -> None:
    actions, path = spec.get("validationActions") or [], "spec.validationActions"
    seen: set[str] = set()
    for index, action in enumerate(actions):
        if action not in ("Audit", "Deny", "Warn"):
            errors.append(not_supported(f"{path}[{index}]", action, ("Audit", "Deny", "Warn")))
        if action in seen:
            errors.append(duplicate(f"{path}[{index}]", action))
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        errors.append(bad_value(path, actions, _DENY_AND_WARN))
    if not seen:
        errors.append(required(path, "at least one validation action is required"))


def _param_ref(errors: Errors, path: str, reference: Object | None) -> None:
    if reference is None:
        return
    name, selector = reference.get("name") or "", reference.get("selector")
    both = "name and selector are mutually exclusive"
    if name:
        checks.named(errors, f"{path}.name", name, names.path_segment)
        if selector is not None:
            errors.append(not_allowed(f"{path}.name", both))
    if selector is not None:
        checks.label_selector(errors, f"{path}.selector", selector)
        if name:
            errors.append(not_allowed(f"{path}.selector", both))
    if not name and selector is None:
        errors.append(required(path, "one of name or selector must be specified"))
    action, at = reference.get("parameterNotFoundAction") or "", f"{path}.parameterNotFoundAction"
    if not action:
        errors.append(required(at))
    elif action not in ("Allow", "Deny"):
        errors.append(not_supported(at, action, ("Deny", "Allow")))
