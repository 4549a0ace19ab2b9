"""ValidatePodSpec: what every pod and pod template must hold (upstream's pkg/apis/core/validation)."""

from __future__ import annotations

import functools
import re
from typing import Any

import orjson

from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks, containers, volumes
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required, too_long

_RESTART = ("Always", "OnFailure", "Never")
_DNS = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SYSCTL_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_TEXT = f"^({_SYSCTL_SEGMENT}[\\./])*{_SYSCTL_SEGMENT}$"
_SYSCTL = re.compile(_SYSCTL_TEXT)
_SYSCTL_SEPARATORS = str.maketrans("/", ".")
_TOKEN_VOLUME = b'"kube-api-access-'
_TOKEN_SUFFIX = re.compile(rb'[bcdfghjklmnpqrstvwxz2456789]{5}"')
_MOST_REMEMBERED_BYTES = 16 * 1024
_SOME_TOKEN_VOLUME = b'"kube-api-access-zzzzz"'
_PLAIN = frozenset(
    (
        "containers", "dnsPolicy", "restartPolicy", "schedulerName", "enableServiceLinks",
        "terminationGracePeriodSeconds", "serviceAccount", "serviceAccountName", "volumes", "initContainers",
        "automountServiceAccountToken", "hostNetwork", "hostPID", "hostIPC", "priority", "preemptionPolicy",
        "nodeName", "tolerations", "nodeSelector", "priorityClassName", "securityContext",
    )
)  # fmt: skip


def validate_pod_spec(errors: Errors, spec: Object, path: str, *, pod_name: str = "", is_pod: bool = False) -> None:
    """`is_pod`: of a pod itself rather than a template."""
    if not _is_known_good(spec, is_pod):
        _validate(errors, spec, path, pod_name, is_pod)


def _is_known_good(spec: Object, is_pod: bool) -> bool:
    """Pods are made by the hundred from one template: a spec that was found good is not looked at again.

    The token volume's name, which differs from pod to pod, makes no difference; claims of ephemeral volumes are named
    after the pod, so those specs are always looked at.
    """
    encoded = bytes(memoryview(orjson.dumps(spec)))  # kept: without the room that orjson wrote in
    if len(encoded) > _MOST_REMEMBERED_BYTES or b'"ephemeral":' in encoded:
        return False
    at = encoded.find(_TOKEN_VOLUME)
    token = None if at < 0 else _TOKEN_SUFFIX.match(encoded, at + len(_TOKEN_VOLUME))
    return _is_good(
        encoded if token is None else encoded.replace(encoded[at : token.end()], _SOME_TOKEN_VOLUME), is_pod
    )


@functools.lru_cache(maxsize=512)
def _is_good(encoded: bytes, is_pod: bool) -> bool:
    errors: Errors = []
    _validate(errors, orjson.loads(encoded), "spec", "", is_pod)
    return not errors


def _validate(errors: Errors, spec: Object, path: str, pod_name: str, is_pod: bool) -> None:
    if spec.get("terminationGracePeriodSeconds") is None:
        errors.append(required(f"{path}.terminationGracePeriodSeconds"))
    listed = spec.get("volumes")
    found = volumes.validate_volumes(errors, f"{path}.volumes", listed, pod_name) if listed else set()
    scope = containers.PodScope(spec, found)
    if scope.claims:
        _resource_claims(errors, f"{path}.resourceClaims", spec["resourceClaims"])
    containers.validate_containers(errors, f"{path}.containers", spec.get("containers"), scope)
    if "initContainers" in spec:
        containers.validate_init_containers(errors, f"{path}.initContainers", spec, scope)
    if "ephemeralContainers" in spec:
        containers.validate_ephemeral(errors, f"{path}.ephemeralContainers", spec, scope)
    if spec.get("hostNetwork"):
        _host_network(errors, f"{path}.containers", spec, is_pod)
    checks.one_of(errors, f"{path}.restartPolicy", spec.get("restartPolicy"), _RESTART)
    checks.one_of(errors, f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS)
    if "nodeSelector" in spec:
        checks.labels(errors, f"{path}.nodeSelector", spec["nodeSelector"])
    if spec.get("securityContext"):
        _security(errors, f"{path}.securityContext", spec)
    rare = bool(spec.keys() - _PLAIN) or spec.get("dnsPolicy") == "None"
    if rare:
        _scheduling(errors, path, spec)
    _identity(errors, path, spec)
    if rare:
        _rest(errors, path, spec)


