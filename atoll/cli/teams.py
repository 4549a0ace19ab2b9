"""atoll teams: who has how many nodes, who borrows them, and the admission policy for other API servers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from atoll.cli.cluster_options import CONTEXT, KUBECONFIG, required_map, settings_in
from atoll.cli.output import output_option, structured, table

if TYPE_CHECKING:
    from atoll.capacity.teams.summary import Line


@click.group()
def teams() -> None:
    """Look at teams and their nodes, of a cluster made with --teams.

    \b
    Examples:
      atoll teams list --context atoll-gpus
      atoll teams policy --context atoll-gpus | kubectl apply -f -
    """


def _observed(kubeconfig: Path | None, context: str | None) -> list[Line]:
    from atoll.capacity.teams.settings import CONFIG_MAP, KEY, TeamSettings
    from atoll.capacity.teams.summary import lines
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run
    from atoll.kinds.builtin import NAMESPACES, NODES, PODS

    async def work(session: Session) -> list[Line]:
        client = session.client(kubeconfig or default_path(), context)
        found = await required_map(client, CONFIG_MAP, "docs/teams.md")
        settings = settings_in(found, CONFIG_MAP, KEY, TeamSettings)
        spaces = {item["metadata"]["name"]: item for item in (await client.list(NAMESPACES)).items}
        return lines(settings, (await client.list(NODES)).items, (await client.list(PODS)).items, spaces)

    return run(work)


@teams.command("list")
@KUBECONFIG
@CONTEXT
@output_option()
def list_(kubeconfig: Path | None, context: str | None, output: str | None) -> None:
    """Teams: nodes they have of those they are to have, their pods, and the pods of others on their nodes.

    \b
    Example:
      atoll teams list --context atoll-gpus -o wide
    """
    found = _observed(kubeconfig, context)
    if structured({"items": [asdict(line) for line in found]}, output):
        return
    wide = output == "wide"
    header = ["NAME", "NODES", "USABLE", "PODS", "WAITING", "BORROWED", *(["SELECTOR"] if wide else [])]
    rows = [
        [
            it.name,
            f"{it.have}/{it.wanted}",
            it.usable,
            it.own,
            it.waiting,
            it.borrowed,
            *([it.selector] if wide else []),
        ]
        for it in found
    ]
    table(header, rows)


@teams.command()
@KUBECONFIG
@CONTEXT
def policy(kubeconfig: Path | None, context: str | None) -> None:
    """Admission policies of the cluster's teams, for API servers that are not Atoll's.

    One gives pods their tolerations; one refuses pods of other namespaces than those that a team is bound to. Apply
    them anew when `namespaces` or `borrowAtMost` change.

    \b
    Example:
      atoll teams policy --kubeconfig prod.yaml | kubectl --kubeconfig prod.yaml apply -f -
    """
    import yaml

    from atoll.capacity.teams.policy import policy as made
    from atoll.capacity.teams.settings import CONFIG_MAP, KEY, TeamSettings
    from atoll.cli.fleet import default_path
    from atoll.cli.session import Session, run

    async def work(session: Session) -> TeamSettings:
        found = await required_map(session.client(kubeconfig or default_path(), context), CONFIG_MAP, "docs/teams.md")
        return settings_in(found, CONFIG_MAP, KEY, TeamSettings)

    click.echo(yaml.safe_dump_all(made(run(work)), sort_keys=False), nl=False)
