"""Checks of RBAC, policy, scheduling, coordination, networking and autoscaling kinds."""

from __future__ import annotations

import re
from collections.abc import Iterable

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required, too_long

_RBAC = "rbac.authorization.k8s.io"
_METRICS = ("ContainerResource", "External", "Object", "Pods", "Resource")
_METRIC_FIELDS = {
    "Object": "object", "Pods": "pods", "Resource": "resource", "External": "external",
    "ContainerResource": "containerResource",
}  # fmt: skip
_HIGHEST_PRIORITY = 1_000_000_000
_SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_WILDCARD = re.compile(r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z")


# RBAC


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


# policy, scheduling, coordination, node


def disruption_budget(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        shown = {
            "MinAvailable": least, "Selector": spec.get("selector"), "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }  # fmt: skip
        errors.append(bad_value("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            checks.int_or_percent(errors, f"spec.{field}", value)
            checks.not_over_hundred(errors, f"spec.{field}", value)
    checks.label_selector(errors, "spec.selector", spec.get("selector"))
    policy = spec.get("unhealthyPodEvictionPolicy")
    allowed = ("AlwaysAllow", "IfHealthyBudget")
    if policy is not None and policy not in allowed:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, allowed))
    return errors


def disruption_budget_update(new: Object, old: Object) -> Errors:
    del old
    return disruption_budget(new)


def priority_class(obj: Object) -> Errors:
    errors: Errors = []
    name, value = obj["metadata"].get("name", ""), obj.get("value", 0)
    if name.startswith("system-"):
        reserved = "priority class names with 'system-' prefix are reserved for system use only. error: "
        if name not in _SYSTEM_CLASSES:
            why = f"{name} is not a known system priority class"
            errors.append(not_allowed("metadata.name", reserved + why))
        elif value != _SYSTEM_CLASSES[name]:
            why = f"value of {name} PriorityClass must be {_SYSTEM_CLASSES[name]}"
            errors.append(not_allowed("metadata.name", reserved + why))
    elif value > _HIGHEST_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {_HIGHEST_PRIORITY}"
        errors.append(not_allowed("value", why))
    policy = obj.get("preemptionPolicy")
    if policy is not None:
        checks.one_of(errors, "preemptionPolicy", policy, ("PreemptLowerPriority", "Never"))
    return errors


def priority_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    if new.get("value") != old.get("value"):
        errors.append(not_allowed("value", "may not be changed in an update."))
    checks.immutable(errors, "preemptionPolicy", new.get("preemptionPolicy"), old.get("preemptionPolicy"))
    return errors


def lease(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        errors.append(bad_value("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        errors.append(bad_value("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
    return errors


def lease_update(new: Object, old: Object) -> Errors:
    del old
    return lease(new)


def runtime_class(obj: Object) -> Errors:
    errors: Errors = []
    if not obj.get("handler"):
        errors.append(required("handler"))
    else:
        checks.named(errors, "handler", obj["handler"], names.dns_label)
    return errors


def runtime_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    checks.immutable(errors, "handler", new.get("handler"), old.get("handler"))
    return errors


# networking


def network_policy(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj.get("spec") or {}
    checks.label_selector(errors, "spec.podSelector", spec.get("podSelector"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            for place, port in enumerate(rule.get("ports") or ()):
                _policy_port(errors, f"{path}.ports[{place}]", port)
            for place, peer in enumerate(rule.get(peers) or ()):
                _policy_peer(errors, f"{path}.{peers}[{place}]", peer)
    types = spec.get("policyTypes") or ()
    if len(types) > 2:
        errors.append(bad_value("spec.policyTypes", list(types), "may not specify more than two policyTypes"))
        return errors
    for index, kind in enumerate(types):
        if kind not in ("Ingress", "Egress"):
            errors.append(not_supported(f"spec.policyTypes[{index}]", kind, ("Ingress", "Egress")))
    return errors


def _policy_port(errors: Errors, path: str, port: Object) -> None:
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in ("TCP", "UDP", "SCTP"):
        errors.append(not_supported(f"{path}.protocol", protocol, ("TCP", "UDP", "SCTP")))
    if number is None:
        if end is not None:
            errors.append(bad_value(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    elif isinstance(number, int):
        checks.port_number(errors, f"{path}.port", number)
        if end is not None:
            if end < number:
                errors.append(bad_value(f"{path}.endPort", number, "must be greater than or equal to `port`"))
            checks.port_number(errors, f"{path}.endPort", end)
    else:
        if end is not None:
            errors.append(bad_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
        checks.named(errors, f"{path}.port", number, checks.port_name_errors)


def _policy_peer(errors: Errors, path: str, peer: Object) -> None:
    for field in ("podSelector", "namespaceSelector"):
        if field in peer:
            checks.label_selector(errors, f"{path}.{field}", peer[field])
    block = peer.get("ipBlock")
    if block is not None:
        if not block.get("cidr"):
            errors.append(required(f"{path}.ipBlock.cidr"))
        elif checks.parse_ip(block["cidr"].partition("/")[0]) is None or "/" not in block["cidr"]:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(bad_value(f"{path}.ipBlock.cidr", block["cidr"], why))
    if not peer:
        errors.append(required(path, "must specify a peer"))
    elif len(peer) > 1 and block is not None:
        errors.append(not_allowed(path, "may not specify both ipBlock and another peer"))


def network_policy_update(new: Object, old: Object) -> Errors:
    del old
    return network_policy(new)


def ingress(obj: Object) -> Errors:
    errors = _ingress(obj)
    annotation = "kubernetes.io/ingress.class"
    value = (obj["metadata"].get("annotations") or {}).get(annotation)
    name = obj["spec"].get("ingressClassName")
    if value is not None and name is not None and value != name:
        why = "must match `ingressClassName` when both are specified"
        errors.append(bad_value(f"annotations.{annotation}", value, why))
    return errors


def _ingress(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    rules, backend = spec.get("rules") or (), spec.get("defaultBackend")
    if not rules and backend is None:
        why = "either `defaultBackend` or `rules` must be specified"
        errors.append(bad_value("spec", spec.get("rules"), why))
    if backend is not None:
        _backend(errors, "spec.defaultBackend", backend)
    for index, rule in enumerate(rules):
        host = rule.get("host")
        if host:
            if checks.parse_ip(host) is not None:
                why = "must be a DNS name, not an IP address"
                errors.append(bad_value(f"spec.rules[{index}].host", host, why))
            _host(errors, f"spec.rules[{index}].host", host)
        http = rule.get("http")
        if http is not None:
            _http(errors, f"spec.rules[{index}].http", http)
    for index, item in enumerate(spec.get("tls") or ()):
        for place, host in enumerate(item.get("hosts") or ()):
            _host(errors, f"spec.tls[{index}].hosts[{place}]", host)
        if item.get("secretName"):
            checks.named(errors, f"spec.tls[{index}].secretName", item["secretName"], names.dns_subdomain)
    if spec.get("ingressClassName") is not None:
        checks.named(errors, "spec.ingressClassName", spec["ingressClassName"], names.dns_subdomain)
    return errors


def _host(errors: Errors, path: str, host: str) -> None:
    if "*" not in host:
        checks.named(errors, path, host, names.dns_subdomain)
    elif not _WILDCARD.match(host):
        why = checks.regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist"
            " of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
            "*.example.com",
        )
        errors.append(bad_value(path, host, why))


def _http(errors: Errors, path: str, http: Object) -> None:
    if not http.get("paths"):
        errors.append(required(f"{path}.paths"))
    for index, item in enumerate(http.get("paths") or ()):
        at, kind, text = f"{path}.paths[{index}]", item.get("pathType"), item.get("path", "")
        if kind is None:
            errors.append(required(f"{at}.pathType", "pathType must be specified"))
            continue
        if kind in ("Exact", "Prefix"):
            if not text.startswith("/"):
                errors.append(bad_value(f"{at}.path", text, "must be an absolute path"))
            for bad in ("//", "/./", "/../", "%2f", "%2F"):
                if bad in text:
                    errors.append(bad_value(f"{at}.path", text, f"must not contain '{bad}'"))
            for bad in ("/..", "/."):
                if text.endswith(bad):
                    errors.append(bad_value(f"{at}.path", text, f"cannot end with '{bad}'"))
        elif kind == "ImplementationSpecific":
            if text and not text.startswith("/"):
                errors.append(bad_value(f"{at}.path", text, "must be an absolute path"))
        else:
            allowed = ("Exact", "ImplementationSpecific", "Prefix")
            errors.append(not_supported(f"{at}.pathType", kind, allowed))
        _backend(errors, f"{at}.backend", item.get("backend") or {})


def _backend(errors: Errors, path: str, backend: Object) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if service is not None and resource is not None:
        errors.append(bad_value(path, "", "cannot set both resource and service backends"))
    elif resource is not None:
        for field in ("kind", "name"):
            if not resource.get(field):
                errors.append(required(f"{path}.resource.{field}"))
    elif service is not None:
        if not service.get("name"):
            errors.append(required(f"{path}.service.name"))
        else:
            checks.named(errors, f"{path}.service.name", service["name"], names.dns_label)
        port = service.get("port") or {}
        if port.get("name") and port.get("number"):
            errors.append(bad_value(path, "", "cannot set both port name & port number"))
        elif port.get("name"):
            checks.named(errors, f"{path}.service.port.name", port["name"], checks.port_name_errors)
        elif port.get("number"):
            checks.port_number(errors, f"{path}.service.port.number", port["number"])
        else:
            errors.append(required(path, "port name or number is required"))
    else:
        errors.append(bad_value(path, "", "resource or service backend is required"))


def ingress_update(new: Object, old: Object) -> Errors:
    del old
    return _ingress(new)


def ingress_class(obj: Object) -> Errors:
    errors: Errors = []
    controller, path = obj["spec"].get("controller", ""), "spec.controller"
    if len(controller) > 250:
        errors.append(too_long(path, 250))
    host, slash, rest = controller.partition("/")
    if not controller:
        errors.append(required(path))
    elif not slash or not host or not rest:
        errors.append(bad_value(path, controller, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        for message in names.dns_subdomain(host):
            errors.append(bad_value(path, host, message))
        if not _PATH.match(rest):
            why = checks.regex_error("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
            errors.append(bad_value(path, rest, why))
    return errors


def ingress_class_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    checks.immutable(errors, "spec.controller", new["spec"].get("controller"), old["spec"].get("controller"))
    return errors + ingress_class(new)


# autoscaling


def autoscaler(obj: Object) -> Errors:
    errors: Errors = []
    spec = obj["spec"]
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        errors.append(bad_value("spec.minReplicas", least, "must be greater than or equal to 1"))
    if most == 0:
        errors.append(required("spec.maxReplicas", "must be set and greater than 0"))
    elif most < 0:
        errors.append(bad_value("spec.maxReplicas", most, "must be greater than or equal to 1"))
    if least is not None and most < least:
        errors.append(bad_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`"))
    target = spec.get("scaleTargetRef") or {}
    for field in ("kind", "name"):
        if not target.get(field):
            errors.append(required(f"spec.scaleTargetRef.{field}"))
        else:
            checks.named(errors, f"spec.scaleTargetRef.{field}", target[field], names.path_segment)
    _target_version(errors, "spec.scaleTargetRef.apiVersion", target)
    metrics = spec.get("metrics") or ()
    for index, metric in enumerate(metrics):
        _metric(errors, f"spec.metrics[{index}]", metric)
    if least == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        why = "must specify at least one Object or External metric to support scaling to zero replicas"
        errors.append(not_allowed("spec.metrics", why))
    for direction in ("scaleUp", "scaleDown"):
        rules = (spec.get("behavior") or {}).get(direction)
        if rules is not None:
            _scaling(errors, f"spec.behavior.{direction}", rules)
    return errors


def _target_version(errors: Errors, path: str, target: Object) -> None:
    version = target.get("apiVersion", "")
    if "/" not in version and not (version == "v1" and target.get("kind") == "ReplicationController"):
        errors.append(bad_value(path, version, "apiVersion must specify API group"))


def _metric(errors: Errors, path: str, metric: Object) -> None:
    kind = metric.get("type", "")
    if not kind:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if kind not in _METRICS:
        errors.append(not_supported(f"{path}.type", kind, _METRICS))
        errors.append(not_supported(f"{path}.type", kind, _METRICS))
        return
    field = _METRIC_FIELDS[kind]
    source = metric.get(field)
    if source is None:
        errors.append(required(f"{path}.{field}", "must populate information for the given metric source"))
    elif kind in ("Resource", "ContainerResource"):
        _resource_metric(errors, f"{path}.{field}", source)
    for other in _METRIC_FIELDS.values():
        if other != field and other in metric:
            errors.append(not_allowed(f"{path}.{other}", "must populate the given metric source only"))


def _resource_metric(errors: Errors, path: str, source: Object) -> None:
    if not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    target = source.get("target") or {}
    kind, utilisation, average = target.get("type", ""), target.get("averageUtilization"), target.get("averageValue")
    if not kind:
        errors.append(required(f"{path}.target.type", "must specify a metric target type"))
    if kind not in ("Utilization", "Value", "AverageValue"):
        why = "must be either Utilization, Value, or AverageValue"
        errors.append(bad_value(f"{path}.target.type", kind, why))
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and quantity.parse(amount) <= 0:
            errors.append(bad_value(f"{path}.target.{field}", amount, "must be positive"))
    if utilisation is not None and utilisation < 1:
        errors.append(bad_value(f"{path}.target.averageUtilization", utilisation, "must be greater than 0"))
    if utilisation is None and average is None:
        why = "must set either a target raw value or a target utilization"
        errors.append(required(f"{path}.target.averageUtilization", why))
    if utilisation is not None and average is not None:
        why = "may not set both a target raw value and a target utilization"
        errors.append(not_allowed(f"{path}.target.averageValue", why))


def _scaling(errors: Errors, path: str, rules: Object) -> None:
    window = rules.get("stabilizationWindowSeconds")
    if window is not None and window < 0:
        errors.append(bad_value(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero"))
    if window is not None and window > 3600:
        errors.append(bad_value(f"{path}.stabilizationWindowSeconds", window, "must be less than or equal to 3600"))
    policy = rules.get("selectPolicy")
    if policy is not None and policy not in ("Disabled", "Max", "Min"):
        errors.append(not_supported(f"{path}.selectPolicy", policy, ("Disabled", "Max", "Min")))
    if not rules.get("policies"):
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for index, item in enumerate(rules.get("policies") or ()):
        at = f"{path}.policies[{index}]"
        if item.get("type") not in ("Percent", "Pods"):
            errors.append(not_supported(f"{at}.type", item.get("type", ""), ("Percent", "Pods")))
        if item.get("value", 0) <= 0:
            errors.append(bad_value(f"{at}.value", item.get("value", 0), "must be greater than zero"))
        seconds = item.get("periodSeconds", 0)
        if seconds <= 0:
            errors.append(bad_value(f"{at}.periodSeconds", seconds, "must be greater than zero"))
        if seconds > 1800:
            errors.append(bad_value(f"{at}.periodSeconds", seconds, "must be less than or equal to 1800"))


def autoscaler_update(new: Object, old: Object) -> Errors:
    del old
    return autoscaler(new)