def _identity(errors: Errors, path: str, spec: Object) -> None:
    if spec.get("serviceAccountName"):
        checks.named(errors, f"{path}.serviceAccountName", spec["serviceAccountName"], names.dns_subdomain)
    if spec.get("nodeName"):
        checks.named(errors, f"{path}.nodeName", spec["nodeName"], names.dns_subdomain)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= checks.MAX_INT32:
        why = checks.inclusive_range(1, checks.MAX_INT32)
        errors.append(bad_value(f"{path}.activeDeadlineSeconds", deadline, why))
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            checks.named(errors, f"{path}.{field}", spec[field], names.dns_label)
    if "tolerations" in spec:
        validate_tolerations(errors, f"{path}.tolerations", spec["tolerations"])
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        checks.ip_address(errors, f"{path}.hostAliases[{index}].ip", alias.get("ip", ""))
        for place, host in enumerate(alias.get("hostnames") or ()):
            checks.named(errors, f"{path}.hostAliases[{index}].hostnames[{place}]", host, names.dns_subdomain)
    if spec.get("priorityClassName"):
        checks.named(errors, f"{path}.priorityClassName", spec["priorityClassName"], names.dns_subdomain)


def _scheduling(errors: Errors, path: str, spec: Object) -> None:
    if "affinity" in spec:
        _affinity(errors, f"{path}.affinity", spec["affinity"])
    if "dnsConfig" in spec or spec.get("dnsPolicy") == "None":
        _dns_config(errors, f"{path}.dnsConfig", spec)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        at = f"{path}.readinessGates[{index}].conditionType"
        checks.named(errors, at, gate.get("conditionType", ""), names.qualified_name)
    seen: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        at, name = f"{path}.schedulingGates[{index}]", gate.get("name", "")
        checks.named(errors, at, name, names.qualified_name)
        if name in seen:
            errors.append(duplicate(at, name))
        seen.add(name)
    if "topologySpreadConstraints" in spec:
        _spread(errors, f"{path}.topologySpreadConstraints", spec["topologySpreadConstraints"])
    override = spec.get("hostnameOverride")
    if override is not None:
        at = f"{path}.hostnameOverride"
        if spec.get("setHostnameAsFQDN"):
            errors.append(not_allowed(at, "may not be specified when setHostnameAsFQDN is true"))
        if spec.get("hostNetwork"):
            errors.append(not_allowed(at, "may not be specified when hostNetwork is true"))
        if len(override) > 64:
            errors.append(too_long(at, 64))
        checks.named(errors, at, override, names.dns_subdomain)


def _rest(errors: Errors, path: str, spec: Object) -> None:
    if "runtimeClassName" in spec:
        checks.named(errors, f"{path}.runtimeClassName", spec["runtimeClassName"], names.dns_subdomain)
    for name, amount in (spec.get("overhead") or {}).items():
        at = f"{path}.overhead[{name}]"
        checks.container_resource_name(errors, at, name)
        checks.resource_amount(errors, at, name, amount)
    os = spec.get("os")
    if os is not None:
        kind = os.get("name", "")
        if not kind:
            errors.append(required(f"{path}.os.name", "cannot be empty"))
        elif kind not in ("linux", "windows"):
            errors.append(not_supported(f"{path}.os", kind, ("linux", "windows")))
    resources = spec.get("resources")
    if resources:
        if "claims" in resources:
            errors.append(not_allowed(f"{path}.resources.claims", "claims may not be set for Resources at pod-level"))
        containers.validate_resources(errors, f"{path}.resources", resources, set())


def _resource_claims(errors: Errors, path: str, claims: list[Object]) -> None:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        at, name = f"{path}[{index}]", claim.get("name", "")
        if not name:
            errors.append(required(f"{at}.name"))
        elif name in seen:
            errors.append(duplicate(f"{at}.name", name))
        else:
            checks.named(errors, f"{at}.name", name, names.dns_label)
        seen.add(name)
        sources = [field for field in ("resourceClaimName", "resourceClaimTemplateName") if field in claim]
        if len(sources) > 1:
            why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(bad_value(at, claim, why))
        if not sources:
            why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(bad_value(at, claim, why))


def _host_network(errors: Errors, path: str, spec: Object, is_pod: bool) -> None:
    for index, container in enumerate(spec.get("containers") or ()):
        for place, port in enumerate(container.get("ports") or ()):
            host, inner = port.get("hostPort", 0), port.get("containerPort", 0)
            if (is_pod or host) and host != inner:
                why = "must match `containerPort` when `hostNetwork` is true"
                errors.append(bad_value(f"{path}[{index}].ports[{place}].hostPort", host, why))


