"""up, down, logs, kubeconfig, kill, heal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError
from atoll.cli.output import Progress

if TYPE_CHECKING:
    from atoll.app.state import FleetState

new_fleet_option = click.option("--fleet", "fleet", default="default", show_default=True, help="The fleet's name.")


def _running() -> str:
    """The fleet that is meant where none is named: `default`, or the only other one that runs."""
    from atoll.app.state import fleet_names, fleet_state

    names = [name for name in fleet_names() if not name.startswith("cluster-") and fleet_state(name).supervisor_pid()]
    return names[0] if len(names) == 1 else "default"


fleet_option = click.option(
    "--fleet", "fleet", default=_running, show_default="the one that runs", help="The fleet's name."
)


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@new_fleet_option
@click.option("--foreground", is_flag=True, help="Stay, and stop the fleet on Ctrl-C.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Merge contexts into this file.")
def up(file: Path | None, fleet: str, foreground: bool, kubeconfig: Path | None) -> None:
    """Start a fleet: a hub and the clusters of FILE.

    Without FILE: one on-premises and two cloud clusters, ten simulated nodes and one process node each.

    \b
    Examples:
      atoll up
      atoll up fleet.yaml
      kubectl --context atoll-hub get clusters
    """
    from atoll.app import fleetfile, launch
    from atoll.app.state import fleet_state

    started = time.monotonic()
    spec = fleetfile.load(file) if file else None
    name = spec.name if spec and fleet == "default" else fleet
    state = fleet_state(name)
    if spec is None:
        spec = launch.read_fleet(state) if state.exists() else fleetfile.default_fleet(name)
    progress = Progress()
    starting = click.get_current_context().obj or {}

    def tell_ready(processes: dict[str, Any]) -> None:
        _tell_ready(state, spec, processes, merge_kubeconfig(state, spec, kubeconfig), started, progress)

    if foreground and state.supervisor_pid() is None:
        _when_it_answers(state, lambda: tell_ready(launch.wait_ready(state, progress.say)))
        launch.start(state, spec, progress.say, foreground=True, **starting)
        return
    tell_ready(launch.start(state, spec, progress.say, **starting))


def _when_it_answers(state: Any, work: Callable[[], None]) -> None:
    """In a process of its own, since this one becomes the supervisor: do the work once that listens."""
    from atoll.app.control import answers

    if os.fork():
        return
    try:
        deadline = time.monotonic() + 20
        while not answers(state.control_socket) and time.monotonic() < deadline:
            time.sleep(0.01)
        work()
    except UserError as error:
        click.echo(f"error: {error.message}", err=True)
    finally:
        sys.stdout.flush()
        os._exit(0)


def _tell_ready(
    state: Any, spec: Any, processes: dict[str, Any], target: Path, started: float, progress: Progress
) -> None:
    nodes = sum(int(item.get("nodes", 0)) for item in processes.values())
    hub = "a hub, " if spec.hub else ""
    seconds = time.monotonic() - started
    progress.done()
    click.echo(f"fleet {state.name}: {hub}{len(spec.clusters)} clusters, {nodes} nodes ready in {seconds:.1f} s")
    click.echo(f"contexts in {target}: {', '.join(_contexts(spec))}")


def _contexts(spec: Any) -> list[str]:
    return [*(["atoll-hub"] if spec.hub else []), *(f"atoll-{cluster.name}" for cluster in spec.clusters)]


def merge_kubeconfig(state: Any, spec: Any, target: Path | None, *, current: str | None = None) -> Path:
    """Merge the admin contexts of the hub and all clusters; the file that was written. `current`: the new context."""
    from atoll.client import kubeconfig as files

    path = target or default_path()
    sources = [*(["hub"] if spec.hub else []), *(cluster.name for cluster in spec.clusters)]
    files.merge(
        path,
        [files.load(state.cluster_folder(source) / "admin.kubeconfig").document for source in sources],
        current_context=current,
    )
    return path


def default_path() -> Path:
    """The kubeconfig that kubectl would write to."""
    from atoll.client.kubeconfig import default_paths

    return default_paths(os.environ, Path.home())[0]


@click.command()
@click.argument("fleet", required=False, default=_running)
@click.option("--purge", is_flag=True, help="Delete the fleet's state too.")
@click.option("--all", "every", is_flag=True, help="All fleets and throw-away clusters of this user.")
def down(fleet: str, purge: bool, every: bool) -> None:
    """Stop a fleet: no process, mount, namespace or bridge is left behind.

    \b
    Examples:
      atoll down
      atoll down --purge        its state goes too
    """
    from atoll.app import launch
    from atoll.app.state import fleet_names, fleet_state
    from atoll.client import kubeconfig as files

    names = fleet_names() if every else [fleet]
    for name in names:
        state = fleet_state(name)
        if not state.exists():
            click.echo(f"no fleet {name!r} on this machine")
            continue
        contexts = _known_contexts(state, purge)
        was_running = launch.stop(state, purge=purge)
        if purge:
            files.remove(default_path(), contexts)
            _restore(set(contexts))
        click.echo(
            f"fleet {name}: {'stopped' if was_running else 'was not running'}{', state deleted' if purge else ''}"
        )


def _known_contexts(state: Any, purge: bool) -> list[str]:
    """Of a fleet whose state is damaged none, where it is to be removed anyway. Raises UserError."""
    from atoll.app import launch

    try:
        return _contexts(launch.read_fleet(state))
    except UserError:
        if not purge:
            raise
        return []


def _restore(removed: set[str]) -> None:
    """Another fleet that runs may have contexts of the same names: they are its own again."""
    from atoll.app import launch
    from atoll.app.state import fleet_names, fleet_state

    for name in fleet_names():
        state = fleet_state(name)
        if state.supervisor_pid() is not None:
            spec = launch.read_fleet(state)
            if removed & set(_contexts(spec)):
                merge_kubeconfig(state, spec, None)


@click.command()
@click.argument("process", default="supervisor")
@fleet_option
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows.")
@click.option("--tail", default=100, show_default=True, help="How many lines from the end.")
def logs(process: str, fleet: str, follow: bool, tail: int) -> None:
    """Show the log of PROCESS: supervisor, hub or a cluster's name.

    \b
    Example:
      atoll logs onprem -f
    """
    from atoll.app.state import fleet_state

    state = fleet_state(fleet)
    path = state.log_file(process)
    if not path.exists():
        known = ", ".join(sorted(item.stem for item in path.parent.glob("*.log"))) or "none"
        raise UserError(f"no log of {process!r} in the fleet {fleet!r}", hint=f"there are: {known}")
    with path.open(errors="replace") as file:
        lines = file.readlines()
        click.echo("".join(lines[-tail:]), nl=False)
        while follow:
            line = file.readline()
            if line:
                click.echo(line, nl=False)
            else:
                time.sleep(0.2)


@click.command()
@fleet_option
@click.option("--file", "target", type=click.Path(path_type=Path), help="The file to merge into.")
def kubeconfig(fleet: str, target: Path | None) -> None:
    """Merge the contexts atoll-hub and atoll-NAME into a kubeconfig.

    \b
    Example:
      atoll kubeconfig --file ./fleet.kubeconfig
    """
    from atoll.app import launch

    state = launch.running_fleet(fleet)
    path = merge_kubeconfig(state, launch.read_fleet(state), target)
    click.echo(f"merged into {path}")


def _cluster_option(command: Callable[..., None]) -> Callable[..., None]:
    """Where the cluster is looked for."""
    shown = "the one that runs, or a cluster of its own"
    return click.option("--fleet", "fleet", show_default=shown, help="The fleet's name.")(command)


def _fleet_of(cluster: str, named: str | None) -> FleetState:
    """The running fleet that has the cluster: the named one, the one that runs, or that of a cluster of its own."""
    from atoll.app import launch
    from atoll.app.state import fleet_names, fleet_state

    alone = f"cluster-{cluster}"
    if named is None and alone in fleet_names() and fleet_state(alone).supervisor_pid() is not None:
        running = fleet_state(_running())
        if running.supervisor_pid() is None or cluster not in _processes(running):
            return fleet_state(alone)
    return launch.running_fleet(named or _running())


def _processes(state: FleetState) -> set[str]:
    from atoll.app import launch

    return {"hub", *(item.name for item in launch.read_fleet(state).clusters)}


@click.command()
@click.argument("cluster")
@click.option("--how", type=click.Choice(["kill", "stop", "partition"]), default="kill", show_default=True)
@_cluster_option
def kill(cluster: str, how: str, fleet: str | None) -> None:
    """Kill a cluster's process, stop it (it hangs), or cut it off from the hub.

    CLUSTER is one of a fleet, or one that `atoll cluster create` made.

    \b
    Examples:
      atoll kill onprem
      atoll kill cloud-a --how stop
      atoll status --watch
    """
    from atoll.app.control import ask_one

    state = _fleet_of(cluster, fleet)
    answer = ask_one(state.control_socket, {"do": "kill", "cluster": cluster, "how": how})
    done = {"kill": "killed", "stop": "stopped", "partition": "cut off from the hub"}[how]
    click.echo(f"{answer['cluster']} {done}; undo with: atoll heal {cluster}")


@click.command()
@click.argument("cluster")
@_cluster_option
def heal(cluster: str, fleet: str | None) -> None:
    """Undo what `atoll kill` did to a cluster.

    \b
    Example:
      atoll heal onprem
    """
    from atoll.app.control import ask_one

    state = _fleet_of(cluster, fleet)
    answer = ask_one(state.control_socket, {"do": "heal", "cluster": cluster})
    healed = answer.get("healed") or []
    click.echo(f"{cluster}: " + (f"healed ({', '.join(healed)})" if healed else "nothing to heal"))
