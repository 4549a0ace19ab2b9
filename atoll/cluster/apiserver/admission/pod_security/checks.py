"""The checks of the Pod Security Standards, each a function of a pod's metadata and spec (see `standards`).

A check gives (reason, detail) or None. Pure; the words and the order are upstream's (pod-security-admission/policy).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Object = dict[str, Any]
Problem = tuple[str, str]
Check = Callable[[Object, Object], Problem | None]
"""Of (metadata, spec)."""

_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
    }
)  # fmt: skip
SYSCTLS_27 = SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_29 = SYSCTLS_27 | {
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip
SYSCTLS_32 = SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
SELINUX = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
SELINUX_31 = SELINUX | {"container_engine_t"}
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


def not_on_windows(check: Check) -> Check:
    return lambda metadata, spec: None if _is_windows(spec) else check(metadata, spec)


def not_in_user_namespace(check: Check) -> Check:
    return lambda metadata, spec: None if spec.get("hostUsers") is False else check(metadata, spec)


def privilege_escalation(_: Object, spec: Object) -> Problem | None:
    bad = _where(spec, lambda container: _context(container).get("allowPrivilegeEscalation") is not False)
    if not bad:
        return None
    return "allowPrivilegeEscalation != false", f"{_named(bad)} must set securityContext.allowPrivilegeEscalation=false"


def app_armor(metadata: Object, spec: Object) -> Problem | None:
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


def capabilities_baseline(_: Object, spec: Object) -> Problem | None:
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


def capabilities_restricted(_: Object, spec: Object) -> Problem | None:
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


def host_namespaces(_: Object, spec: Object) -> Problem | None:
    used = [f"{field}=true" for field in ("hostNetwork", "hostPID", "hostIPC") if spec.get(field)]
    return ("host namespaces", ", ".join(used)) if used else None


def host_paths(_: Object, spec: Object) -> Problem | None:
    bad = [volume.get("name", "") for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', len(bad))} {_quoted(bad)}") if bad else None


def host_ports(_: Object, spec: Object) -> Problem | None:
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


def probe_hosts(_: Object, spec: Object) -> Problem | None:
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


def privileged(_: Object, spec: Object) -> Problem | None:
    bad = _where(spec, lambda container: bool(_context(container).get("privileged")))
    return ("privileged", f"{_named(bad)} must not set securityContext.privileged=true") if bad else None


def proc_mount(_: Object, spec: Object) -> Problem | None:
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


def restricted_volumes(_: Object, spec: Object) -> Problem | None:
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


def run_as_non_root(_: Object, spec: Object) -> Problem | None:
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


def run_as_user(_: Object, spec: Object) -> Problem | None:
    bad = _where(spec, lambda container: _context(container).get("runAsUser") == 0)
    setters = _setters(_context(spec).get("runAsUser") == 0, bad)
    return ("runAsUser=0", f"{' and '.join(setters)} must not set runAsUser=0") if setters else None


def selinux(allowed: frozenset[str]) -> Check:
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


def seccomp_annotations(metadata: Object, spec: Object) -> Problem | None:
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


def seccomp_baseline(_: Object, spec: Object) -> Problem | None:
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


def seccomp_restricted(metadata: Object, spec: Object) -> Problem | None:
    if found := seccomp_baseline(metadata, spec):
        return found
    if _seccomp_type(spec) in _SECCOMP:
        return None
    bad = _where(spec, lambda container: _seccomp_type(container) is None)
    if not bad:
        return None
    wanted = '"RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_named(bad)} must set securityContext.seccompProfile.type to {wanted}"


def sysctls(allowed: frozenset[str]) -> Check:
    def check(_: Object, spec: Object) -> Problem | None:
        names = [item.get("name", "") for item in _context(spec).get("sysctls") or ()]
        bad = [name for name in names if name not in allowed]
        return ("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def host_process(_: Object, spec: Object) -> Problem | None:
    def is_bad(holder: Object) -> bool:
        return bool((_context(holder).get("windowsOptions") or {}).get("hostProcess"))

    setters = _setters(is_bad(spec), _where(spec, is_bad))
    if not setters:
        return None
    detail = f"{' and '.join(setters)} must not set securityContext.windowsOptions.hostProcess=true"
    return "hostProcess", detail