def _security(errors: Errors, path: str, spec: Object) -> None:
    context = spec["securityContext"]
    for field in ("fsGroup", "runAsUser", "runAsGroup"):
        checks.user_id(errors, f"{path}.{field}", context.get(field))
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        checks.user_id(errors, f"{path}.supplementalGroups[{index}]", group)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        why = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(bad_value(f"{path}.shareProcessNamespace", True, why))
    _sysctls(errors, f"{path}.sysctls", context.get("sysctls") or ())
    policy = context.get("fsGroupChangePolicy")
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        errors.append(not_supported(f"{path}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch")))
    if "seccompProfile" in context:
        containers.seccomp(errors, f"{path}.seccompProfile", context["seccompProfile"])


def _sysctls(errors: Errors, path: str, sysctls: Any) -> None:
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        name = sysctl.get("name", "")
        if not name:
            errors.append(required(f"{path}[{index}].name"))
        elif len(name) > 253 or not _SYSCTL.fullmatch(name):
            why = f"must have at most 253 characters and match regex {_SYSCTL_TEXT}"
            errors.append(bad_value(f"{path}[{index}].name", name, why))
        elif name.translate(_SYSCTL_SEPARATORS) in seen:
            errors.append(duplicate(f"{path}[{index}].name", name))
        seen.add(name.translate(_SYSCTL_SEPARATORS))


