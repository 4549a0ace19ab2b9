"""The image catalogue: what a container image's name means on a machine that pulls nothing.

An entry maps a pattern of image names to a program of this machine, of an installed wheel, or to an unpacked root
folder. In an entry's `env`, {cluster} and {node} stand for their names. The cluster's configuration may bring entries
of its own; they come before the default ones. Nothing is ever downloaded: an image without an entry is refused with a
message that says how to map it.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll.base.errors import UserError

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DEFAULT_REGISTRIES = ("docker.io/library/", "docker.io/", "index.docker.io/library/", "library/")
_FIELDS = {"image", "program", "args", "root", "path", "mounts", "env", "workingDir", "user"}
_PYTHON_PREFIX = str(Path(sys.base_prefix).resolve())
_PYTHON = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
_DEMO = str(Path(__file__).parent / "demo")


@dataclass(frozen=True, slots=True)
class Image:
    """How to run a container of it."""

    reference: str  # as the pod names it
    identity: str  # status.imageID
    program: tuple[str, ...] = ()  # entrypoint
    args: tuple[str, ...] = ()  # default arguments
    root: str | None = None  # an unpacked root folder; None is the host's programs
    path: str = DEFAULT_PATH
    mounts: tuple[tuple[str, str], ...] = ()  # (host folder, folder in the container), read-only
    env: tuple[tuple[str, str], ...] = ()
    working_dir: str = ""
    user: int | None = None


class UnknownImage(UserError):
    """No entry matches; the message says how to add one."""


def normalize(reference: str) -> str:
    """Without the default registry and `library/`: docker.io/library/python:3 → python:3."""
    for prefix in _DEFAULT_REGISTRIES:
        if reference.startswith(prefix):
            return reference.removeprefix(prefix)
    return reference


def repository(reference: str) -> str:
    """Without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, tail = name.rpartition("/")
    return head + slash + tail.partition(":")[0]


def default_entries() -> list[dict[str, Any]]:
    """What every cluster understands."""
    python = {"program": [_PYTHON], "path": f"{_PYTHON_PREFIX}/bin:{DEFAULT_PATH}", "mounts": _outside_usr()}
    shell = {"program": [], "args": ["sh"], "path": f"{DEFAULT_PATH}:{_PYTHON_PREFIX}/bin", "mounts": _outside_usr()}
    demo = {
        "mounts": [{"source": _DEMO, "target": "/app"}, *_outside_usr()],
        "env": {"CLUSTER": "{cluster}", "NODE_NAME": "{node}"},
    }
    return [
        {"image": "atoll.dev/hello-frontend", "program": [_PYTHON, "/app/frontend.py"], **demo},
        {"image": "atoll.dev/hello-backend", "program": [_PYTHON, "/app/backend.py"], **demo},
        {"image": "*pause", "program": ["sleep", "infinity"]},
        {"image": "python", **python, "args": []},
        *(
            {"image": name, **shell}
            for name in (
                "busybox", "alpine", "debian", "ubuntu", "bash", "host", "atoll.dev/host",
                "*/busybox", "*/e2e-test-images/busybox",
            )
        ),
    ]  # fmt: skip


def _outside_usr() -> list[dict[str, str]]:
    """The interpreter's folder, where it isn't under /usr (which every container has)."""
    if _PYTHON_PREFIX.startswith("/usr"):
        return []
    return [{"source": _PYTHON_PREFIX, "target": _PYTHON_PREFIX}]


class Catalogue:
    """Entries in order of precedence. Raises UserError for an entry that can't be used."""

    def __init__(self, entries: Sequence[Mapping[str, Any]] = (), *, defaults: bool = True) -> None:
        self._entries = [_checked(entry) for entry in entries]
        if defaults:
            self._entries += default_entries()

    def resolve(self, reference: str) -> Image:
        """The image of that name. Raises UnknownImage."""
        short = normalize(reference)
        names = (reference, short, repository(reference), repository(short))
        for entry in self._entries:
            if any(fnmatch.fnmatchcase(name, entry["image"]) for name in names):
                return _image(reference, entry)
        raise UnknownImage(
            f'no entry of the image catalogue matches "{reference}"; nothing is pulled here: map it in the cluster\'s '
            f"`images` list, for example {{image: {repository(short)}, program: [/path/to/program]}} or "
            f"{{image: {repository(short)}, root: /path/to/unpacked/root, program: [/entrypoint]}}"
        )


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(entry) - _FIELDS
    if "image" not in entry or unknown:
        wrong = f"unknown key {sorted(unknown)[0]!r}" if unknown else "no `image` pattern"
        raise UserError(f"image catalogue entry {dict(entry)!r}: {wrong}", hint=f"keys: {', '.join(sorted(_FIELDS))}")
    return dict(entry)


def _image(reference: str, entry: Mapping[str, Any]) -> Image:
    program = entry.get("program") or []
    program = [program] if isinstance(program, str) else list(program)
    if program:
        program[0] = _program(program[0])
    digest = hashlib.sha256(f"{entry['image']} {program} {entry.get('root')}".encode()).hexdigest()
    mounts = [(str(item["source"]), str(item["target"])) for item in entry.get("mounts") or []]
    mounts += _wheel_mounts(entry.get("program"))
    return Image(
        reference=reference,
        identity=f"{repository(normalize(reference))}@sha256:{digest}",
        program=tuple(program),
        args=tuple(entry.get("args") or ()),
        root=entry.get("root"),
        path=entry.get("path") or DEFAULT_PATH,
        mounts=tuple(mounts),
        env=tuple((entry.get("env") or {}).items()),
        working_dir=entry.get("workingDir", ""),
        user=entry.get("user"),
    )


def _program(name: str) -> str:
    """`wheel:nginx` is the script that an installed wheel brought; `wheel:package/path` a file in a package."""
    if not name.startswith("wheel:"):
        return _PYTHON if name == "{python}" else name
    wanted = name.removeprefix("wheel:")
    package, slash, inner = wanted.partition("/")
    if slash:
        found = importlib.util.find_spec(package)
        if found is not None and found.submodule_search_locations:
            return str(Path(found.submodule_search_locations[0]) / inner)
    return str(Path(sys.prefix) / "bin" / wanted)


def _wheel_mounts(program: Any) -> list[tuple[str, str]]:
    first = program if isinstance(program, str) else (program or [""])[0]
    if not str(first).startswith("wheel:"):
        return []
    return [(sys.prefix, sys.prefix)] + [(item["source"], item["target"]) for item in _outside_usr()]
