"""What a FlowSchema and a PriorityLevelConfiguration may say (kubernetes pkg/apis/flowcontrol/validation)."""

from __future__ import annotations

import math
from typing import Any

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.flowcontrol.defaults import MANDATORY_FLOWS, MANDATORY_LEVELS
from atoll.cluster.apiserver.flowcontrol.shuffle import MAX_HASH_BITS
from atoll.cluster.apiserver.ports import Cause, Object
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required

Errors = list[Cause]
_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_KINDS = ("Group", "ServiceAccount", "User")
_MOST_QUEUES = 10_000_000
_MOST_PRECEDENCE = 10000
_NAMESPACE = "each member of this list must be '*' or a DNS-1123 label; "
_FIXED_FLOWS = {item["metadata"]["name"]: item["spec"] for item in MANDATORY_FLOWS}
_FIXED_LEVELS = {item["metadata"]["name"]: item["spec"] for item in MANDATORY_LEVELS}


def priority_level(obj: Object) -> Errors:
    errors: Errors = []
    name, spec = obj["metadata"].get("name", ""), obj.get("spec") or {}
    kind, limited, exempt = spec.get("type", ""), spec.get("limited"), spec.get("exempt")
    if (name == "exempt") != (kind == "Exempt"):
        errors.append(bad_value("spec.type", kind, "must be 'Exempt' if and only if `name` is 'exempt'"))
    if kind == "Exempt":
        if limited is not None:
            errors.append(not_allowed("spec.limited", "must be nil if the type is not Limited"))
        if exempt is not None:
            _shares(errors, "spec.exempt", exempt)
            _lendable(errors, "spec.exempt", exempt)
    elif kind == "Limited":
        if exempt is not None:
            errors.append(not_allowed("spec.exempt", "must be nil if the type is Limited"))
        if limited is None:
            errors.append(required("spec.limited", "must not be empty when type is Limited"))
        else:
            _limited(errors, limited)
    else:
        errors.append(not_supported("spec.type", kind, ("Exempt", "Limited")))
    _fixed_level(errors, name, spec)
    return errors


def _fixed_level(errors: Errors, name: str, spec: Object) -> None:
    fixed = _FIXED_LEVELS.get(name)
    if fixed is None:
        return
    if name == "exempt":
        if {**spec, "exempt": fixed["exempt"]} != fixed:
            why = "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value"
            errors.append(bad_value("spec", spec, why))
    elif spec != fixed:
        errors.append(bad_value("spec", spec, f"spec of '{name}' must equal the fixed value"))


def _limited(errors: Errors, limited: Object) -> None:
    path = "spec.limited"
    _shares(errors, path, limited)
    response = limited.get("limitResponse") or {}
    kind, queuing, at = response.get("type", ""), response.get("queuing"), f"{path}.limitResponse"
    if kind == "Reject":
        if queuing is not None:
            why = "must be nil if limited.limitResponse.type is not Limited"
            errors.append(not_allowed(f"{at}.queuing", why))
    elif kind == "Queue":
        if queuing is None:
            why = "must not be empty if limited.limitResponse.type is Limited"
            errors.append(required(f"{at}.queuing", why))
        else:
            _queuing(errors, f"{at}.queuing", queuing)
    else:
        errors.append(not_supported(f"{at}.type", kind, ("Queue", "Reject")))
    _lendable(errors, path, limited)
    borrowing = limited.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        why = "if specified, must be a non-negative integer"
        errors.append(bad_value(f"{path}.borrowingLimitPercent", borrowing, why))


def _shares(errors: Errors, path: str, level: Object) -> None:
    shares = level.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        errors.append(bad_value(f"{path}.nominalConcurrencyShares", shares, "must be a non-negative integer"))


def _lendable(errors: Errors, path: str, level: Object) -> None:
    percent = level.get("lendablePercent")
    if percent is not None and not 0 <= percent <= 100:
        errors.append(bad_value(f"{path}.lendablePercent", percent, "must be between 0 and 100, inclusive"))


def _queuing(errors: Errors, path: str, queuing: Object) -> None:
    length, queues, hand = queuing["queueLengthLimit"], queuing["queues"], queuing["handSize"]
    if length <= 0:
        errors.append(bad_value(f"{path}.queueLengthLimit", length, "must be positive"))
    if queues <= 0:
        errors.append(bad_value(f"{path}.queues", queues, "must be positive"))
    elif queues > _MOST_QUEUES:
        errors.append(bad_value(f"{path}.queues", queues, f"must not be greater than {_MOST_QUEUES}"))
    if hand <= 0:
        errors.append(bad_value(f"{path}.handSize", hand, "must be positive"))
    elif hand > queues:
        errors.append(bad_value(f"{path}.handSize", hand, f"should not be greater than queues ({queues})"))
    elif math.ceil(math.log2(queues) * hand) > MAX_HASH_BITS:
        why = (
            f"required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_HASH_BITS}"
        )
        errors.append(bad_value(f"{path}.handSize", hand, why))


