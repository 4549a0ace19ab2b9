"""Checks of containers: ports, environment, probes, resources, security (upstream's pkg/apis/core/validation)."""

from __future__ import annotations

from atoll.base import quantity
from atoll.cluster.apiserver import names
from atoll.cluster.apiserver.behaviour import checks, volumes
from atoll.cluster.apiserver.behaviour.checks import Errors
from atoll.cluster.apiserver.behaviour.defaulting import Object
from atoll.cluster.apiserver.behaviour.internal import internal
from atoll.cluster.apiserver.ports import Cause
from atoll.cluster.apiserver.problems import bad_value, duplicate, not_allowed, not_supported, required

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_INIT_ONLY = "may not be set for init containers without restartPolicy=Always"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


class PodScope:
    """What a container's checks need to know of its pod."""

    __slots__ = ("claims", "grace", "host_users", "os", "restart_policy", "volumes")

    def __init__(self, spec: Object, found: set[str]) -> None:
        self.volumes = found
        self.claims = {claim.get("name", "") for claim in spec.get("resourceClaims") or ()}
        self.grace: int | None = spec.get("terminationGracePeriodSeconds")
        self.restart_policy: str = spec.get("restartPolicy", "")
        self.host_users: bool = spec.get("hostUsers") is not False
        self.os: str | None = (spec.get("os") or {}).get("name") if "os" in spec else None


def validate_containers(errors: Errors, path: str, containers: list[Object] | None, scope: PodScope) -> None:
    if not containers:
        errors.append(required(path))
        return
    seen: set[str] = set()
    for index, container in enumerate(containers):
        at = f"{path}[{index}]"
        _common(errors, at, container, scope)
        name = container.get("name", "")
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        if "lifecycle" in container:
            _lifecycle(errors, f"{at}.lifecycle", container["lifecycle"], scope)
        for probe in _PROBES:
            if probe in container:
                _probe(errors, f"{at}.{probe}", probe, container[probe], scope)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            _restart_policy(errors, at, container)
    _host_ports(errors, path, containers)


def validate_init_containers(errors: Errors, path: str, spec: Object, scope: PodScope) -> None:
    seen = {container.get("name", "") for container in spec.get("containers") or ()}
    for index, container in enumerate(spec["initContainers"] or ()):
        at = f"{path}[{index}]"
        _common(errors, at, container, scope)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            _restart_policy(errors, at, container)
        name = container.get("name", "")
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        elif name:
            seen.add(name)
        _host_ports(errors, path, [container])
        always = container.get("restartPolicy") == "Always"
        if always:
            if "lifecycle" in container:
                _lifecycle(errors, f"{at}.lifecycle", container["lifecycle"], scope)
            for probe in _PROBES:
                if probe in container:
                    _probe(errors, f"{at}.{probe}", probe, container[probe], scope)
        else:
            for field in ("lifecycle", *_PROBES):
                if field in container:
                    errors.append(not_allowed(f"{at}.{field}", _INIT_ONLY))
            for place, policy in enumerate(container.get("resizePolicy") or ()):
                if policy.get("restartPolicy") == "RestartContainer":
                    why = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                    errors.append(bad_value(f"{at}.resizePolicy[{place}].restartPolicy", "RestartContainer", why))


_EPHEMERAL_FORBIDDEN = ("ports", "resources", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle")


def validate_ephemeral(errors: Errors, path: str, spec: Object, scope: PodScope) -> None:
    others = {item.get("name", "") for item in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ()))}
    seen = set(others)
    why = "cannot be set for an Ephemeral Container"
    for index, container in enumerate(spec["ephemeralContainers"] or ()):
        at, name = f"{path}[{index}]", container.get("name", "")
        _common(errors, at, container, scope)
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in others:
            errors.append(volumes.not_found(f"{at}.targetContainerName", target))
        for field in _EPHEMERAL_FORBIDDEN:
            if container.get(field):
                errors.append(not_allowed(f"{at}.{field}", why))
        for place, mount in enumerate(container.get("volumeMounts") or ()):
            for field in ("subPath", "subPathExpr"):
                if mount.get(field):
                    errors.append(not_allowed(f"{at}.volumeMounts[{place}].{field}", why))