def validate_tolerations(errors: Errors, path: str, tolerations: list[Object]) -> None:
    for index, toleration in enumerate(tolerations):
        at = f"{path}[{index}]"
        key, operator, value = toleration.get("key"), toleration.get("operator", ""), toleration.get("value", "")
        effect = toleration.get("effect", "")
        if key:
            checks.label_name(errors, f"{at}.key", key)
        elif operator != "Exists":
            why = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(bad_value(f"{at}.operator", operator, why))
        if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(bad_value(f"{at}.effect", effect, why))
        if operator in ("Equal", ""):
            problems = names.label_value(value)
            if problems:
                errors.append(bad_value(f"{at}.operator", value, ";".join(problems)))
        elif operator == "Exists":
            if value:
                why = "value must be empty when `operator` is 'Exists'"
                errors.append(bad_value(f"{at}.operator", value, why))
        elif operator in ("Lt", "Gt"):
            errors.append(not_supported(f"{at}.operator", operator, ("Equal", "Exists", "Lt", "Gt")))
        else:
            errors.append(not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
        if effect and effect not in _EFFECTS:
            errors.append(not_supported(f"{at}.effect", effect, _EFFECTS))


def _affinity(errors: Errors, path: str, affinity: Object) -> None:
    node = affinity.get("nodeAffinity")
    if node:
        required_terms = node.get("requiredDuringSchedulingIgnoredDuringExecution")
        if required_terms is not None:
            node_selector(errors, f"{path}.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution", required_terms)
        for index, term in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{path}.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            _weight(errors, at, term)
            _node_term(errors, f"{at}.preference", term.get("preference") or {}, strict=False)
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind)
        if not terms:
            continue
        for index, term in enumerate(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
            _pod_term(errors, f"{path}.{kind}.requiredDuringSchedulingIgnoredDuringExecution[{index}]", term)
        for index, term in enumerate(terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
            at = f"{path}.{kind}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
            _weight(errors, at, term)
            _pod_term(errors, f"{at}.podAffinityTerm", term.get("podAffinityTerm") or {})


def _weight(errors: Errors, path: str, term: Object) -> None:
    weight = term.get("weight", 0)
    if not 1 <= weight <= 100:
        errors.append(bad_value(f"{path}.weight", weight, "must be in the range 1-100"))


def node_selector(errors: Errors, path: str, selector: Object) -> None:
    terms = selector.get("nodeSelectorTerms") or ()
    if not terms:
        errors.append(required(f"{path}.nodeSelectorTerms", "must have at least one node selector term"))
    for index, term in enumerate(terms):
        _node_term(errors, f"{path}.nodeSelectorTerms[{index}]", term, strict=True)


def _node_term(errors: Errors, path: str, term: Object, *, strict: bool) -> None:
    for index, requirement in enumerate(term.get("matchExpressions") or ()):
        _node_requirement(errors, f"{path}.matchExpressions[{index}]", requirement, strict=strict)
    for index, requirement in enumerate(term.get("matchFields") or ()):
        at = f"{path}.matchFields[{index}]"
        values = requirement.get("values") or ()
        operator, key = requirement.get("operator", ""), requirement.get("key", "")
        if operator in ("In", "NotIn"):
            if len(values) != 1:
                why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
                errors.append(required(f"{at}.values", why))
        else:
            errors.append(bad_value(f"{at}.operator", operator, "not a valid selector operator"))
        if key != "metadata.name":
            errors.append(bad_value(f"{at}.key", key, "not a valid field selector key"))


def _node_requirement(errors: Errors, path: str, requirement: Object, *, strict: bool) -> None:
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            errors.append(required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(not_allowed(f"{path}.values", why))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            why = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", why))
    else:
        errors.append(bad_value(f"{path}.operator", operator, "not a valid selector operator"))
    checks.label_name(errors, f"{path}.key", requirement.get("key", ""))
    if strict:
        for index, value in enumerate(values):
            checks.named(errors, f"{path}.values[{index}]", value, names.label_value)


def _pod_term(errors: Errors, path: str, term: Object) -> None:
    checks.label_selector(errors, f"{path}.labelSelector", term.get("labelSelector"))
    checks.label_selector(errors, f"{path}.namespaceSelector", term.get("namespaceSelector"))
    for namespace in term.get("namespaces") or ():
        checks.named(errors, f"{path}.namespace", namespace, names.dns_label)
    _label_keys(errors, path, "matchLabelKeys", term)
    _label_keys(errors, path, "mismatchLabelKeys", term)
    both = set(term.get("mismatchLabelKeys") or ())
    for index, key in enumerate(term.get("matchLabelKeys") or ()):
        if key in both:
            why = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(bad_value(f"{path}.matchLabelKeys[{index}]", key, why))
    topology = term.get("topologyKey", "")
    if not topology:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    checks.label_name(errors, f"{path}.topologyKey", topology)


def _label_keys(errors: Errors, path: str, field: str, term: Object) -> None:
    keys = term.get(field)
    if not keys:
        return
    if term.get("labelSelector") is None:
        errors.append(not_allowed(f"{path}.{field}", "must not be specified when labelSelector is not set"))
        return
    for index, key in enumerate(keys):
        checks.label_name(errors, f"{path}.{field}[{index}]", key)


def _dns_config(errors: Errors, path: str, spec: Object) -> None:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            errors.append(required(path, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not config.get("nameservers"):
            why = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            errors.append(required(f"{path}.nameservers", why))
            return
    if config is None:
        return
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        errors.append(bad_value(f"{path}.nameservers", servers, "must not have more than 3 nameservers"))
    for index, server in enumerate(servers):
        checks.ip_address(errors, f"{path}.nameservers[{index}]", server)
    if len(searches) > 32:
        errors.append(bad_value(f"{path}.searches", searches, "must not have more than 32 search paths"))
    for index, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{path}.options[{index}]", "must not be empty"))


def _spread(errors: Errors, path: str, constraints: list[Object]) -> None:
    for index, constraint in enumerate(constraints):
        at = f"{path}[{index}]"
        checks.positive(errors, f"{at}.maxSkew", constraint.get("maxSkew", 0))
        key, action = constraint.get("topologyKey", ""), constraint.get("whenUnsatisfiable", "")
        if not key:
            errors.append(required(f"{at}.topologyKey", "can not be empty"))
        if action not in ("DoNotSchedule", "ScheduleAnyway"):
            errors.append(not_supported(f"{at}.whenUnsatisfiable", action, ("DoNotSchedule", "ScheduleAnyway")))
        for other in constraints[index + 1 :]:
            if other.get("topologyKey", "") == key and other.get("whenUnsatisfiable", "") == action:
                errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {action}}}"))
                break
        domains = constraint.get("minDomains")
        if domains is not None:
            checks.positive(errors, f"{at}.minDomains", domains)
            if action != "DoNotSchedule":
                why = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                errors.append(bad_value(f"{at}.minDomains", domains, why))
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            policy = constraint.get(field)
            if policy is not None and policy not in ("Honor", "Ignore"):
                errors.append(not_supported(f"{at}.{field}", policy, ("Honor", "Ignore")))
        _label_keys(errors, at, "matchLabelKeys", constraint)
        checks.label_selector(errors, f"{at}.labelSelector", constraint.get("labelSelector"))


def validate_template(errors: Errors, template: Object, path: str) -> None:
    """ValidatePodTemplateSpec."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    checks.labels(errors, f"{path}.labels", metadata.get("labels"))
    checks.annotation_keys(errors, f"{path}.annotations", metadata.get("annotations"))
    validate_pod_spec(errors, spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        why = "ephemeral containers not allowed in pod template"
        errors.append(not_allowed(f"{path}.spec.ephemeralContainers", why))
