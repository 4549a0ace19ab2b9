"""Checks of networking.k8s.io/v1 (upstream's pkg/apis/networking/validation)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, not_allowed, not_supported, required, too_long

_WILDCARD = re.compile(r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z")


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
        elif not _is_cidr(block["cidr"]):
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(bad_value(f"{path}.ipBlock.cidr", block["cidr"], why))
    if not peer:
        errors.append(required(path, "must specify a peer"))
    elif len(peer) > 1 and block is not None:
        errors.append(not_allowed(path, "may not specify both ipBlock and another peer"))


def _is_cidr(text: str) -> bool:
    address, slash, bits = text.partition("/")
    parsed = checks.parse_ip(address)
    return bool(slash) and parsed is not None and bits.isdigit() and int(bits) <= parsed.max_prefixlen


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


def service_cidr(obj: Object) -> Errors:
    errors: Errors = []
    blocks: Iterable[str] = (obj.get("spec") or {}).get("cidrs") or ()
    if not blocks:
        errors.append(required("spec.cidrs", "at least one CIDR required"))
    for index, block in enumerate(blocks):
        if not _is_cidr(block):
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            errors.append(bad_value(f"spec.cidrs[{index}]", block, why))
    return errors


def ip_address(obj: Object) -> Errors:
    errors: Errors = []
    checks.ip_address(errors, "metadata.name", obj["metadata"].get("name", ""))
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        errors.append(required("spec.parentRef"))
    else:
        for field in ("resource", "name"):
            if not parent.get(field):
                errors.append(required(f"spec.parentRef.{field}"))
    return errors
