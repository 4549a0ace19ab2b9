"""Checks of RBAC objects (upstream's pkg/apis/rbac/validation)."""

from __future__ import annotations

from collections.abc import Iterable

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_supported, required

_RBAC = "rbac.authorization.k8s.io"


def _rules(errors: Errors, rules: Iterable[Object] | None, *, namespaced: bool) -> None:
    for index, rule in enumerate(rules or ()):
        path = f"rules[{index}]"
        if not rule.get("verbs"):
            errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
        urls = rule.get("nonResourceURLs")
        if urls:
            if namespaced:
                why = "namespaced rules cannot apply to non-resource URLs"
                errors.append(bad_value(f"{path}.nonResourceURLs", urls, why))
            if any(rule.get(field) for field in ("apiGroups", "resources", "resourceNames")):
                why = "rules cannot apply to both regular resources and non-resource URLs"
                errors.append(bad_value(f"{path}.nonResourceURLs", urls, why))
            continue
        if not rule.get("apiGroups"):
            errors.append(required(f"{path}.apiGroups", "resource rules must supply at least one api group"))
        if not rule.get("resources"):
            errors.append(required(f"{path}.resources", "resource rules must supply at least one resource"))


def role(obj: Object) -> Errors:
    errors: Errors = []
    _rules(errors, obj.get("rules"), namespaced=True)
    return errors


def cluster_role(obj: Object) -> Errors:
    errors: Errors = []
    _rules(errors, obj.get("rules"), namespaced=False)
    aggregation = obj.get("aggregationRule")
    if aggregation is not None:
        path = "aggregationRule.clusterRoleSelectors"
        selectors = aggregation.get("clusterRoleSelectors") or ()
        if not selectors:
            errors.append(required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
        for index, selector in enumerate(selectors):
            checks.label_selector(errors, f"{path}[{index}]", selector)
    return errors


def _binding(obj: Object, kinds: tuple[str, ...], *, namespaced: bool) -> Errors:
    errors: Errors = []
    reference = obj.get("roleRef") or {}
    if reference.get("apiGroup") != _RBAC:
        errors.append(not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), (_RBAC,)))
    if reference.get("kind") not in kinds:
        errors.append(not_supported("roleRef.kind", reference.get("kind", ""), kinds))
    if not reference.get("name"):
        errors.append(required("roleRef.name"))
    else:
        checks.named(errors, "roleRef.name", reference["name"], names.path_segment)
    for index, subject in enumerate(obj.get("subjects") or ()):
        _subject(errors, f"subjects[{index}]", subject, namespaced=namespaced)
    return errors


def _subject(errors: Errors, path: str, subject: Object, *, namespaced: bool) -> None:
    name, kind, group = subject.get("name", ""), subject.get("kind", ""), subject.get("apiGroup", "")
    if not name:
        errors.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if name:
            checks.named(errors, f"{path}.name", name, names.dns_subdomain)
        if group:
            errors.append(not_supported(f"{path}.apiGroup", group, ("",)))
        if not namespaced and not subject.get("namespace"):
            errors.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != _RBAC:
            errors.append(not_supported(f"{path}.apiGroup", group, (_RBAC,)))
    else:
        errors.append(not_supported(f"{path}.kind", kind, ("ServiceAccount", "User", "Group")))


def role_binding(obj: Object) -> Errors:
    return _binding(obj, ("Role", "ClusterRole"), namespaced=True)


def cluster_role_binding(obj: Object) -> Errors:
    return _binding(obj, ("ClusterRole",), namespaced=False)


def _same_reference(errors: Errors, new: Object, old: Object) -> Errors:
    if new.get("roleRef") != old.get("roleRef"):
        reference = new.get("roleRef") or {}
        shown = {"APIGroup": reference.get("apiGroup", ""), "Kind": reference.get("kind", ""),
                 "Name": reference.get("name", "")}  # fmt: skip
        errors.append(bad_value("roleRef", shown, "cannot change roleRef"))
    return errors


def role_binding_update(new: Object, old: Object) -> Errors:
    return _same_reference(role_binding(new), new, old)


def cluster_role_binding_update(new: Object, old: Object) -> Errors:
    return _same_reference(cluster_role_binding(new), new, old)
