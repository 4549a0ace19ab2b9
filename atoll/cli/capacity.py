"""atoll capacity: nodes' health, teams and autoscaling on a Kubernetes cluster that is there already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.base.errors import UserError

if TYPE_CHECKING:
    from atoll.capacity.program import MachineProgram


@click.command()
@click.option("--kubeconfig", required=True, type=click.Path(path_type=Path), help="An administrator's of the cluster.")
@click.option("--context", help="The context in it; its current one by default.")
@click.option("--health", is_flag=True, help="Test, watch and drain nodes; --machines mends them, or somebody does.")
@click.option("--teams", is_flag=True, help="Allot nodes to teams.")
@click.option("--autoscale", is_flag=True, help="Let pools grow and shrink by --machines, and keep balloons.")
@click.option("--machines", metavar="PROGRAM", help="Acts on machines: JSON in, JSON out (docs/machines.md).")
@click.option(
    "--machines-timeout", type=click.FloatRange(1), default=60.0, show_default=True, help="Seconds for one run."
)
@click.option("--listen", metavar="HOST:PORT", help="Serve /metrics and /healthz here.")
def capacity(
    kubeconfig: Path,
    context: str | None,
    machines: str | None,
    machines_timeout: float,
    listen: str | None,
    **parts: bool,
) -> None:
    """Run capacity's controllers on a real cluster, until stopped.

    Several may be started for one cluster: a Lease says which one works.

    \b
    Examples:
      atoll capacity --kubeconfig prod.yaml --health
      atoll capacity --kubeconfig prod.yaml --health --teams --listen 0.0.0.0:9090
      atoll capacity --kubeconfig prod.yaml --health --autoscale --machines './machines --site berlin'
      atoll teams policy --kubeconfig prod.yaml | kubectl --kubeconfig prod.yaml apply -f -
    """
    import logging

    from atoll.app.cluster_api import Listen
    from atoll.app.programs import run_until_stopped
    from atoll.app.real_capacity import run_capacity
    from atoll.client.kubeconfig import load

    wanted = [name for name in ("health", "teams", "autoscale") if parts[name]]
    if not wanted:
        raise UserError("nothing to run", hint="name --health, --teams, --autoscale or several")
    program = _program(machines, machines_timeout) if machines else None
    if parts["autoscale"] and program is None:
        raise UserError("--autoscale needs a program that makes machines", hint="--machines PROGRAM; docs/machines.md")
    where = Listen.parse(listen) if listen else None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    access = load(kubeconfig).access(context)
    run_until_stopped(run_capacity(access, wanted, lambda text: click.echo(text, err=True), where, program))


def _program(text: str, timeout_seconds: float) -> MachineProgram:
    """Raises UserError where there is no such program."""
    import shlex
    import shutil

    from atoll.capacity.program import MachineProgram

    try:
        command = shlex.split(text)
    except ValueError as error:
        raise UserError(f"--machines: {error}") from None
    if not command or shutil.which(command[0]) is None:
        raise UserError(f"--machines: {text!r} is no program that can be run", hint="a path, or a name on PATH")
    return MachineProgram(command, timeout_seconds)
