"""Starting and stopping a fleet from the command line."""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from atoll.app.control import answers, ask, ask_one
from atoll.app.fleetspec import AccessFiles, AuditSpec, ClusterSpec, FleetSpec, NodeGroup, ProcessNodeSpec
from atoll.app.fork_server import Command
from atoll.app.networks import choose_networks, give_back
from atoll.app.state import FleetState, fleet_state
from atoll.base.errors import UserError

Message = dict[str, Any]
Tell = Callable[[str], None]
_START_SECONDS = 120.0


def write_fleet(state: FleetState, fleet: FleetSpec) -> None:
    """Remember what was asked for, atomically."""
    text = json.dumps(to_builtins(fleet), indent=1)
    draft = state.fleet_file.with_suffix(".tmp")
    draft.write_text(text)
    draft.replace(state.fleet_file)


def read_fleet(state: FleetState) -> FleetSpec:
    """The fleet as it was started. Raises UserError where there is none."""
    try:
        data = json.loads(state.fleet_file.read_text())
    except OSError:
        raise UserError(f"there is no fleet {state.name!r} on this machine", hint="start one: atoll up") from None
    except ValueError:
        raise _damaged(state) from None
    try:
        clusters = [cluster_of(item) for item in data.pop("clusters")]
        images = tuple(data.pop("images"))
        return FleetSpec(clusters=tuple(clusters), images=images, **data)
    except (AttributeError, KeyError, TypeError):
        raise _damaged(state) from None


def cluster_of(item: Message) -> ClusterSpec:
    """What `to_builtins` made of a cluster's spec. Raises TypeError, KeyError."""
    rest = {
        name: value
        for name, value in item.items()
        if name not in ("simulated", "named_process_nodes", "access", "audit")
    }
    audit = item.get("audit")
    return ClusterSpec(
        **rest,
        simulated=tuple(NodeGroup(**group) for group in item["simulated"]),
        named_process_nodes=tuple(ProcessNodeSpec(**node) for node in item.get("named_process_nodes", ())),
        access=AccessFiles(**item.get("access", {})),
        audit=AuditSpec(**audit) if audit else None,
    )


def _damaged(state: FleetState) -> UserError:
    return UserError(
        f"{state.fleet_file} is damaged", hint=f"atoll down --purge {state.name} removes the fleet's state"
    )


def start(
    state: FleetState,
    fleet: FleetSpec,
    tell: Tell,
    *,
    foreground: bool = False,
    command: Command | None = None,
    why_cold: str = "",
) -> Message:
    """Start a fleet, or take up again the state of one that was killed. Returns the processes once all are ready.

    `command`: what the supervisor forks for commands that ask it to (fork_server.py). `why_cold`: why this start is not
    such a fork, for the log. Raises UserError when one can't start, with the reason.
    """
    if state.supervisor_pid() is not None:
        tell(f"the fleet {state.name} is running already")
        return wait_ready(state, tell)
    fleet = settle_networks(state, fleet)
    state.prepare()
    write_fleet(state, fleet)
    tell(f"starting {len(fleet.clusters)} cluster(s)" + (" and the hub" if fleet.hub else ""))
    if foreground:
        _supervise(state, fleet, command, why_cold)
        return {}
    _fork_supervisor(state, fleet, command, why_cold)
    _await_socket(state)
    return wait_ready(state, tell)


def settle_networks(state: FleetState, fleet: FleetSpec) -> FleetSpec:
    """Address ranges for every cluster: those that it had, else ones that nothing on this machine uses."""
    known: dict[str, tuple[str, str]] = {}
    if state.exists():
        with contextlib.suppress(UserError):
            known = {cluster.name: (cluster.pod_cidr, cluster.service_cidr) for cluster in read_fleet(state).clusters}
    return choose_networks(fleet, known)


