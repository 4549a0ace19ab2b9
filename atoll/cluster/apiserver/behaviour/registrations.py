"""Checks of admission registration, flow control, API services (upstream's validation)."""

from __future__ import annotations

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.match_conditions import match_conditions
from atoll.cluster.apiserver.behaviour.webhook_clients import client_config
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_supported, required

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_REVIEWS = ("v1", "v1beta1")
FAILURES = ("Fail", "Ignore")
MATCHES = ("Equivalent", "Exact")


def webhooks(obj: Object) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for index, hook in enumerate(obj.get("webhooks") or ()):
        path = f"webhooks[{index}]"
        _webhook(errors, path, hook)
        name = hook.get("name", "")
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    return errors


def _webhook(errors: Errors, path: str, hook: Object) -> None:
    _review_versions(errors, f"{path}.admissionReviewVersions", hook.get("admissionReviewVersions") or [])
    _domain(errors, f"{path}.name", hook.get("name", ""))
    for index, rule in enumerate(hook.get("rules") or ()):
        rule_with_operations(errors, f"{path}.rules[{index}]", rule)
    for field, allowed in (("failurePolicy", FAILURES), ("matchPolicy", MATCHES)):
        value = hook.get(field)
        if value is not None and value not in allowed:
            errors.append(not_supported(f"{path}.{field}", value, allowed))
    effects = hook.get("sideEffects")
    if effects not in ("None", "NoneOnDryRun"):
        if effects is None:
            errors.append(required(f"{path}.sideEffects", "must specify one of None, NoneOnDryRun"))
        else:
            errors.append(not_supported(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun")))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        why = "the timeout value must be between 1 and 30 seconds"
        errors.append(bad_value(f"{path}.timeoutSeconds", seconds, why))
    again = hook.get("reinvocationPolicy")
    if again is not None and again not in ("IfNeeded", "Never"):
        errors.append(not_supported(f"{path}.reinvocationPolicy", again, ("IfNeeded", "Never")))
    for field in ("namespaceSelector", "objectSelector"):
        checks.label_selector(errors, f"{path}.{field}", hook.get(field))
    if hook.get("matchConditions"):
        match_conditions(errors, f"{path}.matchConditions", hook["matchConditions"])
    client_config(errors, f"{path}.clientConfig", hook.get("clientConfig") or {})


def _domain(errors: Errors, path: str, name: str) -> None:
    if not name:
        errors.append(required(path))
        return
    problems = names.dns_subdomain(name)
    for message in problems:
        errors.append(bad_value(path, name, message))
    if not problems and name.count(".") < 2:
        errors.append(bad_value(path, name, "should be a domain with at least three segments separated by dots"))


def _review_versions(errors: Errors, path: str, versions: list[str]) -> None:
    listed = ", ".join(_REVIEWS)
    if not versions:
        errors.append(required(path, f"must specify one of {listed}"))
        return
    seen: set[str] = set()
    for index, version in enumerate(versions):
        checks.named(errors, f"{path}[{index}]", version, names.dns_1035_label)
        if version in seen:
            errors.append(duplicate(f"{path}[{index}]", version))
        seen.add(version)
    if not seen & set(_REVIEWS):
        errors.append(bad_value(path, versions, f"must include at least one of {listed}"))


def rule_with_operations(errors: Errors, path: str, rule: Object) -> None:
    operations = rule.get("operations") or []
    if not operations:
        errors.append(required(f"{path}.operations"))
    if len(operations) > 1 and "*" in operations:
        why = "if '*' is present, must not specify other operations"
        errors.append(bad_value(f"{path}.operations", operations, why))
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            errors.append(not_supported(f"{path}.operations[{index}]", operation, _OPERATIONS))
    for field, plural in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(field) or []
        if not values:
            errors.append(required(f"{path}.{field}"))
        if len(values) > 1 and "*" in values:
            errors.append(bad_value(f"{path}.{field}", values, f"if '*' is present, must not specify other {plural}"))
    for index, version in enumerate(rule.get("apiVersions") or ()):
        if not version:
            errors.append(required(f"{path}.apiVersions[{index}]"))
    _rule_resources(errors, f"{path}.resources", rule.get("resources") or [])
    scope = rule.get("scope")
    if scope is not None and scope not in ("*", "Cluster", "Namespaced"):
        errors.append(not_supported(f"{path}.scope", scope, ("*", "Cluster", "Namespaced")))


def _rule_resources(errors: Errors, path: str, resources: list[str]) -> None:
    if not resources:
        errors.append(required(path))
    if "*/*" in resources and len(resources) > 1:
        why = "if '*/*' is present, must not specify other resources"
        errors.append(bad_value(path, resources, why))
    if "*" in resources and any("/" not in name for name in resources if name != "*"):
        why = "if '*' is present, must not specify other resources without subresources"
        errors.append(bad_value(path, resources, why))
    for index, name in enumerate(resources):
        if not name:
            errors.append(required(f"{path}[{index}]"))


# Certificate requests, API services


def api_service(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    group, version, name = spec.get("group", ""), spec.get("version", ""), obj["metadata"].get("name", "")
    wanted = f"{version}.{group}"
    if name != wanted and not names.path_segment(name):
        errors.append(bad_value("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
    if group:
        checks.named(errors, "spec.group", group, names.dns_subdomain)
    elif version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    checks.named(errors, "spec.version", version, names.dns_1035_label)
    minimum, priority = spec.get("groupPriorityMinimum", 0), spec.get("versionPriority", 0)
    if not 0 < minimum <= 20000:
        errors.append(bad_value("spec.groupPriorityMinimum", minimum, "must be positive and less than 20000"))
    if not 0 < priority <= 1000:
        errors.append(bad_value("spec.versionPriority", priority, "must be positive and less than 1000"))
    service = spec.get("service")
    if service is None:
        if spec.get("caBundle"):
            shown = f"{len(spec['caBundle'])} bytes"
            errors.append(bad_value("spec.caBundle", shown, "local APIServices may not have a caBundle"))
        if spec.get("insecureSkipTLSVerify"):
            why = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(bad_value("spec.insecureSkipTLSVerify", True, why))
        return errors
    for field in ("namespace", "name"):
        if not service.get(field):
            errors.append(required(f"spec.service.{field}"))
    if spec.get("insecureSkipTLSVerify") and spec.get("caBundle"):
        errors.append(bad_value("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors
