"""The Pod Security Standards: which checks are made at which level, from which version on.

The words and the order are upstream's (pod-security-admission/policy).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from msgspec import Struct

from atoll.cluster.apiserver.admission.pod_security import checks

NEWEST = 35
"""The minor version of the newest check: later ones are like it."""


class _Versioned(Struct, frozen=True):
    """`versions`: from which minor version on which function; `overrides`: the baseline check that it replaces."""

    id: str
    versions: tuple[tuple[int, checks.Check], ...]
    overrides: str = ""

    def at(self, minor: int) -> checks.Check | None:
        found = None
        for since, check in self.versions:
            if since <= minor:
                found = check
        return found


_BASELINE = (
    _Versioned("appArmorProfile", ((0, checks.app_armor),)),
    _Versioned("capabilities_baseline", ((0, checks.capabilities_baseline),)),
    _Versioned("hostNamespaces", ((0, checks.host_namespaces),)),
    _Versioned("hostPathVolumes", ((0, checks.host_paths),)),
    _Versioned("hostPorts", ((0, checks.host_ports),)),
    _Versioned("hostProbesAndHostLifecycle", ((34, checks.probe_hosts),)),
    _Versioned("privileged", ((0, checks.privileged),)),
    _Versioned("procMount", ((0, checks.proc_mount), (35, checks.not_in_user_namespace(checks.proc_mount)))),
    _Versioned("seLinuxOptions", ((0, checks.selinux(checks.SELINUX)), (31, checks.selinux(checks.SELINUX_31)))),
    _Versioned("seccompProfile_baseline", ((0, checks.seccomp_annotations), (19, checks.seccomp_baseline))),
    _Versioned(
        "sysctls",
        (
            (0, checks.sysctls(checks.SYSCTLS)),
            (27, checks.sysctls(checks.SYSCTLS_27)),
            (29, checks.sysctls(checks.SYSCTLS_29)),
            (32, checks.sysctls(checks.SYSCTLS_32)),
        ),
    ),
    _Versioned("windowsHostProcess", ((0, checks.host_process),)),
)
_RESTRICTED = (
    _Versioned(
        "allowPrivilegeEscalation",
        ((8, checks.privilege_escalation), (25, checks.not_on_windows(checks.privilege_escalation))),
    ),
    _Versioned(
        "capabilities_restricted",
        ((22, checks.capabilities_restricted), (25, checks.not_on_windows(checks.capabilities_restricted))),
        "capabilities_baseline",
    ),
    _Versioned("procMount_restricted", ((35, checks.proc_mount),), "procMount"),
    _Versioned("restrictedVolumes", ((0, checks.restricted_volumes),), "hostPathVolumes"),
    _Versioned(
        "runAsNonRoot", ((0, checks.run_as_non_root), (35, checks.not_in_user_namespace(checks.run_as_non_root)))
    ),
    _Versioned("runAsUser", ((23, checks.run_as_user), (35, checks.not_in_user_namespace(checks.run_as_user)))),
    _Versioned(
        "seccompProfile_restricted",
        ((19, checks.seccomp_restricted), (25, checks.not_on_windows(checks.seccomp_restricted))),
        "seccompProfile_baseline",
    ),
)


@functools.cache
def checks_of(level: str, minor: int) -> tuple[checks.Check, ...]:
    """In upstream's order: the baseline's by their ids (those replaced left out), then the restricted ones."""
    if level == "privileged":
        return ()
    restricted = [item for item in _RESTRICTED if level == "restricted" and item.at(minor) is not None]
    replaced = {item.overrides for item in restricted}
    chosen = [item.at(minor) for item in _BASELINE if item.id not in replaced]
    chosen += [item.at(minor) for item in restricted]
    return tuple(check for check in chosen if check is not None)


def problems_of(level: str, minor: int, metadata: checks.Object, spec: checks.Object) -> list[checks.Problem]:
    found = (check(metadata, spec) for check in checks_of(level, min(minor, NEWEST)))
    return [problem for problem in found if problem is not None]


def detail(problems: Sequence[checks.Problem]) -> str:
    """`host ports (8080), privileged (…)`."""
    return ", ".join(f"{reason} ({text})" if text else reason for reason, text in problems)


def reasons(problems: Sequence[checks.Problem]) -> str:
    return ", ".join(reason for reason, _ in problems)