def wait_ready(state: FleetState, tell: Tell) -> Message:
    """Follow the start until every process is ready. Raises UserError for one that failed."""
    last: Message = {}
    for answer in ask(state.control_socket, {"do": "wait"}, _START_SECONDS):
        last = answer["processes"]
        tell("  ".join(f"{name}: {_phase(item)}" for name, item in last.items()))
        if answer.get("done") or any(item["phase"] == "failed" for item in last.values()):
            break  # the hub would wait for a cluster that never comes
    failed = {name: item for name, item in last.items() if item["phase"] == "failed"}
    if failed:
        name, item = next(iter(failed.items()))
        raise UserError(f"{name} could not start: {item.get('fatal')}", hint=item.get("hint") or f"atoll logs {name}")
    return last


def _phase(item: Message) -> str:
    progress = item.get("progress")
    return f"{item['phase']} ({progress})" if progress and item["phase"] != "ready" else str(item["phase"])


def stop(state: FleetState, *, purge: bool = False) -> bool:
    """Stop a fleet and wait until it is gone; with `purge` its state goes too. False if it was not running."""
    pid = state.supervisor_pid()
    if pid is not None:
        with contextlib.suppress(UserError):
            ask_one(state.control_socket, {"do": "down"})
        deadline = time.monotonic() + 30
        while state.supervisor_pid() is not None and time.monotonic() < deadline:
            time.sleep(0.02)
        if state.supervisor_pid() is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if state.exists():
        _clean_networks(state)
    if purge:
        with contextlib.suppress(UserError):
            give_back(read_fleet(state))
        state.remove()
    return pid is not None


def _clean_networks(state: FleetState) -> None:
    from atoll.app.programs import clean_cluster

    for folder in sorted((state.folder / "clusters").glob("*/")):
        clean_cluster(state, folder.name)


def _fork_supervisor(state: FleetState, fleet: FleetSpec, command: Command | None, why_cold: str) -> None:
    from atoll.app import programs

    keys = programs.make_keys(state, fleet)
    gc.disable()  # imports make many objects and no garbage
    programs.preload(fleet)
    gc.freeze()
    gc.enable()
    os.waitpid(keys, 0)
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return
    code = 1
    try:
        os.setsid()
        log = os.open(state.log_file("supervisor"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, target)
        _close_descriptors()
        _supervise(state, fleet, command, why_cold)
        code = 0
    except BaseException:
        logging.getLogger("atoll.supervisor").exception("the supervisor ended")
    finally:
        os._exit(code)


def _close_descriptors() -> None:
    """All but the standard ones: who waits for an end of the starting program's pipes must not wait for the fleet."""
    for descriptor in [int(item.name) for item in Path("/dev/fd").iterdir()]:
        if descriptor > 2:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _supervise(state: FleetState, fleet: FleetSpec, command: Command | None, why_cold: str) -> None:
    from atoll.app import programs
    from atoll.app.supervisor import Supervisor

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if why_cold:
        logging.getLogger("atoll.supervisor").info("started cold: %s", why_cold)
    mains, members = programs.programs(state, fleet)
    Supervisor(state, mains, members, command).run()


def _await_socket(state: FleetState) -> None:
    """Wait until the supervisor answers."""
    deadline = time.monotonic() + 20
    while not answers(state.control_socket):
        if time.monotonic() > deadline:
            raise UserError("the supervisor did not start", hint=f"see {state.log_file('supervisor')}")
        time.sleep(0.002)


def running_fleet(name: str) -> FleetState:
    """The state of a running fleet. Raises UserError."""
    state = fleet_state(name)
    if state.supervisor_pid() is None:
        raise UserError(f"the fleet {name!r} is not running", hint="start it: atoll up")
    return state


def member_kubeconfig(state: FleetState, cluster: str) -> Path:
    """The administrator's kubeconfig of a cluster (or of "hub") of this fleet."""
    path = state.cluster_folder(cluster) / "admin.kubeconfig"
    if not path.exists():
        raise UserError(f"no cluster {cluster!r} in the fleet {state.name!r}", hint="atoll status lists them")
    return path
