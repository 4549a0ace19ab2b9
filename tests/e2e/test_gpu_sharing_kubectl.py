"""Example 18 with kubectl: pods share GPUs by the profile that a scheduler's configuration file names."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Shell, environment, until

EXAMPLE = ROOT / "examples" / "18-parts-of-a-gpu"
COUNT, INDEX, MODEL = (f"alibabacloud.com/gpu-{word}" for word in ("count", "index", "card-model"))


@pytest.fixture(scope="module")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A throw-away cluster of two nodes with two GPUs each."""
    home: Path = tmp_path_factory.mktemp("gpushare")
    (home / "run").mkdir(mode=0o700)
    shell = Shell(environment(home), "atoll-gpushare")
    config = str(EXAMPLE / "scheduler.yaml")
    shell.atoll("cluster", "create", "gpushare", "--nodes", "0", "--simulated", "2", "--scheduler-config", config)
    yield shell
    shell.atoll("cluster", "delete", "gpushare")


def test_pods_share_gpus(gpus: Shell) -> None:
    gpus.kubectl("label", "nodes", "--all", f"{MODEL}=T4")
    patch = json.dumps({"status": {field: {COUNT: "2"} for field in ("capacity", "allocatable")}})
    for number in range(2):
        gpus.kubectl("patch", "node", f"gpushare-sim-{number}", "--subresource=status", "--type=merge", "-p", patch)
    gpus.kubectl("apply", "-f", str(EXAMPLE / "pods.yaml"))

    def running() -> list[dict]:
        return [pod for pod in gpus.get("pods")["items"] if pod["status"].get("phase") == "Running"]

    until(lambda: len(running()) == 7, "all pods to run")
    given = {
        pod["metadata"]["name"]: (pod["spec"]["nodeName"], pod["metadata"]["annotations"][INDEX]) for pod in running()
    }
    node, devices = given.pop("train")
    assert devices == "0-1" and node not in {other for other, _ in given.values()}
    assert sorted(Counter(given.values()).values()) == [3, 3]
    gpus.kubectl("scale", "deployment", "inference", "--replicas", "7")

    def told() -> bool:
        events = gpus.get("events")["items"]
        return any("2 Insufficient alibabacloud.com/gpu-milli" in item.get("message", "") for item in events)

    until(told, "the seventh to be told why not")


def test_a_configuration_that_is_wrong_starts_nothing(gpus: Shell, tmp_path: Path) -> None:
    wrong = tmp_path / "scheduler.yaml"
    wrong.write_text((EXAMPLE / "scheduler.yaml").read_text().replace("ProspectScore", "ProspectsScore"))
    done = gpus.atoll("cluster", "create", "wrongly", "--nodes", "0", "--scheduler-config", str(wrong), check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"{wrong}: profiles[1].plugins.score.enabled: 'ProspectsScore' is no plugin here" in done.stderr
    assert "wrongly" not in gpus.atoll("cluster", "list").stdout