def _common(errors: Errors, at: str, container: Object, scope: PodScope) -> None:
    name = container.get("name")
    if not name:
        errors.append(required(f"{at}.name"))
    else:
        for message in names.dns_label(name):
            errors.append(bad_value(f"{at}.name", name, message))
    if not container.get("image"):
        errors.append(required(f"{at}.image"))
    policy = container.get("terminationMessagePolicy")
    if policy not in _MESSAGE_POLICIES:
        checks.one_of(errors, f"{at}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
    if "ports" in container:
        _ports(errors, f"{at}.ports", container["ports"])
    if "env" in container:
        _environment(errors, f"{at}.env", container["env"])
    if "envFrom" in container:
        _environment_from(errors, f"{at}.envFrom", container["envFrom"])
    if "volumeMounts" in container or "volumeDevices" in container:
        volumes.validate_mounts(errors, at, container, scope.volumes)
    pull = container.get("imagePullPolicy")
    if pull not in _PULL_POLICIES:
        checks.one_of(errors, f"{at}.imagePullPolicy", pull, _PULL_POLICIES)
    resources = container.get("resources")
    if resources:
        validate_resources(errors, f"{at}.resources", resources, scope.claims)
    if "resizePolicy" in container:
        _resize_policy(errors, f"{at}.resizePolicy", container["resizePolicy"], scope)
    if "securityContext" in container:
        _security(errors, f"{at}.securityContext", container["securityContext"], scope)


def _ports(errors: Errors, path: str, ports: list[Object]) -> None:
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at = f"{path}[{index}]"
        name = port.get("name")
        if name:
            problems = checks.port_name_errors(name)
            if problems:
                for message in problems:
                    errors.append(bad_value(f"{at}.name", name, message))
            elif name in seen:
                errors.append(duplicate(f"{at}.name", name))
            else:
                seen.add(name)
        number = port.get("containerPort", 0)
        if not number:
            errors.append(required(f"{at}.containerPort"))
        else:
            checks.port_number(errors, f"{at}.containerPort", number)
        if port.get("hostPort"):
            checks.port_number(errors, f"{at}.hostPort", port["hostPort"])
        protocol = port.get("protocol")
        if protocol not in _PROTOCOLS:
            checks.one_of(errors, f"{at}.protocol", protocol, _PROTOCOLS)


def _host_ports(errors: Errors, path: str, containers: list[Object]) -> None:
    taken: set[str] = set()
    for index, container in enumerate(containers):
        for place, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort")
            if not host:
                continue
            text = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{host}"
            if text in taken:
                errors.append(duplicate(f"{path}[{index}].ports[{place}].hostPort", text))
            taken.add(text)


def _environment(errors: Errors, path: str, variables: list[Object]) -> None:
    for index, variable in enumerate(variables):
        name = variable.get("name")
        if not name:
            errors.append(required(f"{path}[{index}].name"))
        else:
            for message in checks.env_name_errors(name):
                errors.append(bad_value(f"{path}[{index}].name", name, message))
        if "valueFrom" in variable:
            _value_from(errors, f"{path}[{index}].valueFrom", variable)


def _value_from(errors: Errors, path: str, variable: Object) -> None:
    source = variable["valueFrom"]
    if "fieldRef" in source:
        volumes.field_ref(errors, f"{path}.fieldRef", source["fieldRef"], volumes.ENV_FIELDS)
    if "resourceFieldRef" in source:
        volumes.resource_field_ref(errors, f"{path}.resourceFieldRef", source["resourceFieldRef"], volume=False)
    for kind in ("configMapKeyRef", "secretKeyRef"):
        if kind in source:
            _key_ref(errors, f"{path}.{kind}", source[kind])
    count = sum(1 for kind in _SOURCES if kind in source)
    if count == 0:
        why = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(bad_value(path, "", why))
    elif variable.get("value"):
        errors.append(bad_value(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(bad_value(path, "", "may not have more than one field specified at a time"))


def _key_ref(errors: Errors, path: str, reference: Object) -> None:
    checks.named(errors, f"{path}.name", reference.get("name", ""), names.dns_subdomain)
    key = reference.get("key", "")
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        checks.named(errors, f"{path}.key", key, checks.config_key_errors)


def _environment_from(errors: Errors, path: str, sources: list[Object]) -> None:
    for index, source in enumerate(sources):
        at = f"{path}[{index}]"
        if source.get("prefix"):
            checks.named(errors, f"{at}.prefix", source["prefix"], checks.env_name_errors)
        kinds = [kind for kind in ("configMapRef", "secretRef") if kind in source]
        for kind in kinds:
            name = source[kind].get("name", "")
            if not name:
                errors.append(required(f"{at}.{kind}.name"))
            else:
                checks.named(errors, f"{at}.{kind}.name", name, names.dns_subdomain)
        if not kinds:
            errors.append(bad_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(kinds) > 1:
            errors.append(bad_value(path, "", "may not have more than one field specified at a time"))


def _probe(errors: Errors, path: str, kind: str, probe: Object, scope: PodScope) -> None:
    _handler(errors, path, probe, scope)
    fields = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
    for field in fields:
        checks.nonnegative(errors, f"{path}.{field}", probe.get(field))
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        errors.append(bad_value(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
    if kind == "readinessProbe":
        if grace is not None:
            why = "must not be set for readinessProbes"
            errors.append(bad_value(f"{path}.terminationGracePeriodSeconds", grace, why))
    elif probe.get("successThreshold", 1) != 1:
        errors.append(bad_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1"))


def _handler(errors: Errors, path: str, handler: Object, scope: PodScope) -> None:
    count = 0
    for kind in _HANDLERS:
        if kind not in handler:
            continue
        if count:
            errors.append(not_allowed(f"{path}.{kind}", "may not specify more than 1 handler type"))
            continue
        count += 1
        _action(errors, f"{path}.{kind}", kind, handler[kind], scope)
    if not count:
        errors.append(required(path, "must specify a handler type"))


def _action(errors: Errors, path: str, kind: str, action: Object, scope: PodScope) -> None:
    if kind == "exec":
        if not action.get("command"):
            errors.append(required(f"{path}.command"))
    elif kind == "httpGet":
        if not action.get("path"):
            errors.append(required(f"{path}.path"))
        checks.port_or_name(errors, f"{path}.port", action.get("port", 0))
        scheme = action.get("scheme", "")
        if scheme not in ("HTTP", "HTTPS"):
            errors.append(not_supported(f"{path}.scheme", scheme, ("HTTP", "HTTPS")))
        for header in action.get("httpHeaders") or ():
            checks.http_header(errors, f"{path}.httpHeaders", header.get("name", ""))
    elif kind == "sleep":
        seconds = action.get("seconds", 0)
        if scope.grace is not None and not 0 <= seconds <= scope.grace:
            why = f"must be non-negative and less than terminationGracePeriodSeconds ({scope.grace})"
            errors.append(bad_value(path, seconds, why))
    else:
        checks.port_or_name(errors, f"{path}.port", action.get("port", 0))


def _lifecycle(errors: Errors, path: str, lifecycle: Object, scope: PodScope) -> None:
    for hook in ("postStart", "preStop"):
        if hook in lifecycle:
            _handler(errors, f"{path}.{hook}", lifecycle[hook], scope)
    if "stopSignal" in lifecycle and scope.os is None:
        why = "may not be set for containers with empty `spec.os.name`"
        errors.append(not_allowed(f"{path}.stopSignal", why))


def _restart_policy(errors: Errors, path: str, container: Object) -> None:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or ()
    if policy is None:
        if rules:
            why = "must specify restartPolicy when restart rules are used"
            errors.append(required(f"{path}.restartPolicy", why))
    elif policy not in _RESTART_POLICIES:
        errors.append(not_supported(f"{path}.restartPolicy", policy, _RESTART_POLICIES))
    for index, rule in enumerate(rules):
        at = f"{path}.restartPolicyRules[{index}]"
        allowed = ("Restart", "RestartAllContainers")
        if rule.get("action") not in allowed:
            errors.append(not_supported(f"{at}.action", rule.get("action", ""), allowed))
        codes = rule.get("exitCodes")
        if codes is None:
            errors.append(required(f"{at}.exitCodes", "must be specified"))
        elif codes.get("operator") not in ("In", "NotIn"):
            errors.append(not_supported(f"{at}.exitCodes.operator", codes.get("operator", ""), ("In", "NotIn")))


def _resize_policy(errors: Errors, path: str, policies: list[Object], scope: PodScope) -> None:
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            errors.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
        checks.one_of(errors, path, name, ("cpu", "memory"))
        checks.one_of(errors, path, restart, ("NotRequired", "RestartContainer"))
        if scope.restart_policy == "Never" and restart != "NotRequired":
            why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(bad_value(path, restart, why))


def validate_resources(errors: Errors, path: str, resources: Object, claims: set[str]) -> None:
    limits = resources.get("limits") or {}
    requests = resources.get("requests") or {}
    huge = compute = False
    for name, amount in limits.items():
        _amount(errors, f"{path}.limits[{name}]", name, amount)
        huge = huge or checks.is_huge_pages(name)
        compute = compute or name in ("cpu", "memory")
    for name, amount in requests.items():
        _amount(errors, f"{path}.requests[{name}]", name, amount)
        huge = huge or checks.is_huge_pages(name)
        compute = compute or name in ("cpu", "memory")
        limit = limits.get(name)
        if limit is not None:
            if limit == amount:
                continue
            asked, most = quantity.parse(amount), quantity.parse(limit)
            if asked != most and not checks.overcommits(name):
                errors.append(bad_value(f"{path}.requests", amount, f"must be equal to {name} limit of {limit}"))
            elif asked > most:
                why = f"must be less than or equal to {name} limit of {limit}"
                errors.append(bad_value(f"{path}.requests", amount, why))
        elif not checks.overcommits(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    if huge and not compute:
        errors.append(not_allowed(path, "HugePages require cpu or memory"))
    if resources.get("claims"):
        _claims(errors, f"{path}.claims", resources["claims"], claims)


def _amount(errors: Errors, path: str, name: str, amount: str) -> None:
    checks.container_resource_name(errors, path, name)
    if (name != "cpu" and name != "memory") or amount[:1] == "-":
        checks.resource_amount(errors, path, name, amount)


def _claims(errors: Errors, path: str, claims: list[Object], known: set[str]) -> None:
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        name = claim.get("name", "")
        at = f"{path}[{index}]"
        if not name:
            errors.append(required(at))
            continue
        key = f"{name}/{claim['request']}" if claim.get("request") else name
        if key in seen:
            errors.append(duplicate(at, key))
        seen.add(key)
        if name not in known:
            why = "must be one of the names in pod.spec.resourceClaims"
            why += ": " + ", ".join(sorted(known)) if known else " which is empty"
            errors.append(Cause("FieldValueNotFound", f'Not found: "{name}": {why}', at))


def _security(errors: Errors, path: str, context: Object, scope: PodScope) -> None:
    for field in ("runAsUser", "runAsGroup"):
        checks.user_id(errors, f"{path}.{field}", context.get(field))
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(not_supported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        if scope.host_users and mount == "Unmasked":
            errors.append(bad_value(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`"))
    if "seccompProfile" in context:
        seccomp(errors, f"{path}.seccompProfile", context["seccompProfile"])
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(bad_value(path, internal("core.SecurityContext", context), why))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(bad_value(path, internal("core.SecurityContext", context), why))


def seccomp(errors: Errors, path: str, profile: Object) -> None:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        errors.append(required(f"{path}.type", "type is required when seccompProfile is set"))
    elif kind not in ("Localhost", "RuntimeDefault", "Unconfined"):
        errors.append(not_supported(f"{path}.type", kind, ("Localhost", "RuntimeDefault", "Unconfined")))
    if kind == "Localhost":
        if local is None:
            errors.append(required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost"))
        else:
            checks.descending_path(errors, f"{path}.localhostProfile", local)
    elif local is not None:
        why = "can only be set when seccomp type is Localhost"
        errors.append(bad_value(f"{path}.localhostProfile", profile, why))
