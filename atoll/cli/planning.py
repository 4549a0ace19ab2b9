"""plan and apply: what would happen, and carrying out exactly that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from atoll.base.errors import UserError
from atoll.cli.fleet import fleet_option
from atoll.cli.output import colour_wanted, output_option, structured, table

if TYPE_CHECKING:
    from atoll.fleet.plan.model import Decided, Plan, Step

_SIGNS = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red"), "unknown": ("?", "magenta")}


@click.command()
@click.option("-f", "--filename", "paths", multiple=True, required=True, help="Manifests: a file, a folder, or -.")
@click.option("--kubeconfigs", help="Plan against these clusters, without a hub: a.yaml,b.yaml or NAME=FILE,…")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the plan for atoll apply.")
@click.option("-v", "--verbose", is_flag=True, help="Also what stays as it is, and every cluster's verdict.")
@fleet_option
@output_option("json", "yaml")
def plan(
    paths: tuple[str, ...], kubeconfigs: str | None, out: Path | None, verbose: bool, fleet: str, output: str | None
) -> None:
    """Show what would happen to these manifests, before anything changes.

    Against the fleet's hub, or with --kubeconfigs against any clusters, read-only: nothing is written anywhere.

    \b
    Examples:
      atoll plan -f app/
      atoll plan -f app/ --kubeconfigs onprem.yaml,cloud.yaml
      atoll plan -f app/ --out app.plan && atoll apply app.plan
    """
    from atoll.fleet.plan.model import encode
    from atoll.fleet.plan.source import load

    objects = load(list(paths))
    found = _plan_clusters(objects, kubeconfigs) if kubeconfigs else _plan_hub(objects, fleet)
    if out is not None:
        _write_private(out, encode(found))
    if output:
        import msgspec

        structured(msgspec.to_builtins(found), output)
        return
    _show(found, verbose)
    if out is not None:
        click.echo(f"\nkept in {out}; carry it out with: atoll apply {out}")


def _plan_hub(objects: list[Any], fleet: str) -> Plan:
    from atoll.app import launch
    from atoll.base.clock import SystemClock
    from atoll.cli import session
    from atoll.fleet.plan.planner import make_plan
    from atoll.fleet.plan.read import read_hub

    state = launch.running_fleet(fleet)

    async def work(s: Any) -> Plan:
        return make_plan(objects, await read_hub(s.hub(), objects, SystemClock(), members=await s.members()))

    return session.run(work, state)


def _plan_clusters(objects: list[Any], kubeconfigs: str) -> Plan:
    from atoll.base.clock import SystemClock
    from atoll.cli import session
    from atoll.fleet.plan.planner import make_plan
    from atoll.fleet.plan.read import read_clusters

    files = named_kubeconfigs(kubeconfigs)

    async def work(s: Any) -> Plan:
        clients = {name: s.client(path) for name, path in files.items()}
        return make_plan(objects, await read_clusters(clients, objects, SystemClock()))

    found = session.run(work)
    unread = [warning for warning in found.warnings if "can't be read" in warning]
    if len(unread) == len(files):
        raise UserError("; ".join(unread), hint="check that the kubeconfigs lead to clusters that run")
    return found


def named_kubeconfigs(text: str) -> dict[str, Path]:
    """NAME=FILE or FILE, by comma; a bare file is named by its current context's cluster. Raises UserError."""
    from atoll.client.kubeconfig import load

    found: dict[str, Path] = {}
    for item in text.split(","):
        name, equals, rest = item.strip().partition("=")
        path = Path(rest if equals else name)
        if not equals:
            name = (load(path).current_context or path.stem).removeprefix("atoll-")
        if name in found:
            raise UserError(f"two kubeconfigs are named {name}", hint="name them: --kubeconfigs one=a.yaml,two=b.yaml")
        found[name] = path
    return found


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--kubeconfigs", help="For a plan that was made with --kubeconfigs: the same, with rights to write.")
@fleet_option
def apply(file: Path, kubeconfigs: str | None, fleet: str) -> None:
    """Carry out a plan made with `atoll plan --out`; refused if anything that it rests on has changed.

    \b
    Example:
      atoll apply app.plan
    """
    from atoll.app import launch
    from atoll.base.clock import SystemClock
    from atoll.cli import session
    from atoll.fleet.plan.carry import apply_plan
    from atoll.fleet.plan.model import decode

    try:
        found = decode(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}", hint="make a plan with: atoll plan -f DIR --out FILE") from None
    clock = SystemClock()

    def tell(step: Step) -> None:
        click.echo(f"{step.label} on {step.where}: {step.action}d")

    async def on_hub(s: Any) -> None:
        await apply_plan(found, clock, hub=s.hub(), members=await s.members(), tell=tell)

    async def on_clusters(s: Any) -> None:
        clients = {name: s.client(path) for name, path in named_kubeconfigs(kubeconfigs or "").items()}
        await apply_plan(found, clock, clusters=clients, tell=tell)

    if found.mode == "hub":
        session.run(on_hub, launch.running_fleet(fleet))
    elif kubeconfigs:
        session.run(on_clusters)
    else:
        raise UserError("this plan was made without a hub", hint="name its clusters again: --kubeconfigs a,b,c")
    click.echo("done" if not found.is_empty else "nothing to do")


def _write_private(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _show(found: Plan, verbose: bool) -> None:
    for warning in found.warnings:
        click.echo(f"warning: {warning}", err=True)
    for step in found.hub:
        _show_step(step, verbose, "")
    for one in found.decided:
        _show_decided(one, verbose)
    create, change, delete = found.count("create"), found.count("change"), found.count("delete")
    click.echo(f"\nplan: {create} to create, {change} to change, {delete} to delete; nothing was changed")


def _show_decided(one: Decided, verbose: bool) -> None:
    click.echo()
    head = f"{one.label}: {one.policy or 'no policy selects it'}"
    click.echo(head + (f" ({one.why})" if one.why and verbose else ""))
    if one.targets:
        shown = ", ".join(
            f"{name}" + (f" × {count}" if count is not None else "") for name, count in one.targets.items()
        )
        click.echo(f"  goes to {shown}" + (f"   [{one.division}]" if one.division else ""))
    if one.unplaced:
        click.echo(f"  {one.unplaced} of {one.replicas} replicas find no place")
    if one.reason not in ("", "Success"):
        click.echo(f"  {one.reason}: {one.message}")
    if one.verdicts and (verbose or not all(verdict.chosen for verdict in one.verdicts)):
        rows = [("  " + v.cluster, "chosen" if v.chosen else "no", v.score or "-", v.reason) for v in one.verdicts]
        table(("  CLUSTER", "CHOSEN", "SCORE", "REASON"), rows)
    for step in one.steps:
        _show_step(step, verbose, "  ")


def _show_step(step: Step, verbose: bool, indent: str) -> None:
    sign, colour = _SIGNS.get(step.action, ("=", "white"))
    if sign == "=" and not verbose:
        return
    mark = click.style(sign, fg=colour) if colour_wanted() else sign
    extra = f" × {step.replicas}" if step.replicas is not None else ""
    extra += f"  overridden by {', '.join(step.overrides)}" if step.overrides else ""
    extra += f"  ({step.reason})" if step.reason else ""
    click.echo(f"{indent}{mark} {step.where}: {step.label}{extra}")
    for change in step.changes:
        click.echo(f"{indent}    {change}")
