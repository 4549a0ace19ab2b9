"""A real fleet and real throw-away clusters, started by the command line as a user would, in a home of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
INPUTS = ROOT.parent / "shared" / "inputs"


@dataclass
class Shell:
    """Runs atoll, kubectl and others with one environment."""

    env: dict[str, str]
    context: str = ""

    def run(
        self, *args: str, check: bool = True, stdin: str | None = None, timeout: float = 90
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            args, env=self.env, input=stdin, capture_output=True, text=True, timeout=timeout, cwd=ROOT, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(args)} exited {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def atoll(self, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(str(BIN / "atoll"), *args, **more)

    def kubectl(self, *args: str, context: str | None = None, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.run(str(BIN / "kubectl"), f"--context={context or self.context}", *args, **more)

    def get(self, *args: str, context: str | None = None) -> Any:
        """kubectl get … -o json."""
        return json.loads(self.kubectl("get", *args, "-o", "json", context=context).stdout)

    def popen(self, *args: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            args, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, **more
        )


def until(condition: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for a condition to be truthy; its value. An AssertionError within counts as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
            last = found
        except AssertionError as error:
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s; last: {last}")


def environment(home: Path) -> dict[str, str]:
    keep = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TMPDIR", "VIRTUAL_ENV")}
    keep["PATH"] = f"{BIN}:{keep.get('PATH', '')}"
    return {
        **keep,
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "XDG_RUNTIME_DIR": str(home / "run"),
        "KUBECONFIG": str(home / "kubeconfig"),
        "ATOLL_TRACEBACK": "",
    }


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """The default fleet: a hub and onprem, cloud-a, cloud-b."""
    home = tmp_path_factory.mktemp("fleet")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-hub")
    shell.atoll("up", timeout=120)
    yield shell
    shell.atoll("down", "--purge")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster: three simulated nodes."""
    home = tmp_path_factory.mktemp("cluster")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-e2e")
    shell.atoll("cluster", "create", "e2e", "--nodes", "0", "--simulated", "3", timeout=120)
    yield shell
    shell.atoll("cluster", "delete", "e2e")


@pytest.fixture
def namespace(cluster: Shell, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the throw-away cluster, with its default service account, for one test."""
    name = request.node.name.replace("_", "-").replace("[", "-").replace("]", "").lower()[:50].strip("-")
    cluster.kubectl("create", "namespace", name)
    until(lambda: not cluster.kubectl("get", "sa", "default", "-n", name, check=False).returncode, "default account")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def real_program(name: str) -> str:
    """A program that tests/real/build.py built; skips, visibly, where it is not (CI fails there)."""
    sys.path.insert(0, str(ROOT / "tests" / "real"))
    try:
        import build
    finally:
        sys.path.pop(0)
    path = build.program(name)
    if path is None:
        pytest.skip(f"{name} is not built on this machine: make real builds it")
    return str(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of the module's own."""
    path = tmp_path_factory.mktemp("home")
    (path / "run").mkdir(mode=0o700)
    return path


@pytest.fixture(scope="module")
def shell(home: Path) -> Iterator[Shell]:
    """Commands in that home; what they left running ends with the module."""
    made = Shell(environment(home))
    yield made
    made.atoll("down", "--all", "--purge")
