"""The Pod Security Standards: each check as a function of a pod's metadata and spec, by level and version.

A check gives (reason, detail) or None. Pure; the words and the order are upstream's (pod-security-admission/policy).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

Object = dict[str, Any]
Problem = tuple[str, str]
Check = Callable[[Object, Object], Problem | None]
"""Of (metadata, spec)."""
NEWEST = 35
"""The minor version of the newest check: later ones are like it."""

_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    }
)  # fmt: skip
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
_SELINUX = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
_SELINUX_31 = _SELINUX | {"container_engine_t"}
_VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
_OTHER_VOLUMES = frozenset(
    {
        "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd",
        "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
        "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos",
    }
)  # fmt: skip


def _containers(spec: Object) -> Iterator[Object]:
    for field in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(field) or ()


def _context(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _quoted(items: Sequence[str]) -> str:
    return '"' + '", "'.join(items) + '"' if items else ""


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def _named(bad: Sequence[str]) -> str:
    return f"{_plural('container', len(bad))} {_quoted(bad)}"


def _setters(pod: bool, bad: Sequence[str]) -> list[str]:
    """Who set it: the pod, and/or containers."""
    return (["pod"] if pod else []) + ([_named(bad)] if bad else [])


def _where(spec: Object, holds: Callable[[Object], bool]) -> list[str]:
    return [container.get("name", "") for container in _containers(spec) if holds(container)]


def _is_windows(spec: Object) -> bool:
    return bool((spec.get("os") or {}).get("name") == "windows")


def _not_on_windows(check: Check) -> Check:
    return lambda metadata, spec: None if _is_windows(spec) else check(metadata, spec)


def _not_in_user_namespace(check: Check) -> Check:
    return lambda metadata, spec: None if spec.get("hostUsers") is False else check(metadata, spec)


def _privilege_escalation(_: Object, spec: Object) -> Problem | None:
    bad = _where(spec, lambda container: _context(container).get("allowPrivilegeEscalation") is not False)
    if not bad:
        return None
    return "allowPrivilegeEscalation != false", f"{_named(bad)} must set securityContext.allowPrivilegeEscalation=false"


def _app_armor(metadata: Object, spec: Object) -> Problem | None:
    values: set[str] = set()

    def is_bad(holder: Object) -> bool:
        profile = _context(holder).get("appArmorProfile")
        kind = (profile or {}).get("type", "")
        if profile is None or kind in ("RuntimeDefault", "Localhost"):
            return False
        values.add(kind)
        return True

    pod = is_bad(spec)
    setters = _setters(pod, _where(spec, is_bad))
    annotations = sorted(
        f"{key}={_quoted([value])}"
        for key, value in (metadata.get("annotations") or {}).items()
        if key.startswith(_APPARMOR) and value and value != "runtime/default" and not value.startswith("localhost/")
    )
    told = sorted(values) + annotations
    if annotations:
        setters.append(_plural("annotation", len(annotations)))
    if not setters:
        return None
    reason = _plural("forbidden AppArmor profile", len(told))
    return reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(told)}"


def _capabilities_baseline(_: Object, spec: Object) -> Problem | None:
    extra: set[str] = set()

    def is_bad(container: Object) -> bool:
        added = set((_context(container).get("capabilities") or {}).get("add") or ()) - _CAPABILITIES
        extra.update(added)
        return bool(added)

    bad = _where(spec, is_bad)
    if not bad:
        return None
    detail = f"{_named(bad)} must not include {_quoted(sorted(extra))} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def _capabilities_restricted(_: Object, spec: Object) -> Problem | None:
    extra: set[str] = set()

    def keeps(container: Object) -> bool:
        return "ALL" not in ((_context(container).get("capabilities") or {}).get("drop") or ())

    def adds(container: Object) -> bool:
        added = set((_context(container).get("capabilities") or {}).get("add") or ()) - {"NET_BIND_SERVICE"}
        extra.update(added)
        return bool(added)

    details = []
    if missing := _where(spec, keeps):
        details.append(f'{_named(missing)} must set securityContext.capabilities.drop=["ALL"]')
    if adding := _where(spec, adds):
        listed = _quoted(sorted(extra))
        details.append(f"{_named(adding)} must not include {listed} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _host_namespaces(_: Object, spec: Object) -> Problem | None:
    used = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return ("host namespaces", ", ".join(used)) if used else None


def _host_paths(_: Object, spec: Object) -> Problem | None:
    bad = [volume.get("name", "") for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', len(bad))} {_quoted(bad)}") if bad else None


def _host_ports(_: Object, spec: Object) -> Problem | None:
    ports: set[str] = set()

    def is_bad(container: Object) -> bool:
        used = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        ports.update(used)
        return bool(used)

    bad = _where(spec, is_bad)
    if not bad:
        return None
    verb = "uses" if len(bad) == 1 else "use"
    return "hostPort", f"{_named(bad)} {verb} {_plural('hostPort', len(ports))} {', '.join(sorted(ports))}"


def _hosts_of(handler: Object | None) -> set[str]:
    found = handler or {}
    return {host for kind in ("httpGet", "tcpSocket") if (host := (found.get(kind) or {}).get("host"))}


def _probe_hosts(_: Object, spec: Object) -> Problem | None:
    hosts: set[str] = set()

    def is_bad(container: Object) -> bool:
        found: set[str] = set()
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            found |= _hosts_of(container.get(probe))
        for hook in ("postStart", "preStop"):
            found |= _hosts_of((container.get("lifecycle") or {}).get(hook))
        hosts.update(found)
        return bool(found)

    bad = sorted(set(_where(spec, is_bad)))
    if not bad:
        return None
    verb = "uses" if len(bad) == 1 else "use"
    what = _plural("probe or lifecycle host", len(hosts))
    return "probe or lifecycle host", f"{_named(bad)} {verb} {what} {_quoted(sorted(hosts))}"


def _privileged(_: Object, spec: Object) -> Problem | None:
    bad = _where(spec, lambda container: bool(_context(container).get("privileged")))
    return ("privileged", f"{_named(bad)} must not set securityContext.privileged=true") if bad else None


def _proc_mount(_: Object, spec: Object) -> Problem | None:
    kinds: set[str] = set()

    def is_bad(container: Object) -> bool:
        kind = _context(container).get("procMount")
        if kind is None or kind == "Default":
            return False
        kinds.add(kind)
        return True

    bad = _where(spec, is_bad)
    if not bad:
        return None
    return "procMount", f"{_named(bad)} must not set securityContext.procMount to {_quoted(sorted(kinds))}"


def _restricted_volumes(_: Object, spec: Object) -> Problem | None:
    bad, kinds = [], set()
    for volume in spec.get("volumes") or ():
        if _VOLUMES.isdisjoint(volume):
            bad.append(volume.get("name", ""))
            kinds.add(next((kind for kind in volume if kind in _OTHER_VOLUMES), "unknown"))
    if not bad:
        return None
    verb = "uses" if len(bad) == 1 else "use"
    what = _plural("restricted volume type", len(kinds))
    named = f"{_plural('volume', len(bad))} {_quoted(bad)}"
    return "restricted volume types", f"{named} {verb} {what} {_quoted(sorted(kinds))}"


def _run_as_non_root(_: Object, spec: Object) -> Problem | None:
    pod = _context(spec).get("runAsNonRoot")
    explicit = _where(spec, lambda container: _context(container).get("runAsNonRoot") is False)
    setters = _setters(pod is False, explicit)
    if setters:
        return "runAsNonRoot != true", f"{' and '.join(setters)} must not set securityContext.runAsNonRoot=false"
    if pod:
        return None
    implicit = _where(spec, lambda container: _context(container).get("runAsNonRoot") is None)
    if not implicit:
        return None
    return "runAsNonRoot != true", f"pod or {_named(implicit)} must set securityContext.runAsNonRoot=true"


def _run_as_user(_: Object, spec: Object) -> Problem | None:
    bad = _where(spec, lambda container: _context(container).get("runAsUser") == 0)
    setters = _setters(_context(spec).get("runAsUser") == 0, bad)
    return ("runAsUser=0", f"{' and '.join(setters)} must not set runAsUser=0") if setters else None


def _selinux(allowed: frozenset[str]) -> Check:
    def check(_: Object, spec: Object) -> Problem | None:
        kinds: set[str] = set()
        others: set[str] = set()

        def is_bad(holder: Object) -> bool:
            options = _context(holder).get("seLinuxOptions")
            if options is None:
                return False
            kind = options.get("type", "")
            wrong = {field for field in ("user", "role") if options.get(field)}
            others.update(wrong)
            if kind not in allowed:
                kinds.add(kind)
            return bool(wrong) or kind not in allowed

        pod = is_bad(spec)
        setters = _setters(pod, _where(spec, is_bad))
        if not setters:
            return None
        data = [f"{_plural('type', len(kinds))} {_quoted(sorted(kinds))}"] if kinds else []
        data += [f"{field} may not be set" for field in ("user", "role") if field in others]
        told = "; ".join(data)
        return "seLinuxOptions", f"{' and '.join(setters)} set forbidden securityContext.seLinuxOptions: {told}"

    return check


def _seccomp_annotations(metadata: Object, spec: Object) -> Problem | None:
    annotations = metadata.get("annotations") or {}
    keys = [_SECCOMP_POD, *(_SECCOMP_CONTAINER + name for name in _where(spec, lambda _: True))]

    def is_bad(value: str) -> bool:
        return value not in ("runtime/default", "docker/default") and not value.startswith("localhost/")

    bad = sorted(
        {f"{key}={_quoted([annotations[key]])}" for key in keys if key in annotations and is_bad(annotations[key])}
    )
    if not bad:
        return None
    return "seccompProfile", f"forbidden {_plural('annotation', len(bad))} {', '.join(bad)}"


def _seccomp_type(holder: Object) -> str | None:
    profile = _context(holder).get("seccompProfile")
    return None if profile is None else profile.get("type", "")


_SECCOMP = ("Localhost", "RuntimeDefault")


def _seccomp_baseline(_: Object, spec: Object) -> Problem | None:
    values: set[str] = set()

    def is_bad(holder: Object) -> bool:
        kind = _seccomp_type(holder)
        if kind is None or kind in _SECCOMP:
            return False
        values.add(kind)
        return True

    pod = is_bad(spec)
    setters = _setters(pod, _where(spec, is_bad))
    if not setters:
        return None
    told = _quoted(sorted(values))
    return "seccompProfile", f"{' and '.join(setters)} must not set securityContext.seccompProfile.type to {told}"


def _seccomp_restricted(metadata: Object, spec: Object) -> Problem | None:
    if found := _seccomp_baseline(metadata, spec):
        return found
    if _seccomp_type(spec) in _SECCOMP:
        return None
    bad = _where(spec, lambda container: _seccomp_type(container) is None)
    if not bad:
        return None
    wanted = '"RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_named(bad)} must set securityContext.seccompProfile.type to {wanted}"


def _sysctls(allowed: frozenset[str]) -> Check:
    def check(_: Object, spec: Object) -> Problem | None:
        names = [item.get("name", "") for item in _context(spec).get("sysctls") or ()]
        bad = [name for name in names if name not in allowed]
        return ("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def _host_process(_: Object, spec: Object) -> Problem | None:
    def is_bad(holder: Object) -> bool:
        return bool((_context(holder).get("windowsOptions") or {}).get("hostProcess"))

    setters = _setters(is_bad(spec), _where(spec, is_bad))
    if not setters:
        return None
    detail = f"{' and '.join(setters)} must not set securityContext.windowsOptions.hostProcess=true"
    return "hostProcess", detail


class _Versioned(Struct, frozen=True):
    """`versions`: from which minor version on which function; `overrides`: the baseline check that it replaces."""

    id: str
    versions: tuple[tuple[int, Check], ...]
    overrides: str = ""

    def at(self, minor: int) -> Check | None:
        found = None
        for since, check in self.versions:
            if since <= minor:
                found = check
        return found


_BASELINE = (
    _Versioned("appArmorProfile", ((0, _app_armor),)),
    _Versioned("capabilities_baseline", ((0, _capabilities_baseline),)),
    _Versioned("hostNamespaces", ((0, _host_namespaces),)),
    _Versioned("hostPathVolumes", ((0, _host_paths),)),
    _Versioned("hostPorts", ((0, _host_ports),)),
    _Versioned("hostProbesAndHostLifecycle", ((34, _probe_hosts),)),
    _Versioned("privileged", ((0, _privileged),)),
    _Versioned("procMount", ((0, _proc_mount), (35, _not_in_user_namespace(_proc_mount)))),
    _Versioned("seLinuxOptions", ((0, _selinux(_SELINUX)), (31, _selinux(_SELINUX_31)))),
    _Versioned("seccompProfile_baseline", ((0, _seccomp_annotations), (19, _seccomp_baseline))),
    _Versioned(
        "sysctls",
        (
            (0, _sysctls(_SYSCTLS)),
            (27, _sysctls(_SYSCTLS_27)),
            (29, _sysctls(_SYSCTLS_29)),
            (32, _sysctls(_SYSCTLS_32)),
        ),
    ),
    _Versioned("windowsHostProcess", ((0, _host_process),)),
)
_RESTRICTED = (
    _Versioned("allowPrivilegeEscalation", ((8, _privilege_escalation), (25, _not_on_windows(_privilege_escalation)))),
    _Versioned(
        "capabilities_restricted",
        ((22, _capabilities_restricted), (25, _not_on_windows(_capabilities_restricted))),
        "capabilities_baseline",
    ),
    _Versioned("procMount_restricted", ((35, _proc_mount),), "procMount"),
    _Versioned("restrictedVolumes", ((0, _restricted_volumes),), "hostPathVolumes"),
    _Versioned("runAsNonRoot", ((0, _run_as_non_root), (35, _not_in_user_namespace(_run_as_non_root)))),
    _Versioned("runAsUser", ((23, _run_as_user), (35, _not_in_user_namespace(_run_as_user)))),
    _Versioned(
        "seccompProfile_restricted",
        ((19, _seccomp_restricted), (25, _not_on_windows(_seccomp_restricted))),
        "seccompProfile_baseline",
    ),
)  # fmt: skip


@functools.cache
def checks_of(level: str, minor: int) -> tuple[Check, ...]:
    """In upstream's order: the baseline's by their ids (those replaced left out), then the restricted ones."""
    if level == "privileged":
        return ()
    restricted = [item for item in _RESTRICTED if level == "restricted" and item.at(minor) is not None]
    replaced = {item.overrides for item in restricted}
    chosen = [item.at(minor) for item in _BASELINE if item.id not in replaced]
    chosen += [item.at(minor) for item in restricted]
    return tuple(check for check in chosen if check is not None)


def problems_of(level: str, minor: int, metadata: Object, spec: Object) -> list[Problem]:
    found = (check(metadata, spec) for check in checks_of(level, min(minor, NEWEST)))
    return [problem for problem in found if problem is not None]


def detail(problems: Sequence[Problem]) -> str:
    """`host ports (8080), privileged (…)`."""
    return ", ".join(f"{reason} ({text})" if text else reason for reason, text in problems)


def reasons(problems: Sequence[Problem]) -> str:
    return ", ".join(reason for reason, _ in problems)
