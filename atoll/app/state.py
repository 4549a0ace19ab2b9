"""Where a fleet keeps its state on this machine: XDG folders by fleet name, with a version stamp.

$XDG_STATE_HOME/atoll/fleets/NAME/
  version        the format of this folder
  fleet.json     what was asked for, resolved (ports, networks)
  supervisor.pid who supervises, and that one's lock (supervision.py)
  logs/PROCESS.log
  clusters/NAME/ store.db, pki/, nodes/
  hub/           store.db, pki/
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from atoll.app import forks
from atoll.app.supervision import supervisor_of
from atoll.base.errors import UserError

FORMAT = "1"
_SOCKET_PATH_BYTES = 104  # of sockaddr_un where it is least
_NAME = re.compile(r"^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$")


def state_home() -> Path:
    """$XDG_STATE_HOME/atoll, by default ~/.local/state/atoll."""
    return Path(forks.state_home())


@dataclass(frozen=True, slots=True)
class FleetState:
    """The folder of one fleet."""

    name: str
    folder: Path

    @property
    def fleet_file(self) -> Path:
        return self.folder / "fleet.json"

    @property
    def pid_file(self) -> Path:
        return self.folder / "supervisor.pid"

    @property
    def control_socket(self) -> Path:
        """A Unix socket's path is short, a state folder's may not be; nor XDG_RUNTIME_DIR's or TMPDIR's."""
        digest = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        bases = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]
        paths = [Path(base) / f"atoll-{os.getuid()}-{digest}" / "control" for base in bases if base]
        return next((path for path in paths if len(os.fsencode(path)) < _SOCKET_PATH_BYTES), paths[-1])

    def log_file(self, process: str) -> Path:
        return self.folder / "logs" / f"{process}.log"

    def cluster_folder(self, cluster: str) -> Path:
        return self.folder / "hub" if cluster == "hub" else self.folder / "clusters" / cluster

    def prepare(self) -> None:
        """Create the folder, private to the user. Raises UserError where a newer Atoll wrote it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.folder / "logs").mkdir(exist_ok=True)
        stamp = self.folder / "version"
        if stamp.exists():
            found = stamp.read_text().strip()
            if found != FORMAT:
                raise UserError(
                    f"the state in {self.folder} has format {found}, this Atoll writes {FORMAT}",
                    hint=f"use the Atoll that made it, or remove it: atoll down --purge {self.name}",
                )
        else:
            stamp.write_text(FORMAT + "\n")
        self.control_socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def exists(self) -> bool:
        return self.fleet_file.exists()

    def supervisor_pid(self) -> int | None:
        """The pid of a live supervisor of this fleet, else None."""
        return supervisor_of(self.pid_file)

    def remove(self) -> None:
        """Delete all state of the fleet."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self.control_socket.parent, ignore_errors=True)


def fleet_state(name: str) -> FleetState:
    """The state of the fleet of that name, whether it exists or not. Raises UserError for what can't be a name."""
    if not _NAME.match(name):
        raise UserError(f"{name!r} can't be a fleet's name", hint="use at most 50 lower-case letters, digits and '-'")
    return FleetState(name, state_home() / "fleets" / name)


def fleet_names() -> list[str]:
    """Fleets that have state on this machine."""
    folder = state_home() / "fleets"
    if not folder.is_dir():
        return []
    return sorted(item.name for item in folder.iterdir() if (item / "fleet.json").exists())
