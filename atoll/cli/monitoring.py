"""atoll monitoring: what Prometheus and Grafana need to watch clusters."""

from __future__ import annotations

from pathlib import Path

import click

from atoll.cli.output import output_option, structured


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Instead of the usual one.")
@click.option("--context", "contexts", multiple=True, help="Of the kubeconfig, once for each cluster; or the current.")
@output_option()
def monitoring(folder: Path, kubeconfig: Path | None, contexts: tuple[str, ...], output: str | None) -> None:
    """Write FOLDER: a Prometheus configuration for clusters, alert rules, Grafana dashboards.

    Nodes with GPUs are scraped too; when there are new ones, run it again: Prometheus sees that by itself.

    \b
    Examples:
      atoll monitoring watch --context atoll-ci
      prometheus --config.file watch/prometheus.yml      # rules.yaml is loaded by it
      ls watch/dashboards                                # to import into Grafana
    """
    from atoll.app.monitoring.files import write
    from atoll.cli.fleet import default_path
    from atoll.client.kubeconfig import load

    config = load(kubeconfig or default_path())
    clusters = [config.access(context) for context in contexts or (config.current_context,)]
    written = write(folder, clusters, _gpu_nodes(kubeconfig or default_path(), [found.context for found in clusters]))
    if not structured({"files": [str(path) for path in written]}, output):
        for path in written:
            click.echo(path)
        click.echo(f"next: prometheus --config.file {folder / 'prometheus.yml'}", err=True)


def _gpu_nodes(kubeconfig: Path, contexts: list[str]) -> dict[str, list[str]]:
    """By context the nodes with GPUs, of those clusters that answer."""
    from atoll.base.errors import AtollError
    from atoll.cli.session import Session, run
    from atoll.cluster.gpus.survey import has_gpus
    from atoll.kinds.builtin import NODES

    async def work(session: Session) -> dict[str, list[str]]:
        found = {}
        for context in contexts:
            try:
                nodes = (await session.client(kubeconfig, context).list(NODES)).items
            except AtollError as error:
                click.echo(f"warning: the GPU nodes of {context} are not known, run it again: {error}", err=True)
                continue
            found[context] = [node["metadata"]["name"] for node in nodes if has_gpus(node)]
        return found

    return run(work)
