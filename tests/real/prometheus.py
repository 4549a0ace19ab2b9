"""The real Prometheus and promtool, from Debian's package, unpacked into the cache: nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")
_SECONDS = 300


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/atoll/prometheus"""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "atoll" / "prometheus"


def program(name: str) -> Path | None:
    """One of PROGRAMS, or None where it was not fetched."""
    path = cache_folder() / name
    return path if path.exists() else None


def fetch() -> int:
    """Fetch what is missing; 0 when all is there."""
    folder = cache_folder()
    if all(program(name) for name in PROGRAMS):
        return 0
    work = folder / "package"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    command = ["apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", PACKAGE]
    if subprocess.run(command, cwd=work, check=False, capture_output=True, timeout=_SECONDS).returncode:
        subprocess.run(["apt-get", "update", "-qq"], check=False, timeout=_SECONDS)
        if subprocess.run(command, cwd=work, check=False, timeout=_SECONDS).returncode:
            print("Debian's package of Prometheus can't be had", file=sys.stderr)
            return 1
    package = next(work.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, work / "root"], check=True, timeout=_SECONDS)
    for name in PROGRAMS:
        (work / "root/usr/bin" / name).replace(folder / name)
    shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(fetch())
