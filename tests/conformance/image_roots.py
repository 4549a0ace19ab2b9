"""Root folders for the test images, as their Dockerfiles in Kubernetes' source describe them.

Debian packages are downloaded and unpacked into the cache, nothing is installed and nothing of them is run. The
programs that Kubernetes builds for the images are hard-linked in. `catalogue` maps the images' names to the folders.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

REGISTRY = "registry.k8s.io/e2e-test-images"
# What the Dockerfiles of agnhost and glibc-dns-testing add to a bare system.
_TOOLS = (
    "base-files", "base-passwd", "bash", "coreutils", "dash", "grep", "sed", "mawk", "findutils", "gzip", "tar",
    "hostname", "procps", "util-linux", "login", "curl", "wget", "bind9-dnsutils", "netcat-openbsd", "iproute2",
    "iperf", "iputils-ping", "libc-bin", "ncurses-base",
)  # fmt: skip
_BUSYBOX_FOLDERS = ("bin", "dev", "etc", "home", "lib", "proc", "root", "sys", "tmp", "usr/bin", "usr/sbin", "var/run")
_SECONDS = 600
_VERSION = "2"  # raise it when the folders are to be made anew


def make(cache: Path, kubernetes: Path, etcd: Path | None) -> None:
    """Make the folders that are missing. Raises OSError, subprocess.SubprocessError."""
    roots = cache / f"roots-{_VERSION}"
    if (roots / "complete").exists():
        return
    shutil.rmtree(roots, ignore_errors=True)
    roots.mkdir(parents=True)
    images = kubernetes / "test" / "images"
    _unpack(roots / "packages-tools", roots / "debian", _TOOLS)
    _accounts(roots / "debian")
    _unpack(roots / "packages-nginx", roots / "nginx", ("base-files", "base-passwd", "dash", "nginx-light"))
    _accounts(roots / "nginx")
    _busybox(roots)
    _like(roots / "debian", roots / "agnhost")
    _agnhost(roots / "agnhost", cache, images)
    for name in ("nautilus", "kitten"):
        _like(roots / "agnhost", roots / name)
        for file in (f"{name}.jpg", "data.json"):
            _place(images / name / "html" / file, roots / name / file, 0o644)
    _like(roots / "debian", roots / "nonewprivs")
    _place(cache / "nnp", roots / "nonewprivs" / "usr/local/bin/nnp", 0o4755)
    for name, programs in (("sample-apiserver", [cache / "sample-apiserver"]), ("etcd", [etcd] if etcd else [])):
        _like(roots / "busybox", roots / name)
        for program in programs:
            target = "usr/local/bin/etcd" if name == "etcd" else name
            _place(program, roots / name / target)
    (roots / "complete").write_text("")


def catalogue(cache: Path) -> list[dict[str, Any]]:
    """Entries of an image catalogue for all of them."""
    roots = cache / f"roots-{_VERSION}"

    def entry(
        image: str, root: str, program: Sequence[str] = (), args: Sequence[str] = (), **more: Any
    ) -> dict[str, Any]:
        return {"image": image, "root": str(roots / root), "program": list(program), "args": list(args), **more}

    def test_image(name: str, *rest: Any, **more: Any) -> dict[str, Any]:
        return entry(f"{REGISTRY}/{name}", *rest, **more)

    nginx = (["nginx"], ["-g", "daemon off;"])
    return [
        test_image("agnhost", "agnhost", ["/agnhost"], ["pause"]),
        test_image("nautilus", "nautilus", ["/agnhost"], ["test-webserver"]),
        test_image("kitten", "kitten", ["/agnhost"], ["test-webserver"]),
        test_image("busybox", "busybox", [], ["sh"]),
        test_image("glibc-dns-testing", "debian", [], ["bash"]),
        test_image("nonewprivs", "nonewprivs", [], ["nnp"]),
        test_image("nonroot", "debian", [], ["bash"], user=1234),
        test_image("ipc-utils", "debian", [], ["sh"]),
        test_image("nginx", "nginx", *nginx),
        test_image("sample-apiserver", "sample-apiserver", ["/sample-apiserver"]),
        entry("registry.k8s.io/pause", "agnhost", ["/agnhost", "pause"]),
        entry("registry.k8s.io/etcd", "etcd", [], ["etcd"]),
        entry("gcr.io/etcd-development/etcd", "etcd", [], ["etcd"]),
    ]


def _unpack(archives: Path, root: Path, packages: Sequence[str]) -> None:
    """The packages and all that they depend on, unpacked into `root` as on a merged-usr system."""
    (archives / "partial").mkdir(parents=True)
    status = archives / "status"
    status.write_text("")
    options = {
        "Dir::State::status": status, "Dir::Cache::archives": archives, "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false", "Debug::NoLocking": "true",
    }  # fmt: skip
    flags = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    command = ["apt-get", "install", "-qq", "-y", "--download-only", *flags, *packages]
    if subprocess.run(command, check=False, capture_output=True, timeout=_SECONDS).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=_SECONDS)
        subprocess.run(command, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL)
    for folder in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for package in sorted(archives.glob("*.deb")):
        stream = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True).stdout
        untar = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", root, "-f", "-"]
        subprocess.run(untar, input=stream, check=True)
    shutil.rmtree(archives)
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")
    if (root / "usr/bin/mawk").exists() and not (root / "usr/bin/awk").exists():
        (root / "usr/bin/awk").symlink_to("mawk")
    if (root / "bin/nc.openbsd").exists():
        (root / "bin/nc").symlink_to("nc.openbsd")


def _accounts(root: Path) -> None:
    """What base-passwd's installation would write, and agnhost's user."""
    share = root / "usr/share/base-passwd"
    user = "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n"
    group = "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
    (root / "etc/passwd").write_text((share / "passwd.master").read_text().replace(":*:", ":x:") + user)
    (root / "etc/group").write_text((share / "group.master").read_text().replace(":*:", ":x:") + group)
    for folder in ("tmp", "var/tmp"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder).chmod(0o1777)
    for folder in ("proc", "sys", "dev", "run", "root", "home"):
        (root / folder).mkdir(exist_ok=True)


def _busybox(roots: Path) -> None:
    """busybox, statically linked, and a link for each of its programs. Its sh is a static bash: Debian's busybox is
    1.35, whose shell drops environment variables that are no identifiers, which the suite's 1.37 hands on."""
    _unpack(roots / "packages-busybox", roots / "busybox-debian", ("busybox-static", "bash-static"))
    root = roots / "busybox"
    for folder in _BUSYBOX_FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    program = next(path for path in (roots / "busybox-debian").rglob("bin/busybox") if path.is_file())
    shutil.copy2(program, root / "bin/busybox")
    listed = subprocess.run([root / "bin/busybox", "--list"], check=True, capture_output=True, text=True).stdout
    for name in listed.split():
        if name not in ("busybox", "sh"):
            os.link(root / "bin/busybox", root / "bin" / name)
    shell = next((roots / "busybox-debian").rglob("bin/bash-static"))
    _place(shell, root / "bin/sh")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnobody:x:65534:\n")
    shutil.rmtree(roots / "busybox-debian")


def _agnhost(root: Path, cache: Path, images: Path) -> None:
    _place(cache / "agnhost", root / "agnhost")
    (root / "agnhost-2").symlink_to("agnhost")
    (root / "uploads").mkdir()
    for name in ("localhost.crt", "localhost.key"):
        _place(images / "agnhost" / "porter" / name, root / name, 0o644)


def _like(model: Path, root: Path) -> None:
    shutil.copytree(model, root, symlinks=True, copy_function=os.link)


def _place(source: Path, target: Path, mode: int = 0o755) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(mode)
