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
    written = write(folder, [config.access(context) for context in contexts or (config.current_context,)])
    if not structured({"files": [str(path) for path in written]}, output):
        for path in written:
            click.echo(path)
        click.echo(f"next: prometheus --config.file {folder / 'prometheus.yml'}", err=True)