def flow_schema(obj: Object) -> Errors:
    errors: Errors = []
    name, spec = obj["metadata"].get("name", ""), obj.get("spec") or {}
    precedence = spec.get("matchingPrecedence", 1000)
    path = "spec.matchingPrecedence"
    if precedence <= 0:
        errors.append(bad_value(path, precedence, "must be a positive value"))
    if precedence > _MOST_PRECEDENCE:
        errors.append(bad_value(path, precedence, f"must not be greater than {_MOST_PRECEDENCE}"))
    if precedence == 1 and name != "exempt":
        errors.append(bad_value(path, precedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
    method = spec.get("distinguisherMethod")
    if method is not None and method.get("type") not in ("ByNamespace", "ByUser"):
        shown = {"Type": method.get("type")}  # the internal type has no JSON names
        errors.append(not_supported("spec.distinguisherMethod.type", shown, ("ByNamespace", "ByUser")))
    level = (spec.get("priorityLevelConfiguration") or {}).get("name", "")
    if level:
        checks.named(errors, "spec.priorityLevelConfiguration.name", level, names.dns_subdomain)
    else:
        errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
    for index, rule in enumerate(spec.get("rules") or ()):
        _rule(errors, f"spec.rules[{index}]", rule)
    fixed = _FIXED_FLOWS.get(name)
    if fixed is not None and spec != fixed:
        errors.append(bad_value("spec", spec, f"spec of '{name}' must equal the fixed value"))
    return errors


def _rule(errors: Errors, path: str, rule: Object) -> None:
    subjects = rule.get("subjects") or ()
    if not subjects:
        errors.append(required(f"{path}.subjects", "subjects must contain at least one value"))
    for index, subject in enumerate(subjects):
        _subject(errors, f"{path}.subjects[{index}]", subject)
    resources, paths = rule.get("resourceRules") or (), rule.get("nonResourceRules") or ()
    if not resources and not paths:
        errors.append(required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
    for index, item in enumerate(resources):
        _resource_rule(errors, f"{path}.resourceRules[{index}]", item)
    for index, item in enumerate(paths):
        _path_rule(errors, f"{path}.nonResourceRules[{index}]", item)


def _subject(errors: Errors, path: str, subject: Object) -> None:
    kind = subject.get("kind", "")
    if kind not in _KINDS:
        errors.append(not_supported(f"{path}.kind", kind, _KINDS))
        return
    field = _field(kind)
    own = subject.get(field)
    if own is None:
        errors.append(required(f"{path}.{field}", f"{field} is required when subject kind is '{kind}'"))
    else:
        _named_subject(errors, f"{path}.{field}", own, kind == "ServiceAccount")
    for other in ("ServiceAccount", "User", "Group"):
        if other != kind and subject.get(_field(other)) is not None:
            why = f"{_field(other)} is forbidden when subject kind is not '{other}'"
            errors.append(not_allowed(f"{path}.{_field(other)}", why))


def _named_subject(errors: Errors, path: str, own: Object, account: bool) -> None:
    name = own.get("name", "")
    if not name:
        errors.append(required(f"{path}.name"))
    elif account and name != "*":
        checks.named(errors, f"{path}.name", name, names.dns_subdomain)
    if account:
        namespace = own.get("namespace", "")
        if namespace:
            checks.named(errors, f"{path}.namespace", namespace, names.dns_label)
        else:
            errors.append(required(f"{path}.namespace", "must specify namespace for service account"))


def _field(kind: str) -> str:
    return kind[0].lower() + kind[1:]


def _resource_rule(errors: Errors, path: str, rule: Object) -> None:
    _verbs(errors, path, rule.get("verbs") or [])
    _listed(errors, f"{path}.apiGroups", rule.get("apiGroups") or [], "api group", "api groups")
    _listed(errors, f"{path}.resources", rule.get("resources") or [], "resource", "resources")
    spaces: list[str] = rule.get("namespaces") or []
    if not spaces and not rule.get("clusterScope"):
        why = "resource rules that are not cluster scoped must supply at least one namespace"
        errors.append(required(f"{path}.namespaces", why))
    elif "*" in spaces:
        if len(spaces) > 1:
            errors.append(bad_value(f"{path}.namespaces", spaces, _alone("namespaces")))
    else:
        for index, space in enumerate(spaces):
            for why in names.dns_label(space):
                errors.append(bad_value(f"{path}.namespaces[{index}]", space, _NAMESPACE + why))


def _path_rule(errors: Errors, path: str, rule: Object) -> None:
    _verbs(errors, path, rule.get("verbs") or [])
    urls: list[str] = rule.get("nonResourceURLs") or []
    if not urls:
        errors.append(required(f"{path}.nonResourceURLs", "nonResourceURLs must contain at least one value"))
    elif "*" in urls:
        if len(urls) > 1:
            errors.append(bad_value(f"{path}.nonResourceURLs", urls, _alone("non-resource URLs")))
    else:
        for index, url in enumerate(urls):
            why = _url_fault(url)
            if why:
                errors.append(bad_value(f"{path}.nonResourceURLs[{index}]", url, why))


def _url_fault(url: str) -> str:
    if not url:
        return "must not be empty"
    if url == "/":
        return ""
    if not url.startswith("/"):
        return "must start with slash"
    if " " in url:
        return "must not contain white-space"
    if "//" in url:
        return "must not contain double slash"
    stars = url.count("*")
    return "wildcard can only do suffix matching" if stars > 1 or (stars and not url.endswith("/*")) else ""


def _verbs(errors: Errors, path: str, verbs: list[str]) -> None:
    if not verbs:
        errors.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    elif "*" in verbs:
        if len(verbs) > 1:
            errors.append(bad_value(f"{path}.verbs", verbs, _alone("verbs")))
    elif not set(verbs) <= set(_VERBS):
        errors.append(not_supported(f"{path}.verbs", verbs, _VERBS))


def _listed(errors: Errors, path: str, values: list[Any], one: str, many: str) -> None:
    if not values:
        errors.append(required(path, f"resource rules must supply at least one {one}"))
    elif len(values) > 1 and "*" in values:
        errors.append(bad_value(path, values, _alone(many)))


def _alone(what: str) -> str:
    return f"if '*' is present, must not specify other {what}"
