"""Checks of services and endpoints, v1 and discovery.k8s.io/v1 (upstream's core and discovery validation).

They run after admission has allocated cluster IPs and node ports.
"""

from __future__ import annotations

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_FAMILIES = ("IPv4", "IPv6")
_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_SET_ONCE = "may not change once set"


def _headless(spec: Object) -> bool:
    return bool((spec.get("clusterIPs") or [spec.get("clusterIP")])[0] == "None")


def service(obj: Object) -> Errors:
    return _service(obj, None)


def _service(obj: Object, old: Object | None) -> Errors:
    del old
    errors: Errors = []
    spec = obj["spec"]
    kind, ports, headless = spec.get("type", ""), spec.get("ports") or [], _headless(spec)
    if not ports and not headless and kind != "ExternalName":
        errors.append(required("spec.ports"))
    if headless and kind in ("LoadBalancer", "NodePort"):
        errors.append(bad_value("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind == "ExternalName":
        _external_name(errors, spec)
    seen: set[str] = set()
    for index, port in enumerate(ports):
        _port(errors, f"spec.ports[{index}]", port, seen, named=len(ports) > 1)
    checks.labels(errors, "spec.selector", spec.get("selector"))
    _affinity(errors, spec)
    if kind != "ExternalName":
        _cluster_ips(errors, spec)
    for index, address in enumerate(spec.get("externalIPs") or ()):
        path = f"spec.externalIPs[{index}]"
        before = len(errors)
        checks.ip_address(errors, path, address)
        if len(errors) == before:
            endpoint_ip(errors, path, address)
    checks.one_of(errors, "spec.type", kind, _TYPES)
    _port_conflicts(errors, kind, ports)
    _load_balancer(errors, obj, kind)
    _traffic(errors, spec, kind)
    return errors


def _external_name(errors: Errors, spec: Object) -> None:
    for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(field):
            errors.append(not_allowed(f"spec.{field}", "may not be set for ExternalName services"))
    name = spec.get("externalName", "").removesuffix(".")
    if name:
        checks.named(errors, "spec.externalName", name, names.dns_subdomain)
    else:
        errors.append(required("spec.externalName"))


def _port(errors: Errors, path: str, port: Object, seen: set[str], *, named: bool) -> None:
    name = port.get("name", "")
    if named and not name:
        errors.append(required(f"{path}.name"))
    elif name:
        checks.named(errors, f"{path}.name", name, names.dns_label)
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
    checks.port_number(errors, f"{path}.port", port.get("port", 0))
    checks.one_of(errors, f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
    checks.port_or_name(errors, f"{path}.targetPort", port.get("targetPort", 0))
    if "appProtocol" in port:
        checks.named(errors, f"{path}.appProtocol", port["appProtocol"], names.qualified_name)


def _affinity(errors: Errors, spec: Object) -> None:
    affinity, path = spec.get("sessionAffinity", ""), "spec.sessionAffinityConfig"
    checks.one_of(errors, "spec.sessionAffinity", affinity, ("ClientIP", "None"))
    config = spec.get("sessionAffinityConfig")
    if affinity == "ClientIP":
        seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
        if config is None:
            errors.append(required(path, "when session affinity type is ClientIP"))
        elif seconds is not None and not 0 < seconds <= 86400:
            why = "must be greater than 0 and less than 86400"
            errors.append(bad_value(f"{path}.clientIP.timeoutSeconds", seconds, why))
    elif affinity == "None" and config is not None:
        errors.append(not_allowed(path, "must not be set when session affinity is None"))


def _cluster_ips(errors: Errors, spec: Object) -> None:
    first, addresses = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    families = spec.get("ipFamilies") or []
    path = "spec.clusterIPs"
    if first:
        if not addresses:
            errors.append(required(path))
        elif addresses[0] != first:
            errors.append(bad_value(path, addresses, "first value must match `clusterIP`"))
    elif addresses:
        errors.append(bad_value(path, addresses, "must be empty when `clusterIP` is not specified"))
    seen: set[str] = set()
    for index, family in enumerate(families):
        if family not in _FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{index}]", family, _FAMILIES))
        if family in seen:
            errors.append(duplicate(f"spec.ipFamilies[{index}]", family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, _POLICIES))
    before = len(errors)
    for index, address in enumerate(addresses):
        if index == 0 and address == "None":
            if len(addresses) > 1:
                errors.append(bad_value(path, addresses, "'None' must be the first and only value"))
            continue
        checks.ip_address(errors, f"{path}[{index}]", address)
    if policy == "RequireDualStack" and not (
        _headless(spec) and not spec.get("selector")
    ):  # our clusters have one address family
        why = "this cluster is not configured for dual-stack services"
        errors.append(bad_value("spec.ipFamilyPolicy", policy, why))
    if len(addresses) > 2:
        errors.append(bad_value(path, addresses, "may only hold up to 2 values"))
    if len(errors) > before or _headless(spec) or not set(families) <= set(_FAMILIES):
        return
    for index, (address, family) in enumerate(zip(addresses, families, strict=False)):
        parsed = checks.parse_ip(address)
        if parsed is not None and f"IPv{parsed.version}" != family:
            why = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
            errors.append(bad_value(f"{path}[{index}]", address, why))


def _port_conflicts(errors: Errors, kind: str, ports: list[Object]) -> None:
    if kind == "ClusterIP":
        for index, port in enumerate(ports):
            if port.get("nodePort"):
                why = "may not be used when `type` is 'ClusterIP'"
                errors.append(not_allowed(f"spec.ports[{index}].nodePort", why))
    taken: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        if port.get("nodePort"):
            key = (port.get("protocol", ""), port["nodePort"])
            if key in taken:
                errors.append(duplicate(f"spec.ports[{index}].nodePort", port["nodePort"]))
            taken.add(key)
    used: set[tuple[str, int]] = set()
    for index, port in enumerate(ports):
        key = (port.get("protocol", ""), port.get("port", 0))
        if key in used:
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errors.append(duplicate(f"spec.ports[{index}]", shown))
        used.add(key)


def _load_balancer(errors: Errors, obj: Object, kind: str) -> None:
    spec = obj["spec"]
    only = "may only be used when `type` is 'LoadBalancer'"
    balanced = kind == "LoadBalancer"
    if spec.get("loadBalancerSourceRanges") and not balanced:
        errors.append(not_allowed("spec.LoadBalancerSourceRanges", only))
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balanced:
        errors.append(not_allowed("spec.allocateLoadBalancerNodePorts", only))
    if balanced and spec.get("allocateLoadBalancerNodePorts") is None:
        errors.append(required("allocateLoadBalancerNodePorts"))
    name = spec.get("loadBalancerClass")
    if name is not None:
        if balanced:
            checks.named(errors, "spec.loadBalancerClass", name, names.qualified_name)
        else:
            errors.append(not_allowed("spec.loadBalancerClass", only))


def _traffic(errors: Errors, spec: Object, kind: str) -> None:
    outside = kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    policy = spec.get("externalTrafficPolicy", "")
    path = "spec.externalTrafficPolicy"
    if not outside:
        if policy:
            errors.append(bad_value(path, policy, "may only be set for externally-accessible services"))
    else:
        checks.one_of(errors, path, policy, ("Cluster", "Local"))
    port = spec.get("healthCheckNodePort", 0)
    if kind == "LoadBalancer" and policy == "Local":
        if not port:
            errors.append(required("spec.healthCheckNodePort"))
        else:
            checks.port_number(errors, "spec.healthCheckNodePort", port)
    elif port:
        why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        errors.append(bad_value("spec.healthCheckNodePort", port, why))
    inside = spec.get("internalTrafficPolicy")
    if inside is None:
        if kind in ("ClusterIP", "NodePort", "LoadBalancer"):
            errors.append(required("spec.internalTrafficPolicy"))
    elif inside not in ("Cluster", "Local"):
        errors.append(not_supported("spec.internalTrafficPolicy", inside, ("Cluster", "Local")))
    distribution = spec.get("trafficDistribution")
    allowed = ("PreferClose", "PreferSameZone", "PreferSameNode")
    if distribution is not None and distribution not in allowed:
        errors.append(not_supported("spec.trafficDistribution", distribution, allowed))


def service_update(new: Object, old: Object) -> Errors:
    errors: Errors = []
    spec, was = new["spec"], old["spec"]
    if "ExternalName" not in (spec.get("type"), was.get("type")) and not (_headless(spec) and _headless(was)):
        _same_addresses(errors, spec.get("clusterIPs") or [], was.get("clusterIPs") or [])
    both = spec.get("type") == "LoadBalancer" == was.get("type")
    if both and spec.get("loadBalancerClass") != was.get("loadBalancerClass"):
        errors.append(bad_value("spec.loadBalancerClass", spec.get("loadBalancerClass"), _SET_ONCE))
    return errors + _service(new, old)


def _same_addresses(errors: Errors, new: list[str], old: list[str]) -> None:
    if len(new) == len(old):
        for index, (address, before) in enumerate(zip(new, old, strict=True)):
            if address != before:
                errors.append(bad_value(f"spec.clusterIPs[{index}]", new, _SET_ONCE))
        return
    if not new:
        errors.append(bad_value("spec.clusterIPs[0]", None, "primary clusterIP can not be unset"))
    elif old and new[0] != old[0]:
        errors.append(bad_value("spec.clusterIPs[0]", new, _SET_ONCE))


def endpoint_ip(errors: Errors, path: str, text: str) -> None:
    """What may never be an endpoint."""
    address = checks.parse_ip(text)
    if address is None:
        errors.append(bad_value(path, text, "must be a valid IP address"))
        return
    if address.is_unspecified:
        errors.append(bad_value(path, text, f"may not be unspecified ({text})"))
    if address.is_loopback:
        errors.append(bad_value(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        errors.append(bad_value(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"))
    if address.is_multicast and text.startswith(("224.0.0.", "ff02:")):
        why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(bad_value(path, text, why))


def endpoints(obj: Object) -> Errors:
    errors: Errors = []
    for index, subset in enumerate(obj.get("subsets") or ()):
        path = f"subsets[{index}]"
        ports = subset.get("ports") or []
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(field) or ()):
                _address(errors, f"{path}.{field}[{place}]", address)
        for place, port in enumerate(ports):
            at = f"{path}.ports[{place}]"
            if port.get("name"):
                checks.named(errors, f"{at}.name", port["name"], names.dns_label)
            elif len(ports) > 1:
                errors.append(required(f"{at}.name"))
            checks.port_number(errors, f"{at}.port", port.get("port", 0))
            checks.one_of(errors, f"{at}.protocol", port.get("protocol"), _PROTOCOLS)
    return errors


def _address(errors: Errors, path: str, address: Object) -> None:
    text = address.get("ip", "")
    checks.ip_address(errors, f"{path}.ip", text)
    if address.get("hostname"):
        checks.named(errors, f"{path}.hostname", address["hostname"], names.dns_label)
    if address.get("nodeName") is not None:
        checks.named(errors, f"{path}.nodeName", address["nodeName"], names.dns_subdomain)
    endpoint_ip(errors, f"{path}.ip", text)


def endpoints_update(new: Object, old: Object) -> Errors:
    return [] if new.get("subsets") == old.get("subsets") else endpoints(new)


def endpoint_slice(obj: Object) -> Errors:
    errors: Errors = []
    kind = obj.get("addressType", "")
    checks.one_of(errors, "addressType", kind, ("FQDN", "IPv4", "IPv6"))
    seen: set[str] = set()
    for index, port in enumerate(obj.get("ports") or ()):
        path, name = f"ports[{index}]", port.get("name", "")
        if name:
            checks.named(errors, f"{path}.name", name, names.dns_label)
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        checks.one_of(errors, f"{path}.protocol", port.get("protocol"), _PROTOCOLS)
        if "appProtocol" in port:
            checks.named(errors, f"{path}.appProtocol", port["appProtocol"], names.qualified_name)
    for index, endpoint in enumerate(obj.get("endpoints") or ()):
        _endpoint(errors, f"endpoints[{index}]", endpoint, kind)
    return errors


def _endpoint(errors: Errors, path: str, endpoint: Object, kind: str) -> None:
    addresses = endpoint.get("addresses") or []
    at = f"{path}.addresses"
    if not addresses:
        errors.append(required(at, "must contain at least 1 address"))
    for index, address in enumerate(addresses):
        if kind not in ("IPv4", "IPv6"):
            continue
        before = len(errors)
        checks.ip_address(errors, f"{at}[{index}]", address)
        if len(errors) == before:
            parsed = checks.parse_ip(address)
            if parsed is not None and f"IPv{parsed.version}" != kind:
                errors.append(bad_value(at, address, f"must be an {kind} address"))
            endpoint_ip(errors, f"{at}[{index}]", address)
    if endpoint.get("nodeName") is not None:
        checks.named(errors, f"{path}.nodeName", endpoint["nodeName"], names.dns_subdomain)
    if endpoint.get("hostname") is not None:
        checks.named(errors, f"{path}.hostname", endpoint["hostname"], names.dns_label)


def endpoint_slice_update(new: Object, old: Object) -> Errors:
    errors = endpoint_slice(new)
    if new.get("endpoints") == old.get("endpoints"):
        errors = [cause for cause in errors if not cause.field.startswith("endpoints[")]
    checks.immutable(errors, "addressType", new.get("addressType"), old.get("addressType"))
    return errors
