"""Writes the folder that a Prometheus runs on: what to scrape and how to get in, alert rules, Grafana's dashboards."""

from __future__ import annotations

import importlib.resources
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from atoll.app.monitoring.dashboards import DASHBOARDS, grafana
from atoll.base.errors import UserError
from atoll.client.kubeconfig import Access
from atoll.cluster.gpus.dcgm import KUBELET_PATH

_SECONDS = 15


def write(folder: Path, clusters: Sequence[Access], gpu_nodes: Mapping[str, Sequence[str]]) -> list[Path]:
    """What was written. Credentials are readable by their owner only.

    `gpu_nodes`: by context the nodes with GPUs, whose exporters are scraped through the API server. Of a context that
    is not in it they are not known: the targets of an earlier run stay.

    Raises UserError: a cluster is entered by a program (exec) or password, or the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dashboards").mkdir(exist_ok=True)
        written = [_write(folder / "rules.yaml", rules())]
        scrapes = []
        for access in clusters:
            scrape = _scrape(folder, access, written)
            targets = folder / f"{_file_name(access.context)}.gpu-nodes.json"
            if access.context in gpu_nodes or not targets.exists():
                found = _gpu_targets(access, gpu_nodes.get(access.context, ()))
                written.append(_write(targets, json.dumps(found, indent=1) + "\n"))
            scrapes += [scrape, _gpu_scrape(scrape, targets.name)]
        config = {
            "global": {"scrape_interval": f"{_SECONDS}s", "evaluation_interval": f"{_SECONDS}s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": scrapes,
        }
        written.append(_write(folder / "prometheus.yml", yaml.safe_dump(config, sort_keys=False)))
        for dashboard in DASHBOARDS:
            path = folder / "dashboards" / f"{dashboard.uid}.json"
            written.append(_write(path, json.dumps(grafana(dashboard), indent=2) + "\n"))
    except OSError as error:
        raise UserError(f"{folder} can't be written: {error}", hint="choose a folder that is yours") from None
    return written


def rules() -> str:
    """The alert rules, as Prometheus reads them."""
    return importlib.resources.files("atoll.app.monitoring").joinpath("rules.yaml").read_text()


def _scrape(folder: Path, access: Access, written: list[Path]) -> dict[str, Any]:
    """One cluster's entry; paths in it are relative to the configuration, as Prometheus takes them."""
    name = access.context
    parts = urlsplit(access.server)
    tls: dict[str, Any] = {}

    def keep(kind: str, data: bytes | str) -> str:
        file = f"{_file_name(name)}.{kind}"
        written.append(_write(folder / file, data if isinstance(data, str) else data.decode(), secret=kind != "ca.crt"))
        return file

    if access.ca_pem:
        tls["ca_file"] = keep("ca.crt", access.ca_pem)
    if access.tls_server_name:
        tls["server_name"] = access.tls_server_name
    if access.insecure:
        tls["insecure_skip_verify"] = True
    entry: dict[str, Any] = {
        "job_name": f"atoll-{name}",
        "scheme": parts.scheme or "https",
        "metrics_path": f"{parts.path.rstrip('/')}/metrics",
        "static_configs": [{"targets": [parts.netloc], "labels": {"job": "atoll", "cluster": name}}],
    }
    if access.token:
        entry["authorization"] = {"credentials_file": keep("token", access.token)}
    elif access.token_file:
        entry["authorization"] = {"credentials_file": str(access.token_file)}
    elif access.certificate_pem and access.key_pem:
        tls |= {"cert_file": keep("crt", access.certificate_pem), "key_file": keep("key", access.key_pem)}
    else:
        raise UserError(
            f"context {name!r} has neither a token nor a certificate, so Prometheus can't get in",
            hint="docs/monitoring.md makes a service account for it; its token in a context: kubectl create token",
        )
    return entry | {"tls_config": tls}


def _gpu_scrape(scrape: dict[str, Any], targets: str) -> dict[str, Any]:
    """As the cluster's own metrics, of the nodes that a file names; Prometheus follows its changes."""
    own = {key: value for key, value in scrape.items() if key not in ("metrics_path", "static_configs")}
    return {**own, "job_name": f"{scrape['job_name']}-gpus", "file_sd_configs": [{"files": [targets]}]}


def _gpu_targets(access: Access, nodes: Sequence[str]) -> list[dict[str, Any]]:
    """Each node's DCGM exporter is a page of its kubelet's (`docs/gpu.md`)."""
    parts = urlsplit(access.server)
    path = f"{parts.path.rstrip('/')}/api/v1/nodes"
    return [
        {
            "targets": [parts.netloc],
            "labels": {
                "job": "dcgm",
                "cluster": access.context,
                "instance": node,
                "__metrics_path__": f"{path}/{node}/proxy{KUBELET_PATH}",
            },
        }
        for node in sorted(nodes)
    ]


def _file_name(context: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-._" else "_" for letter in context)


def _write(path: Path, text: str, secret: bool = False) -> Path:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600 if secret else 0o644)
    with os.fdopen(descriptor, "w") as file:
        if secret:
            os.fchmod(descriptor, 0o600)  # it may have been there
        file.write(text)
    return path
