"""A real Prometheus on what `atoll monitoring` writes: it scrapes, its rules load, alerts fire, panels ask well."""

from __future__ import annotations

import json
import re
import socket
import stat
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BIN, ROOT, Shell, environment, until

sys.path.insert(0, str(ROOT / "tests" / "real"))
from prometheus import program

from atoll.app.monitoring.dashboards import DASHBOARDS, GPUS, expressions

pytestmark = pytest.mark.skipif(program("prometheus") is None, reason="Prometheus was not fetched")
CONTEXT = "atoll-watched"
GPU_NODE = "watched-sim-0"
TRAINER = """
apiVersion: v1
kind: Pod
metadata: {name: trainer}
spec: {containers: [{name: c, image: registry.example/train:1, resources: {limits: {nvidia.com/gpu: 2}}}]}
"""
KNOWN_COMPLAINTS = ("authentication_attempts counter",)  # upstream's own names break these conventions
_NAME = re.compile(r"\b(?:apiserver|etcd|scheduler|workqueue|process|kueue|atoll|DCGM)_[A-Za-z0-9_]+")
_PARTS = re.compile(r"_(bucket|sum|count)$")
RARE = ("DCGM_", "kueue_", "atoll_")  # of the nodes' exporters, or shown once there is something to count


class Watching:
    """A cluster, and a Prometheus that watches it."""

    def __init__(self, shell: Shell, folder: Path, port: int) -> None:
        self.shell = shell
        self.folder = folder
        self.port = port

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def scraped(self, job: str) -> list[Any]:
        return [it for it in self.targets() if it["health"] != "unknown" and it["labels"]["job"] == job]

    def targets(self) -> list[Any]:
        try:
            return list(self.ask("targets")["activeTargets"])
        except OSError:
            return []


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watching]:
    home: Path = tmp_path_factory.mktemp("watched")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), CONTEXT)
    shell.atoll(
        "cluster", "create", "watched", "--nodes", "0", "--simulated", "2", "--queueing", "--batch", timeout=120
    )
    process = None
    try:
        shell.kubectl("annotate", "node", GPU_NODE, 'atoll.dev/gpus=[{"type": "h100", "count": 2}]')
        until(lambda: "gpu.present" in shell.kubectl("get", "node", GPU_NODE, "-o", "yaml").stdout, "the agents")
        shell.kubectl("apply", "-f", "-", stdin=TRAINER)
        shell.atoll("monitoring", str(home / "watch"), "--context", CONTEXT)
        config = home / "watch" / "prometheus.yml"
        quick = yaml.safe_load(config.read_text())
        quick["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config.write_text(yaml.safe_dump(quick))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        arguments = [f"--config.file={config}", f"--storage.tsdb.path={home / 'data'}"]
        arguments.append(f"--web.listen-address=127.0.0.1:{port}")
        process = shell.popen(str(program("prometheus")), *arguments)
        yield Watching(shell, home / "watch", port)
    finally:
        if process is not None:
            process.terminate()
            process.wait(20)
        shell.atoll("cluster", "delete", "watched")


def test_it_scrapes_the_cluster(watching: Watching) -> None:
    target = until(lambda: watching.scraped("atoll"), "a scrape")[0]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"] == {"cluster": CONTEXT, "instance": target["labels"]["instance"], "job": "atoll"}
    asked = f'apiserver_request_total{{cluster="{CONTEXT}",verb="GET"}}'
    assert until(lambda: watching.ask("query", query=asked)["result"], "a counter")


def test_it_scrapes_the_gpu_nodes(watching: Watching) -> None:
    (target,) = until(lambda: watching.scraped("dcgm"), "a scrape of the exporter")
    assert (target["health"], target["lastError"]) == ("up", "")
    assert target["labels"] == {"cluster": CONTEXT, "instance": GPU_NODE, "job": "dcgm"}
    busy = until(lambda: watching.ask("query", query='DCGM_FI_DEV_GPU_UTIL{pod="trainer"} > 50')["result"], "its load")
    assert {series["metric"]["Hostname"] for series in busy} == {GPU_NODE} and len(busy) == 2
    asked = [it for it in expressions(GPUS) if "DCGM" in it and "XID" not in it and "REPLAY" not in it]
    assert len(asked) > 8
    for expression in asked:  # counters have rates once there are two scrapes
        found = until(lambda e=expression: watching.ask("query", query=e)["result"], expression)  # type: ignore[misc]
        assert all(float(series["value"][1]) >= 0 for series in found)
    joules = watching.ask("query", query="max(irate(DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION[1m])) / 1000")["result"]
    watts = watching.ask("query", query="max(DCGM_FI_DEV_POWER_USAGE)")["result"]
    assert float(joules[0]["value"][1]) == pytest.approx(float(watts[0]["value"][1]), rel=0.3)


def test_gpu_nodes_that_are_not_known_stay_as_they_were(watching: Watching, tmp_path: Path) -> None:
    known = watching.folder / f"{CONTEXT}.gpu-nodes.json"
    before = known.read_text()
    assert GPU_NODE in before
    config = yaml.safe_load(Path(watching.shell.env["KUBECONFIG"]).read_text())
    for cluster in config["clusters"]:
        cluster["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "away").write_text(yaml.safe_dump(config))
    done = watching.shell.atoll(
        "monitoring", str(watching.folder), "--context", CONTEXT, "--kubeconfig", str(tmp_path / "away"), check=False
    )
    assert f"warning: the GPU nodes of {CONTEXT} are not known" in done.stderr
    assert known.read_text() == before


def test_rules_load_and_evaluate_without_error(watching: Watching) -> None:
    def evaluated() -> list[Any]:
        rules = [rule for group in watching.ask("rules")["groups"] for rule in group["rules"]]
        return rules if all(rule["health"] != "unknown" for rule in rules) else []

    until(watching.targets, "Prometheus to answer")
    rules = until(evaluated, "an evaluation")
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    assert not [rule["name"] for rule in rules if rule["state"] == "firing"]


def test_every_panel_and_rule_asks_for_what_there_is(watching: Watching) -> None:
    rules = yaml.safe_load((watching.folder / "rules.yaml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    asked += [expression for dashboard in DASHBOARDS for expression in expressions(dashboard)]
    named = {name for expression in asked for name in _NAME.findall(expression)}
    assert len(named) > 15

    def missing() -> set[str]:
        text = watching.shell.kubectl("get", "--raw", "/metrics").stdout
        known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
        return {n for n in named if not {n, _PARTS.sub("", n)} & known}

    with something_happens(watching.shell):
        until(lambda: not {n for n in missing() if not n.startswith(RARE)}, "metrics of what happened", 30)
        rest = missing()
    sources = "".join(path.read_text() for path in (ROOT / "atoll").rglob("*.py") if "monitoring" not in path.parts)
    assert not {name for name in rest if f'"{_PARTS.sub("", name)}"' not in sources}
    until(watching.targets, "Prometheus to answer")
    for expression in asked:
        watching.ask("query", query=expression)  # a bad one is an error of HTTP


@contextmanager
def something_happens(shell: Shell) -> Iterator[None]:
    """A pod is placed and watched, a queue is there: a metric without a value is not shown."""
    watch = shell.popen(str(BIN / "kubectl"), f"--context={CONTEXT}", "get", "pods", "--watch")
    try:
        shell.kubectl("apply", "-f", str(ROOT / "examples/10-two-teams-borrow-and-give-back/queues.yaml"))
        shell.kubectl("run", "one", "--image=registry.example/app:1")
        yield
    finally:
        watch.terminate()
        watch.wait(20)
        shell.kubectl("delete", "pod", "one", "--force")


def test_metrics_and_rules_are_well_formed(watching: Watching) -> None:
    shell, promtool = watching.shell, str(program("promtool"))
    assert "rules found" in shell.run(promtool, "check", "rules", str(watching.folder / "rules.yaml")).stdout
    assert "SUCCESS" in shell.run(promtool, "check", "config", str(watching.folder / "prometheus.yml")).stdout
    text = shell.kubectl("get", "--raw", "/metrics").stdout
    checked = shell.run(promtool, "check", "metrics", stdin=text, check=False)
    complaints = [line for line in checked.stderr.splitlines() if line and not line.startswith(KNOWN_COMPLAINTS)]
    assert not complaints


def test_alerts_fire(watching: Watching, tmp_path: Path) -> None:
    """By promtool, on series that are written down: each alert fires, with its cluster, and only where it should."""
    rules = tmp_path / "rules.yaml"
    rules.write_text((watching.folder / "rules.yaml").read_text())
    cases = yaml.safe_load((Path(__file__).parent / "monitoring_alerts.yaml").read_text())
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump({**cases, "rule_files": [str(rules)]}))
    watching.shell.run(str(program("promtool")), "test", "rules", str(tmp_path / "cases.yaml"))
    groups = yaml.safe_load(rules.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    fired = {case["alertname"] for test in cases["tests"] for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert fired == alerts


def test_credentials_are_for_their_owner_only(watching: Watching) -> None:
    token = watching.folder / f"{CONTEXT}.token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text().strip() not in (watching.folder / "prometheus.yml").read_text()


def test_it_sees_a_fault(watching: Watching) -> None:
    """The last: from now on an alert fires."""
    watching.shell.atoll("gpu", "fault", GPU_NODE, "--xid", "63", "--gpu", "1", "--context", CONTEXT)
    (told,) = until(lambda: watching.ask("query", query="DCGM_FI_DEV_XID_ERRORS > 0")["result"], "the fault")
    assert (told["metric"]["gpu"], told["value"][1]) == ("1", "63")
